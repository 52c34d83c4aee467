//! The body of an answer on its way: whole, in slow drops, without an end, or broken off.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Interval, interval_at};

/// A body that a fault may have spoiled.
#[derive(Debug)]
pub(crate) struct SpoiltBody {
    left: Bytes,
    drip: Option<(usize, Interval)>,
    end: End,
}

#[derive(Debug)]
enum End {
    /// Nothing more comes.
    Whole,
    /// These bytes come again and again.
    Never(Bytes),
    /// So many bytes were declared, and the stream breaks before them, after a tick.
    Broken { declared: u64, ticks: Interval },
}

impl SpoiltBody {
    pub(crate) fn whole(body: Bytes) -> Self {
        Self {
            left: body,
            drip: None,
            end: End::Whole,
        }
    }

    pub(crate) fn dripping(body: Bytes, size: usize, pause: Duration) -> Self {
        let pause = pause.max(Duration::from_nanos(1));
        let interval = interval_at(Instant::now() + pause, pause);
        Self {
            left: body,
            drip: Some((size, interval)),
            end: End::Whole,
        }
    }

    pub(crate) fn endless(body: Bytes, filler: Bytes) -> Self {
        Self {
            left: body,
            drip: None,
            end: End::Never(filler),
        }
    }

    pub(crate) fn broken(body: &Bytes, after: usize) -> Self {
        let left = body.slice(..after.min(body.len()));
        let declared = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let ticks = interval_at(Instant::now() + FLUSHED_WITHIN, FLUSHED_WITHIN);
        let end = End::Broken { declared, ticks };
        Self {
            left,
            drip: None,
            end,
        }
    }
}

impl Body for SpoiltBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = &mut *self;
        if !this.left.is_empty() {
            let size = match &mut this.drip {
                Some((size, interval)) => {
                    ready!(interval.poll_tick(cx));
                    *size
                }
                None => this.left.len(),
            };
            let piece = this.left.split_to(size.min(this.left.len()));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        Poll::Ready(match &mut this.end {
            End::Whole => None,
            End::Never(filler) => Some(Ok(Frame::data(filler.clone()))),
            End::Broken { declared: _, ticks } => {
                ready!(ticks.poll_tick(cx));
                Some(Err(BrokenOff))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && matches!(self.end, End::Whole)
    }

    fn size_hint(&self) -> SizeHint {
        match self.end {
            End::Whole => SizeHint::with_exact(u64::try_from(self.left.len()).unwrap_or(u64::MAX)),
            End::Never(_) => SizeHint::default(),
            End::Broken { declared, ticks: _ } => SizeHint::with_exact(declared),
        }
    }
}

/// The script said that the body ends here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body was broken off by the script")
    }
}

impl Error for BrokenOff {}

/// How long the bytes before a break get to reach the client. HTTP/2 drops what it still has queued
/// when a stream is reset, the head too.
const FLUSHED_WITHIN: Duration = Duration::from_millis(10);
