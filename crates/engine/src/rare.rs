//! Waits for rare events beside frequent ones.
//!
//! A task is polled whole: each packet of a connection would also poll the futures that wait for a drain,
//! a reload or a shortage, and each of these polls takes locks that all connections share. [`rarely`]
//! polls such a future only when the event itself has woken it.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

/// The waker of a future that is polled only when it was woken.
struct Doorbell {
    rung: AtomicBool,
    /// The waker of the task around it.
    task: Mutex<Option<Waker>>,
}

/// Resolves like the future that `make` makes, which is polled once at first, and later only after it was
/// woken.
pub(crate) async fn rarely<F: Future>(make: impl FnOnce() -> F) -> F::Output {
    // Made here, since an `async fn` would hold an argument twice.
    let mut future = pin!(make());
    let bell = Arc::new(Doorbell {
        rung: AtomicBool::new(true),
        task: Mutex::new(None),
    });
    let mut task: Option<Waker> = None;
    poll_fn(move |cx| {
        if !task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            task = Some(cx.waker().clone());
            bell.task.lock().clone_from(&task);
        }
        // A wake-up after this check finds the task, which was noted before.
        if !bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        // Made for each poll, since these are rare.
        let waker = Waker::from(Arc::clone(&bell));
        future.as_mut().poll(&mut Context::from_waker(&waker))
    })
    .await
}

impl Wake for Doorbell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn c5_a_rare_event_is_polled_only_when_it_was_woken() {
        let (polls, event) = (Cell::new(0), Notify::new());
        let mut waits = pin!(rarely(async || {
            let mut notified = pin!(event.notified());
            poll_fn(|cx| {
                polls.set(polls.get() + 1);
                notified.as_mut().poll(cx)
            })
            .await;
        }));
        for _ in 0..10 {
            assert!(futures_util::poll!(&mut waits).is_pending());
        }
        assert_eq!(polls.get(), 1);
        event.notify_waiters();
        waits.await;
        assert_eq!(polls.get(), 2);
    }

    #[tokio::test]
    async fn c5_a_rare_event_wakes_the_task_that_waits_for_it_last() {
        let event = Arc::new(Notify::new());
        let mut waits = Box::pin({
            let event = Arc::clone(&event);
            async move { rarely(|| event.notified()).await }
        });
        assert!(futures_util::poll!(&mut waits).is_pending());
        let other = tokio::spawn(waits);
        tokio::task::yield_now().await;
        event.notify_waiters();
        other.await.expect("no panic");
    }
}
