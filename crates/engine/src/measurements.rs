//! The counts of the engine for those who watch it from outside (SPEC O1).
//!
//! Everything here is an atomic, so a request waits for no reader and no reader for a request. The labels are
//! enumerations of this program: no host, no client and no user becomes one. The texts of a metric are written by the
//! owner of the engine.

mod histogram;
mod striped;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

use codex_network_policy::{Decision, Protocol, Reason, Verdict};

pub(crate) use self::histogram::Histogram;
pub use self::histogram::HistogramCounts;
use self::striped::StripedCounter;

const VERDICTS: [Verdict; 3] = [Verdict::Allow, Verdict::Deny, Verdict::Ask];

/// The measurements of one engine.
#[derive(Debug)]
pub(crate) struct Meters {
    /// One counter for each verdict, reason and protocol.
    decisions: Box<[AtomicU64]>,
    sent: StripedCounter,
    received: StripedCounter,
    open: [Arc<AtomicUsize>; DoorKind::ALL.len()],
    /// How long it took to reach an address, of a host or of an upstream proxy.
    pub(crate) dial: Outcomes,
    /// How long it took to resolve a name.
    pub(crate) dns: Outcomes,
    /// How long a TLS handshake with a client took.
    pub(crate) client_handshake: Outcomes,
    /// How long a TLS handshake with an origin took.
    pub(crate) origin_handshake: Outcomes,
}

/// The durations of an operation, by its outcome.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    succeeded: Histogram,
    failed: Histogram,
}

/// How often intercepted hosts got their leaf certificates, by outcome.
#[derive(Debug, Default)]
pub(crate) struct LeafCounters {
    pub(crate) cached: AtomicU64,
    pub(crate) issued: AtomicU64,
    pub(crate) failed: AtomicU64,
    /// When one was last refused since too many hosts have one, in seconds since 1970; 0 for never.
    too_many_hosts: AtomicI64,
}

/// The kind of door of a connection: the label of its gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoorKind {
    /// The HTTP door of the proxy.
    Http,
    /// The SOCKS5 door of the proxy.
    Socks5,
    /// A door of a session.
    Session,
}

/// Counts one open connection until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<AtomicUsize>);

/// The measurements at one moment. The counts begin with the engine.
#[derive(Clone, Debug)]
pub struct Measurements {
    /// The decisions of each kind that occurred.
    pub decisions: Vec<DecisionCount>,
    /// Open client connections.
    pub connections: [(DoorKind, usize); DoorKind::ALL.len()],
    /// Open sessions.
    pub sessions: usize,
    /// Questions that wait for the answer of a person.
    pub questions: usize,
    /// Bytes from clients to upstreams.
    pub sent: u64,
    /// Bytes from upstreams to clients.
    pub received: u64,
    /// Seconds to reach an address.
    pub dial: OutcomeCounts,
    /// Seconds to resolve a name.
    pub dns: OutcomeCounts,
    /// Seconds of a TLS handshake with a client.
    pub client_handshake: OutcomeCounts,
    /// Seconds of a TLS handshake with an origin.
    pub origin_handshake: OutcomeCounts,
    /// Leaf certificates that were in the cache.
    pub leaves_cached: u64,
    /// Leaf certificates that were issued.
    pub leaves_issued: u64,
    /// Leaf certificates that could not be issued.
    pub leaves_failed: u64,
}

/// How many decisions of one kind were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecisionCount {
    /// The verdict.
    pub verdict: Verdict,
    /// The reason, never that of a decider.
    pub reason: Reason,
    /// The protocol.
    pub protocol: Protocol,
    /// How many.
    pub count: u64,
}

/// The durations of an operation, by its outcome.
#[derive(Clone, Debug)]
pub struct OutcomeCounts {
    /// Of those that succeeded.
    pub succeeded: HistogramCounts,
    /// Of those that failed.
    pub failed: HistogramCounts,
}

impl DoorKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Http, Self::Socks5, Self::Session];

    /// The label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks5 => "socks5",
            Self::Session => "session",
        }
    }
}

impl Default for Meters {
    fn default() -> Self {
        let kinds = VERDICTS.len() * Reason::ALL.len() * Protocol::ALL.len();
        Self {
            decisions: std::iter::repeat_with(AtomicU64::default)
                .take(kinds)
                .collect(),
            sent: StripedCounter::default(),
            received: StripedCounter::default(),
            open: Default::default(),
            dial: Outcomes::default(),
            dns: Outcomes::default(),
            client_handshake: Outcomes::default(),
            origin_handshake: Outcomes::default(),
        }
    }
}

