//! Bounds the codings with a large window: those of all users, and those of one, so that no user keeps all
//! others from theirs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Most codings at the same time that may have a window of more than 32 KiB.
const MAX_LARGE_WINDOWS: usize = 16;

static LARGE_WINDOWS: Semaphore = Semaphore::const_new(MAX_LARGE_WINDOWS);

/// Those of each user who has a session.
static USERS: Mutex<BTreeMap<u32, Weak<AtomicUsize>>> = Mutex::new(BTreeMap::new());

/// The codings with a large window that one user has. A clone counts for the same user.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserWindows(Arc<AtomicUsize>);

/// Permits one of them.
#[derive(Debug)]
pub(super) struct Window {
    _permit: SemaphorePermit<'static>,
    user: UserWindows,
}

impl UserWindows {
    /// Those of a user, in all sessions.
    pub(crate) fn of(user: u32) -> Self {
        let mut users = USERS.lock();
        users.retain(|_, windows| windows.strong_count() > 0);
        let known = users.get(&user).and_then(Weak::upgrade);
        let windows = known.unwrap_or_default();
        users.insert(user, Arc::downgrade(&windows));
        Self(windows)
    }

    /// `None` if there are too many.
    pub(super) fn acquire(&self) -> Option<Window> {
        self.acquire_of(&LARGE_WINDOWS)
    }

    /// A user gets another one only while more are free than the user has, so one alone gets half of them.
    fn acquire_of(&self, windows: &'static Semaphore) -> Option<Window> {
        let permit = windows.try_acquire().ok()?;
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        // Dropped, and so not counted, if it is refused.
        let window = Window {
            _permit: permit,
            user: self.clone(),
        };
        let is_fair = before <= windows.available_permits();
        is_fair.then_some(window)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.user.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b12_a_user_leaves_large_windows_to_others() {
        let windows: &'static Semaphore = Box::leak(Box::new(Semaphore::new(16)));
        let all_of = |user: &UserWindows| -> Vec<Window> {
            std::iter::from_fn(|| user.acquire_of(windows)).collect()
        };
        let one = UserWindows::default();
        let held = all_of(&one);
        assert_eq!(held.len(), 8);
        // Also a clone, which a reload makes.
        assert!(one.clone().acquire_of(windows).is_none());
        let others: Vec<_> = (0..4)
            .map(|_| all_of(&UserWindows::default()).len())
            .collect();
        assert_eq!(others, [4, 4, 4, 4], "each was dropped");
        let kept: Vec<Vec<Window>> = (0..4).map(|_| all_of(&UserWindows::default())).collect();
        let numbers: Vec<_> = kept.iter().map(Vec::len).collect();
        assert_eq!(numbers, [4, 2, 1, 1]);
        drop((held, kept));
        assert_eq!(all_of(&one).len(), 8);
    }

    #[test]
    fn b12_the_sessions_of_a_user_count_together() {
        // No user of this machine has these numbers.
        let [one, other] = [u32::MAX - 1, u32::MAX - 2];
        let windows: &'static Semaphore = Box::leak(Box::new(Semaphore::new(16)));
        let all_of = |user: u32| -> Vec<Window> {
            let session = UserWindows::of(user);
            std::iter::from_fn(|| session.acquire_of(windows)).collect()
        };
        // An answer of an ended session counts too.
        let held = all_of(one);
        assert_eq!(held.len(), 8);
        for _ in 0..5 {
            assert!(all_of(one).is_empty());
        }
        assert_eq!(all_of(other).len(), 4);
        drop(held);
        assert_eq!(all_of(one).len(), 8);
        assert!(!USERS.lock().contains_key(&other), "forgotten");
    }
}
