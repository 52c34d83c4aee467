//! The audit trail through its public face, without a gateway around it: real files, real faults.

pub(crate) mod alone;
pub(crate) mod copies;
mod central;
mod certificates;
mod faults;
mod files;
pub(crate) mod heads;
mod packers;
mod power;
mod proof;
mod reading;
pub(crate) mod recording;
mod refusals;
pub(crate) mod relp;
mod rendering;
mod retention;
mod retention_faults;
mod rsyslog;
mod second_sink;
mod torn;
pub(crate) mod trail;
mod unsent_fetches;
