//! Attempts that a decider or a person evaluates (SPEC P8, Q2). Both may allow a host that is on neither list,
//! and may do nothing else.

use std::sync::Arc;

use codex_network_policy::{DeciderAnswer, DeciderReason, Decision, Source};

use super::{Permit, facts, is_granting};
use crate::approvals::{Approvals, QuestionOutcome};
use crate::attempt::{Approval, ApprovalState, Refusal};
use crate::client::AttemptId;
use crate::decider::{self, Decider, Disconnect, NetworkDecision, NetworkPolicyRequest};
use crate::live_policy::{Generation, LivePolicy};

/// An attempt whose host is on neither list. Nothing has been recorded. If this is dropped, nothing
/// will be: the client no longer waits for the answer.
#[derive(Debug)]
pub(crate) struct PendingDecision {
    pub(super) decider: Option<Decider>,
    /// The questions, if this may become one.
    pub(super) approvals: Option<Arc<Approvals>>,
    /// The permit to use if the request is allowed. Until then its decision is the refusal.
    pub(super) permit: Permit,
}

/// The answer about an attempt, and the parts of it that records show.
struct Evaluation {
    answer: DeciderAnswer,
    /// The decider's own reason.
    reason: Option<Arc<str>>,
    /// The question that refuses it.
    approval: Option<Approval>,
}

impl PendingDecision {
    /// Has the decider evaluate it, or else people, and applies the answer within the policy (SPEC P8, Q2). That
    /// may take a while, so settings that came into force meanwhile must permit the attempt too.
    pub(crate) async fn await_decider(self, live: &LivePolicy) -> Result<Permit, Refusal> {
        let Self {
            decider,
            approvals,
            mut permit,
        } = self;
        let mut evaluation = match &decider {
            Some(decider) => Evaluation::by(decider, &permit).await,
            None => Evaluation::of(DeciderAnswer::Ask),
        };
        if let (DeciderAnswer::Ask, Some(approvals)) = (evaluation.answer, approvals) {
            match ask(&permit, &approvals).await {
                Some(asked) => evaluation = asked,
                None if decider.is_none() => return Err(permit.refuse(permit.decision)),
                None => {}
            }
        }
        let answer = evaluation.answer;
        let current = live.current();
        let (decision, now) = (
            answered(&permit, &permit.generation, answer),
            answered(&permit, &current, answer),
        );
        let may_be_outdated = decision.is_allow() || evaluation.approval.is_some();
        if answer == DeciderAnswer::Ask && evaluation.approval.is_some() && now.is_allow() {
            // Meanwhile it came onto the allow list, as a permanent answer does (SPEC Q4).
            permit.generation = current;
            permit.decision = now;
            return Ok(permit);
        }
        if may_be_outdated && !now.is_allow() && now.source() != Source::Decider {
            // A rule of the settings that are in force now has refused it.
            permit.generation = current;
            return Err(permit.refuse(now));
        }
        if !decision.is_allow() {
            let is_answer = decision.source() == Source::Decider;
            return Err(match evaluation {
                Evaluation {
                    approval: Some(approval),
                    ..
                } if is_answer => permit.refuse_asked(decision, approval),
                Evaluation {
                    reason: Some(reason),
                    ..
                } if is_answer => permit.refuse_as(decision, reason),
                _ => permit.refuse(decision),
            });
        }
        permit.decision = decision;
        Ok(permit)
    }
}

impl Evaluation {
    fn of(answer: DeciderAnswer) -> Self {
        Self {
            answer,
            reason: None,
            approval: None,
        }
    }

    async fn by(decider: &Decider, permit: &Permit) -> Self {
        match decider.decide(request(permit)).await {
            NetworkDecision::Allow => Self::of(DeciderAnswer::Allow),
            NetworkDecision::Ask => Self::of(DeciderAnswer::Ask),
            NetworkDecision::Deny { reason } => {
                let reason = decider::printable_reason(&reason);
                Self {
                    reason: reason.clone(),
                    ..Self::of(DeciderAnswer::Deny(known(reason.as_deref())))
                }
            }
        }
    }
}

/// Finds the answer of a person, or waits for one. `None`: it cannot be asked. A grant becomes that of the
/// permit.
async fn ask(permit: &Permit, approvals: &Approvals) -> Option<Evaluation> {
    let limits = permit.generation.settings().daemon.approvals;
    let attempt = permit.attempt();
    let asked = approvals.ask(
        &limits,
        &attempt.client,
        &permit.authority,
        attempt.kind.protocol(),
    );
    let refused = |answer, id, state| Evaluation {
        approval: Some(Approval { id, state }),
        ..Evaluation::of(answer)
    };
    Some(match asked.await {
        QuestionOutcome::Granted(grant) => {
            permit.flow.set_grant(grant);
            Evaluation::of(DeciderAnswer::Allow)
        }
        QuestionOutcome::Denied(denial) => refused(
            DeciderAnswer::Deny(DeciderReason::NotAllowed),
            Arc::clone(&denial.id),
            ApprovalState::Denied {
                rule: Arc::clone(&denial.rule),
            },
        ),
        QuestionOutcome::Unanswered(id) => refused(
            DeciderAnswer::Ask,
            id,
            ApprovalState::Unanswered {
                retry_after: limits.hold,
            },
        ),
        QuestionOutcome::NotAsked => return None,
    })
}

/// The decision of these settings with an answer.
fn answered(permit: &Permit, generation: &Generation, answer: DeciderAnswer) -> Decision {
    let facts = facts(generation, &*permit.own, Some(&permit.authority));
    let request = permit.attempt().request(&permit.authority, facts);
    if permit.grant().is_some() && !is_granting(generation) {
        return generation.policy().decide(&request);
    }
    generation.policy().decide_answered(&request, answer)
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
        // The decider's wrapper knows these.
        exec_policy_hint: None,
        execution_id: None,
        environment_id: None,
        disconnect: Disconnect::default(),
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
