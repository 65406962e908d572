//! How many clients are served at once (SPEC C5, `max_connections`).
//!
//! At the limit the proxy stops accepting, so that further clients wait in the kernel's queue
//! instead of being turned away. The limit is passed in at each admission: a reload changes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

/// How often a full proxy looks whether its limit was raised.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Counts connections: those of all doors, or those of one kind.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCount {
    open: AtomicUsize,
    freed: Notify,
}

/// One counted connection; dropping it frees its place.
#[derive(Debug)]
pub(crate) struct Slot(Arc<ConnectionCount>);

impl ConnectionCount {
    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Takes a place. Whether there is one is asked beforehand, with [`room`](Self::room).
    pub(crate) fn enter(self: &Arc<Self>) -> Slot {
        self.open.fetch_add(1, Ordering::Relaxed);
        Slot(Arc::clone(self))
    }

    /// Whether fewer connections are open than `limit`.
    pub(crate) fn has_room(&self, limit: usize) -> bool {
        self.open() < limit
    }

    /// Waits until there is room. `limit` is asked again whenever a place is freed, and now and then,
    /// since a reload may have raised it.
    pub(crate) async fn room(&self, limit: impl Fn() -> usize) {
        loop {
            // Registered before the look, so that a place freed in between is not missed.
            let freed = self.freed.notified();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.has_room(limit()) {
                return;
            }
            let _ = tokio::time::timeout(LOOK_AGAIN, freed).await;
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.freed.notify_waiters();
    }
}
