//! The detail of a refusal, where the reason alone does not say enough.

use codex_network_policy::{Content, Decision, Hooked, Reason, is_read_only};

use super::Attempt;

/// The detail of a refusal of content that the request's method does not define.
pub(crate) const CONTENT: &str = "content";

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
