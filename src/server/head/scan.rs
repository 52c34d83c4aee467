//! The scan of one head: looks at each byte once, copies and allocates nothing.

use std::time::Duration;

use memchr::memchr;

use super::bytes::{greatest, has_control_character, is_in_tokens, is_usual};
use super::chunks::{ChunkProgress, Chunks};
use super::fault::HeadFault;

#[cfg(test)]
mod tests;

#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadLimits {
    /// Bytes, the empty line included.
    pub(crate) size: usize,
    pub(crate) headers: usize,
    /// Whether a request may have a body that is read: operators' may, callers' may not.
    pub(crate) bodies: bool,
    /// From its first byte to its last (slow loris).
    pub(crate) patience: Duration,
}

/// How far a head has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeadProgress {
    Bad(HeadFault),
    Partial,
    /// It is whole and well-formed.
    Whole {
        /// How many bytes it has.
        length: usize,
        /// What comes behind it.
        next: BehindHead,
    },
}

/// What comes behind a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BehindHead {
    /// A body in chunks, and behind it another head.
    Chunks,
    /// Another head, after this many bytes of body.
    Head(u64),
    /// Nothing that may be read as a request.
    Nothing,
}

/// The reading of one head, which may come in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
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
    /// What has not come of a body that will not be read.
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
    pub(super) fn advance(&mut self, head: &[u8], limits: HeadLimits) -> HeadProgress {
        match self.read(head, limits) {
            Ok(progress) => progress,
            Err(fault) => HeadProgress::Bad(fault),
        }
    }

    fn read(&mut self, head: &[u8], limits: HeadLimits) -> Result<HeadProgress, HeadFault> {
        if let Some(body) = self.body {
            return self.body(head, body);
        }
        loop {
            let (_, unsearched) = head.split_at(self.searched);
            // The last line, which is empty, need not be searched for.
            let end = match unsearched {
                [b'\r', b'\n', ..] => Some(1),
                _ => memchr(b'\n', unsearched),
            };
            let Some(end) = end else {
                self.searched = head.len();
                return self.unfinished(head, limits);
            };
            let end = self.searched + end;
            let line = head
                .get(self.line..end)
                .expect("a line ends behind its beginning");
            self.line = end + 1;
            self.searched = end + 1;
            if self.line > limits.size {
                return Err(self.oversized(line));
            }
            let line = line
                .strip_suffix(b"\r")
                .ok_or(HeadFault::ControlCharacter)?;
            match (line.is_empty(), self.request) {
                (false, Some(_)) => self.header(line, limits)?,
                (false, None) => self.request = Some(request_line(line)?),
                (true, Some(request)) => return self.whole(head, request, limits),
                // RFC 9112, section 2.2: a server should ignore at least one of them.
                (true, None) if !self.led_by_empty_line => self.led_by_empty_line = true,
                (true, None) => return Err(HeadFault::RequestLine),
            }
        }
    }

    /// What can be said of a head whose end has not come. That it is not HTTP at all, such as a TLS
    /// greeting, shows in its first byte.
    fn unfinished(&self, head: &[u8], limits: HeadLimits) -> Result<HeadProgress, HeadFault> {
        let (_, line) = head.split_at(self.line);
        let first = line.first().copied();
        let may_begin = first.is_none_or(|byte| byte.is_ascii_alphabetic() || byte == b'\r');
        if self.request.is_none() && !may_begin {
            return Err(HeadFault::RequestLine);
        }
        if head.len() >= limits.size {
            return Err(self.oversized(line));
        }
        Ok(HeadProgress::Partial)
    }

    fn oversized(&self, line: &[u8]) -> HeadFault {
        match self.request {
            Some(_) => HeadFault::TooLarge,
            None if memchr(b' ', line).is_some() => HeadFault::TargetTooLong,
            None => HeadFault::RequestLine,
        }
    }

    fn header(&mut self, line: &[u8], limits: HeadLimits) -> Result<(), HeadFault> {
        self.headers += 1;
        if self.headers > limits.headers {
            return Err(HeadFault::TooMany);
        }
        // Not by `position`, which takes twice as many instructions for a byte.
        let mut rest = line;
        while let [byte, behind @ ..] = rest
            && is_in_tokens(*byte)
        {
            rest = behind;
        }
        let (name, _) = line.split_at(line.len() - rest.len());
        // A name has no space, so neither a continued line nor a space before the colon passes here.
        let value = rest.strip_prefix(b":").ok_or(HeadFault::HeaderLine)?;
        if name.is_empty() {
            return Err(HeadFault::HeaderLine);
        }
        if has_control_character(value) {
            return Err(HeadFault::ControlCharacter);
        }
        if name.eq_ignore_ascii_case(b"content-length") {
            let first = self.length.replace(length(value.trim_ascii())?);
            if first.is_some() {
                return Err(HeadFault::BodyLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(HeadFault::TransferEncoding);
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
        limits: HeadLimits,
    ) -> Result<HeadProgress, HeadFault> {
        if self.chunked && self.length.is_some() {
            return Err(HeadFault::BodyLength);
        }
        // RFC 9112, section 6.1: HTTP/1.0 has no chunks.
        if self.chunked && request.is_http_1_0 {
            return Err(HeadFault::TransferEncoding);
        }
        let length = self.length.unwrap_or(0);
        let has_body = self.chunked || length > 0;
        let next = match (request.method, has_body) {
            (MethodKind::Connect, _) => BehindHead::Nothing,
            (_, false) => BehindHead::Head(0),
            (_, true) if limits.bodies && self.chunked => BehindHead::Chunks,
            (_, true) if limits.bodies => BehindHead::Head(length),
            // A lookup with a body is refused for that, and one with `Expect` at once.
            (MethodKind::GetOrHead, true) => BehindHead::Nothing,
            (MethodKind::Other, true) if self.waits => BehindHead::Nothing,
            // It will be refused for its method or its path, but only once its framing is known to be sound:
            // a proxy in front of us may have read another request there.
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
    pub(super) fn refusable(&self) -> Option<usize> {
        self.body.is_some().then_some(self.line)
    }

    /// Looks at what has come of a body that will not be passed on.
    fn body(&mut self, head: &[u8], mut body: BodyFraming) -> Result<HeadProgress, HeadFault> {
        let (_, unread) = head.split_at(self.searched);
        self.searched = head.len();
        let is_whole = match &mut body {
            BodyFraming::Chunks(chunks) => match chunks.advance(unread) {
                ChunkProgress::Bad => return Err(HeadFault::Chunk),
                ChunkProgress::Partial => false,
                ChunkProgress::Whole(_) => true,
            },
            BodyFraming::Length(left) => {
                *left = left.saturating_sub(u64::try_from(unread.len()).expect("64 bits"));
                *left == 0
            }
        };
        self.body = Some(body);
        if is_whole || head.len() - self.line >= LARGEST_BODY {
            return Ok(HeadProgress::Whole {
                length: self.line,
                next: BehindHead::Nothing,
            });
        }
        Ok(HeadProgress::Partial)
    }
}

fn request_line(line: &[u8]) -> Result<RequestLine, HeadFault> {
    // Nearly every request has this form, which costs a third of looking at its parts one by one.
    let rest = line.strip_prefix(b"GET ");
    let target = rest.and_then(|rest| rest.strip_suffix(b" HTTP/1.1"));
    if target.is_some_and(is_usual_path) {
        return Ok(RequestLine {
            method: MethodKind::GetOrHead,
            is_http_1_0: false,
        });
    }
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadFault::RequestLine);
    };
    let begins_with_letter = method.first().is_some_and(u8::is_ascii_alphabetic);
    let is_token = method.iter().all(|byte| is_in_tokens(*byte));
    if !begins_with_letter || !is_token || target.is_empty() {
        return Err(HeadFault::RequestLine);
    }
    if has_control_character(target) {
        return Err(HeadFault::ControlCharacter);
    }
    if target.len() > LONGEST_URI {
        return Err(HeadFault::TargetTooLong);
    }
    // What is no usual path is judged by hyper's own parser, so that its refusal is ours; but a fragment,
    // which no request has, it would only drop.
    if !is_usual_path(target)
        && (memchr(b'#', target).is_some() || http::Uri::try_from(target).is_err())
    {
        return Err(HeadFault::Target);
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
            _ => return Err(HeadFault::RequestLine),
        },
    })
}

/// Whether a target is a path, and maybe a query, in which there is nothing to find.
fn is_usual_path(target: &[u8]) -> bool {
    let is_odd = |byte| u8::from(!is_usual(byte));
    target.starts_with(b"/") && target.len() <= LONGEST_URI && greatest(target, is_odd) == 0
}

/// RFC 9112, section 6.2: digits and nothing else. A leading zero is read as octal by some.
fn length(value: &[u8]) -> Result<u64, HeadFault> {
    let is_canonical = value == b"0"
        || value
            .first()
            .is_some_and(|byte| (b'1'..=b'9').contains(byte));
    if !is_canonical || value.len() > LONGEST_LENGTH {
        return Err(HeadFault::BodyLength);
    }
    value.iter().try_fold(0, |sum: u64, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
        digit
            .map(|digit| sum * 10 + digit)
            .ok_or(HeadFault::BodyLength)
    })
}

/// The `http` crate's bound.
const LONGEST_URI: usize = 65_534;
/// Any number of so many digits fits.
const LONGEST_LENGTH: usize = 19;
/// How much of a body is looked at that will not be read.
const LARGEST_BODY: usize = 16 << 10;
