//! The detail of a refusal whose reason alone is not precise enough.

use codex_network_policy::{
    Content, Decision, HookMatch, HttpHead, Reason, RequestKind, is_read_only,
};

use crate::attempt::Attempt;
use crate::live_policy::Generation;
use crate::own::OwnSockets;

/// The detail of a refusal because the upstream proxy is this proxy.
pub(crate) const LOOPING_PROXY: &str = "upstream_proxy";
/// The detail of a refusal because the destination is the collector of audit events (SPEC O2).
pub(crate) const COLLECTOR: &str = "telemetry_collector";
/// The detail of a refusal because the requirements alone fill the allow list (SPEC C6).
pub(crate) const MANAGED_LIST: &str = "managed_allowed_domains_only";
/// The detail of a refusal of a request inside TLS that is for another authority.
pub(crate) const AUTHORITY_MISMATCH: &str = "authority_mismatch";
/// The detail of a refusal of content that the request's method does not define.
pub(crate) const CONTENT: &str = "content";

/// The detail of a refusal by the policy.
pub(super) fn of(
    generation: &Generation,
    attempt: &Attempt,
    decision: Decision,
) -> Option<&'static str> {
    let managed = generation.settings().managed.allowed_domains_only;
    match (decision.reason(), &attempt.kind) {
        (Reason::NotAllowed, _) if managed => Some(MANAGED_LIST),
        (Reason::MitmHookDenied, RequestKind::Https(_, HookMatch::Ambiguous(ambiguity))) => {
            Some(ambiguity.as_str())
        }
        (Reason::MitmHookDenied, RequestKind::Https(head, HookMatch::Matched)) => content(head),
        (_, RequestKind::Http(head) | RequestKind::Https(head, _)) => of_mode(head, decision),
        _ => None,
    }
}

/// The detail of a refusal because the destination is the proxy's own.
pub(super) fn of_loop(own: &OwnSockets, port: u16, decision: Decision) -> Option<&'static str> {
    let is_collector = decision.reason() == Reason::LoopDetected && own.is_port_of_collector(port);
    is_collector.then_some(COLLECTOR)
}

/// The detail of a refusal by the mode: whether content is the only cause.
pub(super) fn of_mode(head: &HttpHead<'_>, decision: Decision) -> Option<&'static str> {
    let is_method = head.upgrade.is_none() && is_read_only(&head.method);
    (decision.reason() == Reason::MethodNotAllowed && is_method)
        .then(|| content(head))
        .flatten()
}

fn content(head: &HttpHead<'_>) -> Option<&'static str> {
    (head.content == Content::Present).then_some(CONTENT)
}
