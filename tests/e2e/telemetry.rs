//! The export of audit events to an OpenTelemetry collector (SPEC O2).

mod grpc;
mod http;
mod reach;
mod settings;

use std::net::SocketAddr;

use e2e::client::Connection;
use e2e::collector::Export;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::wait::{TIMEOUT, poll};
use serde_json::Value;

/// The example with a collector at this URL.
fn config(url: &str) -> Config {
    Config::example().set("daemon.telemetry", "otlp", &format!("{url:?}"))
}

fn at(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// A collector over HTTP that takes everything.
fn collector() -> Origin {
    Origin::start(|_| taken())
}

/// The answer of a collector that takes everything: an empty message.
fn taken() -> Answer {
    Answer::bytes("application/x-protobuf", b"")
}

/// The exports that a collector over HTTP got, whatever it answered.
fn exports(collector: &Origin) -> Vec<Export> {
    let requests = collector.requests().into_iter();
    let whole = requests.filter(|request| request.complete);
    whole.map(|request| Export::decode(&request.body)).collect()
}

fn count(exports: &[Export]) -> usize {
    exports.iter().map(|export| export.records().len()).sum()
}

/// Makes requests that the policy refuses, each with an audit event. Fewer than 500 are not counted together.
fn refuse(daemon: &Daemon, times: usize) {
    let mut client = Connection::open(daemon.http_addr());
    for _ in 0..times {
        let request = "GET http://blocked.test/ HTTP/1.1\r\nHost: blocked.test\r\n\r\n";
        assert_eq!(client.exchange(request).status, 403);
    }
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let held = poll(TIMEOUT, || holds().then_some(()));
    held.unwrap_or_else(|| panic!("{what} did not come true"));
}

/// The value of a metric.
fn metric(daemon: &Daemon, name: &str) -> u64 {
    let metrics = daemon.admin("GET", "/metrics", None).text();
    let line = metrics.lines().find_map(|line| {
        let rest = line.strip_prefix("codex_network_proxy_telemetry_events_")?;
        rest.strip_prefix(name)?.strip_prefix(' ')
    });
    let value = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
    value.parse().expect("a whole number")
}

/// The degraded part `telemetry`, if it is.
fn degraded(daemon: &Daemon) -> Option<Value> {
    let health = daemon.admin("GET", "/health?verbose", None).json();
    let parts = health["degraded"].as_array().expect("a list").clone();
    parts.into_iter().find(|part| part["part"] == "telemetry")
}
