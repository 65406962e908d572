//! One event at the end of each permitted attempt, at every door and whatever ends it (SPEC R5).

mod attempt;

use e2e::client::{Connection, Socks5Target, proxy_request};
use e2e::daemon::{Config, Daemon, LogLine, Signal};
use e2e::origin::{Answer, Origin};
use e2e::port::RefusingPort;
use e2e::resolver::StubResolver;
use serde_json::{Value, json};

use self::attempt::{ALL, Attempt, Door, Way};

fn number(line: &LogLine, field: &str) -> u64 {
    let value = line.field(field).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{field} in {}", line.raw))
}

/// Begins an attempt at each of the doors, ends it in this way, and finds its one event.
fn assert_ends(doors: &[Door], way: Way, outcome: &str) {
    for door in doors {
        let mut attempt = Attempt::begin(*door, way);
        attempt.end(way);
        let logs = attempt.logs(way);
        let flows = |protocol: &str| -> Vec<&LogLine> {
            let is_one = |line: &&LogLine| {
                line.flow().is_some()
                    && line.field("network.transport.protocol") == Some(&protocol.into())
            };
            logs.iter().filter(is_one).collect()
        };
        let of_door = flows(door.protocol());
        let raw = |lines: &[&LogLine]| -> Vec<String> {
            lines.iter().map(|line| line.raw.clone()).collect()
        };
        let [flow] = of_door[..] else {
            panic!("{door:?} {way:?}: {:#?}", raw(&of_door));
        };
        assert_eq!(flow.flow(), Some(outcome), "{door:?}: {}", flow.raw);
        assert_eq!(flow.level(), Some("INFO"), "{door:?}");
        assert_eq!(flow.server(), Some(attempt.authority.clone()), "{door:?}");
        let decision = flow.field("network.policy.decision");
        assert_eq!(decision, Some(&json!("allow")), "{door:?}");
        let name = flow.field("event.name");
        assert_eq!(name, Some(&json!("codex.network_proxy.flow")));
        let peer = json!(["127.0.0.1", attempt.port]);
        let told = ["network.peer.address", "network.peer.port"].map(|name| flow.field(name));
        assert_eq!(json!(told), peer, "{door:?}");
        let sent = number(flow, "network.flow.sent_bytes");
        let received = number(flow, "network.flow.received_bytes");
        assert_eq!(sent, door.sent(way), "{door:?}: {}", flow.raw);
        assert!(received >= 4, "{door:?}: {}", flow.raw);
        number(flow, "network.flow.duration_ms");
        // Each decision to allow has one event, and nothing else has any.
        let all = logs.iter().filter(|line| line.flow().is_some()).count();
        let allowed = logs.iter().filter(|line| {
            line.target() == Some("codex_otel.network_proxy")
                && line.field("network.policy.decision") == Some(&json!("allow"))
        });
        assert_eq!(all, allowed.count(), "{door:?} {way:?}");
    }
}

#[test]
fn r5_what_comes_to_its_own_end_is_completed() {
    assert_ends(&ALL, Way::Completed, "completed");
}

#[test]
fn r5_a_client_that_breaks_off_is_gone() {
    let doors: Vec<Door> = ALL
        .into_iter()
        .filter(|door| *door != Door::Datagrams)
        .collect();
    assert_ends(&doors, Way::ClientGone, "client_gone");
}

#[test]
fn r5_an_upstream_that_breaks_off_has_failed() {
    let doors: Vec<Door> = ALL
        .into_iter()
        .filter(|door| *door != Door::Datagrams)
        .collect();
    assert_ends(&doors, Way::UpstreamFailed, "upstream_failed");
}

#[test]
fn r5_p11_what_a_reload_ends_is_forbidden() {
    assert_ends(&ALL, Way::Forbidden, "forbidden");
}

#[test]
fn r5_what_is_silent_for_too_long_is_idle() {
    assert_ends(&ALL, Way::Idle, "idle");
}

#[test]
fn r5_what_outlasts_the_drain_is_drained() {
    assert_ends(&ALL, Way::Drained, "drained");
}

