//! The decision equals that of the naive interpreter, for any lists and any host (SPEC P2, P3).
//!
//! The input is lines: first a host, then patterns, those after a `!` for the deny list; an empty
//! first line stands for local binding. Patterns after `-`, `=` and `+` are those that a session
//! denies, is limited to, and allows (SPEC J4).
#![no_main]

#[path = "../../../crates/policy/tests/it/naive/interpreter.rs"]
mod interpreter;

use codex_network_policy::{
    Facts, Host, HostCredentials, InterceptionSupport, ListKind, Narrowing, NoLocalAddresses, NoProxyListeners,
    Pattern, Reason, Request, RequestKind, Source,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (local_binding, text) = match text.strip_prefix('\n') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut lines = text.lines().take(40);
    let Some(Ok(host)) = lines.next().map(Host::parse) else {
        return;
    };
    // The interpreter knows one form that carries an IPv4 address. The classes have tables.
    if let Host::V6(v6) = &host
        && !matches!(
            v6.address().segments(),
            [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0xfe80, 0, 0, 0, 0, 0, ..]
        )
    {
        return;
    }
    let (mut allowed, mut denied) = (Vec::new(), Vec::new());
    let mut narrowing = Narrowing::default();
    for line in lines {
        let (list, kind, text) = match line.as_bytes() {
            [b'!', ..] => (&mut denied, ListKind::Deny, &line[1..]),
            [b'-', ..] => (&mut narrowing.denied, ListKind::Deny, &line[1..]),
            [b'=', ..] => (&mut narrowing.only, ListKind::Allow, &line[1..]),
            [b'+', ..] => (&mut narrowing.allowed, ListKind::Allow, &line[1..]),
            _ => (&mut allowed, ListKind::Allow, line),
        };
        list.extend(Pattern::parse(text, kind));
    }
    let policy = interpreter::compile(&allowed, &denied, local_binding);
    let request = Request {
        host: &host,
        port: 443,
        kind: &RequestKind::HttpConnect,
        facts: Facts {
            machine: &NoLocalAddresses,
            listeners: &NoProxyListeners,
            interception: InterceptionSupport::Available,
            credentials: HostCredentials::None,
        },
    };
    let decision = policy.decide(&request);
    let texts = |list: &[Pattern]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let (allowed, denied) = (texts(&allowed), texts(&denied));
    let reason = interpreter::reason(&allowed, &denied, local_binding, &host);
    assert_eq!(decision.reason(), reason, "{host}: {allowed:?} {denied:?}");
    let rule = decision.rule().and_then(|rule| policy.rule(rule));
    assert_eq!(
        rule.is_some(),
        matches!(reason, Reason::Allow | Reason::Denied)
    );
    assert_eq!(policy.explain(&request).decision, decision);

    let session = interpreter::SessionLists {
        denied: texts(&narrowing.denied),
        only: texts(&narrowing.only),
        allowed: texts(&narrowing.allowed),
    };
    let narrowed = policy.narrowed(&narrowing).expect("the lists are short");
    let decision = narrowed.decide(&request);
    let expected =
        interpreter::reason_in_session(&allowed, &denied, local_binding, &session, &host);
    let by_session = decision.source() == Source::Session;
    assert_eq!(
        (decision.reason(), by_session),
        expected,
        "{host}: {narrowing:?}"
    );
    assert_eq!(narrowed.explain(&request).decision, decision);
});
