//! Counts open connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts connections of one kind.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCount(AtomicUsize);

/// One counted connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<ConnectionCount>);

impl ConnectionCount {
    /// How many connections there are.
    pub(crate) fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one connection until the result is dropped.
    pub(crate) fn enter(self: &Arc<Self>) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(self))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
