//! A future that waits beside busy work goes in; one that costs the work next to nothing comes out.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// A future that is polled only when it has been woken.
///
/// In a plain `select!` the end of a connection (its age, the stop of the process) is polled with each
/// step of its requests, twice a request, and each time the timer and the stop signal look after their
/// wakers. Here a step costs two comparisons.
pub struct Aside<F> {
    future: F,
    kept: Option<Kept>,
}

/// What wakes the future, for as long as it belongs to the same task.
struct Kept {
    bell: Arc<Bell>,
    waker: Waker,
}

/// Notes that the future was woken, and wakes the task that it belongs to.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl<F> Aside<F> {
    /// Sets `future` aside.
    pub fn new(future: F) -> Self {
        Self { future, kept: None }
    }
}

impl<F: Future + Unpin> Future for Aside<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        let is_of_task = |kept: &mut Kept| kept.bell.task.will_wake(context.waker());
        if !this.kept.as_mut().is_some_and(is_of_task) {
            this.kept = None;
        }
        let kept = this.kept.get_or_insert_with(|| Kept::of(context.waker()));
        // Looked at first: to write would take the line of memory from whoever rings.
        let rung = &kept.bell.rung;
        if !rung.load(Ordering::Relaxed) || !rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        Pin::new(&mut this.future).poll(&mut Context::from_waker(&kept.waker))
    }
}

impl Kept {
    fn of(task: &Waker) -> Self {
        let bell = Arc::new(Bell {
            // The first poll is the one that makes it wait.
            rung: AtomicBool::new(true),
            task: task.clone(),
        });
        let waker = Waker::from(Arc::clone(&bell));
        Self { bell, waker }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
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
