//! How far a command has come that reads for longer than a second: a bar on standard error, if that is a
//! terminal.

use std::cell::{Cell, OnceCell};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::audit::search::ReadProgress;
use crate::system::Clock;

/// A bar that is there once it is worth showing, and gone when it is dropped.
pub(super) struct Bar {
    clock: Clock,
    began: Duration,
    shown: OnceCell<ProgressBar>,
    is_over: Cell<bool>,
}

impl Bar {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            began: clock.elapsed(),
            clock,
            shown: OnceCell::new(),
            is_over: Cell::new(false),
        }
    }

    pub(super) fn show(&self, ReadProgress { done, total }: ReadProgress) {
        let took = self.clock.elapsed().saturating_sub(self.began);
        if took < PATIENCE || self.is_over.get() {
            return;
        }
        let bar = self.shown.get_or_init(|| {
            // Where standard error is no terminal it stays hidden.
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            match ProgressStyle::with_template(TEMPLATE) {
                Ok(style) => bar.with_style(style),
                Err(_) => bar,
            }
            .with_position(done)
        });
        bar.set_length(total);
        bar.set_position(done);
    }

    /// Ends it: what is written to the same terminal from now on would be mixed up with it.
    pub(super) fn clear(&self) {
        self.is_over.set(true);
        if let Some(bar) = self.shown.get() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.clear();
    }
}

const PATIENCE: Duration = Duration::from_secs(1);
const TEMPLATE: &str = "{bar:40} {binary_bytes} of {binary_total_bytes}, {eta} left";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atlas::Timestamp;

    #[test]
    fn a_bar_appears_after_a_second_with_what_is_done_by_then() {
        let (clock, manual_clock) = Clock::manual(Timestamp::from_seconds(0));
        let bar = Bar::new(clock);
        let at = |done| ReadProgress { done, total: 100 };
        bar.show(at(1));
        manual_clock.advance(Duration::from_millis(999));
        bar.show(at(2));
        assert!(bar.shown.get().is_none());
        manual_clock.advance(Duration::from_millis(1));
        bar.show(at(3));
        let shown = bar.shown.get().unwrap();
        assert_eq!((shown.position(), shown.length()), (3, Some(100)));
        bar.clear();
        assert!(shown.is_finished());
    }

    #[test]
    fn the_template_is_one() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
