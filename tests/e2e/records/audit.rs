//! The audit events, field by field.

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon, LogLine};
use e2e::origin::{Answer, Origin};
use serde_json::{Value, json};

use super::{audit_events, http, socks5};

const NAMES: [&str; 12] = [
    "event.name",
    "event.timestamp",
    "network.policy.scope",
    "network.policy.decision",
    "network.policy.source",
    "network.policy.reason",
    "network.policy.override",
    "network.transport.protocol",
    "server.address",
    "server.port",
    "http.request.method",
    "client.address",
];

/// The decision and its cause: decision, reason, source, scope.
fn verdict(event: &LogLine) -> Value {
    let field = |name: &str| event.field(&format!("network.policy.{name}")).cloned();
    json!([
        field("decision"),
        field("reason"),
        field("source"),
        field("scope")
    ])
}

/// The subject: protocol, address, port, method.
fn subject(event: &LogLine) -> Value {
    let field = |name: &str| event.field(name).cloned();
    json!([
        field("network.transport.protocol"),
        field("server.address"),
        field("server.port"),
        field("http.request.method"),
    ])
}

#[test]
fn r3_every_decision_at_every_listener_is_one_event() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let port = origin.addr().port();
    let mut http_client = Connection::open(daemon.http_addr());
    for host in ["allowed.test", "blocked.test"] {
        http(
            &mut http_client,
            "OPTIONS",
            &format!("http://{host}:{port}/"),
            "",
        );
    }
    let mut tunnel = Connection::open(daemon.http_addr());
    assert_eq!(tunnel.connect(&format!("allowed.test:{port}")).status, 200);
    let mut refused = Connection::open(daemon.http_addr());
    assert_eq!(refused.connect(&format!("denied.test:{port}")).status, 403);
    assert_eq!(socks5(&daemon, "allowed.test", port), 0);
    assert_eq!(socks5(&daemon, "blocked.test", port), 2);
    let events = audit_events(&daemon, 6);
    let allow = json!(["allow", "allow", "baseline_policy", "domain"]);
    let not_allowed = json!(["deny", "not_allowed", "baseline_policy", "domain"]);
    let denied = json!(["deny", "denied", "baseline_policy", "domain"]);
    let wanted = [
        (&allow, json!(["http", "allowed.test", port, "OPTIONS"])),
        (
            &not_allowed,
            json!(["http", "blocked.test", port, "OPTIONS"]),
        ),
        (
            &allow,
            json!(["https_connect", "allowed.test", port, "CONNECT"]),
        ),
        (
            &denied,
            json!(["https_connect", "denied.test", port, "CONNECT"]),
        ),
        (&allow, json!(["socks5_tcp", "allowed.test", port, "none"])),
        (
            &not_allowed,
            json!(["socks5_tcp", "blocked.test", port, "none"]),
        ),
    ];
    for (event, (decided, about)) in events.iter().zip(wanted) {
        assert_eq!((&verdict(event), subject(event)), (decided, about));
    }
    let clients = [&http_client, &http_client, &tunnel, &refused];
    for (event, client) in events.iter().zip(clients) {
        let address = Value::from(client.local_addr().to_string());
        assert_eq!(event.field("client.address"), Some(&address));
    }
    // The rule of a list is named with the line that it is written in, if one decided.
    let rules: Vec<_> = events
        .iter()
        .map(|event| event.field("network.policy.rule").and_then(Value::as_str))
        .collect();
    for (index, pattern) in [
        (0, "allowed.test"),
        (2, "allowed.test"),
        (3, "denied.test"),
        (4, "allowed.test"),
    ] {
        let rule = rules[index].unwrap_or_else(|| panic!("{}", events[index].raw));
        assert!(
            rule.starts_with(pattern) && rule.contains(".toml:"),
            "{rule}"
        );
    }
    assert_eq!((rules[1], rules[5]), (None, None));
}

