//! Logs, metrics and traces: their names live here.

pub mod metrics;
