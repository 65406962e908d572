//! The entries of `GET /blocked`, field by field.

use std::time::{SystemTime, UNIX_EPOCH};

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::resolver::StubResolver;
use serde_json::{Value, json};

use super::{VIOLATION, audit_events, http, lines, socks5};

#[test]
fn r1_an_entry_has_every_field_under_its_name_and_in_its_order() {
    let daemon = Daemon::start(&Config::example());
    let seconds = || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.expect("after 1970").as_secs()
    };
    let before = seconds();
    let mut client = Connection::open(daemon.http_addr());
    let attempt = "Proxy-Authorization: Basic Y29kZXgtbmV0LWF0dGVtcHQtYWJjLjE6c2VjcmV0\r\n";
    http(&mut client, "PUT", "http://Denied.Test.:8000/path", attempt);
    let entry = daemon.blocked().remove(0);
    let fields = entry.as_object().expect("an object");
    let keys: Vec<_> = fields.keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "host",
            "reason",
            "client",
            "method",
            "mode",
            "protocol",
            "decision",
            "source",
            "port",
            "timestamp",
            "attempt_id",
            "rule",
            "sequence"
        ]
    );
    for (key, value) in [
        ("host", json!("denied.test")),
        ("reason", json!("denied")),
        ("client", json!(client.local_addr().to_string())),
        ("method", json!("PUT")),
        ("mode", json!("full")),
        ("protocol", json!("http")),
        ("decision", json!("deny")),
        ("source", json!("baseline_policy")),
        ("port", json!(8000)),
        ("attempt_id", json!("abc.1")),
    ] {
        assert_eq!(entry[key], value, "{key}");
    }
    let sequence = entry["sequence"].as_u64().expect("a number");
    assert!(sequence < 1 << 53, "JavaScript reads it whole: {sequence}");
    let timestamp = entry["timestamp"].as_u64().expect("seconds");
    assert!((before..=seconds()).contains(&timestamp), "{timestamp}");
}

#[test]
fn r1_each_listener_records_its_protocol_and_method() {
    let daemon = Daemon::start(&Config::example());
    daemon.get("http://blocked.test/");
    Connection::open(daemon.http_addr()).connect("blocked.test:443");
    socks5(&daemon, "blocked.test", 22);
    let reported: Vec<_> = daemon
        .blocked()
        .iter()
        .map(|entry| json!([entry["protocol"], entry["method"], entry["port"]]))
        .collect();
    assert_eq!(
        reported,
        [
            json!(["http", "GET", 80]),
            json!(["http-connect", "CONNECT", 443]),
            json!(["socks5", null, 22]),
        ]
    );
}

#[test]
fn r1_the_buffer_keeps_the_latest_entries_and_counts_all() {
    let daemon = Daemon::start(&Config::example().set("daemon.limits", "blocked_buffer", "3"));
    let mut client = Connection::open(daemon.http_addr());
    for number in 1..=10 {
        http(&mut client, "GET", &format!("http://n{number}.test/"), "");
    }
    let entries = daemon.blocked();
    let first = entries[0]["sequence"].as_u64().expect("a number");
    let reported: Vec<_> = entries
        .iter()
        .map(|entry| json!([entry["host"], entry["sequence"]]))
        .collect();
    let wanted = [8, 9, 10].map(|number| json!([format!("n{number}.test"), first + number - 8]));
    assert_eq!(reported, wanted);
}

#[test]
fn r1_the_buffer_holds_200_entries_by_default() {
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    for number in 1..=205 {
        http(&mut client, "GET", &format!("http://n{number}.test/"), "");
    }
    let entries = daemon.blocked();
    assert_eq!(entries.len(), 200);
    assert_eq!(entries[0]["host"], "n6.test");
}

#[test]
fn r1_r5_a_name_that_does_not_resolve_is_an_allowed_attempt_that_failed() {
    let dns = StubResolver::start();
    let config = Config::new()
        .allow("missing.test")
        .nameserver(dns.address());
    let daemon = Daemon::start(&config);
    assert_eq!(daemon.get("http://missing.test/").status, 502);
    Connection::open(daemon.http_addr()).connect("missing.test:443");
    assert_eq!(socks5(&daemon, "missing.test", 22), 4);
    let events = audit_events(&daemon, 3);
    for event in events {
        for (field, value) in [
            ("network.policy.decision", "allow"),
            ("network.policy.reason", "allow"),
            ("network.policy.source", "baseline_policy"),
            ("network.policy.scope", "domain"),
        ] {
            assert_eq!(event.field(field), Some(&Value::from(value)), "{field}");
        }
    }
    for flow in lines(&daemon, 3, |line| line.flow().is_some()) {
        assert_eq!(flow.flow(), Some("dns_failed"));
        let cause = "dns_failure: the name does not exist";
        assert_eq!(flow.flow_cause(), Some(cause));
        assert_eq!(flow.level(), Some("INFO"));
    }
    assert!(daemon.blocked().is_empty());
    let is_violation = |line: &e2e::daemon::LogLine| line.message_starts_with(VIOLATION);
    assert!(!daemon.logs().iter().any(is_violation));
}

#[test]
fn r1_an_invalid_host_is_recorded_escaped() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let port = origin.addr().port();
    let answer = daemon.get(&format!("http://a..b:{port}/"));
    assert_eq!(answer.status, 403, "{}", answer.text());
    let entry = &daemon.blocked()[0];
    assert_eq!(entry["host"], "a..b");
    assert_eq!(entry["reason"], "invalid_host");
    assert_eq!(origin.connections(), 0);
}

/// As when the service starts again after the clock was set back by a year.
#[test]
fn r1_numbers_stay_above_those_of_a_start_with_a_later_clock() {
    let place = tempfile::tempdir().expect("a directory");
    let kept = place.path().join("sequence");
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let year = std::time::Duration::from_secs(366 * 24 * 60 * 60);
    let later = (now.expect("after 1970") + year).as_millis();
    std::fs::write(&kept, format!("{later} 0\n")).expect("a file");
    let state = Value::from(place.path().to_string_lossy());
    let sequence = || {
        let daemon = Daemon::launch()
            .config(&Config::example())
            .arg("-c")
            .arg(format!("daemon.state_dir={state}"))
            .start();
        daemon.get("http://blocked.test/");
        let entry = daemon.wait_for_blocked(|entry| entry["host"] == "blocked.test");
        entry["sequence"].as_u64().expect("a number")
    };
    let first = sequence();
    assert!(u128::from(first) > later * 1024, "{first}");
    let second = sequence();
    assert!(second > first, "{first} {second}");
    let kept = std::fs::read_to_string(kept).expect("the file of the last start");
    let time = kept.split(' ').next().expect("a time");
    assert!(
        time.parse::<u128>().is_ok_and(|time| time > later),
        "{kept}"
    );
}
