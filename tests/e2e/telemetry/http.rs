//! A collector over HTTP: a healthy one, and those that are down, slow, overloaded or hostile.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use e2e::client::Connection;
use e2e::collector::attribute;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Body, Origin, Reply};
use e2e::port::RefusingPort;
use e2e::process::kill_process;
use e2e::proxyctl::{proxyctl, proxyctl_json};
use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message as _;

use super::{at, collector, config, count, degraded, exports, metric, refuse, taken, until};

/// Answers the first requests with `first`, and takes the others.
fn at_first(first: Vec<Answer>) -> Origin {
    let number = AtomicUsize::new(0);
    Origin::start(move |_| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        first.get(number).cloned().unwrap_or_else(taken)
    })
}

fn reply(status: u16, name: &str, value: &str) -> Answer {
    Answer::Reply(Reply::new(status, Body::Sized(Vec::new())).header(name, value))
}

#[test]
fn o2_an_audit_event_arrives_as_a_log_record_with_its_attributes() {
    let collector = collector();
    let daemon = Daemon::start(&config(&at(collector.addr())));
    refuse(&daemon, 1);
    until("an export", || count(&exports(&collector)) == 1);
    let request = collector.requests().remove(0);
    assert_eq!((&*request.method, &*request.target), ("POST", "/v1/logs"));
    assert_eq!(
        request.header("content-type"),
        Some("application/x-protobuf")
    );
    let export = &exports(&collector)[0];
    for (key, value) in [
        ("service.name", "codex-network-proxy".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("process.pid", daemon.worker().to_string()),
    ] {
        assert_eq!(export.resource(key), Some(value));
    }
    assert!(export.resource("host.name").is_some());
    let record = export.records()[0];
    for (key, value) in [
        ("event.name", "codex.network_proxy.policy_decision"),
        ("network.policy.decision", "deny"),
        ("network.policy.reason", "not_allowed"),
        ("network.transport.protocol", "http"),
        ("server.address", "blocked.test"),
        ("server.port", "80"),
        ("http.request.method", "GET"),
        ("network.policy.override", "false"),
    ] {
        assert_eq!(attribute(record, key).as_deref(), Some(value), "{key}");
    }
    let body = record.body.as_ref().and_then(|body| body.value.clone());
    let message = "deny http blocked.test:80 (not_allowed)";
    assert_eq!(body, Some(Value::StringValue(message.to_owned())));
    // The log has the same event.
    let line = daemon.wait_for_message(message);
    let time = line.field("event.timestamp").and_then(|time| time.as_str());
    assert_eq!(attribute(record, "event.timestamp").as_deref(), time);
}

#[test]
fn o2_each_of_ten_thousand_events_arrives_once() {
    const CLIENTS: usize = 8;
    const REQUESTS: usize = 1250;
    let collector = collector();
    let origin = Origin::start(|_| Answer::text("hello"));
    let config = config(&at(collector.addr())).set("daemon", "log", r#""info,codex_otel=off""#);
    let daemon = Daemon::start(&config);
    let port = origin.addr().port();
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Connection::open(daemon.http_addr());
                let request = format!(
                    "GET http://allowed.test:{port}/ HTTP/1.1\r\nHost: allowed.test:{port}\r\n\r\n"
                );
                for _ in 0..REQUESTS {
                    assert_eq!(client.exchange(&request).status, 200);
                }
            });
        }
    });
    let all = CLIENTS * REQUESTS;
    until("every event", || {
        metric(&daemon, "exported_total") == all as u64
    });
    assert_eq!(metric(&daemon, "lost_total"), 0);
    assert_eq!(metric(&daemon, "waiting"), 0);
    let status = proxyctl_json(&daemon, &["status"]);
    assert_eq!(status["telemetry"]["exported"], all);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit();
    assert_eq!(count(&exports(&collector)), all);
}

#[test]
fn o2_events_that_wait_at_the_end_are_exported_first() {
    // The end does not wait for as long as the collector asks for.
    let collector = at_first(vec![reply(503, "Retry-After", "60")]);
    let daemon = Daemon::start(&config(&at(collector.addr())));
    refuse(&daemon, 3);
    until("a failure", || degraded(&daemon).is_some());
    // They wait behind that batch.
    refuse(&daemon, 2);
    assert_eq!(metric(&daemon, "waiting"), 5);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit();
    let exports = exports(&collector).into_iter();
    let counts: Vec<_> = exports.map(|export| export.records().len()).collect();
    assert_eq!(counts, [3, 3, 2]);
}

#[test]
fn o2_a_collector_that_is_down_holds_no_request_up_and_each_loss_counts() {
    let refusing = RefusingPort::open();
    let daemon = Daemon::start(&config(&at(refusing.addr())));
    refuse(&daemon, 40);
    daemon.wait_for_message("the collector does not take audit events: the connection was refused");
    until("the health", || degraded(&daemon).is_some());
    refuse(&daemon, 2);
    assert_eq!(metric(&daemon, "exported_total"), 0);
    assert_eq!(metric(&daemon, "waiting"), 42);
    let part = degraded(&daemon).expect("it is still down");
    let status = proxyctl_json(&daemon, &["status"]);
    assert_eq!(status["degraded"][0], part);
    let doctor = proxyctl(&daemon, &["doctor"]);
    let found = "the collector does not take audit events: the connection was refused";
    assert!(doctor.stdout.contains(found), "{}", doctor.stdout);
    daemon.signal(Signal::SIGTERM);
    let exit = daemon.wait_exit();
    let lost = exit.logs.iter().find_map(|line| {
        let is_it = line.message_contains("audit events were not exported before the end");
        is_it.then(|| line.field("lost").cloned())
    });
    assert_eq!(lost.flatten(), Some(42.into()));
}

