//! The last refusals: a ring of entries in memory and a log line each (SPEC R1, R2).
//!
//! It shows people and tools why a request failed; the audit events in `audit.rs` are the complete
//! record. The ring belongs to the engine and not to the settings, so it survives a
//! reload. It does not survive the engine. An owner that starts another engine passes the last
//! number on, so that "entries after number N" stays meaningful.

use std::borrow::Cow;
use std::collections::VecDeque;

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use tokio::sync::mpsc;

/// The newest entries that a counted refusal is compared with.
const MAX_COMPARED: usize = 64;

/// One refused request, as clients of the admin API see it.
#[derive(Clone, Debug, Serialize)]
pub struct BlockedEntry {
    /// The requested host in canonical form; unprintable bytes are escaped.
    pub host: String,
    /// Why it was refused.
    pub reason: Cow<'static, str>,
    /// The client's address, `ip:port`.
    pub client: Option<String>,
    /// The HTTP method, `CONNECT` included.
    pub method: Option<String>,
    /// The mode in force.
    pub mode: Option<&'static str>,
    /// `http`, `http-connect`, `https`, `socks5` or `socks5-udp`.
    pub protocol: &'static str,
    /// `deny` or `ask`; `allow` with `would_deny`.
    pub decision: &'static str,
    /// The source of the decision.
    pub source: &'static str,
    /// The requested port; absent if it could not be read.
    pub port: Option<u16>,
    /// The time, in seconds since 1970 (UTC).
    pub timestamp: i64,
    /// The attempt that the client belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_id: Option<String>,
    /// The session of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The user who opened the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The id of this user, by which users get the entries of their own sessions.
    #[serde(skip)]
    pub uid: Option<u32>,
    /// The rule that decided, with the file and line it is written in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// More detail than the reason has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'static str>,
    /// The credential because of which the request was refused, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The question that has no answer yet, or was denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<String>,
    /// Whether it was let through, since hosts on neither list are only reported (SPEC P12).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub would_deny: bool,
    /// The number of refusals that the entry stands for. Beyond a rate, similar refusals of one client
    /// share an entry.
    #[serde(skip_serializing_if = "is_one")]
    pub count: u64,
    /// Counts up by 1 from the engine's base, which is 0 by default. A gap within one engine's life
    /// means that entries were dropped or share another entry.
    pub sequence: u64,
}

/// The last refusals, in a ring.
#[derive(Debug, Default)]
pub struct BlockedLog {
    ring: Mutex<Ring>,
    base: u64,
    observer: Option<mpsc::Sender<BlockedEntry>>,
}

#[derive(Debug, Default)]
struct Ring {
    entries: VecDeque<BlockedEntry>,
    total: u64,
    /// Those of them that were let through.
    reported: u64,
}

/// The target of the log lines.
const TARGET: &str = "codex_network_proxy::violation";

/// Writes the line of an entry (SPEC R2).
pub(crate) fn log(entry: &BlockedEntry) {
    if is_logged() {
        let line = serde_json::to_string(entry).unwrap_or_default();
        tracing::info!(target: TARGET, "CODEX_NETWORK_POLICY_VIOLATION {line}");
    }
}

