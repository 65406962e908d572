//! The rule that decided, which becomes text only where an event is written.

use std::borrow::Cow;
use std::sync::{Arc, Weak};

use codex_network_policy::{Decision, Policy, Rule, RuleRef};

use super::AuditEvent;

/// A rule of a list, with the policy that has it.
#[derive(Clone, Debug)]
pub struct AuditRule {
    policy: Arc<Policy>,
    rule: RuleRef,
}

/// Like [`AuditRule`], for a time in which the policy may be replaced: it does not keep the old one.
#[derive(Clone, Debug)]
pub(crate) struct WeakRule {
    policy: Weak<Policy>,
    rule: RuleRef,
}

impl AuditRule {
    /// The rule of a list that a decision of this policy refers to.
    pub fn of(policy: &Arc<Policy>, decision: Decision) -> Option<Self> {
        Some(Self {
            rule: decision.rule()?,
            policy: Arc::clone(policy),
        })
    }

    /// The rule: `Display` has its pattern, and the file and the line.
    pub fn rule(&self) -> Option<Rule> {
        self.policy.rule(self.rule)
    }
}

impl WeakRule {
    pub(crate) fn of(policy: &Arc<Policy>, decision: Decision) -> Option<Self> {
        Some(Self {
            rule: decision.rule()?,
            policy: Arc::downgrade(policy),
        })
    }

    /// The rule, if its policy has not been replaced.
    pub(crate) fn upgrade(&self) -> Option<AuditRule> {
        Some(AuditRule {
            policy: self.policy.upgrade()?,
            rule: self.rule,
        })
    }
}

impl AuditEvent {
    /// The text of `network.policy.rule`: the grant or the denial of a person, else the rule of a list.
    pub(crate) fn rule_text(&self) -> Option<Cow<'_, str>> {
        let person = self.approval.as_ref();
        if let Some(rule) = person.and_then(|approval| approval.rule.as_deref()) {
            return Some(Cow::Borrowed(rule));
        }
        Some(Cow::Owned(self.rule.as_ref()?.rule()?.to_string()))
    }
}
