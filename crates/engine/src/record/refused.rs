//! A refusal as an entry of the log of refusals.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use codex_network_config::CredentialId;
use codex_network_policy::{Decision, Policy};

use crate::attempt::{ApprovalState, Attempt, Refusal};
use crate::audit::AuditApproval;
use crate::blocked::BlockedEntry;
use crate::client::AttemptId;
use crate::clock::Clock;

/// A refusal, before an entry is made of it. Most refusals of a flood need none of their own.
pub(super) struct Refused<'a> {
    pub(super) policy: &'a Policy,
    pub(super) attempt: &'a Attempt,
    pub(super) refusal: &'a Refusal,
    pub(super) reason: Cow<'static, str>,
    pub(super) clock: &'a dyn Clock,
}

impl Refused<'_> {
    pub(super) fn entry(&self) -> BlockedEntry {
        let (attempt, refusal) = (self.attempt, self.refusal);
        let session = attempt.client.session();
        BlockedEntry {
            host: refusal.host.clone(),
            reason: self.reason.clone(),
            client: Some(attempt.client.address.to_string()),
            method: self.method().map(str::to_owned),
            mode: Some(self.policy.mode().as_str()),
            protocol: refusal.protocol.record_name(),
            decision: refusal.decision.verdict().as_str(),
            source: refusal.decision.source().as_str(),
            port: self.port(),
            timestamp: self.clock.now().unix_timestamp(),
            attempt_id: self.attempt_id().map(str::to_owned),
            session: self.session_id().map(str::to_owned),
            user: session.map(|session| session.audit().user.to_string()),
            uid: session.map(|session| session.info().uid),
            rule: rule_text(self.policy, refusal.decision, self.approval_rule()),
            approval_id: self.approval_id().map(ToString::to_string),
            detail: refusal.detail,
            credential: refusal.credential.as_ref().map(ToString::to_string),
            would_deny: refusal.decision.would_deny(),
            count: 1,
            sequence: 0,
        }
    }

    /// Whether an entry is of the same refusal of the same client, perhaps over another connection.
    pub(super) fn is_like(&self, entry: &BlockedEntry) -> bool {
        let decision = self.refusal.decision;
        let client = || entry.client.as_deref()?.parse::<SocketAddr>().ok();
        let mode = self.policy.mode().as_str();
        (self.refusal.host.as_str(), self.port(), &self.reason)
            == (entry.host.as_str(), entry.port, &entry.reason)
            && (self.method(), self.attempt_id())
                == (entry.method.as_deref(), entry.attempt_id.as_deref())
            && self.session_id() == entry.session.as_deref()
            && decision.would_deny() == entry.would_deny
            && self.refusal.protocol.record_name() == entry.protocol
            && self.refusal.credential.as_ref().map(CredentialId::as_str)
                == entry.credential.as_deref()
            && decision.verdict().as_str() == entry.decision
            && Some(mode) == entry.mode
            && self.approval_id().map(|id| &**id) == entry.approval_id.as_deref()
            && client().is_some_and(|client| client.ip() == self.attempt.client.address.ip())
    }

    fn session_id(&self) -> Option<&str> {
        let session = self.attempt.client.session()?;
        Some(&session.info().id)
    }

    /// The id of the question.
    pub(super) fn approval_id(&self) -> Option<&Arc<str>> {
        self.refusal.approval.as_ref().map(|approval| &approval.id)
    }

    /// The denial that refuses it.
    pub(super) fn approval_rule(&self) -> Option<&Arc<str>> {
        match &self.refusal.approval.as_ref()?.state {
            ApprovalState::Denied { rule } => Some(rule),
            ApprovalState::Unanswered { .. } => None,
        }
    }

    /// The question and the denial, for an audit event.
    pub(super) fn audit_approval(&self) -> Option<Box<AuditApproval>> {
        let approval = AuditApproval {
            rule: self.approval_rule().cloned(),
            id: Some(Arc::clone(self.approval_id()?)),
        };
        Some(Box::new(approval))
    }

    fn method(&self) -> Option<&str> {
        self.attempt.kind.method().map(short)
    }

    fn port(&self) -> Option<u16> {
        (self.refusal.port != 0).then_some(self.refusal.port)
    }

    fn attempt_id(&self) -> Option<&str> {
        self.attempt.client.attempt.as_ref().map(AttemptId::as_str)
    }
}

/// The rule that decided, as text: the grant or denial of a person, or the rule of a list.
pub(super) fn rule_text(
    policy: &Policy,
    decision: Decision,
    approval: Option<&Arc<str>>,
) -> Option<String> {
    let listed = || Some(policy.rule(decision.rule()?)?.to_string());
    approval.map(ToString::to_string).or_else(listed)
}

/// Shortens a method for a record. A client may send one that fills a whole request head.
pub(super) fn short(method: &str) -> &str {
    const MAX_LENGTH: usize = 64;
    method.get(..MAX_LENGTH).unwrap_or(method)
}
