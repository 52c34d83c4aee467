//! A future that waits beside busy work goes in; one that costs the work next to nothing comes out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Wake;
use std::task::Waker;

use futures_util::task::AtomicWaker;

/// A future that is polled only when it has been woken.
///
/// In a plain `select!` the end of a connection (its age, the stop of the process) is polled with each
/// step of its requests, twice a request, and each time the timer and the stop signal look after their
/// wakers. Here a step costs one store and one load.
pub struct Aside<F> {
    future: F,
    bell: Arc<Bell>,
    waker: Waker,
}

/// Notes that the future was woken, and wakes the task that it belongs to.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl<F> Aside<F> {
    /// Sets `future` aside.
    pub fn new(future: F) -> Self {
        let bell = Arc::new(Bell {
            // The first poll is the one that makes it wait.
            rung: AtomicBool::new(true),
            task: AtomicWaker::new(),
        });
        let waker = Waker::from(Arc::clone(&bell));
        Self {
            future,
            bell,
            waker,
        }
    }
}

impl<F: Future + Unpin> Future for Aside<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        // Registered first: whoever rings after the look at `rung` finds the waker.
        this.bell.task.register(context.waker());
        if !this.bell.rung.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        this.bell.rung.store(false, Ordering::Release);
        Pin::new(&mut this.future).poll(&mut Context::from_waker(&this.waker))
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn what_is_set_aside_wakes_its_task_when_it_is_done() {
        let stop = CancellationToken::new();
        let waiting = stop.clone();
        let task = tokio::spawn(async move { Aside::new(pin!(waiting.cancelled())).await });
        tokio::task::yield_now().await;
        stop.cancel();
        task.await.unwrap();
    }

    #[tokio::test]
    async fn it_is_polled_when_it_was_woken_and_not_each_time() {
        let polls = std::cell::Cell::new(0);
        let stop = CancellationToken::new();
        let mut cancelled = pin!(stop.cancelled());
        let counted = std::future::poll_fn(|context| {
            polls.set(polls.get() + 1);
            cancelled.as_mut().poll(context)
        });
        let mut aside = Aside::new(counted);
        for _ in 0..5 {
            assert!(poll!(&mut aside).is_pending());
        }
        assert_eq!(polls.get(), 1);
        stop.cancel();
        assert!(poll!(&mut aside).is_ready());
        assert_eq!(polls.get(), 2);
    }
}
