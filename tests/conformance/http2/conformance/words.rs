//! What the cases are made of.

use crate::frames::{END_HEADERS, END_STREAM, HEADERS, PING, block, frame};
use crate::http2::get;
use crate::world::{PROJECT, certs, token};

/// What the cases ask for: a lookup that is answered.
pub(super) struct Words {
    scheme: &'static str,
    path: String,
    authorization: String,
}

impl Words {
    pub(super) fn new(scheme: &'static str) -> Self {
        Self {
            scheme,
            path: certs(PROJECT, "app1"),
            authorization: format!("Bearer {}", token()),
        }
    }

    pub(super) fn fields(&self, method: &'static str) -> Vec<(&str, &str)> {
        let mut fields = get(&self.path, &self.authorization);
        fields[0].1 = method;
        fields[1].1 = self.scheme;
        fields
    }

    pub(super) fn block(&self) -> Vec<u8> {
        block(&self.fields("GET"))
    }

    /// A whole request.
    pub(super) fn asked(&self, stream: u32) -> Vec<u8> {
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &self.block())
    }

    /// One whose body is to come.
    pub(super) fn open(&self, stream: u32) -> Vec<u8> {
        frame(HEADERS, END_HEADERS, stream, &self.block())
    }

    /// One whose method has a body.
    pub(super) fn posted(&self) -> Vec<u8> {
        frame(HEADERS, END_HEADERS, 1, &block(&self.fields("POST")))
    }

    /// One whose header block goes on.
    pub(super) fn begun(&self, flags: u8) -> Vec<u8> {
        frame(HEADERS, flags, 1, &self.block())
    }

    /// One with more fields.
    pub(super) fn with(&self, more: &[(&str, &str)]) -> Vec<u8> {
        whole(&[self.fields("GET"), more.to_vec()].concat())
    }

    /// One with something behind its header block.
    pub(super) fn before(&self, more: &[u8]) -> Vec<u8> {
        let block = [&self.block(), more].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)
    }
}

/// A request of these fields.
pub(super) fn whole(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

/// A field of some size.
pub(super) fn filler() -> Vec<u8> {
    block(&[("x-filler", &"x".repeat(4_000))])
}

pub(super) fn ping(said: [u8; 8]) -> Vec<u8> {
    frame(PING, 0, 0, &said)
}
