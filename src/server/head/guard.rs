//! The guard of one connection: holds the beginning of a head back until the rest has come.
//!
//! What follows a refused head is never read as a request.

use std::mem;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::chunks::{ChunkProgress, Chunks};
use super::fault::HeadFault;
use super::scan::{BehindHead, HeadLimits, HeadProgress, Scan};

/// Takes a connection's bytes, and passes on only well-formed requests.
pub(crate) struct HeadGuard {
    limits: HeadLimits,
    scan: Scan,
    expects: Expected,
    /// What was read and not passed on, and how much of it may be.
    held: BytesMut,
    passable: usize,
    /// When the head whose beginning is held has to be whole.
    due: Option<Duration>,
}

#[derive(Clone, Copy)]
enum Expected {
    Head,
    Body(u64),
    Chunks(Chunks),
    /// Nothing: hyper is to take the body for cut off.
    End,
    /// Nothing: the last request has been passed on.
    Nothing,
}

#[must_use]
pub(crate) struct Examined {
    pub(crate) has_head: bool,
    pub(crate) fault: Option<HeadFault>,
}

#[derive(Clone, Copy)]
pub(crate) enum Readable {
    End,
    More,
    Nothing,
    Passed,
}

impl HeadGuard {
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            scan: Scan::default(),
            expects: Expected::Head,
            held: BytesMut::new(),
            passable: 0,
            due: None,
        }
    }

    /// Takes bytes that were read at `now`, once everything before them that may be passed on has been.
    pub(crate) fn push(&mut self, bytes: &[u8], now: Duration) -> Examined {
        self.held.extend_from_slice(bytes);
        let held = mem::take(&mut self.held);
        let examined = self.examine(&held);
        self.held = held;
        if self.is_closed() {
            self.held.truncate(self.passable);
        }
        match (examined.fault, self.expects) {
            (Some(fault), Expected::Nothing) => self.replace(fault),
            _ if self.held.len() > self.passable => {
                let due = now.saturating_add(self.limits.patience);
                self.due.get_or_insert(due);
            }
            _ => {}
        }
        examined
    }

    /// Refuses the head that did not come in time; or, where only a body is missing that will not be read
    /// anyway, passes the head on without it.
    pub(crate) fn time_out(&mut self) -> Examined {
        self.expects = Expected::Nothing;
        let fault = if let Some(head) = self.scan.refusable() {
            self.held.truncate(head);
            self.passable = head;
            self.due = None;
            None
        } else {
            self.held.clear();
            self.replace(HeadFault::Timeout);
            Some(HeadFault::Timeout)
        };
        Examined {
            has_head: false,
            fault,
        }
    }

    fn replace(&mut self, fault: HeadFault) {
        self.held.extend_from_slice(fault.synthetic_request());
        self.passable = self.held.len();
        self.due = None;
    }

    pub(crate) fn readable(&self) -> Readable {
        match self.expects {
            _ if self.passable > 0 => Readable::Passed,
            Expected::End => Readable::End,
            Expected::Nothing => Readable::Nothing,
            Expected::Head | Expected::Body(_) | Expected::Chunks(_) => Readable::More,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.expects, Expected::End | Expected::Nothing)
    }

    pub(crate) fn due(&self) -> Option<Duration> {
        self.due
    }

    pub(crate) fn pass_on(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.passable.min(buffer.remaining());
        let (passed, _) = self.held.split_at(count);
        buffer.put_slice(passed);
        self.held.advance(count);
        self.passable -= count;
        if self.held.is_empty() {
            // A connection that waits for its next request keeps no memory for it.
            self.held = BytesMut::new();
        }
    }

    fn examine(&mut self, bytes: &[u8]) -> Examined {
        let mut examined = Examined {
            has_head: false,
            fault: None,
        };
        let mut rest = bytes;
        while !rest.is_empty() && !self.is_closed() {
            let passed = match self.expects {
                Expected::Body(left) => {
                    let here = u64::try_from(rest.len()).expect("64 bits").min(left);
                    self.expects = behind(left - here);
                    usize::try_from(here).expect("no more than there are")
                }
                Expected::Chunks(mut chunks) => match chunks.advance(rest) {
                    ChunkProgress::Partial => {
                        self.expects = Expected::Chunks(chunks);
                        rest.len()
                    }
                    ChunkProgress::Whole(count) => {
                        self.expects = Expected::Head;
                        count
                    }
                    ChunkProgress::Bad => {
                        examined.fault = Some(HeadFault::Chunk);
                        self.expects = Expected::End;
                        0
                    }
                },
                Expected::Head => match self.scan.advance(rest, self.limits) {
                    HeadProgress::Partial => break,
                    HeadProgress::Whole { length, next } => {
                        self.scan = Scan::default();
                        self.due = None;
                        examined.has_head = true;
                        self.expects = match next {
                            BehindHead::Chunks => Expected::Chunks(Chunks::default()),
                            BehindHead::Head(body) => behind(body),
                            BehindHead::Nothing => Expected::Nothing,
                        };
                        length
                    }
                    HeadProgress::Bad(fault) => {
                        examined.fault = Some(fault);
                        self.expects = Expected::Nothing;
                        0
                    }
                },
                Expected::End | Expected::Nothing => 0,
            };
            (_, rest) = rest.split_at(passed);
        }
        self.passable = bytes.len() - rest.len();
        examined
    }
}

fn behind(body: u64) -> Expected {
    if body > 0 {
        Expected::Body(body)
    } else {
        Expected::Head
    }
}
