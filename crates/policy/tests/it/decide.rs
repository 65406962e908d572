//! `Policy::decide` against a naive twin, and what must hold for any text (SPEC P1 to P3).
//!
//! Labels come from a small alphabet, so that most hosts are near some pattern.

use std::net::Ipv4Addr;

use codex_network_policy::{
    Enforcement, Facts, Host, HostCredentials, InterceptionSupport, ListKind, Narrowing,
    NarrowingError, NoLocalAddresses, NoProxyListeners, Pattern, Policy, PolicySpec, Reason,
    Request, RequestKind, RuleRef, Source, Verdict,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::naive::interpreter::{self, SessionLists, compile, covers};

const LABELS: [&str; 8] = ["a", "b", "ab", "ba", "aab", "com", "localhost", "1"];
const STARRED: [&str; 6] = ["*", "a*", "*b", "a*b", "*a*", "a*a*b"];
/// Public and local addresses; the last but one carries the first.
const ADDRESSES: [&str; 8] = [
    "93.184.216.34",
    "10.0.0.1",
    "127.0.0.1",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "64:ff9b::5db8:d822",
    "2606:4700::1",
];
/// Beginnings of difficult hosts; every prefix of each is parsed.
const NASTY: [&str; 20] = [
    "EXAMPLE.com...",
    "xn--mnchen-3ya.xn--99999999.xn--.de",
    "ｅｘａｍｐｌｅ。ｃｏｍ．",
    "１２７.０.0x7f.①",
    "a\u{ad}\u{200b}\u{200d}\u{308}.\u{202e}moc",
    "0x7f.0177.0X1.1",
    "00000000000000000000000000000000000000000177.0x00000000000000000001",
    "18446744073709551616.1",
    "[fe80::1%25eth0]:8080",
    "::ffff:127.0.0.1%lo",
    "1:2:3:4:5:6:7:8%25251",
    "[[::1]]",
    "user:pass@example.com:80/path?query#fragment",
    "example.com\0.evil.example",
    "a.b\\c;d%2e\r\n\t x",
    "straße.ς.ß.İ.ſ.K",
    "₁₂₇.⁰.𝟎.𝟏",
    "-._.--.xn--a-.1a.a1.0x",
    "℀℁⅍.⒈.⑴.㍘.﷽",
    "أهلا.א1.1א.ab\u{5d0}",
];

fn host_text() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => vec(select(&LABELS[..]), 1..6).prop_map(|labels| labels.join(".")),
        1 => select(&ADDRESSES[..]).prop_map(str::to_owned),
    ]
}

fn host() -> impl Strategy<Value = Host> {
    host_text().prop_filter_map("no host", |text| Host::parse(&text).ok())
}

fn pattern(list: ListKind) -> impl Strategy<Value = Pattern> {
    let label = prop_oneof![4 => select(&LABELS[..]), 1 => select(&STARRED[..])];
    let depth = select(&["", "", "*.", "**."][..]);
    let name =
        (depth, vec(label, 1..5)).prop_map(|(depth, labels)| depth.to_owned() + &labels.join("."));
    let text = prop_oneof![
        9 => name,
        2 => select(&ADDRESSES[..]).prop_map(str::to_owned),
        1 => Just("*".to_owned()),
    ];
    text.prop_filter_map("no pattern", move |text| Pattern::parse(&text, list).ok())
}

fn connect(host: &Host) -> Request<'_> {
    Request {
        host,
        port: 443,
        kind: &RequestKind::HttpConnect,
        facts: Facts {
            machine: &NoLocalAddresses,
            listeners: &NoProxyListeners,
            interception: InterceptionSupport::Available,
            credentials: HostCredentials::None,
        },
    }
}

