//! One authenticated, cached, audited endpoint for the X.509 certificates of MongoDB Atlas database
//! users.
//!
//! # Architecture
//!
//! An internal service asks with a JWT; the gateway checks who that is and what it may ask, answers
//! from memory or asks Atlas once for everybody, and writes each lookup down before its answer leaves.
//!
//! The way of a request, which is also the order of the modules:
//!
//! 1. [`server`] takes the connection, reads the head exactly and turns it into a bearer token and a
//!    [`CertQuery`](atlas::CertQuery). HTTP ends there.
//! 2. [`gateway`] holds the whole job in one plain function, `decide`; start reading there. What memory
//!    cannot answer goes on in `find_out`.
//! 3. [`audit`] opens the record. If the caller hangs up, dropping it writes `abandoned`.
//! 4. [`identity`] makes a [`Caller`](identity::Caller) of the token.
//! 5. [`policy`] makes a [`Permit`](policy::Permit) of the caller and the question. Nobody else can
//!    make one, and [`cache`] answers nobody without one.
//! 6. [`cache`] answers from memory, or lets one task fetch while everybody waits for it.
//! 7. [`upstream`] asks Atlas, page after page, within our share of its rate limit, and proves that the
//!    pages are of one moment.
//! 8. The record is written; only then does [`gateway`] hand out what [`server`] has written for the
//!    caller.
//!
//! # Invariants
//!
//! - **One direction.** A module uses only the modules below it in this file; a test reads the `mod`
//!   lines and every `use crate::` and fails on an arrow upwards. So there is no cycle, and each step
//!   accepts a proof that a step further down has made.
//! - **One copy, many forms.** What is remembered is one merged, complete list per project and user.
//!   Pages, indentation, envelopes and compression are cut from it; nothing a caller sends but the
//!   project and the name reaches the key.
//! - **Nothing is answered without a record.** [`gateway::Gateway::answer`] returns a reply only after
//!   its record is in the audit trail.
//! - **Nobody waits for a file or for the log.** While callers are served, files are read where
//!   [`blocking`] may wait for them, and lines of the log are dropped rather than waited for.
//!
//! # What is deliberately absent
//!
//! - Nothing below [`server`] gives an answer of ours its HTTP status; only `server/response.rs` and its
//!   `errors.rs` do, and `server/admin.rs` for operators.
//! - Nothing reads the time except [`clock`]. Tests move it; they never wait.
//! - Nothing follows a link or a redirect of Atlas, reads the system's proxy variables or sends a
//!   caller's header on.
//! - No part reads the environment or a configuration file; [`config`] gathers what the parts own, from the file
//!   that `--config` or `ATLAS_CERT_GATEWAY_CONFIG` names. Only
//!   where the system's roots are, `SSL_CERT_FILE` and `SSL_CERT_DIR` say, as for other programs.
//! - There are no features and no mock objects: one build, and a simulated Atlas on a real socket
//!   (`simulator/`).

pub mod commands;
pub mod app;
pub mod config;
pub mod server;
pub mod gateway;
pub mod audit;
pub mod cache;
pub mod policy;
pub mod identity;
pub mod upstream;
pub mod memory;
pub mod telemetry;
pub mod http_client;
pub mod roots;
pub mod settings;
pub mod secret;
pub mod watched;
pub mod blocking;
pub mod clock;
pub mod atlas;
