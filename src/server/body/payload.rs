//! The content of an answer, as hyper takes it: piece by piece (backpressure).
//!
//! What lies in memory is handed out as it lies. An indented document is made piece by piece, so an answer
//! that is not read holds a few kilobytes, however long it is. The request counts as in flight, and holds
//! its share of the unsent budget, until the kernel has the last piece.

use std::convert::Infallible;
use std::io::IoSlice;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Frame, SizeHint};

use super::indent::{Indented, Indenter, LONGEST_STEP};
use crate::cache::Text;
use crate::server::unsent_budget::Reserved;
use crate::system::Clock;
use crate::telemetry::metrics::lookups::Present;

/// An answer's content, or what is left of it.
#[derive(Debug, Default)]
pub struct ResponseBody {
    text: Text,
    /// Counts the request for as long as a part of its answer is here.
    present: Option<Present>,
    /// `None` where the text leaves at once, as it lies.
    pieces: Option<Box<PendingPieces>>,
}

/// How a text leaves that does not leave at once.
#[derive(Debug, Default)]
struct PendingPieces {
    indenter: Option<Indenter>,
    /// Made, but not handed out.
    kept_back: Bytes,
    left: usize,
    reserved: Option<Arc<Reserved>>,
    /// Where it leaves by a stream of HTTP/2.
    progress: Option<Arc<StreamProgress>>,
}

/// Some bytes of an answer.
#[derive(Debug)]
pub struct BodyPiece {
    text: Text,
    progress: Option<Arc<StreamProgress>>,
    _reserved: Option<Arc<Reserved>>,
    _present: Option<Present>,
}

/// When an answer began to leave by its stream, and when bytes of it left last.
#[derive(Debug)]
pub(crate) struct StreamProgress {
    clock: Clock,
    first: OnceLock<Duration>,
    /// In microseconds of the clock.
    last: AtomicU64,
}

impl StreamProgress {
    pub(crate) fn new(clock: Clock) -> Self {
        let (first, last) = (OnceLock::new(), AtomicU64::new(0));
        Self { clock, first, last }
    }

    fn note(&self) {
        let now = self.clock.elapsed();
        self.first.get_or_init(|| now);
        let micros = u64::try_from(now.as_micros()).expect("no clock runs for 584,000 years");
        self.last.store(micros, Ordering::Relaxed);
    }

    /// The first time and the last; `None` before.
    pub(crate) fn times(&self) -> Option<(Duration, Duration)> {
        let last = Duration::from_micros(self.last.load(Ordering::Relaxed));
        self.first.get().map(|first| (*first, last))
    }
}

impl ResponseBody {
    /// Something that was made for this answer and holds what was `reserved` for it.
    pub(in crate::server) fn made(bytes: Vec<u8>, reserved: Reserved) -> Self {
        let left = bytes.len();
        Self::in_pieces(Text::Whole(bytes.into()), None, left, reserved)
    }

    /// `text`, which has `length` bytes when it is indented; while it leaves it holds what was `reserved`.
    pub(super) fn indented(text: Text, length: usize, reserved: Reserved) -> Self {
        Self::in_pieces(text, Some(Indenter::default()), length, reserved)
    }

    fn in_pieces(text: Text, indenter: Option<Indenter>, left: usize, reserved: Reserved) -> Self {
        let pieces = PendingPieces {
            indenter,
            left,
            reserved: Some(Arc::new(reserved)),
            ..PendingPieces::default()
        };
        Self {
            text,
            present: None,
            pieces: Some(Box::new(pieces)),
        }
    }

    /// Counts the request as in flight until the answer has left.
    pub(crate) fn count(&mut self, present: Present) {
        self.present = Some(present);
    }

    /// The answer leaves beside others, by a stream of HTTP/2.
    pub(crate) fn leave_in_pieces(&mut self, progress: Arc<StreamProgress>) {
        let left = self.left();
        let pieces = self.pieces.get_or_insert_default();
        pieces.left = left;
        pieces.progress = Some(progress);
    }

    fn left(&self) -> usize {
        match &self.pieces {
            None => self.text.len(),
            Some(pieces) => pieces.left,
        }
    }

    fn next(&mut self) -> Option<BodyPiece> {
        if self.left() == 0 {
            return None;
        }
        let Some(pieces) = &mut self.pieces else {
            return Some(BodyPiece {
                text: mem::take(&mut self.text),
                progress: None,
                _reserved: None,
                _present: self.present.take(),
            });
        };
        let bytes = pieces.next(self.text.texts_mut());
        Some(BodyPiece {
            text: Text::Whole(bytes),
            progress: pieces.progress.clone(),
            _reserved: pieces.reserved.clone(),
            _present: self.present.take_if(|_| pieces.left == 0),
        })
    }
}

impl From<Bytes> for ResponseBody {
    fn from(bytes: Bytes) -> Self {
        Self::from(Text::Whole(bytes))
    }
}

