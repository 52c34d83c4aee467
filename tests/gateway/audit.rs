//! The audit trail through its public face, without a gateway around it: real files, real faults.

pub(crate) mod alone;
mod faults;
mod files;
mod heads;
mod power;
mod proof;
mod reading;
mod recording;
mod refusals;
mod relp;
mod rendering;
mod second_sink;
mod torn;
mod trail;
mod unsent_fetches;
