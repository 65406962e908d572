//! Bounds the codings with a large window: those of all sessions, and those of one, so that no session keeps all
//! others from theirs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Most codings at the same time that may have a window of more than 32 KiB.
const MAX_LARGE_WINDOWS: usize = 16;

static LARGE_WINDOWS: Semaphore = Semaphore::const_new(MAX_LARGE_WINDOWS);

/// The codings with a large window that one session has. A clone counts for the same session.
#[derive(Clone, Debug, Default)]
pub(crate) struct SessionWindows(Arc<AtomicUsize>);

/// Permits one of them.
#[derive(Debug)]
pub(super) struct Window {
    _permit: SemaphorePermit<'static>,
    session: SessionWindows,
}

impl SessionWindows {
    /// `None` if there are too many.
    pub(super) fn acquire(&self) -> Option<Window> {
        self.acquire_of(&LARGE_WINDOWS)
    }

    /// A session gets another one only while more are free than it has, so one alone gets half of them.
    fn acquire_of(&self, windows: &'static Semaphore) -> Option<Window> {
        let permit = windows.try_acquire().ok()?;
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        // Dropped, and so not counted, if it is refused.
        let window = Window {
            _permit: permit,
            session: self.clone(),
        };
        let is_fair = before <= windows.available_permits();
        is_fair.then_some(window)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.session.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b12_a_session_leaves_large_windows_to_others() {
        let windows: &'static Semaphore = Box::leak(Box::new(Semaphore::new(16)));
        let all_of = |session: &SessionWindows| -> Vec<Window> {
            std::iter::from_fn(|| session.acquire_of(windows)).collect()
        };
        let one = SessionWindows::default();
        let held = all_of(&one);
        assert_eq!(held.len(), 8);
        // Also a clone, which a reload makes.
        assert!(one.clone().acquire_of(windows).is_none());
        let others: Vec<_> = (0..4)
            .map(|_| all_of(&SessionWindows::default()).len())
            .collect();
        assert_eq!(others, [4, 4, 4, 4], "each was dropped");
        let kept: Vec<Vec<Window>> = (0..4).map(|_| all_of(&SessionWindows::default())).collect();
        let numbers: Vec<_> = kept.iter().map(Vec::len).collect();
        assert_eq!(numbers, [4, 2, 1, 1]);
        drop((held, kept));
        assert_eq!(all_of(&one).len(), 8);
    }
}
