//! Limits the log lines that one client causes (SPEC R2, R3). Up to a rate they are written one by one;
//! further ones are counted.
//!
//! The log's queue is bounded, so a client that causes a hundred thousand lines would push out the lines
//! of all other clients. Each client has a budget. Refusals beyond it are counted by destination and
//! outcome, and [`COUNT_INTERVAL`] later one line with the count stands for all of them. So every refusal is
//! in the log once: in a line of its own or in a count. Allowed decisions are never counted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use codex_network_policy::{Decision, Protocol};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::audit::{AuditRule, AuditSession, Override, Scope, ServerAddress};
use crate::blocked::BlockedEntry;
use crate::budget::{Budgets, Rate};
use crate::owner::{ConnectionHandle, Owners};
use crate::shares::Holder;

/// Refusals of one client that are written one by one. A refusal writes at most two lines. The queue
/// of the service holds 4096.
const RATE: Rate = Rate {
    burst: 500,
    per_second: 50,
};
/// How long refusals are counted before the counts are written.
pub(crate) const COUNT_INTERVAL: Duration = Duration::from_secs(10);
/// Most outcomes that are counted separately for one client, and for all clients. Further outcomes are
/// counted together.
const MAX_COUNTS_PER_HOLDER: usize = 64;
const MAX_COUNTS: usize = 1024;

/// Stands for the holders without a count of their own.
const OTHER_HOLDERS: Holder = Holder::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));

/// Whether a line is written or counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LineChoice {
    /// It is written.
    Written,
    /// It is counted for this holder.
    Counted(Holder),
}

/// The budgets and the counts.
#[derive(Debug)]
pub(crate) struct Lines {
    owners: Arc<Owners>,
    state: Mutex<LineState>,
}

#[derive(Debug)]
struct LineState {
    budgets: Budgets,
    counts: BTreeMap<CountKey, Count>,
    per_holder: BTreeMap<Holder, usize>,
}

/// Lines with the same key are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CountKey {
    pub(crate) holder: Holder,
    pub(crate) about: About,
}

/// The subject of a line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum About {
    /// Decisions with one outcome for one destination.
    Decision {
        protocol: &'static str,
        host: String,
        port: u16,
        verdict: &'static str,
        reason: Cow<'static, str>,
        /// The id of the client's session.
        session: Option<Arc<str>>,
        /// The name of the credential because of which they were refused.
        credential: Option<Arc<str>>,
    },
    /// Decisions beyond those that are counted separately.
    Decisions,
    /// Messages of one kind.
    Message(&'static str),
}

/// How many lines were counted, and the first decision among them.
#[derive(Debug)]
pub(crate) struct Count {
    pub(crate) lines: u64,
    pub(crate) first: Option<Decided>,
}

/// A decision that is counted.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) scope: Scope,
    pub(crate) decision: Decision,
    pub(crate) reason: Cow<'static, str>,
    pub(crate) overridden: Override,
    pub(crate) protocol: Protocol,
    pub(crate) server: ServerAddress,
    pub(crate) port: u16,
    pub(crate) session: Option<Arc<AuditSession>>,
    pub(crate) credential: Option<Arc<str>>,
    pub(crate) rule: Option<AuditRule>,
    /// The entry of the refusal.
    pub(crate) blocked: BlockedEntry,
}

impl Lines {
    pub(crate) fn new(owners: Arc<Owners>) -> Self {
        Self {
            owners,
            state: Mutex::new(LineState {
                budgets: Budgets::new(RATE),
                counts: BTreeMap::new(),
                per_holder: BTreeMap::new(),
            }),
        }
    }

    /// Takes a line from the budget of a client.
    pub(crate) fn take(&self, client: &ConnectionHandle) -> LineChoice {
        let holder = client.holder();
        let has_room = self.state().budgets.take(holder, Instant::now());
        if has_room {
            return LineChoice::Written;
        }
        // From now on each user has a budget, even if users share an address.
        self.owners.note_shortage();
        self.owners.look_up_later(client);
        LineChoice::Counted(holder)
    }

