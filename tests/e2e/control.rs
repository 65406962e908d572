//! The control socket and `proxyctl`: the real daemon, the real program (SPEC section 9).

pub(crate) mod callers;
mod commands;
mod constraints;
mod doctor;
mod explain;
mod follow;
mod listeners;
mod lists;
mod machine;
mod secrets;
mod shadow;
mod socket;
mod tables;
#[cfg(target_os = "linux")]
mod watch;

use e2e::daemon::Daemon;

/// Makes the proxy refuse a request to a host.
fn be_refused(daemon: &Daemon, host: &str) {
    let answer = daemon.get(&format!("http://{host}/"));
    assert_eq!(answer.status, 403, "{}", answer.text());
}
