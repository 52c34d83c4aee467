//! HTTP on the wire: HTTP/1 byte by byte, HTTP/2 frame by frame, and what both do with what the standards
//! forbid. What becomes of a request that is one is in `tests/gateway`.

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

mod half_closed;
mod http1;
mod http2;
mod wire;

use harness::{authority, client, frames, program, world};
