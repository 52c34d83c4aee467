//! What is counted of the log.

use std::sync::LazyLock;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Makes the metric known to `registry`.
pub(super) fn register(registry: &mut Registry) {
    registry.register(
        "log_lines_dropped",
        "Lines of the log that were dropped, because standard error did not take them in time or at all",
        lines_dropped(),
    );
}

/// The lines that were dropped. A process has one standard error, and so one of these.
pub fn lines_dropped() -> Counter {
    LINES_DROPPED.clone()
}

static LINES_DROPPED: LazyLock<Counter> = LazyLock::new(Counter::default);