/// The guarantees of `Name`, and that no resolver could take a name for an address (SPEC P1).
fn assert_sound(host: &Host) -> Result<(), TestCaseError> {
    let text = host.to_string();
    prop_assert_eq!(Host::parse(&text), Ok(host.clone()), "parsed again");
    prop_assert_eq!(
        Host::parse(&text.to_ascii_uppercase())
            .ok()
            .map(|host| host.ip()),
        Some(host.ip())
    );
    let Host::Name(name) = host else {
        return Ok(());
    };
    prop_assert!((1..=253).contains(&text.len()), "{text}");
    prop_assert_eq!(name.as_str(), &text);
    for label in text.split('.') {
        prop_assert!((1..=63).contains(&label.len()), "{text}");
        let sound = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        prop_assert!(label.bytes().all(sound), "{text}");
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    let digits = last.strip_prefix("0x").map_or((last, 10), |hex| (hex, 16));
    let number = digits.0.chars().all(|digit| digit.is_digit(digits.1));
    prop_assert!(!number, "{} ends in a number", text);
    Ok(())
}

/// One part of an `inet_aton` address: the number in a base, with zeros in front.
fn number(value: u32, base: u8, zeros: usize) -> String {
    match base {
        0 => value.to_string(),
        1 => format!("0{}{value:o}", "0".repeat(zeros)),
        2 => format!("0x{}{value:x}", "0".repeat(zeros)),
        _ => format!("0X{}{value:X}", "0".repeat(zeros)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// The same reason as the twin, and a rule that really covers the host.
    #[test]
    fn p3_p10_decisions_equal_those_of_the_naive_interpreter(
        allowed in vec(pattern(ListKind::Allow), 0..8),
        denied in vec(pattern(ListKind::Deny), 0..4),
        local_binding in any::<bool>(),
        hosts in vec(host(), 1..12),
    ) {
        let policy = compile(&allowed, &denied, local_binding);
        let texts = |list: &[Pattern]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let (allowed, denied) = (texts(&allowed), texts(&denied));
        for host in hosts {
            let decision = policy.decide(&connect(&host));
            let reason = interpreter::reason(&allowed, &denied, local_binding, &host);
            prop_assert_eq!(decision.reason(), reason, "{}", &host);
            prop_assert_eq!(decision.verdict() == Verdict::Allow, reason == Reason::Allow);
            let rule = decision.rule().and_then(|rule| policy.rule(rule));
            let list = match decision.rule() {
                None | Some(RuleRef::AllowedBySession(_) | RuleRef::DeniedBySession(_)) => &vec![],
                Some(RuleRef::Allowed(_)) => &allowed,
                Some(RuleRef::Denied(_)) => &denied,
            };
            match (reason, rule) {
                (Reason::Allow | Reason::Denied, Some(rule)) => {
                    prop_assert!(list.contains(&rule.pattern), "{} is not a rule", &rule);
                    let host = host.to_string();
                    let carries = host.starts_with("64:ff9b::") && rule.pattern == "93.184.216.34";
                    prop_assert!(covers(&rule.pattern, &host) || carries, "{} for {}", &rule, &host);
                    let literal = list.iter().find(|rule| !rule.contains('*') && covers(rule, &host));
                    prop_assert!(literal.is_none() || !rule.pattern.contains('*'), "{} for {}", &rule, &host);
                }
                (Reason::Allow | Reason::Denied, None) => prop_assert!(false, "no rule for {}", &host),
                (_, rule) => prop_assert_eq!(rule, None),
            }
        }
    }

    /// The same reason as the twin, from the session or from the policy as the twin says, and a
    /// session that allows nothing never permits more than the policy.
    #[test]
    fn j4_a_narrowed_policy_equals_the_naive_interpreter(
        allowed in vec(pattern(ListKind::Allow), 0..6),
        denied in vec(pattern(ListKind::Deny), 0..3),
        local_binding in any::<bool>(),
        session_denied in vec(pattern(ListKind::Deny), 0..3),
        only in vec(pattern(ListKind::Allow), 0..4),
        session_allowed in vec(pattern(ListKind::Allow), 0..3),
        hosts in vec(host(), 1..12),
    ) {
        let policy = compile(&allowed, &denied, local_binding);
        let narrowing = Narrowing {
            limited: false,
            denied: session_denied,
            only,
            allowed: session_allowed,
            ..Narrowing::default()
        };
        let narrowed = policy.narrowed(&narrowing).expect("the lists are short");
        let texts = |list: &[Pattern]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let lists = SessionLists {
            denied: texts(&narrowing.denied),
            only: texts(&narrowing.only),
            allowed: texts(&narrowing.allowed),
        };
        let (allowed, denied) = (texts(&allowed), texts(&denied));
        for host in hosts {
            let decision = narrowed.decide(&connect(&host));
            let expected =
                interpreter::reason_in_session(&allowed, &denied, local_binding, &lists, &host);
            let by_session = decision.source() == Source::Session;
            prop_assert_eq!((decision.reason(), by_session), expected, "{}", &host);
            prop_assert_eq!(decision.is_allow(), decision.reason() == Reason::Allow);
            if by_session {
                prop_assert!(!narrowed.leaves_to_decider(decision));
                let rule = decision.rule().and_then(|rule| narrowed.rule(rule));
                prop_assert_eq!(rule.is_none(), decision.reason() == Reason::NotAllowed);
                if let Some(rule) = rule {
                    let written_at = rule.written_at.map(|line| line.to_string());
                    prop_assert_eq!(written_at.as_deref(), Some("session"));
                }
            } else if decision.is_allow() {
                prop_assert!(policy.decide(&connect(&host)).is_allow());
            }
        }
    }

    /// A policy that only reports differs from the same policy in one answer, before and after the name is resolved.
    #[test]
    fn p12_report_only_lifts_not_allowed_and_nothing_else(
        allowed in vec(pattern(ListKind::Allow), 0..6),
        denied in vec(pattern(ListKind::Deny), 0..3),
        local_binding in any::<bool>(),
        by_session in any::<bool>(),
        hosts in vec(host(), 1..12),
        addresses in vec(select(&ADDRESSES[..]), 0..3),
    ) {
        let policy = compile(&allowed, &denied, local_binding);
        let reporting = if by_session {
            let rules = Narrowing { enforcement: Enforcement::Report, ..Narrowing::default() };
            policy.narrowed(&rules).expect("no list")
        } else {
            let spec = interpreter::spec(&allowed, &denied, local_binding);
            let enforcement = Enforcement::Report;
            Policy::compile(&PolicySpec { enforcement, ..spec }).expect("the lists are short")
        };
        let addresses: Vec<_> = addresses.iter().filter_map(|text| Host::parse(text).ok()?.ip()).collect();
        for host in hosts {
            let request = connect(&host);
            let (enforced, reported) = (policy.decide(&request), reporting.decide(&request));
            if enforced.reason() != Reason::NotAllowed {
                prop_assert_eq!(enforced, reported, "{}", &host);
                prop_assert!(!reported.would_deny());
                continue;
            }
            prop_assert!(reported.is_allow() && reported.would_deny(), "{}", &host);
            prop_assert_eq!(reported.reason(), Reason::NotAllowed);
            prop_assert!(!reporting.leaves_to_decider(reported));
            // The host reaches what an allowed one reaches whose entry does not spell it out.
            let everything = [Pattern::parse("*", ListKind::Allow).expect("a pattern")];
            let lax = compile(&everything, &denied, local_binding);
            let (by_star, after) = (
                lax.decide_addresses(&request, lax.decide(&request), &addresses),
                reporting.decide_addresses(&request, reported, &addresses),
            );
            prop_assert_eq!(by_star.is_allow(), after.is_allow());
            prop_assert_eq!(after.is_allow(), after.would_deny());
            if !after.is_allow() {
                prop_assert_eq!(by_star.reason(), after.reason());
            }
        }
    }

    #[test]
    fn p10_an_explanation_shows_the_decision(
        allowed in vec(pattern(ListKind::Allow), 0..4),
        denied in vec(pattern(ListKind::Deny), 0..2),
        host in host(),
    ) {
        let policy = compile(&allowed, &denied, false);
        let explanation = policy.explain(&connect(&host));
        let decision = policy.decide(&connect(&host));
        prop_assert_eq!(explanation.decision, decision);
        prop_assert_eq!(explanation.rule.clone(), decision.rule().and_then(|rule| policy.rule(rule)));
        let text = explanation.to_string();
        prop_assert!(text.starts_with(decision.verdict().as_str()), "{text}");
        prop_assert!(text.contains(decision.reason().as_str()), "{text}");
        if let Some(rule) = &explanation.rule {
            prop_assert!(text.contains(&rule.pattern), "{text}");
        }
    }

    /// No bytes make the parser panic. A host that it accepts is in canonical form.
    #[test]
    fn p1_any_bytes_are_a_canonical_host_or_an_error(bytes in vec(any::<u8>(), 0..80)) {
        if let Ok(host) = Host::parse_bytes(&bytes) {
            assert_sound(&host)?;
        }
    }

    /// As above, with letters that often form a host.
    #[test]
    fn p1_any_text_is_a_canonical_host_or_an_error(
        text in "[a-fxXnN0-9.:%\\[\\]_\u{ad}ßςüÜ０１．。Ａ℀-]{0,40}",
        label in "(xn--)?[a-z0-9-]{0,12}",
    ) {
        for text in [text.clone(), label.clone(), format!("{label}.{text}"), format!("{text}.{label}")] {
            if let Ok(host) = Host::parse(&text) {
                assert_sound(&host)?;
            }
        }
    }

    /// For every spelling that `inet_aton` reads.
    #[test]
    fn p1_every_spelling_of_an_ipv4_address_is_that_address(
        bits in any::<u32>(),
        parts in 1_u32..=4,
        bases in any::<[u8; 4]>(),
        zeros in 0_usize..20,
        dot in any::<bool>(),
    ) {
        let mut text = Vec::new();
        for part in 0..parts - 1 {
            text.push(number(bits << (8 * part) >> 24, bases[part as usize] % 4, zeros));
        }
        let rest = bits & u32::MAX >> (8 * (parts - 1));
        text.push(number(rest, bases[3] % 4, zeros));
        let text = text.join(".") + if dot { "." } else { "" };
        prop_assert_eq!(Host::parse(&text), Ok(Host::V4(Ipv4Addr::from(bits))), "{}", text);
    }

    #[test]
    fn p2_the_canonical_text_of_a_pattern_parses_to_it(pattern in pattern(ListKind::Allow)) {
        let text = pattern.to_string();
        prop_assert_eq!(Pattern::parse(&text, ListKind::Allow), Ok(pattern));
    }

    /// No text makes the parser panic. An accepted pattern has a canonical text.
    #[test]
    fn p2_any_text_is_a_pattern_or_an_error(text in "[ab*.:/%\\[\\]1xü-]{0,24}") {
        if let Ok(pattern) = Pattern::parse(&text, ListKind::Allow) {
            prop_assert_eq!(Pattern::parse(&pattern.to_string(), ListKind::Allow), Ok(pattern));
        }
        if let Ok(pattern) = Pattern::parse(&text, ListKind::Deny) {
            prop_assert!(!pattern.is_everything());
        }
    }
}

#[test]
fn j4_a_policy_is_narrowed_once() {
    let policy = compile(&[], &[], false);
    let narrowed = policy.narrowed(&Narrowing::default()).expect("no lists");
    let again = narrowed.narrowed(&Narrowing::default());
    assert_eq!(again.err(), Some(NarrowingError::Narrowed));
}

/// A client may cut a name off anywhere.
#[test]
fn p1_every_prefix_of_a_difficult_host_is_a_host_or_an_error() {
    for text in NASTY {
        for end in 0..=text.len() {
            for bytes in [&text.as_bytes()[..end], &text.as_bytes()[end..]] {
                if let Ok(host) = Host::parse_bytes(bytes) {
                    assert_sound(&host).unwrap_or_else(|error| panic!("{bytes:?}: {error}"));
                }
            }
        }
    }
}
