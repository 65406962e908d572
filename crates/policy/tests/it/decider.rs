//! The answer of a decider, within the policy (SPEC P8, C6).

use DeciderAnswer::{Allow, Ask, Deny};
use codex_network_policy::{
    DeciderAnswer, DeciderReason, Facts, Host, HostCredentials, InterceptionSupport, ListKind,
    Mode, NoLocalAddresses, NoProxyListeners, Pattern, Policy, PolicySpec, Request, RequestKind,
    Unlisted,
};

use crate::cases::told;

/// The decision on a SOCKS5 connection to port 80 of a host if the decider gives this answer.
fn decide(spec: &PolicySpec, host: &str, answer: DeciderAnswer) -> String {
    let policy = Policy::compile(spec).expect("short lists");
    let request = Request {
        host: &Host::parse(host).expect("a host"),
        port: 80,
        kind: &RequestKind::Socks5Tcp,
        facts: Facts {
            machine: &NoLocalAddresses,
            listeners: &NoProxyListeners,
            interception: InterceptionSupport::Available,
            credentials: HostCredentials::None,
        },
    };
    told(&policy.decide_answered(&request, answer))
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text, ListKind::Deny).expect("a pattern")
}

#[test]
fn p8_an_answer_decides_about_a_host_on_neither_list() {
    let spec = PolicySpec::default();
    for (answer, expected) in [
        (Allow, "allow decider not_allowed"),
        (Ask, "ask decider not_allowed"),
        (Deny(DeciderReason::Denied), "deny decider denied"),
        (Deny(DeciderReason::NotAllowed), "deny decider not_allowed"),
        (Deny(DeciderReason::Other), "deny decider policy_denied"),
    ] {
        assert_eq!(decide(&spec, "a.example", answer), expected);
    }
}

#[test]
fn p8_an_answer_changes_no_other_decision() {
    let listed = PolicySpec {
        allowed: vec![(pattern("allowed.example"), None)],
        denied: vec![(pattern("denied.example"), None)],
        ..PolicySpec::default()
    };
    let limited = PolicySpec {
        mode: Mode::Limited,
        ..PolicySpec::default()
    };
    let off = PolicySpec {
        enabled: false,
        ..PolicySpec::default()
    };
    for (spec, host, answer, expected) in [
        (
            &listed,
            "denied.example",
            Allow,
            "deny baseline_policy denied",
        ),
        (
            &listed,
            "allowed.example",
            Ask,
            "allow baseline_policy allow",
        ),
        (
            &listed,
            "127.0.0.1",
            Allow,
            "deny baseline_policy not_allowed_local",
        ),
        (
            &limited,
            "a.example",
            Allow,
            "deny mode_guard method_not_allowed",
        ),
        (&off, "a.example", Allow, "deny proxy_state proxy_disabled"),
    ] {
        assert_eq!(decide(spec, host, answer), expected, "{host}");
    }
}

#[test]
fn p8_c6_no_answer_counts_where_unlisted_hosts_are_refused() {
    let spec = PolicySpec {
        unlisted: Unlisted::Refused,
        ..PolicySpec::default()
    };
    for answer in [Allow, Ask, Deny(DeciderReason::Denied)] {
        assert_eq!(
            decide(&spec, "a.example", answer),
            "deny baseline_policy not_allowed"
        );
    }
}
