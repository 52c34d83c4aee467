//! The HTTP/1 head check, before hyper parses a request (request smuggling, slow loris).
//!
//! hyper forgives what cannot be seen afterwards: a bare line feed, `Content-Length` beside
//! `Transfer-Encoding`, one length twice, `identity, chunked`. A server that forgives something else than
//! the proxy in front of it can be made to read another request than the proxy did. So nothing is forgiven
//! here: what RFC 9112 does not allow ends the connection.
//!
//! [`HeadGuard`] takes bytes as they arrive and passes on whole, well-formed heads and their bodies. A
//! refused head is replaced by a [synthetic request](HeadFault::synthetic_request), which hyper answers in its
//! turn, behind the answers to what came before it.

mod bytes;
mod chunks;
mod fault;
mod guard;
mod scan;

pub(crate) use bytes::{all_between, is_in_tokens, letters_digits_and};
pub(crate) use fault::HeadFault;
pub(crate) use guard::{Examined, HeadGuard, Readable};
pub(crate) use scan::HeadLimits;
