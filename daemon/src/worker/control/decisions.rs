//! Decisions as they are made, over the control socket: who may see which (SPEC W4).
//!
//! Administrators and observers see all, users those of their own sessions. The rights are those of the settings in
//! force, not those of the time when the caller connected. A connection follows from its first call to its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use codex_network_control::message::{DecisionEntry, Decisions, DecisionsQuery, MAX_WAIT};
use codex_network_control::{Access, ControlError};
use codex_network_engine::{Audience, DecisionFollower, Engine, FollowedDecision};
use parking_lot::Mutex;

/// How long decisions gather before they are answered, so that a flood is not one answer each.
const GATHER_INTERVAL: Duration = Duration::from_millis(50);
/// Interval of checks whether the caller still has its rights.
const RIGHTS_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The follower of one connection. Dropping it ends the follow.
#[derive(Default)]
pub(super) struct Following(Mutex<Option<Arc<DecisionFollower>>>);

impl Following {
    /// The decisions since the last call. `access` gives the caller's access by the settings in force.
    pub(super) async fn next(
        &self,
        engine: &Engine,
        user: u32,
        access: impl Fn() -> Option<Access>,
        query: DecisionsQuery,
    ) -> Result<Decisions, ControlError> {
        let drain = engine.drain();
        let until = Instant::now() + Duration::from_secs(query.wait).min(MAX_WAIT);
        loop {
            let follower = self.follower(engine, audience("decisions", user, access())?);
            let (decisions, counts) = follower.take();
            let left = until.saturating_duration_since(Instant::now());
            let ending = drain.has_begun();
            if !decisions.is_empty() || ending || left.is_zero() {
                return Ok(Decisions {
                    decisions: decisions.iter().map(|decision| entry(decision)).collect(),
                    allowed: counts.allowed,
                    refused: counts.refused,
                    asked: counts.asked,
                    lost: counts.lost,
                    ending,
                });
            }
            tokio::select! {
                () = follower.arrived() => tokio::time::sleep(GATHER_INTERVAL.min(left)).await,
                () = drain.begun() => {}
                () = tokio::time::sleep(left.min(RIGHTS_CHECK_INTERVAL)) => {}
            }
        }
    }

    /// The follower for this audience. Another audience begins anew.
    fn follower(&self, engine: &Engine, audience: Audience) -> Arc<DecisionFollower> {
        let mut following = self.0.lock();
        match &*following {
            Some(follower) if *follower.audience() == audience => Arc::clone(follower),
            _ => {
                let follower = Arc::new(engine.decisions().follow(audience));
                *following = Some(Arc::clone(&follower));
                follower
            }
        }
    }
}

/// Whose decisions a caller of this call may see.
pub(super) fn audience(
    call: &str,
    user: u32,
    access: Option<Access>,
) -> Result<Audience, ControlError> {
    match access {
        Some(access) if access.covers(Access::Observe) => Ok(Audience::All),
        Some(access) if access.covers(Access::UseSessions) => Ok(Audience::SessionsOf(user)),
        _ => Err(ControlError::NotPermitted {
            call: call.to_owned(),
            needed: Access::UseSessions,
            has: access.unwrap_or_default(),
        }),
    }
}

fn entry(decision: &FollowedDecision) -> DecisionEntry {
    let FollowedDecision { event, rule } = decision;
    let session = event.session.as_deref();
    let approval = event.approval.as_deref();
    DecisionEntry {
        timestamp: event.timestamp.unix_timestamp(),
        decision: event.decision.verdict().as_str().to_owned(),
        reason: event.reason.to_string(),
        source: event.decision.source().as_str().to_owned(),
        protocol: event.protocol.record_name().to_owned(),
        host: event.server_address.to_string(),
        port: (event.server_port != 0).then_some(event.server_port),
        method: event.method.as_deref().map(str::to_owned),
        client: event.client_address.map(|client| client.to_string()),
        session: session.map(|session| session.id.to_string()),
        user: session.map(|session| session.user.to_string()),
        command: session.map(|session| session.command.to_string()),
        rule: rule.clone(),
        credential: event.credential.as_deref().map(str::to_owned),
        approval_id: approval.and_then(|approval| Some(approval.id.as_ref()?.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w4_who_may_observe_sees_all_decisions_and_a_user_its_own() {
        for (access, wanted) in [
            (Some(Access::Administer), Some(Audience::All)),
            (Some(Access::Observe), Some(Audience::All)),
            (Some(Access::ObserveAndUseSessions), Some(Audience::All)),
            (Some(Access::UseSessions), Some(Audience::SessionsOf(7))),
            (None, None),
        ] {
            assert_eq!(audience("decisions", 7, access).ok(), wanted, "{access:?}");
        }
    }
}
