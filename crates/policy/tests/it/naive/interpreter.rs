//! A second implementation of the policy, as slow and as plain as possible: compares every pattern
//! of a list with the host, label by label, as texts. `Policy::decide` is compared with it, here
//! and in `tests/fuzz`.

use codex_network_policy::{AddressClass, Host, Mode, Pattern, Policy, PolicySpec, Reason};

/// The reason for a CONNECT to a host in full mode, by lists of canonical texts.
pub(crate) fn reason(
    allowed: &[String],
    denied: &[String],
    local_binding: bool,
    host: &Host,
) -> Reason {
    let text = host.to_string();
    // Only the class of an address comes from the crate, which has tables of its own to test it.
    let carried = carried_v4(&text);
    let is_denied = |pattern: &String| {
        covers(pattern, &text) || carried.as_ref().is_some_and(|v4| covers(pattern, v4))
    };
    let is_local = match host.ip() {
        Some(address) => !AddressClass::of(address).is_public(),
        None => format!(".{text}").ends_with(".localhost"),
    };
    let spelled_out = |pattern: &String| !pattern.contains('*') && covers(pattern, &text);
    if denied.iter().any(is_denied) {
        Reason::Denied
    } else if is_local && !local_binding && !allowed.iter().any(spelled_out) {
        Reason::NotAllowedLocal
    } else if allowed.iter().any(|pattern| covers(pattern, &text)) {
        Reason::Allow
    } else {
        Reason::NotAllowed
    }
}

/// The lists of a session, as canonical texts.
pub(crate) struct SessionLists {
    pub(crate) denied: Vec<String>,
    pub(crate) only: Vec<String>,
    pub(crate) allowed: Vec<String>,
}

/// The reason for a CONNECT to a host in full mode in a session, and whether the session decided.
pub(crate) fn reason_in_session(
    allowed: &[String],
    denied: &[String],
    local_binding: bool,
    session: &SessionLists,
    host: &Host,
) -> (Reason, bool) {
    let without = reason(allowed, denied, local_binding, host);
    let text = host.to_string();
    let carried = carried_v4(&text);
    let covered = |list: &[String]| list.iter().any(|pattern| covers(pattern, &text));
    let is_denied = |pattern: &String| {
        covers(pattern, &text) || carried.as_ref().is_some_and(|v4| covers(pattern, v4))
    };
    match without {
        Reason::Denied => (Reason::Denied, false),
        _ if session.denied.iter().any(is_denied) => (Reason::Denied, true),
        Reason::NotAllowedLocal => (Reason::NotAllowedLocal, false),
        _ if !session.only.is_empty() && !covered(&session.only) => (Reason::NotAllowed, true),
        Reason::NotAllowed if covered(&session.allowed) => (Reason::Allow, true),
        without => (without, false),
    }
}

/// Whether a pattern in its canonical text covers a host in its canonical text.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    if pattern == "*" || pattern == host {
        return true;
    }
    if host.contains(':') {
        // A rule without a zone covers every zone.
        return host
            .split_once('%')
            .is_some_and(|(address, _)| pattern == address);
    }
    let (least, most, pattern) = match (pattern.strip_prefix("**."), pattern.strip_prefix("*.")) {
        (Some(rest), _) => (0, usize::MAX, rest),
        (None, Some(rest)) => (1, usize::MAX, rest),
        (None, None) => (0, 0, pattern),
    };
    let (pattern, host): (Vec<_>, Vec<_>) =
        (pattern.split('.').collect(), host.split('.').collect());
    let Some(more) = host.len().checked_sub(pattern.len()) else {
        return false;
    };
    let mut pairs = pattern.iter().zip(&host[more..]);
    (least..=most).contains(&more)
        && pairs.all(|(pattern, label)| label_matches(pattern.as_bytes(), label.as_bytes()))
}

fn label_matches(pattern: &[u8], label: &[u8]) -> bool {
    match (pattern, label) {
        ([b'*', rest @ ..], _) => {
            (0..=label.len()).any(|taken| label_matches(rest, &label[taken..]))
        }
        ([first, rest @ ..], [letter, more @ ..]) => first == letter && label_matches(rest, more),
        (pattern, label) => pattern.is_empty() && label.is_empty(),
    }
}

/// The IPv4 address in the last 32 bits of an address below `64:ff9b::/96`: the one form of P5 that
/// the generated hosts have.
fn carried_v4(host: &str) -> Option<String> {
    let address: std::net::Ipv6Addr = host.parse().ok()?;
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = address.segments() else {
        return None;
    };
    Some(std::net::Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)).to_string())
}

/// Compiles lists for the comparison.
pub(crate) fn compile(allowed: &[Pattern], denied: &[Pattern], local_binding: bool) -> Policy {
    Policy::compile(&spec(allowed, denied, local_binding)).expect("the lists are short")
}

/// The policy of these lists.
pub(crate) fn spec(allowed: &[Pattern], denied: &[Pattern], local_binding: bool) -> PolicySpec {
    let list = |patterns: &[Pattern]| patterns.iter().map(|one| (one.clone(), None)).collect();
    PolicySpec {
        mode: Mode::Full,
        allow_local_binding: local_binding,
        allowed: list(allowed),
        denied: list(denied),
        ..PolicySpec::default()
    }
}
