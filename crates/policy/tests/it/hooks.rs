//! `Hooks::judge` against a naive twin (SPEC M9, M10).
//!
//! Texts come from a small alphabet, so that many requests are near the hook.

use codex_network_policy::{HookSpec, Hooks};
use proptest::prelude::*;

use crate::naive::hooks::Scene;

/// Literal prefixes and patterns over two letters.
fn path() -> impl Strategy<Value = String> {
    "(literal:|pattern:)?/([ab]|%61|%2a|/|\\*[ab/]){0,5}\\*?"
}

fn value() -> impl Strategy<Value = String> {
    "(literal:|pattern:)?([ab]|/|\\*[ab/]){0,4}\\*?"
}

/// Mostly sound targets, with pieces in which origins differ.
fn target() -> impl Strategy<Value = String> {
    const ODD: &str =
        "(\\.|\\.\\.|%2e|%2f|%5c|%25|%3b|%3F|%c0%ae|%c3%a9|%EF%BC%8F|%00|%20|%|;|\\\\|\\+|#|%4)";
    const NAME: &str = "([qQ]|%51|_|\\[|\\]|\\.|%00|%20|\\+|[ab]|_method|%25|%ff)";
    prop_oneof![
        4 => "/([ab]|%61|/|\\*){0,8}\\?q=([ab]|%62|/){0,4}(&q=[ab]|&r=%61)?",
        1 => proptest::string::string_regex(&format!(
            "/([ab/]|{ODD}){{0,6}}(\\?(q=|&|[ab]|{ODD}){{0,6}})?"
        ))
        .expect("a regular expression"),
        2 => proptest::string::string_regex(&format!(
            "/[ab]{{0,2}}\\?(q=[ab]{{0,2}}&)?{NAME}{{1,4}}(=[ab]{{0,2}})?(&q=[ab])?"
        ))
        .expect("a regular expression"),
        1 => Just("*".to_owned()),
    ]
}

fn scene() -> impl Strategy<Value = Scene> {
    (path(), value(), value(), target(), "[ab/]{0,4}").prop_map(
        |(path, query, header, target, field)| Scene {
            path,
            query,
            header,
            target,
            field,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn m9_a_hook_covers_what_its_naive_twin_does(scene in scene()) {
        if let Some(judged) = scene.judged() {
            prop_assert_eq!(judged, scene.expected());
        }
    }

    /// The path, query and fields one at a time, so that more requests are covered.
    #[test]
    fn m9_a_path_is_covered_as_by_the_naive_twin(path in path(), target in target()) {
        let target = target.split('?').next().unwrap_or_default().to_owned() + "?q";
        let scene = Scene {
            path,
            query: String::new(),
            header: "x".to_owned(),
            target,
            field: "x".to_owned(),
        };
        if let Some(judged) = scene.judged() {
            prop_assert_eq!(judged, scene.expected());
        }
    }

    #[test]
    fn m10_any_text_is_judged(path in "/.{0,8}", query in ".{0,4}", target in "/?.{0,20}", field in ".{0,4}") {
        let header = "pattern:*".to_owned();
        let scene = Scene { path, query, header, target, field };
        if let Some(judged) = scene.judged() {
            prop_assert_eq!(judged, scene.expected());
        }
    }
}

/// An empty set of hooks covers no host.
#[test]
fn m9_without_hooks_no_host_has_any() {
    let hooks = Hooks::default();
    assert!(hooks.is_empty());
    assert_eq!(hooks, Hooks::compile(Vec::<HookSpec>::new()));
}
