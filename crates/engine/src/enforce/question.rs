//! Asking the decider and applying its answer (SPEC P8). A decider may allow a host that is on
//! neither list, and may do nothing else.

use codex_network_policy::{Decision, Reason, Source};

use super::{Permit, overruled_by, where_possible};
use crate::attempt::Refusal;
use crate::client::AttemptId;
use crate::decider::{self, Decider, NetworkDecision, NetworkPolicyRequest};
use crate::live_policy::{Generation, LivePolicy};

/// An attempt whose host is on neither list. It has not been recorded. If it is dropped, it never
/// is: the client no longer waits for the answer.
#[derive(Debug)]
pub(crate) struct Question {
    pub(super) decider: Decider,
    /// The permit if the decider allows. As it stands it is a refusal.
    pub(super) permit: Permit,
}

impl Question {
    /// Asks the decider and applies its answer within the policy (SPEC P8). The answer may take a
    /// while, so settings that came into force meanwhile must permit the attempt too.
    pub(crate) async fn ask(self, live: &LivePolicy) -> Result<Permit, Refusal> {
        let Self {
            decider,
            mut permit,
        } = self;
        match decider.ask(question(&permit)).await {
            NetworkDecision::Allow => {}
            NetworkDecision::Ask => return Err(permit.refuse(Decision::ask())),
            NetworkDecision::Deny { reason } => return Err(refuse_saying(&permit, &reason)),
        }
        let overruled = |generation: &Generation| {
            let request = permit.attempt().request(&permit.authority, generation);
            where_possible(generation, overruled_by(generation, &request))
        };
        let current = live.current();
        let (decision, now) = (overruled(&permit.generation), overruled(&current));
        if !decision.is_allow() {
            return Err(permit.refuse(decision));
        }
        if !now.is_allow() {
            // The rule that decided is from the settings in force now.
            permit.generation = current;
            return Err(permit.refuse(now));
        }
        permit.decision = decision;
        Ok(permit)
    }
}

/// What the decider is asked.
fn question(permit: &Permit) -> NetworkPolicyRequest {
    let (attempt, authority) = (permit.attempt(), &permit.authority);
    let id = attempt.client.attempt.as_ref();
    NetworkPolicyRequest {
        protocol: attempt.protocol,
        host: authority.host.to_string(),
        port: authority.port,
        client_addr: Some(attempt.client.address),
        method: attempt.method.clone(),
        attempt_id: id.map(AttemptId::as_str).map(str::to_owned),
        command: None,
        exec_policy_hint: None,
    }
}

/// Refuses because the decider does, for the reason that it gives.
fn refuse_saying(permit: &Permit, reason: &str) -> Refusal {
    let decider_reason = decider::printable_reason(reason);
    // A reason that is one of the policy's own keeps its `x-proxy-error` (SPEC H6).
    let reason = match decider_reason.as_deref() {
        Some("denied") => Reason::Denied,
        Some("not_allowed") => Reason::NotAllowed,
        _ => Reason::PolicyDenied,
    };
    let mut refusal = permit.refusal(Decision::deny(Source::Decider, reason, None), None);
    refusal.decider_reason = decider_reason;
    let recorder = permit.recorder();
    recorder.refused(&permit.generation, permit.attempt(), &refusal);
    refusal
}