impl From<Text> for ResponseBody {
    fn from(text: Text) -> Self {
        Self {
            text,
            ..Self::default()
        }
    }
}

impl PendingPieces {
    fn next(&mut self, texts: &mut [Bytes]) -> Bytes {
        let mut bytes = mem::take(&mut self.kept_back);
        if bytes.is_empty() {
            bytes = match &mut self.indenter {
                Some(indenter) => indented(indenter, texts),
                None => lying(texts, self.progress.is_some()),
            };
        }
        if let Some(progress) = &self.progress {
            progress.note();
            // hyper watches a stream until its last piece is handed over, which is when the caller has
            // granted window for one byte of it (flow control).
            if bytes.len() >= self.left && bytes.len() > 1 {
                self.kept_back = bytes.split_off(bytes.len() - 1);
            }
        }
        self.left -= bytes.len();
        bytes
    }
}

fn indented(indenter: &mut Indenter, texts: &mut [Bytes]) -> Bytes {
    let mut made = Indented::with_capacity(MADE_PIECE - LONGEST_STEP);
    for text in texts {
        let mut rest = &text[..];
        indenter.feed(&mut rest, &mut made);
        text.advance(text.len() - rest.len());
    }
    made.into_bytes().into()
}

fn lying(texts: &mut [Bytes], is_stream: bool) -> Bytes {
    let text = texts.iter_mut().find(|text| !text.is_empty());
    let text = text.expect("there are bytes left");
    let most = if is_stream { LONGEST_PIECE } else { text.len() };
    text.split_to(text.len().min(most))
}

impl http_body::Body for ResponseBody {
    type Data = BodyPiece;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<BodyPiece>, Infallible>>> {
        Poll::Ready(self.next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.left()).expect("64 bits"))
    }
}

impl Buf for BodyPiece {
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
        if let Some(progress) = &self.progress {
            progress.note();
        }
    }
}

/// Of a document that is made as it leaves.
const MADE_PIECE: usize = 8 << 10;
/// Of one that lies in memory, over HTTP/2: about as much as a caller grants a stream by default.
const LONGEST_PIECE: usize = 64 << 10;
/// How much hyper takes for an HTTP/2 stream before it waits for its caller.
pub(crate) const SEND_BUFFER: usize = 2 * MADE_PIECE;
/// The most that is there at a time of a document that is made as it leaves: less than a buffer and a
/// piece in hyper's hands, and the piece that waits for window.
pub(super) const MADE_AT_A_TIME: usize = SEND_BUFFER + 2 * MADE_PIECE;

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;
    use crate::server::ServerLimits;
    use crate::server::unsent_budget::UnsentBudget;
    use crate::telemetry::Metrics;

    fn progress() -> Arc<StreamProgress> {
        Arc::new(StreamProgress::new(Clock::system()))
    }

    fn reserved(bytes: usize) -> Reserved {
        let (metrics, _) = Metrics::register();
        let unsent = UnsentBudget::new(&ServerLimits::default(), None, metrics.lookups);
        unsent.account().reserve(bytes).unwrap()
    }

    fn text(ids: u32) -> Text {
        let list: Vec<String> = (0..ids).map(|id| format!("{{\"_id\":{id}}}")).collect();
        let (head, tail) = ("{\"results\":[", "],\"totalCount\":1}");
        Text::Spliced(Box::new([head.into(), list.join(",").into(), tail.into()]))
    }

    /// A few bytes at a time.
    fn read(mut piece: BodyPiece) -> Vec<u8> {
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
        let (bytes, mut length) = (text.to_vec(), Indented::counted());
        Indenter::default().feed(&mut &bytes[..], &mut length);
        length.len()
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
                let mut body = ResponseBody::from(text.clone());
                if is_stream {
                    body.leave_in_pieces(progress());
                }
                let (mut out, mut left) = (Vec::new(), text.len());
                while let Some(piece) = body.next() {
                    left -= piece.remaining();
                    assert!(!is_stream || piece.remaining() <= LONGEST_PIECE);
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
            let mut body = ResponseBody::indented(text.clone(), length, reserved(MADE_AT_A_TIME));
            if is_stream {
                body.leave_in_pieces(progress());
            }
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
    fn a_request_is_in_flight_until_the_last_piece_is_gone() {
        let (metrics, _) = Metrics::register();
        let in_flight = || metrics.lookups.known_under_way();
        for text in [Text::Whole(Bytes::from_static(b"{}")), text(9)] {
            let mut body = ResponseBody::from(text);
            body.count(metrics.lookups.request());
            let mut last = None;
            while let Some(piece) = body.next() {
                last = Some(piece);
            }
            drop(body);
            assert_eq!(in_flight(), 1);
            drop(last);
            assert_eq!(in_flight(), 0);
        }
        let mut body = ResponseBody::default();
        body.count(metrics.lookups.request());
        drop(body);
        assert_eq!(in_flight(), 0);
    }
}
