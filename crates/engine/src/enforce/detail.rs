//! The detail of a refusal, where the reason alone does not say enough.

use codex_network_policy::{Content, Decision, Hooked, Reason, is_read_only};

use crate::attempt::Attempt;
use crate::live_policy::Generation;

/// The detail of a refusal because the upstream proxy is this proxy itself.
pub(crate) const LOOPING_PROXY: &str = "upstream_proxy";
/// The detail of a refusal because the requirements alone fill the allow list (SPEC C6).
pub(crate) const MANAGED_LIST: &str = "managed_allowed_domains_only";
/// The detail of a refusal of a request inside TLS that is for another authority.
pub(super) const AUTHORITY_MISMATCH: &str = "authority_mismatch";
/// The detail of a refusal of content that the request's method does not define.
pub(crate) const CONTENT: &str = "content";

/// The detail of a refusal by the policy.
pub(super) fn of(
    generation: &Generation,
    attempt: &Attempt,
    decision: Decision,
) -> Option<&'static str> {
    let managed = generation.settings().managed.allowed_domains_only;
    match (decision.reason(), attempt.hooked) {
        (Reason::NotAllowed, _) if managed => Some(MANAGED_LIST),
        (Reason::MitmHookDenied, Hooked::Ambiguous(ambiguity)) => Some(ambiguity.as_str()),
        _ => attempt.detail_of(decision),
    }
}

impl Attempt {
    /// The detail of a refusal by the mode or the hooks: whether content is the only cause.
    pub(super) fn detail_of(&self, decision: Decision) -> Option<&'static str> {
        let is_only_cause = match decision.reason() {
            Reason::MethodNotAllowed => {
                self.upgrade.is_none() && self.method.as_deref().is_some_and(is_read_only)
            }
            Reason::MitmHookDenied => self.hooked == Hooked::Matched,
            _ => false,
        };
        (is_only_cause && self.content == Content::Present).then_some(CONTENT)
    }
}
