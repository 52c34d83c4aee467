//! The body of every answer: a document goes in, pieces of it come out as they are asked for.
//!
//! What lies in memory already is handed out as it lies there. An indented document is made piece by
//! piece from the list in memory, so an answer that nobody reads holds a few kilobytes, however long it
//! is. What counts an answer, as a request under way and against the budget of unsent bytes, goes with
//! its pieces, and is let go when the last of them has been handed to the kernel.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};

use super::pretty::{Chunk, Indenter, LONGEST_STEP};
use super::unsent_budget::Reserved;
use crate::cache::Text;
use crate::telemetry::metrics::lookups::Present;

/// An answer's content, or what is left of it.
#[derive(Debug, Default)]
pub struct Body {
    content: Content,
    /// Counts the request for as long as a part of its answer is here.
    present: Option<Present>,
    /// Whether it leaves beside others, over HTTP/2.
    is_stream: bool,
}

#[derive(Debug)]
enum Content {
    /// Leaves at once.
    Text(Text),
    Parts(Box<Parts>),
}

/// What does not leave in one piece.
#[derive(Debug)]
struct Parts {
    /// What follows each other; those that have left are empty.
    texts: [Bytes; 3],
    /// Makes of them what leaves, if they do not leave as they are.
    indenter: Option<Indenter>,
    /// Made, but not handed out.
    kept_back: Bytes,
    /// How many bytes are still to leave.
    left: usize,
    reserved: Option<Arc<Reserved>>,
    /// How many have been taken from pieces that were handed out.
    taken: Arc<AtomicU64>,
}

/// Some bytes of an answer.
#[derive(Debug)]
pub struct Piece {
    text: Text,
    taken: Option<Arc<AtomicU64>>,
    _reserved: Option<Arc<Reserved>>,
    _present: Option<Present>,
}

/// A piece that was handed out to an HTTP/2 stream.
#[derive(Debug)]
pub struct Given {
    /// How many bytes of the stream's pieces have been taken by the connection, where that is counted.
    pub taken: Option<Arc<AtomicU64>>,
}

impl Body {
    /// Something that was made for this answer and holds what was `reserved` for it.
    pub fn made(bytes: Vec<u8>, reserved: Reserved) -> Self {
        let text = Text::Whole(Bytes::from(bytes));
        let left = text.len();
        Self::of(Parts::new(text, None, left, Some(reserved)))
    }

    /// `text`, which has `length` bytes when it is indented; while it leaves it holds what was `reserved`.
    pub fn indented(text: Text, length: usize, reserved: Reserved) -> Self {
        let indenter = Some(Indenter::default());
        Self::of(Parts::new(text, indenter, length, Some(reserved)))
    }

    /// Counts the request until the answer has left, in pieces if it is one of several `streams`.
    pub fn count(&mut self, present: Present, is_stream: bool) {
        self.present = Some(present);
        self.is_stream = is_stream;
    }

    fn of(parts: Parts) -> Self {
        Self {
            content: Content::Parts(Box::new(parts)),
            ..Self::default()
        }
    }

    fn left(&self) -> usize {
        match &self.content {
            Content::Text(text) => text.len(),
            Content::Parts(parts) => parts.left,
        }
    }

    fn next(&mut self) -> Option<Piece> {
        let is_stream = self.is_stream;
        if let Content::Text(text) = &mut self.content {
            let text = std::mem::take(text);
            let left = text.len();
            if left == 0 {
                return None;
            }
            if !is_stream || left <= LONGEST_KEPT_PIECE {
                note(is_stream, || Given { taken: None });
                return Some(Piece {
                    text,
                    taken: None,
                    _reserved: None,
                    _present: self.present.take(),
                });
            }
            self.content = Content::Parts(Box::new(Parts::new(text, None, left, None)));
        }
        let Content::Parts(parts) = &mut self.content else {
            return None;
        };
        let bytes = parts.next(is_stream)?;
        let taken = is_stream.then(|| Arc::clone(&parts.taken));
        note(is_stream, || Given {
            taken: taken.clone(),
        });
        Some(Piece {
            text: Text::Whole(bytes),
            taken,
            _reserved: parts.reserved.clone(),
            _present: self.present.take_if(|_| parts.left == 0),
        })
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::Text(Text::default())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::from(Text::Whole(bytes))
    }
}