    /// Counts a line. `first` gives the decision that its count keeps, and is called only for a new count.
    /// Returns whether it is the first line, so that the counts are due after [`COUNT_INTERVAL`].
    pub(crate) fn count(
        &self,
        holder: Holder,
        about: About,
        first: impl FnOnce() -> Option<Decided>,
    ) -> bool {
        let mut state = self.state();
        let is_first = state.counts.is_empty();
        let mut key = CountKey { holder, about };
        if let Some(count) = state.counts.get_mut(&key) {
            count.lines += 1;
            return is_first;
        }
        let per_holder = state.per_holder.get(&holder).copied().unwrap_or(0);
        if per_holder < MAX_COUNTS_PER_HOLDER && state.counts.len() < MAX_COUNTS {
            *state.per_holder.entry(holder).or_default() += 1;
            let first = first();
            state.counts.insert(key, Count { lines: 1, first });
            return is_first;
        }
        if let About::Decision { .. } = key.about {
            key.about = About::Decisions;
        }
        if state.counts.len() >= 2 * MAX_COUNTS {
            key.holder = OTHER_HOLDERS;
        }
        let count = state.counts.entry(key).or_insert(Count {
            lines: 0,
            first: None,
        });
        count.lines += 1;
        is_first
    }

    /// Takes the counts, which start again from zero.
    pub(crate) fn drain(&self) -> BTreeMap<CountKey, Count> {
        let mut state = self.state();
        state.per_holder.clear();
        std::mem::take(&mut state.counts)
    }

    fn state(&self) -> parking_lot::MutexGuard<'_, LineState> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(host: usize) -> About {
        About::Decision {
            protocol: "http",
            host: format!("h{host}.test"),
            port: 80,
            verdict: "deny",
            reason: Cow::Borrowed("not_allowed"),
            session: None,
            credential: None,
        }
    }

    fn lines() -> Lines {
        Lines::new(Arc::new(Owners::new(None)))
    }

    fn client(last: u8) -> ConnectionHandle {
        ConnectionHandle::new(([192, 0, 2, last], 5).into(), ([127, 0, 0, 1], 1).into())
    }

    #[test]
    fn r3_a_client_has_a_budget_of_lines_of_its_own() {
        let lines = lines();
        let (flood, other) = (client(1), client(2));
        let written = (0..100_000)
            .filter(|_| lines.take(&flood) == LineChoice::Written)
            .count();
        assert!((500..1500).contains(&written), "{written}");
        assert_eq!(lines.take(&other), LineChoice::Written);
    }

    #[test]
    fn r3_counts_are_kept_by_destination_and_are_complete() {
        let lines = lines();
        let holder = Holder::User(7);
        for number in 0..1000 {
            let is_first = lines.count(holder, about(number % 3), || None);
            assert_eq!(is_first, number == 0);
        }
        let counts = lines.drain();
        let told: Vec<u64> = counts.values().map(|count| count.lines).collect();
        assert_eq!(told, [334, 333, 333]);
        assert!(lines.drain().is_empty());
        assert!(lines.count(holder, about(0), || None));
    }

    #[test]
    fn r3_many_destinations_and_many_clients_leave_bounded_counts_that_miss_nothing() {
        let lines = lines();
        for number in 0..10_000 {
            lines.count(Holder::User(7), about(number), || None);
        }
        let others = 10_000 - MAX_COUNTS_PER_HOLDER as u64;
        for uid in 100..10_000 {
            lines.count(Holder::User(uid), about(0), || None);
            lines.count(Holder::User(uid), About::Message("m"), || None);
        }
        let counts = lines.drain();
        assert!(counts.len() <= 3 * MAX_COUNTS, "{}", counts.len());
        let total: u64 = counts.values().map(|count| count.lines).sum();
        assert_eq!(total, 10_000 + 2 * 9900);
        let key = CountKey {
            holder: Holder::User(7),
            about: About::Decisions,
        };
        assert_eq!(counts[&key].lines, others);
    }
}
