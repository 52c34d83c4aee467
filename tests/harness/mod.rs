//! The one harness of both suites: a world of a gateway and an Atlas, the program in a process of its own,
//! and clients that send bytes and frames as they are. It is no target of its own: `tests/gateway`,
//! `tests/conformance` and some benches compile it into themselves.

pub(crate) mod authority;
pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod engine;
pub(crate) mod files;
pub(crate) mod frames;
pub(crate) mod postgres;
pub(crate) mod program;
pub(crate) mod servers;
pub(crate) mod tokens;
pub(crate) mod world;