#[test]
fn r3_an_event_has_every_field() {
    let daemon = Daemon::start(&Config::example());
    daemon.get("http://blocked.test/");
    let event = &audit_events(&daemon, 1)[0];
    assert_eq!(event.level(), Some("INFO"));
    for name in NAMES {
        assert!(
            event.field(name).is_some(),
            "{name} is missing in {}",
            event.raw
        );
    }
    assert_eq!(
        event.field("event.name"),
        Some(&json!("codex.network_proxy.policy_decision"))
    );
    assert_eq!(event.field("network.policy.override"), Some(&json!(false)));
    let timestamp = event.field("event.timestamp").and_then(Value::as_str);
    let timestamp = timestamp.expect("a timestamp");
    let shape: String = timestamp
        .chars()
        .map(|character| {
            if character.is_ascii_digit() {
                '0'
            } else {
                character
            }
        })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000Z", "{timestamp}");
}

#[test]
fn r3_requests_on_a_kept_upstream_connection_are_events_of_their_own() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    for _ in 0..3 {
        let url = format!("http://allowed.test:{}/", origin.addr().port());
        assert_eq!(http(&mut client, "GET", &url, "").text(), "hello");
    }
    for event in audit_events(&daemon, 3) {
        assert_eq!(verdict(&event)[0], "allow");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn r3_an_allowed_request_that_fails_upstream_is_one_allow() {
    let port = e2e::port::RefusingPort::open();
    let daemon = Daemon::start(&Config::example());
    let url = format!("http://allowed.test:{}/", port.addr().port());
    assert_eq!(daemon.get(&url).status, 502);
    let event = &audit_events(&daemon, 1)[0];
    assert_eq!(verdict(event)[0], "allow");
}

#[test]
fn r3_a_refusal_by_address_is_one_deny_and_no_allow() {
    let daemon = Daemon::start(&Config::example().unset("network", "allow_local_binding"));
    assert_eq!(daemon.get("http://allowed.test/").status, 403);
    let event = &audit_events(&daemon, 1)[0];
    assert_eq!(
        verdict(event),
        json!(["deny", "not_allowed_local", "baseline_policy", "domain"])
    );
}

#[test]
fn r3_decisions_by_mode_and_for_the_proxy_itself_are_not_of_the_domain() {
    let config = Config::limited().set("network", "mitm", "false");
    let daemon = Daemon::start(&config);
    let mut client = Connection::open(daemon.http_addr());
    http(&mut client, "DELETE", "http://allowed.test/", "");
    socks5(&daemon, "allowed.test", 443);
    socks5(&daemon, "127.0.0.1", daemon.http_addr().port());
    socks5(&daemon, "a b", 80);
    let verdicts: Vec<_> = audit_events(&daemon, 4).iter().map(verdict).collect();
    assert_eq!(
        verdicts,
        [
            json!(["deny", "method_not_allowed", "mode_guard", "non_domain"]),
            json!(["deny", "mitm_required", "mode_guard", "non_domain"]),
            json!(["deny", "loop_detected", "proxy_state", "non_domain"]),
            json!(["deny", "invalid_host", "baseline_policy", "domain"]),
        ]
    );
}

#[test]
fn r3_a_disabled_proxy_audits_its_refusals_too() {
    let daemon = Daemon::start(&Config::example());
    daemon.reload_with(&Config::example().set("network", "enabled", "false"));
    assert_eq!(daemon.get("http://allowed.test/").status, 503);
    let event = &audit_events(&daemon, 1)[0];
    assert_eq!(
        verdict(event),
        json!(["deny", "proxy_disabled", "proxy_state", "non_domain"])
    );
}

#[test]
fn r3_malformed_requests_are_no_decisions() {
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    client.send("GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n");
    assert_eq!(client.read_final_response().status, 400);
    let mut client = Connection::open(daemon.socks_addr());
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.read_final_response().status, 400);
    audit_events(&daemon, 0);
    assert!(daemon.blocked().is_empty());
}

#[test]
fn r3_the_operators_page_lists_every_field_of_an_audit_event_in_its_order() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/OPERATING.md");
    let page = std::fs::read_to_string(page).expect("the operator's page");
    let (_, section) = page
        .split_once("### Fields of an audit event\n")
        .expect("the section");
    let section = section.split("\n#").next().expect("its text");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let listed: Vec<_> = rows.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(listed, codex_network_engine::AuditEvent::FIELDS);
}
