//! Panics as lines of the log. The default hook writes to standard error itself, and waits for its reader.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic;

use tracing::error;
use tracing::field::display;

/// From now on a panic is logged, with its backtrace where `RUST_BACKTRACE` asks for one.
pub(super) fn log() {
    panic::set_hook(Box::new(|panic| {
        let what = panic.payload_as_str().unwrap_or("no text");
        let place = panic.location().map(display);
        let backtrace = Backtrace::capture();
        let is_wanted = backtrace.status() == BacktraceStatus::Captured;
        let backtrace = is_wanted.then(|| display(backtrace));
        error!(place, backtrace, "panicked: {what}");
    }));
}
