//! What a journal says of itself in the log, and in its health.

use std::io;
use std::time::Duration;

use crate::audit::health::Condition;
use crate::system::Moment;
use crate::telemetry::Tally;

use super::Journal;

impl Journal {
    #[cold]
    pub(super) fn note_refusal(&self, now: Moment) {
        self.counts.refuse();
        if let Some(Tally { times, .. }) = self.refusals.happened(now.elapsed) {
            let reason = self.health.reason();
            let reason = reason.as_deref().unwrap_or("too much waits for the disk");
            tracing::error!(
                times,
                "not answered, because it cannot be put on record: {reason}"
            );
        }
    }

    pub(super) fn note_failure(&self, error: &io::Error) {
        if self.health.set(Condition::WriteFailed, &error.to_string())
            && let Some(Tally { times, .. }) = self.failures.happened(self.clock.elapsed())
        {
            tracing::error!(%error, times, "the audit journal cannot be written");
        }
    }

    pub(super) fn note_in_time(&self, now: Duration) {
        if self.health.clear(Condition::WriteSlow) && self.delays.is_over(now).is_some() {
            tracing::warn!("the audit trail is written in time again");
        }
    }

    pub(super) fn note_delay(&self, waits_for_sink: bool, now: Duration) {
        let (condition, reason) = if waits_for_sink {
            let reason = "the second audit sink does not take records";
            (Condition::SinkDown, reason)
        } else {
            let reason = "the disk takes longer than a second to write";
            (Condition::WriteSlow, reason)
        };
        if self.health.set(condition, reason)
            && let Some(Tally { times, .. }) = self.delays.happened(now)
        {
            tracing::error!(
                reason,
                times,
                "audit records are late; their questions are not answered"
            );
        }
    }
}
