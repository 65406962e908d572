//! Messages to the service manager (`sd_notify(3)`). Without one, nothing is sent and nothing
//! fails.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::privsep::message::{Mode, Name, Report};

/// The service is up, or up again after a reload.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// A reload has begun. `ready` ends it, whatever its result.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::debug!(%error, "the system has no monotonic clock"),
    }
}

/// The service is about to end.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// The worker answers. Feeds the watchdog, and sets the status line: the policy, how often the
/// worker was replaced, and which listeners are missing because their address is `busy`.
pub(crate) fn well(report: &Report, restarts: u32, busy: impl Iterator<Item = (Name, SocketAddr)>) {
    let mode = match report.mode {
        Mode::Limited => "limited",
        Mode::Full => "full",
    };
    let Report {
        allow_rules,
        deny_rules,
        connections,
        ..
    } = report;
    let replaced = match restarts {
        0 => String::new(),
        restarts => format!(", worker restarted {restarts} times"),
    };
    let missing: Vec<String> = busy
        .map(|(name, address)| format!(", {} missing ({address} is in use)", name.as_str()))
        .collect();
    let status = format!(
        "{mode} mode, {allow_rules} allow and {deny_rules} deny rules, {connections} connections{replaced}{}",
        missing.concat()
    );
    tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
}

/// A worker had to be replaced.
pub(crate) fn restarting(restarts: u32) {
    tell(&[NotifyState::Status(&format!(
        "starting another worker (restart {restarts})"
    ))]);
}

/// Stores a socket with the service manager beyond this process's end, under a name.
pub(crate) fn store(name: &str, socket: &impl AsFd) {
    // A socket that is already stored under this name would come back too.
    tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    let told = sd_notify::notify_with_fds(
        &[NotifyState::FdStore, NotifyState::FdName(name)],
        &[socket.as_fd()],
    );
    if let Err(error) = told {
        tracing::debug!(%error, name, "the service manager does not keep the socket");
    }
}

/// Removes a socket that was stored under this name.
pub(crate) fn unstore(name: &str) {
    tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
}

/// The interval of the watchdog, if there is one.
pub(crate) fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled()
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}
