//! Detects sessions whose listeners keep the thread that accepts for all sessions waiting.
//!
//! The opener of a session may keep a copy of a socket, and make it blocking for everyone. `accept(2)` has
//! no flag against that. So one thread accepts for all sessions and serves no connection. The mode is checked
//! before each attempt. A switch between the check and the attempt can still make the attempt wait: after
//! [`ACCEPT_TIMEOUT`] the session is ended, which wakes the thread. Switches that are timed better have a chance
//! of one in two to be seen by the next check, and the time that they take is bounded for each user.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::session::{Session, SessionNumber};

/// The longest time that one attempt to accept may take.
const ACCEPT_TIMEOUT: Duration = Duration::from_millis(250);
/// Shorter attempts do not count as waiting: the thread was not on a processor for a moment.
const MIN_COUNTED: Duration = Duration::from_millis(10);
/// The time within [`WINDOW`] that attempts for the sessions of one user may take together.
const MAX_HELD: Duration = Duration::from_secs(1);
/// How long the waits of a user are added up. Beyond the limit, the user has no sessions for as long.
const WINDOW: Duration = Duration::from_secs(60);
/// The session when no attempt is under way. Sessions count from 1.
const NONE: u64 = 0;

/// The attempt to accept that is under way, and the waits so far.
#[derive(Debug)]
pub(crate) struct AcceptTurn {
    start: Instant,
    session: AtomicU64,
    /// When it began, in milliseconds after `start`.
    since: AtomicU64,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    /// Sessions with a blocking listener.
    blocking: Vec<SessionNumber>,
    /// The users for whose sessions the thread has waited.
    users: HashMap<u32, Waits>,
}

/// The waits for the sessions of one user.
#[derive(Clone, Copy, Debug)]
struct Waits {
    since: Instant,
    held: Duration,
}

impl AcceptTurn {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            session: AtomicU64::new(NONE),
            since: AtomicU64::new(0),
            notes: Mutex::default(),
        }
    }

    /// Makes one attempt for a session.
    pub(super) fn take<T>(&self, session: &Session, attempt: impl FnOnce() -> T) -> T {
        let began = self.start.elapsed();
        self.since.store(millis(began), Ordering::Release);
        self.session.store(session.number().0, Ordering::Release);
        let result = attempt();
        self.session.store(NONE, Ordering::Release);
        let held = self.start.elapsed().saturating_sub(began);
        if held >= MIN_COUNTED {
            self.notes.lock().add(session.uid(), held, Instant::now());
        }
        result
    }

    /// Notes that a listener of a session is blocking.
    pub(super) fn note_blocking(&self, session: SessionNumber) {
        let mut notes = self.notes.lock();
        if !notes.blocking.contains(&session) {
            notes.blocking.push(session);
        }
    }

    /// The sessions whose listeners are blocking, or whose attempt has taken too long.
    pub(crate) fn blocking(&self) -> Vec<SessionNumber> {
        let mut found = std::mem::take(&mut self.notes.lock().blocking);
        found.extend(self.stuck());
        found
    }

    /// Whether the thread has waited too long for the sessions of a user.
    pub(crate) fn is_over(&self, user: u32) -> bool {
        self.notes.lock().is_over(user, Instant::now())
    }

    /// The session whose attempt has taken too long.
    fn stuck(&self) -> Option<SessionNumber> {
        // Read first: the time of a later attempt only makes this one look shorter.
        let session = self.session.load(Ordering::Acquire);
        let since = Duration::from_millis(self.since.load(Ordering::Acquire));
        let taken = self.start.elapsed().saturating_sub(since);
        (session != NONE && taken > ACCEPT_TIMEOUT).then_some(SessionNumber(session))
    }
}

impl Notes {
    fn add(&mut self, user: u32, held: Duration, now: Instant) {
        self.users.retain(|_, waits| waits.is_recent(now));
        let fresh = Waits {
            since: now,
            held: Duration::ZERO,
        };
        let waits = self.users.entry(user).or_insert(fresh);
        let was_over = waits.held > MAX_HELD;
        waits.held += held;
        if waits.held > MAX_HELD && !was_over {
            waits.since = now;
        }
    }

    fn is_over(&self, user: u32, now: Instant) -> bool {
        let waits = self.users.get(&user);
        waits.is_some_and(|waits| waits.is_recent(now) && waits.held > MAX_HELD)
    }
}

impl Waits {
    fn is_recent(self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < WINDOW
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j13_the_waits_for_one_user_are_added_up_within_a_minute() {
        let mut notes = Notes::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let wait = Duration::from_millis(200);
        for second in 0..5 {
            notes.add(1, wait, at(second));
        }
        assert!(!notes.is_over(1, at(5)));
        // A minute later the user starts again.
        notes.add(1, wait, at(61));
        assert!(!notes.is_over(1, at(61)));
        for second in 62..67 {
            notes.add(1, wait, at(second));
        }
        assert!(notes.is_over(1, at(67)));
        assert!(!notes.is_over(2, at(67)));
        // It counts from the moment at which the limit was reached.
        assert!(notes.is_over(1, at(66 + 59)));
        assert!(!notes.is_over(1, at(66 + 60)));
    }
}
