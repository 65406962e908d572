//! Attempts that the decider evaluates (SPEC P8). A decider may allow a host that is on
//! neither list, and may do nothing else.

use codex_network_policy::{DeciderAnswer, DeciderReason, Source};

use super::{Permit, facts};
use crate::attempt::Refusal;
use crate::client::AttemptId;
use crate::decider::{self, Decider, NetworkDecision, NetworkPolicyRequest};
use crate::live_policy::{Generation, LivePolicy};

/// An attempt whose host is on neither list. Nothing has been recorded. If this is dropped, nothing
/// will be: the client no longer waits for the answer.
#[derive(Debug)]
pub(crate) struct PendingDecision {
    pub(super) decider: Decider,
    /// The permit to use if the decider allows the request. Until then its decision is the refusal.
    pub(super) permit: Permit,
}

impl PendingDecision {
    /// Has the decider evaluate it, and applies the answer within the policy (SPEC P8). That may take a
    /// while, so settings that came into force meanwhile must permit the attempt too.
    pub(crate) async fn await_decider(self, live: &LivePolicy) -> Result<Permit, Refusal> {
        let Self {
            decider,
            mut permit,
        } = self;
        let (answer, own_reason) = match decider.decide(request(&permit)).await {
            NetworkDecision::Allow => (DeciderAnswer::Allow, None),
            NetworkDecision::Ask => (DeciderAnswer::Ask, None),
            NetworkDecision::Deny { reason } => {
                let reason = decider::printable_reason(&reason);
                (DeciderAnswer::Deny(known(reason.as_deref())), reason)
            }
        };
        let decide = |generation: &Generation| {
            let facts = facts(generation, &*permit.own, Some(&permit.authority));
            let request = permit.attempt().request(&permit.authority, facts);
            generation.policy().decide_answered(&request, answer)
        };
        let current = live.current();
        let (decision, now) = (decide(&permit.generation), decide(&current));
        if !decision.is_allow() {
            return Err(match own_reason {
                Some(reason) if decision.source() == Source::Decider => {
                    permit.refuse_as(decision, reason)
                }
                _ => permit.refuse(decision),
            });
        }
        if !now.is_allow() {
            // A rule of the settings that are in force now has refused it.
            permit.generation = current;
            return Err(permit.refuse(now));
        }
        permit.decision = decision;
        Ok(permit)
    }
}

/// The request that the decider evaluates.
fn request(permit: &Permit) -> NetworkPolicyRequest {
    let (attempt, authority) = (permit.attempt(), &permit.authority);
    let id = attempt.client.attempt.as_ref();
    NetworkPolicyRequest {
        protocol: attempt.kind.protocol(),
        host: authority.host.to_string(),
        port: authority.port,
        client_addr: Some(attempt.client.address),
        method: attempt.kind.method().map(str::to_owned),
        attempt_id: id.map(AttemptId::as_str).map(str::to_owned),
        command: attempt
            .client
            .session()
            .map(|session| session.info().command.to_string()),
        exec_policy_hint: None,
    }
}

/// Classifies the reason that a decider gave. One of the policy's own reasons keeps its
/// `x-proxy-error` (SPEC H6).
fn known(reason: Option<&str>) -> DeciderReason {
    match reason {
        Some("denied") => DeciderReason::Denied,
        Some("not_allowed") => DeciderReason::NotAllowed,
        _ => DeciderReason::Other,
    }
}
