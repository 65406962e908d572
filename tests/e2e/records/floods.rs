//! Repeated refusals of one client are counted in the log, and those of other clients are logged.

use std::net::SocketAddr;

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon, Exit, LogLine, Signal};
use e2e::origin::{Answer, Origin};
use e2e::session::Session;
use serde_json::Value;

use super::{AUDIT, VIOLATION};

const MANY: u64 = 20_000;

/// Requests hosts that are not allowed, on one connection.
fn flood(daemon: &Daemon, host: impl Fn(u64) -> String) {
    flood_at(daemon.http_addr(), host);
}

/// The same at another door.
fn flood_at(door: SocketAddr, host: impl Fn(u64) -> String) {
    let request = |number| {
        let host = host(number);
        format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n")
    };
    let mut client = Connection::open(door);
    for first in (0..MANY).step_by(100) {
        let requests: String = (first..first + 100).map(request).collect();
        client.send(requests);
        for _ in 0..100 {
            assert_eq!(client.read_final_response().status, 403);
        }
    }
}

fn stop(daemon: Daemon) -> Exit {
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit()
}

fn violations(exit: &Exit) -> Vec<Value> {
    let json = |line: &LogLine| {
        let json = line.message()?.strip_prefix(VIOLATION)?;
        serde_json::from_str(json).ok()
    };
    exit.logs.iter().filter_map(json).collect()
}

/// The number of refusals of a host that the violation lines report.
fn refused(violations: &[Value], host: &str) -> u64 {
    let of_host = violations.iter().filter(|entry| entry["host"] == host);
    of_host
        .map(|entry| entry["count"].as_u64().unwrap_or(1))
        .sum()
}

#[test]
fn r2_repeated_refusals_of_one_client_are_counted_and_others_are_logged() {
    let daemon = Daemon::start(&Config::example());
    flood(&daemon, |_| "blocked.test".to_owned());
    daemon.get("http://denied.test/");
    let listed = daemon.blocked();
    let counted = listed
        .iter()
        .filter(|entry| entry["host"] == "blocked.test");
    let counted: u64 = counted
        .map(|entry| entry["count"].as_u64().unwrap_or(1))
        .sum();
    assert!(counted > listed.len() as u64, "{counted}");
    assert!(listed.iter().any(|entry| entry["host"] == "denied.test"));
    let exit = stop(daemon);
    let violations = violations(&exit);
    let lines = violations.len() as u64;
    assert!(lines < MANY / 2, "{lines} lines");
    assert_eq!(refused(&violations, "blocked.test"), MANY);
    assert_eq!(refused(&violations, "denied.test"), 1);
    assert!(!exit.text().contains("log lines were lost"));
}

#[test]
fn r3_every_decision_is_one_audit_event_or_counted() {
    let daemon = Daemon::start(&Config::example());
    flood(&daemon, |_| "blocked.test".to_owned());
    let exit = stop(daemon);
    let events = exit.logs.iter().filter(|line| line.target() == Some(AUDIT));
    let mut lines = 0;
    let mut decisions = 0;
    for event in events {
        lines += 1;
        decisions += event
            .field("event.count")
            .and_then(Value::as_u64)
            .unwrap_or(1);
        let reason = event.field("network.policy.reason");
        assert_eq!(reason, Some(&Value::from("not_allowed")));
    }
    assert_eq!(decisions, MANY);
    assert!(lines < MANY / 2, "{lines} lines");
}

#[test]
fn j12_counted_refusals_name_their_session_and_its_user() {
    let daemon = Daemon::start(&Config::example());
    let session = Session::open(&daemon);
    flood_at(session.doors[0], |_| "blocked.test".to_owned());
    flood(&daemon, |_| "blocked.test".to_owned());
    let id = session.opened.id.clone();
    drop(session);
    let exit = stop(daemon);
    let violations = violations(&exit);
    let (of_session, of_others): (Vec<_>, Vec<_>) = violations
        .into_iter()
        .partition(|entry| entry["session"] == id.as_str());
    for (entries, has_user) in [(&of_session, true), (&of_others, false)] {
        assert_eq!(refused(entries, "blocked.test"), MANY);
        assert!(
            entries
                .iter()
                .any(|entry| entry["count"].as_u64() > Some(1))
        );
        let named = |entry: &Value| entry["user"].is_string();
        assert!(entries.iter().all(|entry| named(entry) == has_user));
    }
}

#[test]
fn r3_r4_every_allowed_decision_before_the_end_is_one_line_in_the_log() {
    const CLIENTS: u64 = 4;
    const EACH: u64 = 500;
    let origin = Origin::start(|_| Answer::Echo);
    let daemon = Daemon::start(&Config::example());
    let authority = format!("allowed.test:{}", origin.addr().port());
    let request = format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    std::thread::scope(|threads| {
        for _ in 0..CLIENTS {
            threads.spawn(|| {
                let mut client = Connection::open(daemon.http_addr());
                for _ in 0..EACH {
                    assert_eq!(client.exchange(&request).status, 200);
                }
            });
        }
    });
    let exit = stop(daemon);
    let events = exit.logs.iter().filter(|line| line.target() == Some(AUDIT));
    assert_eq!(events.count() as u64, CLIENTS * EACH);
    assert!(!exit.text().contains("log lines were lost"));
    for line in &exit.logs {
        serde_json::from_str::<Value>(&line.raw).expect("a whole line");
    }
}

#[test]
fn r2_refusals_of_one_client_are_counted_across_hosts() {
    let daemon = Daemon::start(&Config::example());
    flood(&daemon, |number| format!("h{number}.test"));
    let exit = stop(daemon);
    let violations = violations(&exit);
    let lines = violations.len() as u64;
    assert!(lines < MANY / 2, "{lines} lines");
    let further = exit.logs.iter().filter(|line| {
        line.message() == Some("further decisions about other destinations were left out")
    });
    let further: u64 = further
        .filter_map(|line| line.field("count")?.as_u64())
        .sum();
    let counts = violations.iter();
    let reported: u64 = counts
        .map(|entry| entry["count"].as_u64().unwrap_or(1))
        .sum();
    assert_eq!(reported + further, MANY);
}

#[test]
fn r2_every_malformed_request_is_logged_or_counted() {
    const TIMES: u64 = 2000;
    let daemon = Daemon::start(&Config::example());
    for _ in 0..TIMES {
        Connection::open(daemon.http_addr()).send("nonsense\r\n\r\n");
    }
    // Clients are accepted in order, and admitted ones are answered before the end.
    assert_eq!(daemon.get("http://denied.test/").status, 403);
    let exit = stop(daemon);
    let logged = exit
        .logs
        .iter()
        .filter(|line| line.message_starts_with("refused a malformed request"));
    let further = exit.logs.iter().filter(|line| {
        line.message() == Some("further messages about malformed requests were left out")
    });
    let further: u64 = further
        .filter_map(|line| line.field("count")?.as_u64())
        .sum();
    let logged = logged.count() as u64;
    assert_eq!(logged + further, TIMES);
}
