//! What the simulated Atlas enforces and what it can be told to do wrong, over real sockets.
#![expect(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod client;

mod faults;
mod listing;
mod record;
mod tokens;
