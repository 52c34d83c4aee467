//! Which walk a line of the log belongs to.
//!
//! A span for the log costs as much as reading the page that the walk brings: it is made, entered at
//! each poll and written as JSON, for walks of which nearly none has anything to say. So a walk only
//! carries what its span would hold, and the span is made around a line when there is one.

use std::future::Future;

use tracing::{Span, info_span};
use uuid::Uuid;

/// What lines of a walk say beside their own words.
#[derive(Clone, Copy, Debug)]
pub struct WalkLabels {
    /// The lookup that the walk began for.
    pub request_id: Uuid,
    /// The walk itself; its record has the same.
    pub fill_id: Uuid,
    /// How much it matters.
    pub urgency: &'static str,
}

tokio::task_local! {
    static LABELS: WalkLabels;
}

impl WalkLabels {
    /// Lets what `work` says in [`say`] be known as this walk's.
    pub fn around<W: Future>(self, work: W) -> impl Future<Output = W::Output> {
        LABELS.scope(self, work)
    }

    fn span(self) -> Span {
        let Self {
            request_id,
            fill_id,
            urgency,
        } = self;
        info_span!(target: TARGET, "fetch", %request_id, %fill_id, urgency = %urgency)
    }
}

/// What such a span is told from one of a trace by.
pub(super) const TARGET: &str = concat!(env!("CARGO_CRATE_NAME"), "::walk_labels");

/// Writes a line as one of the walk that is under way, if it is said in one.
pub fn say(line: impl FnOnce()) {
    let span = LABELS.try_with(|walk| walk.span());
    span.unwrap_or_else(|_| Span::none()).in_scope(line);
}
