//! What was refused, lately: a ring of entries in memory and a log line each (SPEC R1, R2).
//!
//! It is for people and for tools that ask "why did that fail"; the audit events in `audit.rs`
//! are the record of everything. It survives a reload, since it belongs to the engine and not to
//! the settings. It does not survive the engine; but an owner that starts another one lets it count
//! on above the numbers of the first, so that whoever asks for what came after a number gets it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::mpsc;

/// One refused request, as clients of the admin API see it.
#[derive(Clone, Debug, Serialize)]
pub struct BlockedEntry {
    /// The host that was asked for, in canonical form; unprintable bytes are escaped.
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
    /// `deny` or `ask`.
    pub decision: &'static str,
    /// What decided.
    pub source: &'static str,
    /// The port that was asked for; absent where none could be read.
    pub port: Option<u16>,
    /// When, in seconds since 1970 (UTC).
    pub timestamp: i64,
    /// The attempt that the client belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_id: Option<String>,
    /// The rule that decided, with the file and line it is written in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What is wrong in particular, where the reason alone does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<&'static str>,
    /// Counts up by 1 from the engine's base, 0 where its owner gives none; gaps within one engine's
    /// life say that entries were dropped.
    pub sequence: u64,
}

/// The ring.
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
}

impl BlockedLog {
    /// An empty one, whose first entry gets the number after `base`.
    pub(crate) fn after(base: u64) -> Self {
        Self {
            ring: Mutex::default(),
            base,
            observer: None,
        }
    }

    /// Sends every entry to an observer as well, as long as that has room: nothing waits for it, and
    /// what it misses shows in the numbers.
    pub(crate) fn told_to(self, observer: Option<mpsc::Sender<BlockedEntry>>) -> Self {
        Self { observer, ..self }
    }

    /// Adds an entry, numbers it and drops the oldest beyond `capacity`.
    pub(crate) fn push(&self, mut entry: BlockedEntry, capacity: usize) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.total += 1;
        entry.sequence = self.base + ring.total;
        let line = serde_json::to_string(&entry).unwrap_or_default();
        while ring.entries.len() >= capacity.max(1) {
            ring.entries.pop_front();
        }
        if let Some(observer) = &self.observer {
            // Under the lock, so that they arrive in order.
            let _ = observer.try_send(entry.clone());
        }
        ring.entries.push_back(entry);
        drop(ring);
        tracing::info!(target: "codex_network_proxy::violation", "CODEX_NETWORK_POLICY_VIOLATION {line}");
    }

    /// The entries with a sequence number above `since`, the oldest first.
    pub fn entries(&self, since: u64) -> Vec<BlockedEntry> {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.entries
            .iter()
            .filter(|entry| entry.sequence > since)
            .cloned()
            .collect()
    }

    /// All entries, which are then forgotten. The count goes on.
    pub fn drain(&self) -> Vec<BlockedEntry> {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.entries.drain(..).collect()
    }

    /// The number that was given last, or the base.
    pub fn last(&self) -> u64 {
        self.base + self.total()
    }

    /// The number after which this log counts.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// How many requests this engine has refused.
    pub fn total(&self) -> u64 {
        self.ring
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .total
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
            rule: None,
            detail: None,
            sequence: 0,
        }
    }

    fn hosts(entries: &[BlockedEntry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.host.as_str()).collect()
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
}
