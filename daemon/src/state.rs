//! The state directory: for the CA that `init` makes, and the CA's public files (SPEC C5, M5).

use std::ffi::OsString;
use std::path::PathBuf;

use codex_network_config::{Daemon, user_state_directory};
use nix::unistd::Uid;

/// The directory of a service of the whole machine.
#[cfg(not(target_os = "macos"))]
const OF_SYSTEM: &str = "/var/lib/codex-network-proxy";
/// The same on macOS, which has no `/var/lib`.
#[cfg(target_os = "macos")]
const OF_SYSTEM: &str = "/var/db/codex-network-proxy";

/// The error when there is no state directory.
pub(crate) const NOWHERE: &str = "there is no place for state, since neither XDG_STATE_HOME nor HOME is set; \
                                  set one of them, or [daemon] state_dir";

/// The state directory: the configured one, else the system's for root and the user's own for other
/// users (XDG Base Directory Specification).
pub(crate) fn directory(
    daemon: &Daemon,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    if let Some(configured) = &daemon.state_dir {
        return Some(configured.clone());
    }
    if Uid::effective().is_root() {
        return Some(OF_SYSTEM.into());
    }
    user_state_directory(environment)
}
