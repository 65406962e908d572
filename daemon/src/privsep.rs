//! The channel between the monitor and the worker: a socket, and few small messages on it.
//!
//! The service is three roles of one program (`ARCHITECTURE.md`, "Three roles, one program"). The
//! *monitor* keeps the privilege that the service was started with; it owns the listening sockets
//! and parses nothing. A *loader* is started for each configuration, and when files of
//! the system change; it reads, checks, and ends. The
//! *worker* talks to clients and upstreams, and may ask the monitor only for the operations in
//! `monitor/dispatch.rs`.

use std::ffi::CStr;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

pub(crate) mod briefing;
pub(crate) mod channel;
pub(crate) mod interceptable;
mod layout;
pub(crate) mod message;
pub(crate) mod settled;
pub(crate) mod system_files;
pub(crate) mod ticket;

/// The hidden command that makes this program a loader.
pub(crate) const LOADER: &str = "load";
/// The hidden command that makes this program a worker. Its standard input is the channel.
pub(crate) const WORKER: &str = "work";

/// Starts a command line of another role, which `ps` shows as `codex-network-proxy: ROLE`.
pub(crate) fn command(role: &str) -> std::io::Result<Command> {
    let mut command = Command::new(this_program()?);
    command.arg0(format!("codex-network-proxy: {role}"));
    Ok(command)
}

/// Gives this process a name for programs that show no arguments, such as `top`. The kernel takes it
/// from the started file, which is `exe` for the other roles. It has room for 15 bytes.
pub(crate) fn show_as(name: &CStr) {
    #[cfg(target_os = "linux")]
    // The name has no effect on what the role does.
    let _ = nix::sys::prctl::set_name(name);
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// The program to start another role from, even after an upgrade has replaced its file: the roles
/// must be of one build.
fn this_program() -> std::io::Result<std::path::PathBuf> {
    if cfg!(target_os = "linux") {
        Ok("/proc/self/exe".into())
    } else {
        std::env::current_exe()
    }
}
