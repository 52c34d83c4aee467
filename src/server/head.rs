//! The bytes of an HTTP/1 request's head go in, as they arrive; where it ends, or what is wrong with it,
//! comes out.
//!
//! hyper forgives what cannot be seen afterwards: a bare line feed, `Content-Length` beside
//! `Transfer-Encoding`, one length twice, `identity, chunked`. Whoever forgives something else than the
//! proxy in front of it can be made to read another request than the proxy did (request smuggling), so
//! here nothing is forgiven: what RFC 9112 does not allow ends the connection.
//!
//! Each byte is looked at once, nothing is copied and nothing is allocated.

use memchr::{memchr, memchr_iter};

use super::chunks::{ChunkProgress, Chunks};

mod bytes;
mod fault;
#[cfg(test)]
mod tests;

pub(super) use bytes::{all_between, greatest, is_control, is_in_tokens, letters_digits_and};
use bytes::{has_control_character, is_usual};
pub use fault::Fault;

/// What bounds a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, the empty line included.
    pub size: usize,
    /// Header lines.
    pub headers: usize,
    /// Whether a request may have a body that is read: operators' may, callers' may not.
    pub bodies: bool,
}

/// How far a head has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadProgress {
    /// It is refused.
    Bad(Fault),
    /// So far it is well-formed.
    Partial,
    /// It is whole and well-formed.
    Whole {
        /// How many bytes it has.
        length: usize,
        /// What comes behind it.
        next: Next,
    },
}

/// What comes behind a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A body in chunks, and behind it another head.
    Chunks,
    /// Another head, after this many bytes of body.
    Head(u64),
    /// Nothing that may be read as a request.
    Nothing,
}

/// The reading of one head, which may come in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Where the line begins that has not ended yet.
    line: usize,
    /// Up to where its end has been looked for.
    searched: usize,
    /// The first line, once it has been read.
    request: Option<RequestLine>,
    /// Whether an empty line came before it.
    led_by_empty_line: bool,
    headers: usize,
    length: Option<u64>,
    chunked: bool,
    /// Its sender waits for a word of ours before the body leaves (`Expect`).
    waits: bool,
    /// What has not come of a body that nobody will read.
    body: Option<BodyFraming>,
}

#[derive(Clone, Copy, Debug)]
struct RequestLine {
    method: MethodKind,
    is_http_1_0: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MethodKind {
    Connect,
    GetOrHead,
    Other,
}

/// A body that is looked at and not passed on.
#[derive(Clone, Copy, Debug)]
enum BodyFraming {
    Chunks(Chunks),
    Length(u64),
}

impl Scan {
    /// Goes on reading. `head` begins where the head begins, at each call with more bytes.
    pub fn advance(&mut self, head: &[u8], bounds: HeadLimits) -> HeadProgress {
        match self.read(head, bounds) {
            Ok(progress) => progress,
            Err(fault) => HeadProgress::Bad(fault),
        }
    }

    fn read(&mut self, head: &[u8], bounds: HeadLimits) -> Result<HeadProgress, Fault> {
        if let Some(body) = self.body {
            return self.body(head, body);
        }
        loop {
            let unsearched = head.get(self.searched..).unwrap_or_default();
            // The last line, which is empty, need not be searched for.
            let end = match unsearched {
                [b'\r', b'\n', ..] => Some(1),
                _ => memchr(b'\n', unsearched),
            };
            let Some(end) = end else {
                self.searched = head.len();
                return self.unfinished(head, bounds);
            };
            let end = self.searched + end;
            let line = head.get(self.line..end).unwrap_or_default();
            self.line = end + 1;
            self.searched = end + 1;
            if self.line > bounds.size {
                return Err(self.oversized(line));
            }
            let line = line.strip_suffix(b"\r").ok_or(Fault::ControlCharacter)?;
            match (line.is_empty(), self.request) {
                (false, Some(_)) => self.header(line, bounds)?,
                (false, None) => self.request = Some(request_line(line)?),
                (true, Some(request)) => return self.whole(head, request, bounds),
                // RFC 9112, section 2.2: a server should ignore at least one of them.
                (true, None) if !self.led_by_empty_line => self.led_by_empty_line = true,
                (true, None) => return Err(Fault::RequestLine),
            }
        }
    }

