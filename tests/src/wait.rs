//! Waiting for a condition with a deadline: the only way a test waits here.
//!
//! A wait ends as soon as the condition holds. The deadline only makes a broken program fail the
//! test instead of hanging it.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

/// How long a local operation may take before a test fails. Generous, because a loaded machine with
/// two cores is slow, and a passing test never waits that long.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// Interval between checks of a condition without a notification.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// A value that threads change and tests wait on.
#[derive(Debug, Default)]
pub struct Watched<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watched<T> {
    /// A value to watch, with its initial value.
    pub const fn new(value: T) -> Self {
        Self {
            value: Mutex::new(value),
            changed: Condvar::new(),
        }
    }

    /// Reads the value, or changes it without waking waiters.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock()
    }

    /// Changes the value and wakes all waiters.
    pub fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until `look` returns something, for at most `timeout`; `None` at the deadline.
    pub fn wait<R>(
        &self,
        timeout: Duration,
        mut look: impl FnMut(&mut T) -> Option<R>,
    ) -> Option<R> {
        let deadline = Instant::now() + timeout;
        let mut value = self.lock();
        loop {
            if let Some(found) = look(&mut value) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            self.changed.wait_for(&mut value, left);
        }
    }
}

/// Calls `look` repeatedly until it returns something, for at most `timeout`: for conditions
/// outside this process, which give no notification.
pub fn poll<R>(timeout: Duration, mut look: impl FnMut() -> Option<R>) -> Option<R> {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
