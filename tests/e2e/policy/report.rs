//! Report-only (SPEC P12): at every door hosts that are merely not allowed are let through and recorded, and everything
//! else is refused as always.

use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::setup::PlainSetup;
use serde_json::json;

use super::doors::{DOORS, ask};

const WOULD_DENY: &str = "network.policy.would_deny";

fn reporting() -> Config {
    Config::example().set("network", "enforcement", r#""report""#)
}

#[test]
fn p12_every_listener_lets_unlisted_hosts_through_and_records_them() {
    let setup = PlainSetup::with(&reporting(), Origin::start(|_| Answer::text("hello")));
    let port = setup.origin.addr().port();
    for door in DOORS {
        for host in ["allowed.test", "blocked.test"] {
            assert_eq!(ask(&setup, door, host, port), None, "{host} by {door}");
        }
        let refused = ask(&setup, door, "denied.test", port);
        assert_eq!(refused.as_deref(), Some("denied"), "by {door}");
    }
    let entries = setup.daemon.blocked();
    let recorded: Vec<_> = entries
        .iter()
        .map(|entry| {
            json!([
                entry["host"],
                entry["protocol"],
                entry["decision"],
                entry["reason"],
                entry["would_deny"]
            ])
        })
        .collect();
    let expected: Vec<_> = DOORS
        .iter()
        .flat_map(|door| {
            [
                json!(["blocked.test", door, "allow", "not_allowed", true]),
                json!(["denied.test", door, "deny", "denied", null]),
            ]
        })
        .collect();
    assert_eq!(recorded, expected);
    let event = setup.daemon.wait_for_log(|line| {
        line.target() == Some("codex_otel.network_proxy")
            && line.field("server.address") == Some(&json!("blocked.test"))
    });
    assert_eq!(
        event.field("network.policy.decision"),
        Some(&json!("allow"))
    );
    assert_eq!(
        event.field("network.policy.reason"),
        Some(&json!("not_allowed"))
    );
    assert_eq!(event.field(WOULD_DENY), Some(&json!(true)));
    let allowed = setup.daemon.wait_for_log(|line| {
        line.target() == Some("codex_otel.network_proxy")
            && line.field("server.address") == Some(&json!("allowed.test"))
    });
    assert_eq!(allowed.field(WOULD_DENY), None);

    let counters = &proxyctl_json(&setup.daemon, &["status"])["counters"];
    let counted = ["allowed", "reported", "blocked"].map(|name| counters[name].as_u64());
    assert_eq!(counted, [8, 4, 4].map(Some));
}

#[test]
fn p12_a_name_with_a_local_address_is_refused_after_its_resolution() {
    let config = reporting().set("network", "allow_local_binding", "false");
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::text("hello")));
    let port = setup.origin.addr().port();
    for door in DOORS {
        for host in ["blocked.test", "127.0.0.1", "localhost"] {
            let refused = ask(&setup, door, host, port);
            let reason = Some("not_allowed_local");
            assert_eq!(refused.as_deref(), reason, "{host} by {door}");
        }
    }
    assert!(setup.origin.requests().is_empty());
}

#[test]
fn p12_limited_mode_is_enforced_for_unlisted_hosts() {
    let config = reporting().set("network", "mode", r#""limited""#);
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::text("hello")));
    assert_eq!(setup.ask("GET", "blocked.test", "/", &[]).status, 200);
    let refused = setup.ask("POST", "blocked.test", "/", &["Content-Length: 0"]);
    assert_eq!(refused.json()["reason"], "method_not_allowed");
    let tunnel = setup.client().connect(&setup.authority("blocked.test"));
    assert_eq!(tunnel.status, 200, "it is intercepted");
}

#[test]
fn p12_the_end_of_report_only_ends_its_connections() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let setup = PlainSetup::with(&reporting(), origin);
    let mut tunnel = setup.tunnel("blocked.test");
    let enforced = Config::example();
    setup.daemon.reload_with(&enforced);
    tunnel.expect_closed();
    let refused = setup.ask("GET", "blocked.test", "/", &[]);
    assert_eq!(refused.json()["reason"], "not_allowed");
}

#[test]
fn p12_status_doctor_explain_the_log_and_check_say_so() {
    let daemon = Daemon::start(&reporting());
    let ready = daemon.wait_for_log(|line| line.message() == Some("ready"));
    assert_eq!(ready.field("enforcement"), Some(&json!("report")));
    assert_eq!(proxyctl_json(&daemon, &["status"])["enforcement"], "report");
    let words = "hosts that are merely not allowed are let through";
    proxyctl(&daemon, &["status"])
        .succeeded()
        .says("full mode, report only (enforcement = \"report\"), 1 allow rule")
        .says(words);
    assert!(
        proxyctl(&daemon, &["doctor", "settings"])
            .stdout
            .contains(words)
    );
    let explained = proxyctl_json(&daemon, &["explain", "https://blocked.test/"]);
    assert_eq!(explained["decision"], "allow");
    assert_eq!(explained["reason"], "not_allowed");
    assert_eq!(explained["would_deny"], true);
    proxyctl(&daemon, &["explain", "https://blocked.test/"])
        .succeeded()
        .says("is let through, and would be refused")
        .says("enforcement = \"report\" lets it through");
    assert_eq!(
        daemon.admin("GET", "/config", None).json()["enforcement"],
        "report"
    );
}
