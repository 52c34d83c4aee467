//! One authenticated, cached, audited endpoint for the X.509 certificates of MongoDB Atlas database
//! users.
//!
//! # Architecture
//!
//! An internal service asks with a JWT; the gateway checks who that is and what it may ask, answers
//! from memory or asks Atlas once for all waiting callers, and records each lookup before its answer leaves.
//!
//! The path of a request, which is also the order of the modules:
//!
//! 1. [`server`] takes the connection, reads the head exactly and turns it into a bearer token and a
//!    [`CertQuery`](atlas::CertQuery). HTTP ends there.
//! 2. [`gateway`] holds the whole job in one plain function, [`Gateway::lookup`](gateway::Gateway::lookup); start
//!    reading there. `lookup_cached` is its fast path, which can be taken out.
//! 3. [`audit`] opens the record. If the caller hangs up, dropping it writes `abandoned`.
//! 4. [`identity`] makes a [`Caller`](identity::Caller) of the token.
//! 5. [`policy`] makes a [`Permit`](policy::Permit) of the caller and the query. Nothing else can make one, and
//!    [`cache`] answers only with one.
//! 6. [`cache`] answers from memory, or lets the callers wait for one fetch (request coalescing).
//! 7. In a [`fleet`] the fetch begins there: another replica may have the list, or be fetching it.
//! 8. [`upstream`] asks Atlas, page after page, within our share of its rate limit, and proves that the
//!    pages are of one moment.
//! 9. The record is written; only then is the answer handed out (fail closed).
//!
//! # Invariants
//!
//! - **One direction.** A module uses only the modules below it in this file; a test reads the `mod`
//!   lines and every `use crate::`. So there is no cycle, and each step accepts a proof that a step further
//!   down has made.
//! - **One copy, many forms.** What is cached is one merged, complete list per project and user.
//!   Pages, envelopes and compression are cut from it; of what a caller sends only the project and the name
//!   reach the key.
//! - **No answer without a record.** A reply is returned only after its record is in the audit trail.
//! - **No caller waits for a file or for the log.** While callers are served, files are read on
//!   threads that may wait for them, and lines of the log are dropped rather than waited for.
//!
//! # What is deliberately absent
//!
//! - Nothing below [`server`] gives an answer of ours its HTTP status; only `server/response.rs` and its
//!   `errors.rs` do, and `server/admin.rs` for operators.
//! - Nothing reads the time except [`system::Clock`]. Tests move it; they never wait.
//! - Nothing follows a link or a redirect of Atlas, reads the system's proxy variables or sends a
//!   caller's header on.
//! - No part reads the environment or a configuration file but [`config`]; only where the system's roots are,
//!   `SSL_CERT_FILE` and `SSL_CERT_DIR` say, as for other programs.
//! - There are no features and no mock objects: one build, and a simulated Atlas on a real socket
//!   (`simulator/`).

pub mod commands;
pub mod app;
pub mod config;
pub mod server;
pub mod gateway;
pub mod insight;
pub mod audit;
pub mod cache;
pub mod policy;
pub mod identity;
pub mod upstream;
pub mod fleet;
pub mod memory;
pub mod telemetry;
pub(crate) mod http_client;
pub mod settings;
pub(crate) mod strict_json;
pub mod system;
pub mod atlas;
