//! The control socket and `proxyctl`: the real daemon, the real program (SPEC section 9).

mod callers;
mod commands;
mod constraints;
mod doctor;
mod explain;
mod follow;
mod listeners;
mod machine;
mod secrets;
mod socket;
mod tables;

use std::path::{Path, PathBuf};

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::program::{Program, Run};
use serde_json::Value;

/// The path of the shipped program.
pub(crate) const PROXYCTL: &str = env!("CARGO_BIN_EXE_proxyctl-under-test");

/// A daemon on the usual example.
fn daemon() -> Daemon {
    Daemon::start(e2e::binary!(), &Config::example())
}

/// The path of the control socket in the daemon's log.
fn socket(daemon: &Daemon) -> PathBuf {
    let line = daemon.wait_for_log(|line| {
        line.message() == Some("listening")
            && line.field("listener").and_then(Value::as_str) == Some("control")
    });
    let address = line.field("address").and_then(Value::as_str);
    PathBuf::from(address.expect("an address"))
}

/// Runs `proxyctl --socket SOCKET …`.
pub(crate) fn proxyctl_at(socket: &Path, arguments: &[&str]) -> Run {
    Program::new(PROXYCTL)
        .arg("--socket")
        .arg(socket)
        .args(arguments)
        .run()
}

/// Runs `proxyctl` on a daemon.
pub(crate) fn proxyctl(daemon: &Daemon, arguments: &[&str]) -> Run {
    proxyctl_at(&socket(daemon), arguments)
}

/// The output of `proxyctl … --json`.
#[track_caller]
pub(crate) fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let run = proxyctl(daemon, &arguments);
    serde_json::from_str(&run.succeeded().stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

/// Makes the proxy refuse a request to a host.
fn be_refused(daemon: &Daemon, host: &str) {
    let request = format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let answer = Connection::open(daemon.http_addr()).exchange(&request);
    assert_eq!(answer.status, 403, "{}", answer.text());
}
