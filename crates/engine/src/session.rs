//! A session: the program tree that `proxyctl run` started, as decisions and records know it (SPEC J2,
//! J12).
//!
//! A connection that a session's door accepted carries it from there on (`owner`). Its settings are in
//! `live_policy`, its doors in `server`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::audit::AuditSession;

/// Most destinations in each of the lists of a session's usage.
const MAX_DESTINATIONS: usize = 256;
/// Room for open attempts before ended ones are looked for.
const MIN_OPEN: usize = 16;

/// Tells sessions apart within one engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SessionNumber(pub(crate) u64);

/// The facts about a session that never change.
#[derive(Clone, Debug)]
pub struct SessionInfo {
    /// Its name in records.
    pub id: Arc<str>,
    /// The id of the user who opened it.
    pub uid: u32,
    /// The name of this user, if it is known.
    pub user: Option<Arc<str>>,
    /// The name of its program, without arguments.
    pub command: Arc<str>,
    /// The process id that was given for it.
    pub pid: u32,
    /// The kind of confinement that keeps the program behind its doors: `jail`, `seatbelt` or `env`.
    pub isolation: &'static str,
    /// The permission profile, if it has one of its own.
    pub profile: Option<Arc<str>>,
    /// When it was opened, in seconds since 1970 (UTC).
    pub since: i64,
}

/// The counts of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionTotals {
    /// Attempts that were allowed.
    pub allowed: u64,
    /// Attempts that were refused.
    pub refused: u64,
    /// The refused attempts among them that wait for a decision (`ask`).
    pub asked: u64,
    /// Bytes from the program.
    pub sent: u64,
    /// Bytes to the program.
    pub received: u64,
}

/// The destinations of a session.
#[derive(Clone, Debug, Default)]
pub struct SessionUsage {
    /// Those that were allowed, the most used first.
    pub allowed: Vec<DestinationCount>,
    /// Those that were refused, the most refused first.
    pub refused: Vec<DestinationCount>,
    /// Attempts at further destinations.
    pub others: u64,
}

/// A destination and the attempts at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestinationCount {
    /// The host, as records show it.
    pub host: String,
    /// The port; 0 if it could not be read.
    pub port: u16,
    /// The reason of the last decision.
    pub reason: String,
    /// The number of attempts.
    pub count: u64,
    /// Whether it is a name that was found to have a local address, which the settings permit for all hosts.
    pub is_local: bool,
}

/// An open session.
#[derive(Debug)]
pub(crate) struct Session {
    number: SessionNumber,
    info: SessionInfo,
    audit: Arc<AuditSession>,
    allowed: AtomicU64,
    refused: AtomicU64,
    asked: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    /// Boxed with the first attempt: a session at rest holds no room for them.
    destinations: Mutex<Option<Box<Destinations>>>,
    /// The permitted attempts that may go on. Their bytes are not in `sent` and `received` yet.
    open: Mutex<Vec<Weak<dyn MovesBytes>>>,
    connections: AtomicUsize,
    is_limit_noted: AtomicBool,
}

/// A permitted attempt that goes on.
pub(crate) trait MovesBytes: std::fmt::Debug + Send + Sync {
    /// The bytes so far: from the program, and to it.
    fn moved(&self) -> (u64, u64);
}

#[derive(Debug, Default)]
struct Destinations {
    allowed: Counts,
    refused: Counts,
    others: u64,
}

/// The attempts at each host and port.
#[derive(Debug, Default)]
struct Counts(HashMap<(Box<str>, u16), Attempts>);

#[derive(Debug)]
struct Attempts {
    count: u64,
    /// The last reason.
    reason: Box<str>,
    is_local: bool,
}

/// One connection of a session, until it is dropped.
#[derive(Debug)]
pub(crate) struct SessionConnection(Arc<Session>);

/// The kind of a decision, for the counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    Allowed,
    Refused,
    Asked,
}