fn is_logged() -> bool {
    tracing::enabled!(target: TARGET, tracing::Level::INFO)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde requires it")]
fn is_one(count: &u64) -> bool {
    *count == 1
}

impl BlockedLog {
    /// An empty log, whose first entry gets the number after `base`.
    pub(crate) fn after(base: u64) -> Self {
        Self {
            ring: Mutex::default(),
            base,
            observer: None,
        }
    }

    /// Sends every entry to an observer too, while its channel has room. The log never waits for
    /// the observer, which sees missed entries as gaps in the numbers.
    pub(crate) fn with_observer(self, observer: Option<mpsc::Sender<BlockedEntry>>) -> Self {
        Self { observer, ..self }
    }

    /// Adds an entry, numbers it, drops the oldest beyond `capacity`, and logs it.
    pub(crate) fn push(&self, entry: BlockedEntry, capacity: usize) {
        let mut ring = self.lock();
        let entry = self.put(&mut ring, entry, capacity);
        let line = is_logged().then(|| entry.clone());
        drop(ring);
        if let Some(line) = line {
            log(&line);
        }
    }

    /// Adds a refusal that gets no log line of its own. It joins the entry among the newest ones that
    /// `is_like` finds similar, or becomes an entry. `entry` makes the entry, which is needed then and for an
    /// observer.
    pub(crate) fn push_counted(
        &self,
        is_like: impl Fn(&BlockedEntry) -> bool,
        entry: impl FnOnce() -> BlockedEntry,
        capacity: usize,
    ) {
        let mut ring = self.lock();
        let mut newest = ring.entries.iter_mut().rev().take(MAX_COMPARED);
        let Some(same) = newest.find(|other| is_like(other)) else {
            self.put(&mut ring, entry(), capacity);
            return;
        };
        same.count += 1;
        let reported = u64::from(same.would_deny);
        if self.observer.is_some() {
            self.number(&mut ring, entry());
        } else {
            ring.total += 1;
            ring.reported += reported;
        }
    }

    /// Numbers an entry and shows it to the observer.
    fn number(&self, ring: &mut Ring, mut entry: BlockedEntry) -> BlockedEntry {
        ring.total += 1;
        ring.reported += u64::from(entry.would_deny);
        entry.sequence = self.base + ring.total;
        if let Some(observer) = &self.observer {
            // Send while the lock is held, so that entries arrive in order.
            let _ = observer.try_send(entry.clone());
        }
        entry
    }

    fn put<'a>(
        &self,
        ring: &'a mut Ring,
        entry: BlockedEntry,
        capacity: usize,
    ) -> &'a BlockedEntry {
        let entry = self.number(ring, entry);
        while ring.entries.len() >= capacity.max(1) {
            ring.entries.pop_front();
        }
        let place = ring.entries.len();
        ring.entries.push_back(entry);
        &ring.entries[place]
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock()
    }

    /// The entries with a sequence number above `since`, the oldest first.
    pub fn entries(&self, since: u64) -> Vec<BlockedEntry> {
        let ring = self.lock();
        ring.entries
            .iter()
            .filter(|entry| entry.sequence > since)
            .cloned()
            .collect()
    }

    /// The newest entries, at most this many, the oldest first.
    pub fn newest(&self, limit: usize) -> Vec<BlockedEntry> {
        let ring = self.lock();
        let skipped = ring.entries.len().saturating_sub(limit);
        ring.entries.iter().skip(skipped).cloned().collect()
    }

    /// Returns all entries and forgets them. The count goes on.
    pub fn drain(&self) -> Vec<BlockedEntry> {
        let mut ring = self.lock();
        ring.entries.drain(..).collect()
    }

    /// The number that was given last, or the base.
    pub fn last(&self) -> u64 {
        self.base + self.lock().total
    }

    /// The sequence number before the first entry of this log.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// How many requests this engine has refused.
    pub fn total(&self) -> u64 {
        let ring = self.lock();
        ring.total - ring.reported
    }

    /// How many requests this engine has let through and would refuse otherwise (SPEC P12).
    pub fn reported(&self) -> u64 {
        self.lock().reported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host: &str) -> BlockedEntry {
        BlockedEntry {
            host: host.to_owned(),
            reason: Cow::Borrowed("not_allowed"),
            client: None,
            method: None,
            mode: None,
            protocol: "http",
            decision: "deny",
            source: "baseline_policy",
            port: Some(80),
            timestamp: 0,
            attempt_id: None,
            session: None,
            user: None,
            uid: None,
            rule: None,
            detail: None,
            credential: None,
            approval_id: None,
            would_deny: false,
            count: 1,
            sequence: 0,
        }
    }

    fn hosts(entries: &[BlockedEntry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.host.as_str()).collect()
    }

    fn count(log: &BlockedLog, host: &str) {
        log.push_counted(|other| other.host == host, || entry(host), 10);
    }

    #[test]
    fn r1_the_oldest_is_dropped_and_all_are_counted() {
        let log = BlockedLog::default();
        for host in ["a", "b", "c"] {
            log.push(entry(host), 2);
        }
        assert_eq!(hosts(&log.entries(0)), ["b", "c"]);
        assert_eq!(log.total(), 3);
        assert_eq!(hosts(&log.entries(2)), ["c"]);
    }

    #[test]
    fn r1_another_log_counts_on_above_the_first_and_counts_its_own() {
        let log = BlockedLog::after(1 << 50);
        log.push(entry("a"), 10);
        assert_eq!(log.entries(7)[0].sequence, (1 << 50) + 1);
        assert_eq!((log.last(), log.total()), ((1 << 50) + 1, 1));
        assert!(log.entries(log.last()).is_empty());
    }

    #[test]
    fn r1_draining_forgets_the_entries_and_keeps_the_count() {
        let log = BlockedLog::default();
        log.push(entry("a"), 10);
        assert_eq!(hosts(&log.drain()), ["a"]);
        assert!(log.entries(0).is_empty());
        log.push(entry("b"), 10);
        assert_eq!(log.entries(1)[0].sequence, 2);
    }

    #[test]
    fn r1_a_smaller_ring_after_a_reload_shrinks() {
        let log = BlockedLog::default();
        for host in ["a", "b", "c", "d"] {
            log.push(entry(host), 10);
        }
        log.push(entry("e"), 2);
        assert_eq!(hosts(&log.entries(0)), ["d", "e"]);
    }

    #[test]
    fn p12_entries_that_were_let_through_are_numbered_and_are_no_refusals() {
        let reported = || BlockedEntry {
            would_deny: true,
            ..entry("a")
        };
        let log = BlockedLog::default();
        log.push(entry("b"), 10);
        log.push(reported(), 10);
        log.push_counted(|other| other.would_deny, reported, 10);
        assert_eq!((log.last(), log.total(), log.reported()), (3, 1, 2));
    }

    #[test]
    fn r1_counted_refusals_share_an_entry_and_are_in_the_total() {
        let log = BlockedLog::default();
        log.push(entry("a"), 10);
        for _ in 0..1000 {
            count(&log, "a");
        }
        count(&log, "b");
        let entries = log.entries(0);
        let counts: Vec<_> = entries
            .iter()
            .map(|entry| (entry.host.as_str(), entry.count))
            .collect();
        assert_eq!(counts, [("a", 1001), ("b", 1)]);
        assert_eq!(log.total(), 1002);
    }
}