impl Meters {
    /// A decision was made.
    pub(crate) fn decided(&self, decision: Decision, protocol: Protocol) {
        let index = index(decision.verdict(), decision.reason(), protocol);
        if let Some(count) = self.decisions.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Bytes went from a client to an upstream.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent.add(bytes as u64);
    }

    /// Bytes went from an upstream to a client.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.add(bytes as u64);
    }

    /// A connection to a door has begun.
    pub(crate) fn opened(&self, door: DoorKind) -> OpenConnection {
        let gauge = &self.open[door as usize];
        gauge.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(gauge))
    }

    /// The decisions of each kind that occurred.
    pub(crate) fn decisions(&self) -> Vec<DecisionCount> {
        let mut all = Vec::new();
        for verdict in VERDICTS {
            for reason in Reason::ALL {
                for protocol in Protocol::ALL {
                    let count = self.decisions.get(index(verdict, reason, protocol));
                    let count = count.map_or(0, |count| count.load(Ordering::Relaxed));
                    all.push(DecisionCount {
                        verdict,
                        reason,
                        protocol,
                        count,
                    });
                }
            }
        }
        all.retain(|decided| decided.count > 0);
        all
    }

    /// Open connections, by door.
    pub(crate) fn connections(&self) -> [(DoorKind, usize); DoorKind::ALL.len()] {
        DoorKind::ALL.map(|door| (door, self.open[door as usize].load(Ordering::Relaxed)))
    }

    /// The bytes from clients, and to them.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.sent.total(), self.received.total())
    }
}

fn index(verdict: Verdict, reason: Reason, protocol: Protocol) -> usize {
    let (reasons, protocols) = (Reason::ALL.len(), Protocol::ALL.len());
    (verdict as usize * reasons + reason as usize) * protocols + protocol as usize
}

impl Outcomes {
    /// Notes how long an operation took, and whether it succeeded.
    pub(crate) async fn measure<T, E>(
        &self,
        operation: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let begun = std::time::Instant::now();
        let outcome = operation.await;
        let histogram = match &outcome {
            Ok(_) => &self.succeeded,
            Err(_) => &self.failed,
        };
        histogram.observe(begun.elapsed());
        outcome
    }

    pub(crate) fn counts(&self) -> OutcomeCounts {
        OutcomeCounts {
            succeeded: self.succeeded.counts(),
            failed: self.failed.counts(),
        }
    }
}

impl LeafCounters {
    /// One more of these.
    pub(crate) fn note(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// One was refused at this time, since too many hosts have one.
    pub(crate) fn note_too_many_hosts(&self, seconds: i64) {
        self.too_many_hosts.store(seconds, Ordering::Relaxed);
    }

    /// When one was last refused so, in seconds since 1970.
    pub(crate) fn too_many_hosts(&self) -> Option<i64> {
        Some(self.too_many_hosts.load(Ordering::Relaxed)).filter(|seconds| *seconds != 0)
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use codex_network_policy::{Policy, PolicySpec};

    use super::*;

    #[test]
    fn o1_each_verdict_reason_and_protocol_has_a_counter_of_its_own() {
        let mut seen = HashSet::new();
        for verdict in VERDICTS {
            for reason in Reason::ALL {
                for protocol in Protocol::ALL {
                    assert!(seen.insert(index(verdict, reason, protocol)));
                }
            }
        }
        let last = seen.iter().max().expect("some");
        assert_eq!(last + 1, Meters::default().decisions.len());
    }

    #[test]
    fn o1_only_kinds_of_decisions_that_occurred_are_returned() {
        let meters = Meters::default();
        assert_eq!(meters.decisions(), []);
        let policy = Policy::compile(&PolicySpec::default()).expect("short lists");
        for _ in 0..3 {
            meters.decided(policy.decide_invalid_host(), Protocol::Socks5Tcp);
        }
        let expected = DecisionCount {
            verdict: Verdict::Deny,
            reason: policy.decide_invalid_host().reason(),
            protocol: Protocol::Socks5Tcp,
            count: 3,
        };
        assert_eq!(meters.decisions(), [expected]);
    }

    #[test]
    fn o1_a_connection_counts_at_its_door_until_it_ends() {
        let meters = Meters::default();
        let (one, other) = (
            meters.opened(DoorKind::Session),
            meters.opened(DoorKind::Session),
        );
        drop(one);
        let open = |door: DoorKind| meters.connections()[door as usize];
        assert_eq!(open(DoorKind::Session), (DoorKind::Session, 1));
        assert_eq!(open(DoorKind::Http), (DoorKind::Http, 0));
        drop(other);
        assert_eq!(open(DoorKind::Session), (DoorKind::Session, 0));
    }
}