impl Session {
    pub(crate) fn new(number: SessionNumber, info: SessionInfo) -> Self {
        // Records show a user without a name by the id.
        let user = info.user.clone();
        let user = user.unwrap_or_else(|| Arc::from(info.uid.to_string()));
        let audit = AuditSession {
            id: Arc::clone(&info.id),
            user,
            command: Arc::clone(&info.command),
        };
        Self {
            number,
            info,
            audit: Arc::new(audit),
            allowed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            destinations: Mutex::default(),
            open: Mutex::default(),
            connections: AtomicUsize::new(0),
            is_limit_noted: AtomicBool::new(false),
        }
    }

    pub(crate) fn number(&self) -> SessionNumber {
        self.number
    }

    pub(crate) fn info(&self) -> &SessionInfo {
        &self.info
    }

    pub(crate) fn uid(&self) -> u32 {
        self.info.uid
    }

    /// The session as records show it.
    pub(crate) fn audit(&self) -> &Arc<AuditSession> {
        &self.audit
    }

    /// Counts a connection. `None` if the session has as many as it may.
    pub(crate) fn enter(self: &Arc<Self>, max: usize) -> Option<SessionConnection> {
        let more = |open| (open < max).then_some(open + 1);
        let entered = self
            .connections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.ok().map(|_| SessionConnection(Arc::clone(self)))
    }

    /// How many connections are open.
    pub(crate) fn open_connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Whether the session was not at its limit of connections before.
    pub(crate) fn is_first_at_limit(&self) -> bool {
        !self.is_limit_noted.swap(true, Ordering::Relaxed)
    }

    /// Logs that the session has as many connections as it may.
    pub(crate) fn log_limit(&self) {
        let SessionInfo {
            id, command, uid, ..
        } = &self.info;
        tracing::warn!(
            session = &**id,
            command = &**command,
            uid,
            "a session has as many connections as it may: further ones are reset"
        );
    }

    /// Counts an attempt.
    pub(crate) fn count(&self, kind: Counted, host: &str, port: u16, reason: &str) {
        let total = match kind {
            Counted::Allowed => &self.allowed,
            Counted::Refused | Counted::Asked => &self.refused,
        };
        total.fetch_add(1, Ordering::Relaxed);
        if kind == Counted::Asked {
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
        let mut destinations = self.destinations.lock();
        let destinations = destinations.get_or_insert_default();
        let counts = match kind {
            Counted::Allowed => &mut destinations.allowed,
            Counted::Refused | Counted::Asked => &mut destinations.refused,
        };
        if !counts.add(host, port, reason) {
            destinations.others += 1;
        }
    }

    /// A name that was counted as allowed has a local address.
    pub(crate) fn note_local(&self, host: &str, port: u16) {
        let mut destinations = self.destinations.lock();
        let allowed = destinations.as_mut().map(|all| &mut all.allowed);
        let key = (Box::from(host), port);
        if let Some(attempts) = allowed.and_then(|allowed| allowed.0.get_mut(&key)) {
            attempts.is_local = true;
        }
    }

    /// Counts the bytes of an attempt from now on, until it ends and [`moved`](Self::moved) is called.
    pub(crate) fn watch_bytes(&self, attempt: Weak<dyn MovesBytes>) {
        let mut open = self.open.lock();
        // Room is made only when the list would grow, so an attempt costs no search.
        if open.len() == open.capacity() {
            open.retain(|attempt| attempt.strong_count() > 0);
            let wanted = (2 * open.len()).max(MIN_OPEN);
            open.shrink_to(wanted);
            let more = wanted - open.len();
            open.reserve_exact(more);
        }
        open.push(attempt);
    }

    /// Counts the bytes of an attempt that has ended.
    pub(crate) fn moved(&self, sent: u64, received: u64) {
        self.sent.fetch_add(sent, Ordering::Relaxed);
        self.received.fetch_add(received, Ordering::Relaxed);
    }

    pub(crate) fn totals(&self) -> SessionTotals {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (mut sent, mut received) = (load(&self.sent), load(&self.received));
        // Taken out first: an attempt that ends while the list is locked may not wait for it.
        let open: Vec<_> = self.open.lock().iter().filter_map(Weak::upgrade).collect();
        for attempt in open {
            let moved = attempt.moved();
            sent += moved.0;
            received += moved.1;
        }
        SessionTotals {
            allowed: load(&self.allowed),
            refused: load(&self.refused),
            asked: load(&self.asked),
            sent,
            received,
        }
    }

    pub(crate) fn usage(&self) -> SessionUsage {
        let destinations = self.destinations.lock();
        let Some(destinations) = destinations.as_deref() else {
            return SessionUsage::default();
        };
        SessionUsage {
            allowed: destinations.allowed.sorted(),
            refused: destinations.refused.sorted(),
            others: destinations.others,
        }
    }
}

impl Counts {
    /// Counts an attempt. False if the list is full.
    fn add(&mut self, host: &str, port: u16, reason: &str) -> bool {
        let key = (Box::from(host), port);
        if let Some(attempts) = self.0.get_mut(&key) {
            attempts.count += 1;
            if *attempts.reason != *reason {
                attempts.reason = reason.into();
            }
            return true;
        }
        if self.0.len() >= MAX_DESTINATIONS {
            return false;
        }
        let first = Attempts {
            count: 1,
            reason: reason.into(),
            is_local: false,
        };
        self.0.insert(key, first);
        true
    }

