//! Decisions as they are made, for callers who watch (SPEC W4).
//!
//! Each follower has a queue of its own, and gets only the decisions of its audience. A request waits for no
//! follower: a full queue loses its oldest decision, which is counted. Without followers, a decision costs one load.
//! The complete record is that of the audit events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use codex_network_policy::Verdict;
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use crate::approvals::Audience;
use crate::audit::AuditEvent;

/// Most decisions that wait for one follower.
pub(crate) const MAX_WAITING: usize = 1024;

/// The followers of one engine.
#[derive(Debug, Default)]
pub struct DecisionFeed {
    /// The number of queues, to be read without a lock.
    followers: AtomicUsize,
    queues: RwLock<Vec<Arc<Queue>>>,
}

/// Gets decisions until it is dropped.
#[derive(Debug)]
pub struct DecisionFollower {
    feed: Arc<DecisionFeed>,
    queue: Arc<Queue>,
}

/// A decision, as followers see it.
#[derive(Clone, Debug)]
pub struct FollowedDecision {
    /// The decision. It stands for itself alone.
    pub event: AuditEvent,
    /// The rule, grant or denial that decided, as text.
    pub rule: Option<String>,
}

/// The decisions of one audience since it began to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecisionCounts {
    /// Those that allowed.
    pub allowed: u64,
    /// Those that refused.
    pub refused: u64,
    /// Those that a person has yet to answer.
    pub asked: u64,
    /// Those that the follower was too slow for. They are in the other counts too.
    pub lost: u64,
}

#[derive(Debug)]
struct Queue {
    audience: Audience,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    decisions: VecDeque<Arc<FollowedDecision>>,
    counts: DecisionCounts,
}

impl DecisionFeed {
    /// Begins to follow the decisions of an audience: all of them, or those of the sessions of one user.
    pub fn follow(self: &Arc<Self>, audience: Audience) -> DecisionFollower {
        let queue = Arc::new(Queue {
            audience,
            waiting: Mutex::default(),
            arrived: Notify::new(),
        });
        let mut queues = self.queues.write();
        queues.push(Arc::clone(&queue));
        self.followers.store(queues.len(), Ordering::Relaxed);
        drop(queues);
        DecisionFollower {
            feed: Arc::clone(self),
            queue,
        }
    }

    /// Whether there is a follower.
    pub(crate) fn is_followed(&self) -> bool {
        self.followers.load(Ordering::Relaxed) > 0
    }

    /// Shows a decision to the followers who may see it. `owner` is the user of the client's session.
    pub(crate) fn push(&self, owner: Option<u32>, decision: impl FnOnce() -> FollowedDecision) {
        if !self.is_followed() {
            return;
        }
        let queues = self.queues.read();
        let may_see = |queue: &&Arc<Queue>| match queue.audience {
            Audience::All => true,
            Audience::SessionsOf(user) => owner == Some(user),
            // Only questions are followed for one session.
            Audience::Session(_) => false,
        };
        let mut followers = queues.iter().filter(may_see).peekable();
        if followers.peek().is_none() {
            return;
        }
        let decision = Arc::new(decision());
        for queue in followers {
            queue.push(Arc::clone(&decision));
        }
    }
}

impl DecisionFollower {
    /// The audience whose decisions it gets.
    pub fn audience(&self) -> &Audience {
        &self.queue.audience
    }

    /// The decisions that wait, the oldest first, and the counts so far.
    pub fn take(&self) -> (Vec<Arc<FollowedDecision>>, DecisionCounts) {
        let mut waiting = self.queue.waiting.lock();
        let decisions = std::mem::take(&mut waiting.decisions);
        let counts = waiting.counts;
        drop(waiting);
        (decisions.into(), counts)
    }

    /// Resolves when a decision may have arrived since the last [`take`](Self::take).
    pub async fn arrived(&self) {
        self.queue.arrived.notified().await;
    }
}

impl Drop for DecisionFollower {
    fn drop(&mut self) {
        let mut queues = self.feed.queues.write();
        queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        self.feed.followers.store(queues.len(), Ordering::Relaxed);
    }
}

