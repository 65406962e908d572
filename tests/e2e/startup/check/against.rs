//! `check FILE --against RECORDS`: the records of a running proxy, judged by another configuration (SPEC W5).

use e2e::daemon::{Config, Daemon};
use e2e::proxyctl::proxyctl;
use serde_json::{Value, json};

use super::with_files;

const NEXT: &str = "[network]\nallow_local_binding = true\nallowed_domains = [\"blocked.test\", \"unused.test\"]\n";

/// `check next.toml --against records --json`.
fn against(records: &str) -> Value {
    let run = with_files(&[("next.toml", NEXT), ("records", records)])
        .args(["check", "next.toml", "--against", "records", "--json"])
        .run();
    serde_json::from_str(&run.succeeded().stdout).expect("JSON")
}

#[test]
fn w5_a_log_and_the_list_of_refusals_are_judged_by_a_new_configuration() {
    let daemon = Daemon::start(&Config::example());
    for host in [
        "allowed.test",
        "blocked.test",
        "blocked.test",
        "denied.test",
    ] {
        // Nothing listens there: the decision is recorded all the same.
        daemon.get(&format!("http://{host}:9/"));
    }
    daemon.wait_for_logs(4, |line| line.target() == Some("codex_otel.network_proxy"));
    let log: Vec<String> = daemon.logs().into_iter().map(|line| line.raw).collect();
    let report = against(&log.join("\n"));
    assert_eq!(report["ok"], true);
    let result = &report["against"];
    let blocked = json!([{
        "host": "allowed.test", "port": 9, "protocol": "http", "reason": "not_allowed", "count": 1
    }]);
    assert_eq!(result["newly_blocked"], blocked);
    let allowed = json!([{
        "host": "blocked.test", "port": 9, "protocol": "http", "reason": "allow",
        "rule": "blocked.test (next.toml:3)", "count": 2
    }]);
    assert_eq!(result["newly_allowed"], allowed);
    let unused = json!([{ "list": "allow", "rule": "unused.test (next.toml:3)" }]);
    assert_eq!(result["never_used"], unused);
    assert_eq!(result["records"], 4);

    let refusals = proxyctl(&daemon, &["blocked", "--json"]);
    let result = against(&refusals.succeeded().stdout);
    assert_eq!(result["against"]["newly_allowed"], allowed);
    assert_eq!(result["against"]["newly_blocked"], json!([]));
    assert_eq!(result["against"]["records"], 3);

    let text = with_files(&[("next.toml", NEXT), ("records", &log.join("\n"))])
        .args(["check", "next.toml", "--against", "records"])
        .run();
    assert_eq!(
        text.succeeded().stdout,
        "- allowed.test port 9 http (not_allowed, once)\n\
         + blocked.test port 9 http (allow: blocked.test (next.toml:3), 2 times)\n\
         never used: allow unused.test (next.toml:3)\n\
         ok: of 4 recorded attempts 1 newly blocked, 2 newly allowed, 0 not judged; 1 rule never used\n"
    );
}

#[test]
fn w5_a_text_without_records_is_an_error() {
    for (records, words) in [("no JSON\n", "no record"), ("", "no record")] {
        let run = with_files(&[("next.toml", NEXT), ("records", records)])
            .args(["check", "next.toml", "--against", "records"])
            .run();
        assert_eq!(run.code, Some(1), "{run:?}");
        run.says(words);
    }
    let missing = with_files(&[("next.toml", NEXT)])
        .args(["check", "next.toml", "--against", "missing"])
        .run();
    assert_eq!(missing.code, Some(1), "{missing:?}");
    missing.says("--against missing");
}
