//! Waiting for a condition under a deadline: the only way a test waits here.
//!
//! A wait ends as soon as the condition holds; the deadline is only there so
//! that a broken program fails the test instead of hanging it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long anything local may take before a test calls it broken. Generous,
/// because a loaded machine with two cores is slow and a pass never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition that nothing announces.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// A value that threads change and tests wait on.
#[derive(Debug, Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    /// A value to watch, as it is at first.
    pub const fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Condvar::new(),
        }
    }

    /// Looks at the value, or changes it without waking anybody.
    ///
    /// A poisoned lock is read on: the panic that poisoned it is the failure to
    /// report, and other threads' records are still good.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the value and wakes everyone who waits on it.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` finds something, for at most `patience`; `None` when
    /// the deadline passed first.
    pub fn wait<R>(
        &self,
        patience: Duration,
        mut look: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let deadline = Instant::now() + patience;
        let mut value = self.lock();
        loop {
            if let Some(found) = look(&mut value) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            (value, _) = self
                .changed
                .wait_timeout(value, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Looks again and again until `look` finds something, for at most `patience`:
/// for conditions outside this process, which wake nobody.
pub fn poll<R>(patience: Duration, mut look: impl FnMut() -> Option<R>) -> Option<R> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(BETWEEN_LOOKS);
    }
}
