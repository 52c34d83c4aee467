//! A connection that we have closed goes in; that its caller has closed too, or that it was waited for long
//! enough, comes out.
//!
//! What still comes is thrown away: bytes that nobody reads would make the kernel answer with a reset, and
//! the reset would overtake our last answer.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use crate::system::Clock;

/// The wait for a caller to close after us.
pub struct Linger {
    deadline: Pin<Box<dyn Future<Output = ()> + Send>>,
    left: usize,
    is_over: bool,
}

impl Linger {
    /// Begins to wait.
    pub fn new(clock: &Clock) -> Self {
        let (clock, due) = (clock.clone(), clock.now().elapsed + LINGER);
        Self {
            deadline: Box::pin(async move { clock.sleep_until(due).await }),
            left: MOST_THROWN_AWAY,
            is_over: false,
        }
    }

    /// Reads what comes, and forgets it.
    pub fn poll(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<()> {
        let mut thrown_away = [0; 4_096];
        while !self.is_over {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match Pin::new(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && self.left > 0 => {
                    self.left = self.left.saturating_sub(buffer.filled().len());
                }
                Poll::Ready(_) => self.is_over = true,
                Poll::Pending => {
                    ready!(self.deadline.as_mut().poll(context));
                    self.is_over = true;
                }
            }
        }
        Poll::Ready(())
    }
}

/// How long the caller may take to close after us, and how much it may still send.
const LINGER: Duration = Duration::from_secs(2);
const MOST_THROWN_AWAY: usize = 4 << 20;
