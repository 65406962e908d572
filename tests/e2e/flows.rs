//! One event at the end of each permitted attempt, of every kind and for every ending (SPEC R5).

mod attempt;

use e2e::client::{Connection, Socks5Target, proxy_request};
use e2e::daemon::{Config, Daemon, LogLine, Signal};
use e2e::origin::{Answer, Origin};
use e2e::port::RefusingPort;
use e2e::resolver::StubResolver;
use serde_json::{Value, json};

use self::attempt::{ALL, Attempt, Ending, Kind};

fn number(line: &LogLine, field: &str) -> u64 {
    let value = line.field(field).and_then(Value::as_u64);
    value.unwrap_or_else(|| panic!("{field} in {}", line.raw))
}

/// Begins an attempt of each kind, ends it, and finds its one event.
fn assert_ends(kinds: &[Kind], ending: Ending, outcome: &str) {
    for kind in kinds {
        let mut attempt = Attempt::begin(*kind, ending);
        attempt.end(ending);
        let logs = attempt.logs(ending);
        let flows = |protocol: &str| -> Vec<&LogLine> {
            let is_one = |line: &&LogLine| {
                line.flow().is_some()
                    && line.field("network.transport.protocol") == Some(&protocol.into())
            };
            logs.iter().filter(is_one).collect()
        };
        let of_kind = flows(kind.protocol());
        let raw = |lines: &[&LogLine]| -> Vec<String> {
            lines.iter().map(|line| line.raw.clone()).collect()
        };
        let [flow] = of_kind[..] else {
            panic!("{kind:?} {ending:?}: {:#?}", raw(&of_kind));
        };
        assert_eq!(flow.flow(), Some(outcome), "{kind:?}: {}", flow.raw);
        assert_eq!(flow.level(), Some("INFO"), "{kind:?}");
        assert_eq!(flow.server(), Some(attempt.authority.clone()), "{kind:?}");
        let decision = flow.field("network.policy.decision");
        assert_eq!(decision, Some(&json!("allow")), "{kind:?}");
        let name = flow.field("event.name");
        assert_eq!(name, Some(&json!("codex.network_proxy.flow")));
        let peer = json!(["127.0.0.1", attempt.port]);
        let reported = ["network.peer.address", "network.peer.port"].map(|name| flow.field(name));
        assert_eq!(json!(reported), peer, "{kind:?}");
        let sent = number(flow, "network.flow.sent_bytes");
        let received = number(flow, "network.flow.received_bytes");
        assert_eq!(sent, kind.sent(ending), "{kind:?}: {}", flow.raw);
        assert!(received >= 4, "{kind:?}: {}", flow.raw);
        number(flow, "network.flow.duration_ms");
        // Each decision to allow has exactly one event.
        let all = logs.iter().filter(|line| line.flow().is_some()).count();
        let allowed = logs.iter().filter(|line| {
            line.target() == Some("codex_otel.network_proxy")
                && line.field("network.policy.decision") == Some(&json!("allow"))
        });
        assert_eq!(all, allowed.count(), "{kind:?} {ending:?}");
    }
}

#[test]
fn r5_an_attempt_that_finishes_is_completed() {
    assert_ends(&ALL, Ending::Completed, "completed");
}

#[test]
fn r5_an_attempt_whose_client_resets_is_client_gone() {
    let kinds: Vec<Kind> = ALL
        .into_iter()
        .filter(|kind| *kind != Kind::Datagrams)
        .collect();
    assert_ends(&kinds, Ending::ClientGone, "client_gone");
}

#[test]
fn r5_an_attempt_whose_upstream_resets_is_upstream_failed() {
    let kinds: Vec<Kind> = ALL
        .into_iter()
        .filter(|kind| *kind != Kind::Datagrams)
        .collect();
    assert_ends(&kinds, Ending::UpstreamFailed, "upstream_failed");
}

#[test]
fn r5_p11_an_attempt_that_a_reload_ends_is_forbidden() {
    assert_ends(&ALL, Ending::Forbidden, "forbidden");
}

#[test]
fn r5_an_attempt_that_times_out_is_idle() {
    assert_ends(&ALL, Ending::Idle, "idle");
}

#[test]
fn r5_an_attempt_that_outlasts_the_drain_is_drained() {
    assert_ends(&ALL, Ending::Drained, "drained");
}

#[test]
fn r5_p4_a_permitted_name_that_does_not_resolve_is_dns_failed() {
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
        daemon.get(&format!("http://{name}/"));
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
fn r5_log_flows_adds_successes_to_the_log_after_a_reload() {
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

/// Like refusals (SPEC R2).
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
    let logged = exit.logs.iter().filter(|line| line.flow().is_some());
    let further = exit.logs.iter().filter(|line| {
        line.message() == Some("further messages about failed requests were left out")
    });
    let further: u64 = further
        .filter_map(|line| line.field("count")?.as_u64())
        .sum();
    assert!(further > 0);
    assert_eq!(logged.count() as u64 + further, TIMES);
}
