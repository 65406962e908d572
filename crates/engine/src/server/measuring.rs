//! [`Measurements`] of the engine at one moment (SPEC O1).

use std::sync::atomic::Ordering;

use super::Engine;
use crate::approvals::QuestionState;
use crate::interceptor::LeafSource;
use crate::measurements::{LeafCounters, Measurements};

impl Engine {
    /// The counts of the engine. It takes no lock that a request waits for, except a short one for the sessions and
    /// one for the questions.
    pub fn measurements(&self) -> Measurements {
        let meters = &self.shared.recorder().meters;
        let questions = self.approvals().questions().into_iter();
        let pending = questions.filter(|question| question.state == QuestionState::Pending);
        let (sent, received) = meters.bytes();
        let leaves = self.shared.leaves.as_ref().map(LeafSource::counters);
        let leaf_count = |count: fn(&LeafCounters) -> u64| leaves.map_or(0, count);
        Measurements {
            decisions: meters.decisions(),
            connections: meters.connections(),
            sessions: self.sessions.count(),
            questions: pending.count(),
            sent,
            received,
            dial: meters.dial.counts(),
            dns: meters.dns.counts(),
            client_handshake: meters.client_handshake.counts(),
            origin_handshake: meters.origin_handshake.counts(),
            leaves_cached: leaf_count(|leaves| leaves.cached.load(Ordering::Relaxed)),
            leaves_issued: leaf_count(|leaves| leaves.issued.load(Ordering::Relaxed)),
            leaves_failed: leaf_count(|leaves| leaves.failed.load(Ordering::Relaxed)),
        }
    }

    /// When a certificate was last refused since too many hosts that no list has got one (SPEC M4), in seconds since
    /// 1970.
    pub fn last_leaf_over_bound(&self) -> Option<i64> {
        self.shared.leaves.as_ref()?.counters().too_many_hosts()
    }
}
