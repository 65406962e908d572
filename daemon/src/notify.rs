//! Messages to the service manager (`sd_notify(3)`). Without one, nothing is sent and nothing
//! fails.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use sd_notify::NotifyState;
#[cfg(target_os = "linux")]
use {
    nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg},
    std::ffi::{OsStr, OsString},
    std::io::IoSlice,
    std::os::fd::AsRawFd,
    std::os::unix::ffi::OsStrExt as _,
    std::os::unix::net::UnixDatagram,
};

use crate::privsep::message::{Fallback, ListenerName, Mode, WorkerReport};

/// The service is up, or up again after a reload.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Reports that a reload has begun. Call [`ready`] when the reload has ended, even if it failed.
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
pub(crate) fn well(
    report: &WorkerReport,
    restarts: u32,
    busy: impl Iterator<Item = (ListenerName, SocketAddr)>,
    fallback: Fallback,
) {
    let mode = match report.mode {
        Mode::Limited => "limited",
        Mode::Full => "full",
    };
    let WorkerReport {
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
    let instead = match fallback {
        Fallback::None => "",
        Fallback::LastGood => {
            "the last good configuration is in force, the present one cannot be used: "
        }
        Fallback::Closed => "everything is refused, the configuration cannot be used: ",
    };
    let status = format!(
        "{instead}{mode} mode, {allow_rules} allow and {deny_rules} deny rules, {connections} connections{replaced}{}",
        missing.concat()
    );
    tell(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
}

/// Sets the status line.
pub(crate) fn status(text: &str) {
    tell(&[NotifyState::Status(text)]);
}

/// A worker had to be replaced.
pub(crate) fn restarting(restarts: u32) {
    tell(&[NotifyState::Status(&format!(
        "starting another worker (restart {restarts})"
    ))]);
}

/// Whether a service manager listens.
pub(crate) fn is_heard() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Stores a socket with the service manager beyond this process's end, under a name.
pub(crate) fn store(name: &str, socket: &impl AsFd) {
    if let Err(error) = keep(name, socket) {
        tracing::debug!(%error, name, "the service manager does not keep the socket");
    }
}

/// The same for any descriptor.
///
/// # Errors
///
/// Returns an error if the message cannot be sent. The service manager reports no errors of its
/// own.
pub(crate) fn keep(name: &str, descriptor: &impl AsFd) -> io::Result<()> {
    // A descriptor that is already stored under this name would come back too.
    tell(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)]);
    let state = [NotifyState::FdStore, NotifyState::FdName(name)];
    send(&state, &[descriptor.as_fd()])
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
    if let Err(error) = send(state, &[]) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

fn send(state: &[NotifyState<'_>], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    if let Some(name) = abstract_name() {
        return send_to_abstract(name.as_bytes(), state, descriptors);
    }
    if descriptors.is_empty() {
        sd_notify::notify(state)
    } else {
        sd_notify::notify_with_fds(state, descriptors)
    }
}

/// The socket of `NOTIFY_SOCKET`, if it is one in the abstract namespace: its name begins with `@` there
/// (`sd_notify(3)`). `sd_notify` takes that for a file.
#[cfg(target_os = "linux")]
fn abstract_name() -> Option<OsString> {
    let socket = std::env::var_os("NOTIFY_SOCKET")?;
    let name = socket.as_bytes().strip_prefix(b"@")?;
    Some(OsStr::from_bytes(name).to_owned())
}

#[cfg(target_os = "linux")]
fn send_to_abstract(
    name: &[u8],
    state: &[NotifyState<'_>],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let text: Vec<_> = state.iter().map(ToString::to_string).collect();
    let text = text.join("\n");
    let descriptors: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let socket = UnixDatagram::unbound()?;
    sendmsg(
        socket.as_raw_fd(),
        &[IoSlice::new(text.as_bytes())],
        if descriptors.is_empty() { &[] } else { &rights },
        MsgFlags::MSG_NOSIGNAL,
        Some(&UnixAddr::new_abstract(name)?),
    )?;
    Ok(())
}
