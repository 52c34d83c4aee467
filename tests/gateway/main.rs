//! What the gateway does, seen from outside: real sockets, a simulated Atlas, a clock that stands still
//! until a test moves it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on is a test that fails"
)]
#![expect(
    clippy::panic,
    reason = "a test that cannot go on is a test that fails"
)]
#![expect(
    clippy::indexing_slicing,
    reason = "a missing member of a JSON document is null"
)]
#![expect(
    clippy::too_many_lines,
    reason = "a table of what has to happen is as long as it is"
)]

#[path = "../harness/mod.rs"]
#[expect(dead_code, reason = "the other suite uses the rest of it")]
mod harness;

mod dead_connection;
mod forgeries;
mod log;

mod abandoned;
mod access;
mod admin_bounds;
mod allowance;
mod audit;
mod cache;
mod clients;
mod configuration;
mod demo;
mod dependencies;
mod errors;
mod expirations;
mod fleet;
mod forms;
mod forwarded;
mod first_connection_dead;
mod identity;
mod ingress;
mod known_first;
mod limits;
mod limits_said;
mod lookups;
mod names;
mod openapi;
mod operators;
mod outage_log;
mod overload;
mod packages;
mod process;
mod ranges;
mod readiness;
mod reload;
mod requests;
mod restarts;
mod savings;
mod secrets;
mod series;
mod snapshots;
mod state;
mod stopped;
mod time;
mod unsent;
mod upstream;
mod tls;
mod tools;

use harness::{authority, client, frames, program, tokens, world};
