//! How we ask Atlas, over real sockets, against a local Atlas that enforces what Atlas enforces.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod world;

mod answers;
mod budgets;
mod digest;
mod lists;
mod moments;
mod network;
mod tokens;