impl From<Text> for Body {
    fn from(text: Text) -> Self {
        Self {
            content: Content::Text(text),
            ..Self::default()
        }
    }
}

impl Parts {
    fn new(
        text: Text,
        indenter: Option<Indenter>,
        left: usize,
        reserved: Option<Reserved>,
    ) -> Self {
        Self {
            texts: match text {
                Text::Whole(bytes) => [bytes, Bytes::new(), Bytes::new()],
                Text::Spliced(texts) => *texts,
            },
            indenter,
            kept_back: Bytes::new(),
            left,
            reserved: reserved.map(Arc::new),
            taken: Arc::default(),
        }
    }

    fn next(&mut self, is_stream: bool) -> Option<Bytes> {
        let mut bytes = if self.kept_back.is_empty() {
            self.make(is_stream)?
        } else {
            std::mem::take(&mut self.kept_back)
        };
        // hyper looks after a stream until its last piece is handed over, which is when there is room for
        // one byte of it.
        if is_stream && bytes.len() >= self.left && bytes.len() > 1 {
            self.kept_back = bytes.split_off(bytes.len() - 1);
        }
        self.left = self.left.saturating_sub(bytes.len());
        Some(bytes)
    }

    fn make(&mut self, is_stream: bool) -> Option<Bytes> {
        let mut chunk = self.indenter.map(|_| Chunk::new(MADE_PIECE - LONGEST_STEP));
        for text in &mut self.texts {
            let (Some(indenter), Some(chunk)) = (&mut self.indenter, &mut chunk) else {
                if text.is_empty() {
                    continue;
                }
                let most = if is_stream {
                    LONGEST_KEPT_PIECE
                } else {
                    usize::MAX
                };
                return Some(text.split_to(text.len().min(most)));
            };
            let mut rest = &text[..];
            indenter.feed(&mut rest, chunk);
            let fed = text.len() - rest.len();
            text.advance(fed);
        }
        let made = chunk?.into_bytes();
        (!made.is_empty()).then(|| Bytes::from(made))
    }
}