#[test]
fn r5_p4_a_permitted_name_that_does_not_resolve_has_failed_at_every_door() {
    let dns = StubResolver::start();
    dns.servfail("broken.test");
    let config = Config::new().allow("*.test").nameserver(dns.address()).set(
        "daemon.resolver",
        "timeout",
        r#""500ms""#,
    );
    let daemon = Daemon::start(&config);
    for (name, cause) in [
        ("missing.test", "dns_failure: the name does not exist"),
        (
            "broken.test",
            "dns_failure: the name could not be looked up",
        ),
    ] {
        let mut client = Connection::open(daemon.http_addr());
        client.exchange(&proxy_request("GET", name, "/", &[]));
        Connection::open(daemon.http_addr()).connect(&format!("{name}:443"));
        let target = Socks5Target::name(name, 22);
        Connection::open(daemon.socks_addr()).socks5_connect(&target);
        let association = e2e::client::Association::open(daemon.socks_addr());
        association.send(&target, b"x");
        for protocol in ["http", "https_connect", "socks5_tcp", "socks5_udp"] {
            let line = daemon.wait_for_log(|line| {
                line.flow().is_some()
                    && line.field("server.address") == Some(&name.into())
                    && line.field("network.transport.protocol") == Some(&protocol.into())
            });
            assert_eq!(line.flow(), Some("dns_failed"), "{}", line.raw);
            assert_eq!(line.flow_cause(), Some(cause), "{}", line.raw);
            assert_eq!(line.field("network.peer.address"), None, "{}", line.raw);
        }
    }
    assert!(daemon.blocked().is_empty());
    let exit = {
        daemon.signal(Signal::SIGTERM);
        daemon.wait_exit()
    };
    let count = |field: &str, value: &str| {
        let has = |line: &&LogLine| line.field(field) == Some(&value.into());
        exit.logs.iter().filter(has).count()
    };
    assert_eq!(count("network.policy.decision", "deny"), 0);
    assert_eq!(count("network.flow.outcome", "dns_failed"), 8);
}

#[test]
fn r5_without_log_flows_only_failures_are_in_the_log_and_a_reload_puts_it_in_force() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let refusing = RefusingPort::open();
    let daemon = Daemon::start(&Config::example());
    let ask = |port: u16| {
        let authority = format!("allowed.test:{port}");
        let mut client = Connection::open(daemon.http_addr());
        client
            .exchange(&proxy_request("GET", &authority, "/", &[]))
            .status
    };
    let flows = || {
        let logs = daemon.logs();
        let flows = logs.iter().filter_map(LogLine::flow);
        flows.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ask(origin.addr().port()), 200);
    assert_eq!(ask(refusing.addr().port()), 502);
    daemon.wait_for_log(|line| line.flow() == Some("upstream_failed"));
    assert_eq!(flows(), ["upstream_failed"]);
    daemon.reload_with(&Config::example().set("daemon", "log_flows", "true"));
    assert_eq!(ask(origin.addr().port()), 200);
    daemon.wait_for_log(|line| line.flow() == Some("completed"));
    assert_eq!(flows(), ["upstream_failed", "completed"]);
}

#[test]
fn r5_completed_attempts_are_at_level_debug() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let config = Config::example().set("daemon", "log", r#""info,codex_network_proxy.flow=debug""#);
    let daemon = Daemon::start(&config);
    let authority = format!("allowed.test:{}", origin.addr().port());
    let mut client = Connection::open(daemon.http_addr());
    client.exchange(&proxy_request("GET", &authority, "/", &[]));
    let line = daemon.wait_for_log(|line| line.flow() == Some("completed"));
    assert_eq!(line.level(), Some("DEBUG"));
    let message = line.message().expect("a message");
    let wanted = format!("completed http {authority} (0 bytes sent, 5 received, ");
    assert!(message.starts_with(&wanted), "{message}");
}

/// As refusals are: SPEC R2.
#[test]
fn r5_r2_failures_of_one_client_beyond_a_rate_are_counted_together() {
    const TIMES: u64 = 1500;
    let refusing = RefusingPort::open();
    let authority = format!("allowed.test:{}", refusing.addr().port());
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    for _ in 0..TIMES {
        let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
        assert_eq!(answer.status, 502);
    }
    drop(client);
    daemon.signal(Signal::SIGTERM);
    let exit = daemon.wait_exit();
    let said = exit.logs.iter().filter(|line| line.flow().is_some());
    let further = exit.logs.iter().filter(|line| {
        line.message() == Some("further messages about failed requests were left out")
    });
    let further: u64 = further
        .filter_map(|line| line.field("count")?.as_u64())
        .sum();
    assert!(further > 0);
    assert_eq!(said.count() as u64 + further, TIMES);
}
