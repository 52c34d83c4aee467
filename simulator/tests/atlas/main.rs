//! What the simulated Atlas enforces and what it can be told to do wrong, over real sockets.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod client;

mod digest;
mod faults;
mod issuing;
mod listing;
mod record;
mod socket;
mod tokens;
