//! The CA: made at the start or by `init`, shown and exported, and its key kept from the worker
//! (SPEC M3, M4, M5, L5).

mod init;
mod memory;
mod public;

use std::path::Path;

use e2e::daemon::{Config, Daemon};
use e2e::program::{Program, Run};
use e2e::proxyctl::{proxyctl, proxyctl_json};
use serde_json::Value;

/// A TOML assignment for `-c`.
fn set(key: &str, path: &Path) -> String {
    format!("{key}={}", Value::from(path.to_string_lossy()))
}

/// `codex-network-proxy init` on an empty configuration, with state in this directory.
pub(crate) fn init(state: &Path) -> Run {
    run_init(Program::new(e2e::shipped::proxy()), state)
}

fn run_init(program: Program, state: &Path) -> Run {
    program
        .arg("init")
        .args(["-c", &set("daemon.state_dir", state)])
        .run()
}

/// A daemon with state in this directory.
fn daemon_in(state: &Path) -> Daemon {
    Daemon::launch()
        .config(&Config::example())
        .arg("-c")
        .arg(set("daemon.state_dir", state))
        .start()
}

/// Runs `proxyctl ca …` on a daemon.
fn ca(daemon: &Daemon, arguments: &[&str]) -> Run {
    proxyctl(daemon, &[&["ca"], arguments].concat())
}

/// The output of `proxyctl ca show --json`.
fn shown(daemon: &Daemon) -> Value {
    proxyctl_json(daemon, &["ca", "show"])
}

fn fingerprint(daemon: &Daemon) -> String {
    let shown = shown(daemon);
    let fingerprint = shown["fingerprint"].as_str().expect("a fingerprint");
    assert_eq!(fingerprint.len(), 32 * 3 - 1, "{fingerprint}");
    fingerprint.to_owned()
}
