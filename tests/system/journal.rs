//! What an operator finds in the journal (SPEC R2, R4).

use crate::scene::Scene;

#[test]
fn r4_the_journal_has_the_life_of_the_service_and_its_refusals() {
    let scene = Scene::new();
    scene.start();
    scene.wait_for_message("listening");
    scene.wait_for_message("ready");
    assert_eq!(scene.get("http://blocked.test/secret?q=1").0, 403);
    let entry = scene.wait_for_message("CODEX_NETWORK_POLICY_VIOLATION");
    let message = entry.message();
    assert!(message.contains("\"host\":\"blocked.test\""), "{message}");
    assert!(!scene.log().contains("secret?q=1"), "{}", scene.log());
    // The one that said it is the worker.
    let worker = scene.wait_for_worker(None).to_string();
    assert_eq!(entry.field("_PID"), Some(worker.as_str()));
}

/// `journalctl -u codex-network-proxy NETWORK_POLICY_DECISION=deny` is how an operator asks.
#[test]
fn r4_a_refusal_is_found_by_its_fields() {
    let scene = Scene::new();
    scene.start();
    assert_eq!(scene.get("http://blocked.test/").0, 403);
    let entry = scene.wait_for_message("deny http blocked.test:80 (not_allowed)");
    for (field, value) in [
        ("EVENT_NAME", "codex.network_proxy.policy_decision"),
        ("NETWORK_POLICY_DECISION", "deny"),
        ("NETWORK_POLICY_REASON", "not_allowed"),
        ("SERVER_ADDRESS", "blocked.test"),
        ("SYSLOG_IDENTIFIER", "codex-network-proxy"),
    ] {
        assert_eq!(entry.field(field), Some(value), "{field}");
    }
    let once = scene
        .log()
        .matches("deny http blocked.test:80 (not_allowed)")
        .count();
    assert_eq!(once, 1, "nothing is logged twice");
}
