//! Detects a session whose listener blocks the thread that accepts for all sessions.
//!
//! The opener of a session may keep a copy of a socket, and make it blocking for everyone. `accept(2)` has
//! no flag against that. So one thread accepts for all sessions and serves no connection. When it blocks,
//! the session is ended, which wakes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::session::SessionNumber;

/// The longest time that one attempt to accept may take.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(250);
/// The session when no attempt is under way. Sessions count from 1.
const NONE: u64 = 0;

/// The attempt to accept that is under way.
#[derive(Debug)]
pub(crate) struct AcceptTurn {
    start: Instant,
    session: AtomicU64,
    /// When it began, in milliseconds after `start`.
    since: AtomicU64,
}

impl AcceptTurn {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            session: AtomicU64::new(NONE),
            since: AtomicU64::new(0),
        }
    }

    /// Makes one attempt for a session.
    pub(super) fn take<T>(&self, session: SessionNumber, attempt: impl FnOnce() -> T) -> T {
        self.since.store(self.now(), Ordering::Release);
        self.session.store(session.0, Ordering::Release);
        let result = attempt();
        self.session.store(NONE, Ordering::Release);
        result
    }

    /// The session whose attempt has taken too long.
    pub(crate) fn stuck(&self) -> Option<SessionNumber> {
        // Read first: the time of a later attempt only makes this one look shorter.
        let session = self.session.load(Ordering::Acquire);
        let since = self.since.load(Ordering::Acquire);
        let taken = Duration::from_millis(self.now().saturating_sub(since));
        (session != NONE && taken > ACCEPT_TIMEOUT).then_some(SessionNumber(session))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