    /// What can be said of a head whose end has not come. That it is not HTTP at all, such as a TLS
    /// greeting, shows in its first byte.
    fn unfinished(&self, head: &[u8], bounds: HeadLimits) -> Result<HeadProgress, Fault> {
        let line = head.get(self.line..).unwrap_or_default();
        let first = line.first().copied();
        let may_begin = first.is_none_or(|byte| byte.is_ascii_alphabetic() || byte == b'\r');
        if self.request.is_none() && !may_begin {
            return Err(Fault::RequestLine);
        }
        if head.len() >= bounds.size {
            return Err(self.oversized(line));
        }
        Ok(HeadProgress::Partial)
    }

    fn oversized(&self, line: &[u8]) -> Fault {
        match self.request {
            Some(_) => Fault::TooLarge,
            None if memchr(b' ', line).is_some() => Fault::TargetTooLong,
            None => Fault::RequestLine,
        }
    }

    fn header(&mut self, line: &[u8], bounds: HeadLimits) -> Result<(), Fault> {
        self.headers += 1;
        if self.headers > bounds.headers {
            return Err(Fault::TooMany);
        }
        // Not by `position`, which takes twice as many instructions for a byte.
        let mut rest = line;
        while let [byte, behind @ ..] = rest
            && is_in_tokens(*byte)
        {
            rest = behind;
        }
        let name = line.get(..line.len() - rest.len()).unwrap_or_default();
        // A name has no space, so neither a continued line nor a space before the colon passes here.
        let value = rest.strip_prefix(b":").ok_or(Fault::HeaderLine)?;
        if name.is_empty() {
            return Err(Fault::HeaderLine);
        }
        if has_control_character(value) {
            return Err(Fault::ControlCharacter);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let first = self.length.replace(length(value.trim_ascii())?);
            if first.is_some() {
                return Err(Fault::BodyLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::TransferEncoding);
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"expect") {
            self.waits = true;
        }
        Ok(())
    }

    fn whole(
        &mut self,
        head: &[u8],
        request: RequestLine,
        bounds: HeadLimits,
    ) -> Result<HeadProgress, Fault> {
        if self.chunked && self.length.is_some() {
            return Err(Fault::BodyLength);
        }
        // RFC 9112, section 6.1: HTTP/1.0 has no chunks.
        if self.chunked && request.is_http_1_0 {
            return Err(Fault::TransferEncoding);
        }
        let length = self.length.unwrap_or(0);
        let has_body = self.chunked || length > 0;
        let next = match (request.method, has_body) {
            (MethodKind::Connect, _) => Next::Nothing,
            (_, false) => Next::Head(0),
            (_, true) if bounds.bodies && self.chunked => Next::Chunks,
            (_, true) if bounds.bodies => Next::Head(length),
            // A lookup with a body is refused for that, and whoever waits is told at once.
            (MethodKind::GetOrHead, true) => Next::Nothing,
            (MethodKind::Other, true) if self.waits => Next::Nothing,
            // It will be refused for its method or its path, but only once its framing is known to be sound:
            // one that is not would have been another request to somebody else.
            (MethodKind::Other, true) => {
                let body = if self.chunked {
                    BodyFraming::Chunks(Chunks::default())
                } else {
                    BodyFraming::Length(length)
                };
                return self.body(head, body);
            }
        };
        Ok(HeadProgress::Whole {
            length: self.line,
            next,
        })
    }

    /// The length of a head that will be refused whatever comes of its body, once it is whole.
    pub fn refusable(&self) -> Option<usize> {
        self.body.is_some().then_some(self.line)
    }

    /// Looks at what has come of a body that will not be passed on.
    fn body(&mut self, head: &[u8], mut body: BodyFraming) -> Result<HeadProgress, Fault> {
        let unread = head.get(self.searched..).unwrap_or_default();
        self.searched = head.len();
        let is_whole = match &mut body {
            BodyFraming::Chunks(chunks) => match chunks.advance(unread) {
                ChunkProgress::Bad => return Err(Fault::Chunk),
                ChunkProgress::Partial => false,
                ChunkProgress::Whole(_) => true,
            },
            BodyFraming::Length(left) => {
                *left = left.saturating_sub(u64::try_from(unread.len()).unwrap_or(u64::MAX));
                *left == 0
            }
        };
        self.body = Some(body);
        if is_whole || head.len() - self.line >= LARGEST_BODY {
            return Ok(HeadProgress::Whole {
                length: self.line,
                next: Next::Nothing,
            });
        }
        Ok(HeadProgress::Partial)
    }
}

fn request_line(line: &[u8]) -> Result<RequestLine, Fault> {
    // Nearly every request has this form, which costs a third of looking at its parts one by one.
    let rest = line.strip_prefix(b"GET ");
    let target = rest.and_then(|rest| rest.strip_suffix(b" HTTP/1.1"));
    if target.is_some_and(is_usual_path) {
        return Ok(RequestLine {
            method: MethodKind::GetOrHead,
            is_http_1_0: false,
        });
    }
    let mut spaces = memchr_iter(b' ', line);
    let (Some(first), Some(second), None) = (spaces.next(), spaces.next(), spaces.next()) else {
        return Err(Fault::RequestLine);
    };
    let method = line.get(..first).unwrap_or_default();
    let target = line.get(first + 1..second).unwrap_or_default();
    let version = line.get(second + 1..).unwrap_or_default();
    let begins_with_letter = method.first().is_some_and(u8::is_ascii_alphabetic);
    let is_token = method.iter().all(|byte| is_in_tokens(*byte));
    if !begins_with_letter || !is_token || target.is_empty() {
        return Err(Fault::RequestLine);
    }
    if has_control_character(target) {
        return Err(Fault::ControlCharacter);
    }
    if target.len() > LONGEST_URI {
        return Err(Fault::TargetTooLong);
    }
    // What is no usual path is judged by who will read it, so that its refusal is ours; but what comes of
    // a fragment, which no request has, it only drops, unread.
    if !is_usual_path(target)
        && (memchr(b'#', target).is_some() || http::Uri::try_from(target).is_err())
    {
        return Err(Fault::Target);
    }
    Ok(RequestLine {
        method: match method {
            b"CONNECT" => MethodKind::Connect,
            b"GET" | b"HEAD" => MethodKind::GetOrHead,
            _ => MethodKind::Other,
        },
        is_http_1_0: match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            _ => return Err(Fault::RequestLine),
        },
    })
}

/// Whether a target is a path, and maybe a query, in which there is nothing to find.
fn is_usual_path(target: &[u8]) -> bool {
    let is_odd = |byte| u8::from(!is_usual(byte));
    target.starts_with(b"/") && target.len() <= LONGEST_URI && greatest(target, is_odd) == 0
}

/// RFC 9112, section 6.2: digits and nothing else. A leading zero is read as octal by some.
fn length(value: &[u8]) -> Result<u64, Fault> {
    let is_canonical = value == b"0"
        || value
            .first()
            .is_some_and(|byte| (b'1'..=b'9').contains(byte));
    if !is_canonical || value.len() > LONGEST_LENGTH {
        return Err(Fault::BodyLength);
    }
    value.iter().try_fold(0, |sum: u64, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
        digit.map(|digit| sum * 10 + digit).ok_or(Fault::BodyLength)
    })
}

/// The `http` crate's bound.
const LONGEST_URI: usize = 65_534;
/// Any number of so many digits fits.
const LONGEST_LENGTH: usize = 19;
/// How much of a body is looked at that nobody will read.
const LARGEST_BODY: usize = 16 << 10;
