//! Replaces the receiving thread when a call holds it up.
//!
//! The flags and the time limit of a socket belong to all programs that hold it. Between the receiving thread's
//! look at them and its `connect`, another thread of the program can change them, and then the receiving
//! thread waits as long as that connection does. A watching thread notices, and starts another receiving
//! thread. The former one ends with its call.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// How long a call may hold the receiving thread up.
const STALL_TIMEOUT: Duration = Duration::from_millis(50);
/// Intervals without a call until the watching thread sleeps.
const QUIET_INTERVALS: u32 = 20;
/// The count of a receiving thread that was replaced.
const REPLACED: u64 = u64::MAX;

/// The calls of one receiving thread: a count that is odd during a call.
#[derive(Default)]
pub(super) struct Turn(AtomicU64);

/// The watching thread, as receiving threads see it.
#[derive(Default)]
pub(super) struct Watch {
    sleeps: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Turn {
    /// A call begins.
    pub(super) fn begin(&self, watch: &Watch) {
        self.0.fetch_add(1, Ordering::SeqCst);
        if watch.sleeps.load(Ordering::SeqCst)
            && watch.sleeps.swap(false, Ordering::SeqCst)
            && let Some(thread) = watch.thread.get()
        {
            thread.unpark();
        }
    }

    /// The call has ended. Returns whether this thread goes on receiving.
    pub(super) fn end(&self) -> bool {
        let count = self.0.load(Ordering::SeqCst);
        count != REPLACED && self.advance(count, count + 1)
    }

    /// Takes the turn of a thread that is still in the call of this count.
    pub(super) fn replace(&self, count: u64) -> bool {
        self.advance(count, REPLACED)
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn advance(&self, from: u64, to: u64) -> bool {
        let ordering = Ordering::SeqCst;
        self.0
            .compare_exchange(from, to, ordering, ordering)
            .is_ok()
    }
}

impl Watch {
    /// Watches the thread of this turn for good. `relieve` starts another receiving thread, which replaces the
    /// one that is in the call of this count, and returns the new thread's turn if it did.
    pub(super) fn run(
        &self,
        mut turn: Arc<Turn>,
        relieve: impl Fn(&Arc<Turn>, u64) -> Option<Arc<Turn>>,
    ) {
        let _ = self.thread.set(thread::current());
        let mut quiet = 0;
        loop {
            let before = turn.count();
            thread::sleep(STALL_TIMEOUT);
            if turn.count() != before {
                quiet = 0;
            } else if before % 2 == 1 {
                turn = relieve(&turn, before).unwrap_or(turn);
            } else if quiet < QUIET_INTERVALS {
                quiet += 1;
            } else {
                self.sleep(&turn, before);
                quiet = 0;
            }
        }
    }

    /// Sleeps until a call begins.
    fn sleep(&self, turn: &Turn, before: u64) {
        self.sleeps.store(true, Ordering::SeqCst);
        // A call that begins from here on sees the mark.
        if turn.count() == before {
            while self.sleeps.load(Ordering::SeqCst) {
                thread::park();
            }
        }
        self.sleeps.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j6_a_thread_is_replaced_only_in_the_call_that_holds_it_up() {
        let (turn, watch) = (Turn::default(), Watch::default());
        turn.begin(&watch);
        assert!(turn.end());
        turn.begin(&watch);
        assert!(!turn.replace(1), "this call has ended");
        assert!(turn.replace(3));
        assert!(!turn.end(), "another thread receives");
        assert!(!turn.replace(3), "once");
    }
}