impl http_body::Body for Body {
    type Data = Piece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, Infallible>>> {
        Poll::Ready(self.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.left()).unwrap_or(u64::MAX))
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.text.len()
    }

    fn chunk(&self) -> &[u8] {
        let texts = self.text.texts();
        let next = texts.iter().find(|text| !text.is_empty());
        next.map_or(&[], |text| &text[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let texts = self.text.texts().iter().filter(|text| !text.is_empty());
        let pairs = texts.zip(slices);
        pairs
            .map(|(text, slice)| *slice = IoSlice::new(text))
            .count()
    }

    fn advance(&mut self, count: usize) {
        let mut left = count;
        for text in self.text.texts_mut() {
            let some = left.min(text.len());
            text.advance(some);
            left -= some;
        }
        if let Some(taken) = &self.taken {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            taken.fetch_add(count, Ordering::Relaxed);
        }
    }
}

fn note(is_stream: bool, given: impl FnOnce() -> Given) {
    if is_stream {
        GIVEN.set(Some(given()));
    }
}

/// The last piece that a body has handed out to an HTTP/2 stream on this thread, once: so the task of a
/// stream, which has no other way to its body, learns that it waits for its caller.
pub fn given() -> Option<Given> {
    GIVEN.take()
}

thread_local! {
    static GIVEN: Cell<Option<Given>> = const { Cell::new(None) };
}

/// Of a document that is made as it leaves.
const MADE_PIECE: usize = 8 << 10;
/// Of one that lies in memory, over HTTP/2: about as much as a caller grants a stream by default.
const LONGEST_KEPT_PIECE: usize = 64 << 10;
/// How much hyper takes for an HTTP/2 stream before it waits for its caller.
pub const SEND_BUFFER: usize = 2 * MADE_PIECE;
/// The most that is there at a time of a document that is made as it leaves: less than a buffer and a
/// piece in hyper's hands, and the piece that waits for room.
pub const MADE_AT_A_TIME: usize = SEND_BUFFER + 2 * MADE_PIECE;

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;
    use crate::server::Limits;
    use crate::server::pretty::Length;
    use crate::server::unsent_budget::UnsentBudget;
    use crate::telemetry::Metrics;

    fn reserved(bytes: usize) -> Reserved {
        let (metrics, _) = Metrics::register();
        let unsent = UnsentBudget::new(&Limits::default(), None, metrics.lookups);
        unsent.account().reserve(bytes).unwrap()
    }

    fn text(ids: u32) -> Text {
        let list: Vec<String> = (0..ids).map(|id| format!("{{\"_id\":{id}}}")).collect();
        let (head, tail) = ("{\"results\":[", "],\"totalCount\":1}");
        Text::Spliced(Box::new([head.into(), list.join(",").into(), tail.into()]))
    }

    /// A few bytes at a time.
    fn read(mut piece: Piece) -> Vec<u8> {
        let mut out = Vec::new();
        while piece.has_remaining() {
            let mut slices = [IoSlice::new(&[]); 2];
            let count = piece.chunks_vectored(&mut slices);
            assert_eq!(&*slices[0], piece.chunk());
            let some = slices.iter().take(count).flat_map(|slice| slice.iter());
            let before = out.len();
            out.extend(some.take(1_000));
            piece.advance(out.len() - before);
        }
        out
    }

    fn length(text: &Text) -> usize {
        let (bytes, mut length) = (text.to_vec(), Length::default());
        Indenter::default().feed(&mut &bytes[..], &mut length);
        length.0
    }

    #[test]
    fn a_body_says_how_long_it_is_and_ends_when_nothing_is_left() {
        for is_stream in [false, true] {
            for text in [
                text(0),
                text(3),
                text(20_000),
                Text::Whole(Bytes::new()),
                Text::Whole(Bytes::from(vec![b'x'; 100_000])),
            ] {
                let mut body = Body::from(text.clone());
                body.is_stream = is_stream;
                let (mut out, mut left) = (Vec::new(), text.len());
                while let Some(piece) = body.next() {
                    left -= piece.remaining();
                    assert!(!is_stream || piece.remaining() <= LONGEST_KEPT_PIECE);
                    assert_eq!(body.size_hint().exact(), Some(u64::try_from(left).unwrap()));
                    assert_eq!(body.is_end_stream(), left == 0);
                    out.extend(read(piece));
                }
                assert!(out == text.to_vec() && left == 0);
            }
        }
    }

    #[tokio::test]
    async fn an_indented_document_is_made_in_pieces_of_a_few_kilobytes() {
        for (ids, is_stream) in [(0, false), (1, true), (20_000, false), (20_000, true)] {
            let text = text(ids);
            let length = length(&text);
            let mut body = Body::indented(text.clone(), length, reserved(MADE_AT_A_TIME));
            body.is_stream = is_stream;
            assert_eq!(body.size_hint().exact(), u64::try_from(length).ok());
            let mut out = Vec::new();
            while let Some(frame) = body.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.remaining() <= MADE_PIECE);
                out.extend(read(piece));
            }
            assert_eq!(out.len(), length);
            let same: serde_json::Value = serde_json::from_slice(&out).unwrap();
            let compact: serde_json::Value = serde_json::from_slice(&text.to_vec()).unwrap();
            assert_eq!(same, compact);
        }
    }

    #[test]
    fn a_request_is_under_way_until_the_last_piece_is_gone() {
        let (metrics, _) = Metrics::register();
        let under_way = || metrics.lookups.known_under_way();
        for text in [Text::Whole(Bytes::from_static(b"{}")), text(9)] {
            let mut body = Body::from(text);
            body.count(metrics.lookups.request(), false);
            let mut last = None;
            while let Some(piece) = body.next() {
                last = Some(piece);
            }
            drop(body);
            assert_eq!(under_way(), 1);
            drop(last);
            assert_eq!(under_way(), 0);
        }
        let mut body = Body::default();
        body.count(metrics.lookups.request(), false);
        drop(body);
        assert_eq!(under_way(), 0);
    }
}