    fn sorted(&self) -> Vec<DestinationCount> {
        let mut all = Vec::with_capacity(self.0.len());
        for ((host, port), attempts) in &self.0 {
            all.push(DestinationCount {
                host: host.to_string(),
                port: *port,
                reason: attempts.reason.to_string(),
                count: attempts.count,
                is_local: attempts.is_local,
            });
        }
        all.sort_by(|a: &DestinationCount, b| {
            let names = (&a.host, a.port).cmp(&(&b.host, b.port));
            b.count.cmp(&a.count).then(names)
        });
        all
    }
}

impl Drop for SessionConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Arc<Session> {
        let info = SessionInfo {
            id: "s".into(),
            uid: 7,
            user: None,
            command: "curl".into(),
            pid: 1,
            isolation: "env",
            profile: None,
            since: 0,
        };
        Arc::new(Session::new(SessionNumber(1), info))
    }

    #[test]
    fn j13_connections_beyond_the_limit_of_a_session_do_not_enter() {
        let session = session();
        let first = session.enter(2);
        let _second = session.enter(2).expect("there is room");
        assert!(session.enter(2).is_none());
        drop(first);
        assert!(session.enter(2).is_some());
    }

    #[derive(Debug)]
    struct Moved(u64);

    impl MovesBytes for Moved {
        fn moved(&self) -> (u64, u64) {
            (self.0, 2 * self.0)
        }
    }

    #[test]
    fn j11_the_bytes_of_open_attempts_count_and_ended_ones_are_forgotten() {
        let session = session();
        session.moved(1000, 1000);
        let kept: Vec<Arc<Moved>> = (1..=3).map(|bytes| Arc::new(Moved(bytes))).collect();
        for attempt in &kept {
            let attempt: Arc<dyn MovesBytes> = Arc::<Moved>::clone(attempt);
            session.watch_bytes(Arc::downgrade(&attempt));
        }
        for _ in 0..1000 {
            let attempt: Arc<dyn MovesBytes> = Arc::new(Moved(7));
            session.watch_bytes(Arc::downgrade(&attempt));
        }
        let totals = session.totals();
        assert_eq!((totals.sent, totals.received), (1006, 1012));
        assert!(session.open.lock().capacity() <= MIN_OPEN);
    }

    #[test]
    fn j11_destinations_are_counted_within_a_bound() {
        let session = session();
        for number in 0..MAX_DESTINATIONS + 10 {
            let host = format!("h{number}.test");
            session.count(Counted::Refused, &host, 443, "not_allowed");
        }
        session.count(Counted::Refused, "h1.test", 443, "denied");
        session.count(Counted::Allowed, "a.test", 80, "allowed");
        let usage = session.usage();
        assert_eq!(usage.refused.len(), MAX_DESTINATIONS);
        assert_eq!(usage.others, 10);
        let most = &usage.refused[0];
        assert_eq!((most.host.as_str(), most.count), ("h1.test", 2));
        assert_eq!(most.reason, "denied");
        assert_eq!(session.totals().refused, MAX_DESTINATIONS as u64 + 11);
        assert_eq!(session.totals().allowed, 1);
    }
}
