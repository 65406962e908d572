//! The order in which one loop tries its listeners.
//!
//! An attempt begins after the listener that accepted last if others may have clients, so that a busy listener
//! does not keep the others of its session waiting. A listener that fails rests, and the others go on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A listener rests this long after a first failure, and twice as long after each further one.
const MIN_BACK_OFF: Duration = Duration::from_millis(20);
const MAX_BACK_OFF: Duration = Duration::from_secs(1);

/// The listener to try first, and those that have failed.
#[derive(Debug, Default)]
pub(super) struct Rotation {
    first: usize,
    /// Those that have not accepted since they failed. Usually there are none.
    failed: Vec<Failed>,
    /// Wakes the loop when the first of them has rested.
    timer: Option<Pin<Box<Sleep>>>,
}

/// A listener that has failed.
#[derive(Debug)]
struct Failed {
    listener: usize,
    /// How long it rests after its next failure.
    wait: Duration,
    /// Until when it rests.
    until: Option<Instant>,
}

impl Rotation {
    /// The listener to try first.
    pub(super) fn first(&self) -> usize {
        self.first
    }

    /// Tries each of `count` listeners that does not rest, until one has a result.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        count: usize,
        mut attempt: impl FnMut(usize, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<(usize, io::Result<T>)> {
        if !self.failed.is_empty() {
            self.poll_rest(cx);
        }
        for place in self.first..self.first + count {
            let listener = place % count;
            if self.rests(listener) {
                continue;
            }
            if let Poll::Ready(result) = attempt(listener, cx) {
                self.first = (listener + 1) % count;
                return Poll::Ready((listener, result));
            }
        }
        // None has a client. The one that accepted last is the likeliest to have the next.
        self.first = (self.first + count - 1) % count;
        Poll::Pending
    }

    /// Lets a listener rest, since it has failed.
    pub(super) fn failed(&mut self, listener: usize) {
        let known = |failed: &Failed| failed.listener == listener;
        let place = self.failed.iter().position(known).unwrap_or_else(|| {
            self.failed.push(Failed {
                listener,
                wait: MIN_BACK_OFF,
                until: None,
            });
            self.failed.len() - 1
        });
        let failed = &mut self.failed[place];
        failed.until = Some(Instant::now() + failed.wait);
        failed.wait = (failed.wait * 2).min(MAX_BACK_OFF);
    }

    /// Notes that a listener has accepted. Returns whether it had failed before.
    pub(super) fn accepted(&mut self, listener: usize) -> bool {
        if self.failed.is_empty() {
            return false;
        }
        let before = self.failed.len();
        self.failed.retain(|failed| failed.listener != listener);
        if self.failed.is_empty() {
            (self.failed, self.timer) = (Vec::new(), None);
        }
        self.failed.len() < before
    }

    fn rests(&self, listener: usize) -> bool {
        let mut failed = self.failed.iter();
        failed.any(|failed| failed.listener == listener && failed.until.is_some())
    }

    /// Ends the rest of each listener that has rested long enough, and waits for the next one.
    fn poll_rest(&mut self, cx: &mut Context<'_>) {
        loop {
            let now = Instant::now();
            for failed in &mut self.failed {
                failed.until = failed.until.filter(|until| *until > now);
            }
            let Some(until) = self.failed.iter().filter_map(|failed| failed.until).min() else {
                self.timer = None;
                return;
            };
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(until)));
            if timer.deadline() != until {
                timer.as_mut().reset(until);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::FutureExt as _;

    use super::*;

    /// The next listener with a result, out of these: whether each one is ready.
    fn next(rotation: &mut Rotation, ready: &[bool]) -> Option<usize> {
        let count = ready.len();
        let polled = poll_fn(|cx| {
            rotation.poll(cx, count, |listener, _| {
                if ready[listener] {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                }
            })
        });
        polled.now_or_never().map(|(listener, _)| listener)
    }

    #[test]
    fn j2_a_busy_door_does_not_starve_the_others() {
        let mut rotation = Rotation::default();
        let mut next = |ready: &[bool]| next(&mut rotation, ready);
        let tried: Vec<_> = (0..4).map(|_| next(&[true, true, true])).collect();
        assert_eq!(tried, [Some(0), Some(1), Some(2), Some(0)]);
        // Two that are always ready, and one that has a client now and then.
        assert_eq!(next(&[true, true, false]), Some(1));
        assert_eq!(next(&[true, true, false]), Some(0));
        assert_eq!(next(&[true, false, true]), Some(2));
        assert_eq!(next(&[true, true, true]), Some(0));
        // After a moment without clients, the last one is tried first, and then the others.
        assert_eq!(next(&[false, false, false]), None);
        assert_eq!(next(&[true, true, true]), Some(0));
        assert_eq!(next(&[true, true, true]), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn j2_a_door_that_backs_off_does_not_stop_the_others() {
        let mut rotation = Rotation::default();
        let all = [true, true];
        assert_eq!(next(&mut rotation, &all), Some(0));
        rotation.failed(0);
        for _ in 0..3 {
            assert_eq!(next(&mut rotation, &all), Some(1));
            assert!(!rotation.accepted(1));
        }
        assert_eq!(next(&mut rotation, &[true, false]), None);
        tokio::time::advance(MIN_BACK_OFF).await;
        assert_eq!(next(&mut rotation, &[true, false]), Some(0));
        // It rests twice as long after the second failure.
        rotation.failed(0);
        tokio::time::advance(MIN_BACK_OFF).await;
        assert_eq!(next(&mut rotation, &[true, false]), None);
        tokio::time::advance(MIN_BACK_OFF).await;
        assert_eq!(next(&mut rotation, &[true, false]), Some(0));
        assert!(rotation.accepted(0));
        rotation.failed(0);
        tokio::time::advance(MIN_BACK_OFF).await;
        assert_eq!(next(&mut rotation, &[true, false]), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn c5_the_loop_is_woken_when_its_only_listener_has_rested() {
        let mut rotation = Rotation::default();
        for wait in [20, 40, 80, 160, 320, 640, 1000, 1000] {
            rotation.failed(0);
            let start = Instant::now();
            let polled = poll_fn(|cx| rotation.poll(cx, 1, |_, _| Poll::Ready(Ok(()))));
            assert_eq!(polled.await.0, 0);
            assert_eq!(start.elapsed(), Duration::from_millis(wait));
        }
    }
}