#[test]
fn o2_an_overloaded_collector_gets_the_same_batch_later() {
    let busy = reply(429, "Retry-After", "1");
    let collector = at_first(vec![busy, Answer::status(503)]);
    let daemon = Daemon::start(&config(&at(collector.addr())));
    refuse(&daemon, 5);
    until("an export", || metric(&daemon, "exported_total") == 5);
    let requests = collector.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0].body, requests[2].body);
    assert_eq!(metric(&daemon, "lost_total"), 0);
    daemon.wait_for_message("the collector takes audit events again");
    assert_eq!(degraded(&daemon), None);
}

#[test]
fn o2_what_a_collector_refuses_or_rejects_is_lost_and_counted() {
    let partial = ExportLogsServiceResponse {
        partial_success: Some(ExportLogsPartialSuccess {
            rejected_log_records: 2,
            error_message: "a-text-of-the-collector".to_owned(),
        }),
    };
    let partial = Answer::bytes("application/x-protobuf", &partial.encode_to_vec());
    let collector = at_first(vec![Answer::status(400), partial]);
    let daemon = Daemon::start(&config(&at(collector.addr())));
    refuse(&daemon, 4);
    until("a loss", || metric(&daemon, "lost_total") == 4);
    let part = degraded(&daemon).expect("the collector refused them");
    assert_eq!(
        part["detail"],
        "the collector does not take audit events: it answers with the HTTP status 400; 4 audit events were lost \
         since the start"
    );
    refuse(&daemon, 5);
    until("an export", || metric(&daemon, "exported_total") == 3);
    assert_eq!(metric(&daemon, "lost_total"), 6);
    let part = degraded(&daemon).expect("events were lost a moment ago");
    assert_eq!(part["detail"], "6 audit events were lost since the start");
    let logs = daemon.logs();
    assert!(!logs.iter().any(|line| line.message_contains("a-text-of")));
}

#[test]
fn o2_a_redirect_is_not_followed() {
    let elsewhere = collector();
    let target = format!("{}/v1/logs", at(elsewhere.addr()));
    let collector = at_first(vec![reply(307, "Location", &target)]);
    let daemon = Daemon::start(&config(&at(collector.addr())));
    refuse(&daemon, 1);
    until("a loss", || metric(&daemon, "lost_total") == 1);
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn o2_answers_that_are_too_long_or_broken_do_no_harm() {
    let flood = Answer::bytes("application/x-protobuf", &vec![0; 4 << 20]);
    let garbage = Answer::bytes("text/html", b"\xff\xff\xff not a message");
    let raw = Answer::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec());
    let collector = at_first(vec![flood, garbage, Answer::Close, raw, Answer::Reset]);
    let daemon = Daemon::start(&config(&at(collector.addr())));
    for total in 1..=3 {
        refuse(&daemon, 1);
        until("an export", || metric(&daemon, "exported_total") == total);
    }
    let connections = collector.requests().into_iter();
    let connections: Vec<_> = connections.map(|request| request.connection).collect();
    assert_ne!(
        connections[0], connections[1],
        "the rest of a flood is not read"
    );
    assert_eq!(metric(&daemon, "lost_total"), 0);
}

#[test]
fn o2_a_slow_collector_holds_neither_requests_nor_the_end_up() {
    let collector = Origin::start(|_| Answer::Silence);
    let daemon = Daemon::start(&config(&at(collector.addr())));
    refuse(&daemon, 1);
    collector.wait_for("a request", |requests| requests.first().map(drop));
    refuse(&daemon, 20);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_exit();
}

#[test]
fn o2_a_new_worker_goes_on_exporting() {
    let collector = collector();
    let daemon = Daemon::start(&config(&at(collector.addr())));
    refuse(&daemon, 1);
    until("an export", || count(&exports(&collector)) == 1);
    let first = daemon.worker();
    kill_process(first);
    until("another worker", || {
        daemon.children().iter().any(|child| *child != first)
    });
    refuse(&daemon, 1);
    until("an export", || count(&exports(&collector)) == 2);
    let pids: Vec<_> = exports(&collector)
        .iter()
        .map(|export| export.resource("process.pid"))
        .collect();
    assert_ne!(pids[0], pids[1]);
}

#[test]
fn o2_without_a_collector_nothing_is_exported() {
    let daemon = Daemon::start(&Config::example());
    refuse(&daemon, 1);
    for name in ["exported_total", "lost_total", "waiting"] {
        assert_eq!(metric(&daemon, name), 0, "{name}");
    }
    let status = proxyctl_json(&daemon, &["status"]);
    assert_eq!(status.get("telemetry"), None);
}
