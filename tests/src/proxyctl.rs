//! Runs the shipped `proxyctl`.

use std::path::Path;

use serde_json::Value;

use crate::daemon::Daemon;
use crate::program::{Program, Run};
use crate::shipped;

/// Runs `proxyctl --socket SOCKET ARGUMENTS`.
pub fn proxyctl_at(socket: &Path, arguments: &[&str]) -> Run {
    Program::new(shipped::proxyctl())
        .arg("--socket")
        .arg(socket)
        .args(arguments)
        .run()
}

/// Runs `proxyctl` on a daemon.
pub fn proxyctl(daemon: &Daemon, arguments: &[&str]) -> Run {
    proxyctl_at(&daemon.control_socket(), arguments)
}

/// The output of `proxyctl … --json`, which must succeed.
#[track_caller]
pub fn proxyctl_json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    let run = proxyctl(daemon, &arguments);
    serde_json::from_str(&run.succeeded().stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", run.stdout))
}

/// The certificate of the daemon's CA, as PEM.
#[track_caller]
pub fn exported_ca(daemon: &Daemon) -> String {
    let run = proxyctl(daemon, &["ca", "export"]);
    run.succeeded().stdout.clone()
}
