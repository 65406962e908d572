//! What stands between the monitor and the worker: a socket, and few, small messages on it.
//!
//! The service is three roles of one program (DESIGN section 1). The *monitor* keeps the privilege
//! that the service was started with; it owns the listening sockets and parses nothing. The
//! *loader* is started for each configuration, judges it, and is gone. The *worker* talks to
//! clients and upstreams and can ask the monitor for nothing but the rows of
//! `monitor/dispatch.rs`.

pub(crate) mod briefing;
pub(crate) mod channel;
pub(crate) mod interceptable;
mod layout;
pub(crate) mod message;
pub(crate) mod settled;

/// The hidden command that makes this program a loader.
pub(crate) const LOADER: &str = "load";
/// The hidden command that makes this program a worker. Its standard input is the channel.
pub(crate) const WORKER: &str = "work";

/// What starts another role of this very program, even after an upgrade has replaced its file: the
/// roles must be of one build.
pub(crate) fn this_program() -> std::io::Result<std::path::PathBuf> {
    if cfg!(target_os = "linux") {
        Ok("/proc/self/exe".into())
    } else {
        std::env::current_exe()
    }
}