impl Queue {
    fn push(&self, decision: Arc<FollowedDecision>) {
        let mut waiting = self.waiting.lock();
        let counts = &mut waiting.counts;
        match decision.event.decision.verdict() {
            Verdict::Allow => counts.allowed += 1,
            Verdict::Deny => counts.refused += 1,
            Verdict::Ask => counts.asked += 1,
        }
        let lost = if waiting.decisions.len() >= MAX_WAITING {
            waiting.counts.lost += 1;
            waiting.decisions.pop_front()
        } else {
            None
        };
        waiting.decisions.push_back(decision);
        drop(waiting);
        // Outside the lock, since it may be the last reference.
        drop(lost);
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use codex_network_policy::{Policy, PolicySpec, Protocol};
    use time::OffsetDateTime;

    use super::*;
    use crate::audit::{AuditMetadata, Override, Scope, ServerAddress};

    fn refusal(host: &str) -> FollowedDecision {
        let policy = Policy::compile(&PolicySpec::default()).expect("short lists");
        FollowedDecision {
            event: AuditEvent {
                timestamp: OffsetDateTime::UNIX_EPOCH,
                scope: Scope::Domain,
                decision: policy.decide_invalid_host(),
                reason: Cow::Borrowed("not_allowed"),
                overridden: Override::Kept,
                protocol: Protocol::Http,
                server_address: ServerAddress::Text(Arc::from(host)),
                server_port: 80,
                method: None,
                client_address: None,
                attempt_id: None,
                session: None,
                credential: None,
                rule: None,
                approval: None,
                metadata: Arc::new(AuditMetadata::default()),
                count: 1,
            },
            rule: None,
        }
    }

    fn hosts(follower: &DecisionFollower) -> Vec<String> {
        let (decisions, _) = follower.take();
        let host = |decision: &Arc<FollowedDecision>| decision.event.server_address.to_string();
        decisions.iter().map(host).collect()
    }

    #[test]
    fn w4_without_a_follower_no_decision_is_made_into_an_entry() {
        let feed = Arc::new(DecisionFeed::default());
        feed.push(None, || panic!("nobody follows"));
        let follower = feed.follow(Audience::SessionsOf(7));
        feed.push(Some(8), || panic!("the follower may not see it"));
        drop(follower);
        feed.push(Some(7), || panic!("the follower is gone"));
    }

    #[test]
    fn w4_a_user_gets_the_decisions_of_its_own_sessions_only() {
        let feed = Arc::new(DecisionFeed::default());
        let (all, own) = (
            feed.follow(Audience::All),
            feed.follow(Audience::SessionsOf(7)),
        );
        for (owner, host) in [(None, "none"), (Some(7), "own"), (Some(8), "other")] {
            feed.push(owner, || refusal(host));
        }
        assert_eq!(own.take().1.refused, 1, "the counts are of its own too");
        feed.push(Some(7), || refusal("own"));
        assert_eq!(hosts(&own), ["own"]);
        assert_eq!(hosts(&all), ["none", "own", "other", "own"]);
        assert!(hosts(&all).is_empty());
    }

    #[test]
    fn w4_a_follower_that_reads_too_slowly_loses_the_oldest_and_is_told_how_many() {
        let feed = Arc::new(DecisionFeed::default());
        let (slow, quick) = (feed.follow(Audience::All), feed.follow(Audience::All));
        for number in 0..MAX_WAITING + 3 {
            feed.push(None, || refusal(&number.to_string()));
            assert_eq!(hosts(&quick).len(), 1);
        }
        let (decisions, counts) = slow.take();
        assert_eq!(decisions.len(), MAX_WAITING);
        let first = &decisions[0].event.server_address;
        assert_eq!(first.to_string(), "3");
        assert_eq!((counts.lost, counts.refused), (3, MAX_WAITING as u64 + 3));
        assert_eq!(quick.take().1.lost, 0);
    }
}
