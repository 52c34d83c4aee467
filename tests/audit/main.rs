//! The audit trail through its public face: real files, real faults.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on should say so"
)]

mod alone;
mod faults;
mod files;
mod killed;
mod proof;
mod reading;
mod recording;
mod second_sink;
mod torn;
mod trail;
