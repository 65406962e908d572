//! Attempt ids (SPEC H11) in the records of each protocol: the audit event, the violation line and `GET
//! /blocked`. `interception::attempt` covers requests inside interception.

use e2e::client::{Association, Connection, Socks5Target};
use e2e::daemon::{Config, Daemon, LogLine};
use e2e::origin::{Answer, Origin};
use serde_json::{Value, json};

use super::{audit_events, http, violations};

/// `codex-net-attempt-abc.1`, password `secret`.
const BASIC: &str = "Proxy-Authorization: Basic Y29kZXgtbmV0LWF0dGVtcHQtYWJjLjE6c2VjcmV0\r\n";
const ID: &str = "abc.1";

/// Checks the events and the entries, in order, each with its attempt id: protocol, host and id of
/// `audited` events and of the entries for refusals.
fn assert_records(daemon: &Daemon, audited: &Value, blocked: &Value) {
    let count = |rows: &Value| rows.as_array().expect("rows").len();
    let event = |line: &LogLine| {
        let names = ["network.transport.protocol", "server.address", "attempt_id"];
        Value::from(
            names
                .map(|name| line.field(name).cloned().unwrap_or_default())
                .to_vec(),
        )
    };
    let entry = |entry: &Value| json!([entry["protocol"], entry["host"], entry["attempt_id"]]);
    let events = audit_events(daemon, count(audited));
    assert_eq!(events.iter().map(event).collect::<Value>(), *audited);
    let logged = violations(daemon, count(blocked));
    assert_eq!(logged.iter().map(entry).collect::<Value>(), *blocked);
    let kept = daemon.blocked();
    assert_eq!(kept.iter().map(entry).collect::<Value>(), *blocked);
}

#[test]
fn h11_credentials_of_a_connect_mark_its_records() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let port = origin.addr().port();
    for (authority, status) in [
        (format!("allowed.test:{port}"), 200),
        ("blocked.test:443".to_owned(), 403),
        ("bad..test:443".to_owned(), 403),
    ] {
        let mut client = Connection::open(daemon.http_addr());
        client.send(format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{BASIC}\r\n"
        ));
        assert_eq!(client.read_head().status, status, "{authority}");
    }
    assert_records(
        &daemon,
        &json!([
            ["https_connect", "allowed.test", ID],
            ["https_connect", "blocked.test", ID],
            ["https_connect", "bad..test", ID],
        ]),
        &json!([
            ["http-connect", "blocked.test", ID],
            ["http-connect", "bad..test", ID],
        ]),
    );
}

#[test]
fn h11_a_user_name_marks_the_records_of_a_socks5_connection_and_of_its_datagrams() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let port = origin.addr().port();
    let greeted = || {
        let mut client = Connection::open(daemon.socks_addr());
        assert_eq!(client.socks5_greet(&[2]), 2);
        assert_eq!(
            client.socks5_authenticate("codex-net-attempt-abc.1", "secret"),
            0
        );
        client
    };
    for (name, reply) in [("allowed.test", 0), ("blocked.test", 2)] {
        let bound = greeted().socks5_request(1, &Socks5Target::name(name, port));
        assert_eq!(bound.reply, reply, "{name}");
    }
    let any = Socks5Target::Address(([0, 0, 0, 0], 0).into());
    let association = Association::ask(greeted(), &any);
    association.send(&Socks5Target::name("allowed.test", port), b"yes");
    // It is recorded after its name is looked up.
    let udp = json!("socks5_udp");
    daemon.wait_for_log(|line| line.field("network.transport.protocol") == Some(&udp));
    association.send(&Socks5Target::name("denied.test", port), b"no");
    assert_records(
        &daemon,
        &json!([
            ["socks5_tcp", "allowed.test", ID],
            ["socks5_tcp", "blocked.test", ID],
            ["socks5_udp", "allowed.test", ID],
            ["socks5_udp", "denied.test", ID],
        ]),
        &json!([
            ["socks5", "blocked.test", ID],
            ["socks5-udp", "denied.test", ID],
        ]),
    );
}

#[test]
fn h11_an_attempt_id_marks_the_rest_of_its_connection() {
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    // codex-net-attempt-b2 and alice, each with the password `secret`.
    let other = "Proxy-Authorization: Basic Y29kZXgtbmV0LWF0dGVtcHQtYjI6c2VjcmV0\r\n";
    let alice = "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n";
    for field in ["", BASIC, "", alice, other] {
        let answer = http(&mut client, "GET", "http://blocked.test/", field);
        assert_eq!(answer.status, 403);
    }
    let reported = client.connect("blocked.test:443");
    assert_eq!(reported.status, 403);
    let row = |id: Value| json!(["http", "blocked.test", id]);
    let mut rows = vec![
        row(Value::Null),
        row(ID.into()),
        row(ID.into()),
        row(ID.into()),
    ];
    rows.push(row("b2".into()));
    let mut audited = rows.clone();
    audited.push(json!(["https_connect", "blocked.test", "b2"]));
    rows.push(json!(["http-connect", "blocked.test", "b2"]));
    assert_records(&daemon, &audited.into(), &rows.into());
}

/// A connection that begins with a CONNECT takes another way through the proxy.
#[test]
fn h11_an_attempt_id_of_a_refused_connect_marks_the_rest_of_its_connection() {
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    let alice = "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n";
    client.send(format!(
        "CONNECT blocked.test:443 HTTP/1.1\r\nHost: blocked.test:443\r\n{BASIC}\r\n"
    ));
    assert_eq!(client.read_final_response().status, 403);
    let answer = http(&mut client, "GET", "http://blocked.test/", "");
    assert_eq!(answer.status, 403);
    // Of several fields, the first one counts.
    let mut client = Connection::open(daemon.http_addr());
    client.send(format!(
        "CONNECT blocked.test:443 HTTP/1.1\r\nHost: blocked.test:443\r\n{alice}{BASIC}\r\n"
    ));
    assert_eq!(client.read_final_response().status, 403);
    assert_records(
        &daemon,
        &json!([
            ["https_connect", "blocked.test", ID],
            ["http", "blocked.test", ID],
            ["https_connect", "blocked.test", null],
        ]),
        &json!([
            ["http-connect", "blocked.test", ID],
            ["http", "blocked.test", ID],
            ["http-connect", "blocked.test", null],
        ]),
    );
}
