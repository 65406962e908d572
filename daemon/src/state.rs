//! The state directory: for the CA that `init` makes, and the CA's public files (SPEC C5, M5).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use codex_network_config::Daemon;
use nix::unistd::Uid;

/// The directory's name in a parent for state.
const NAME: &str = "codex-network-proxy";
/// The parent for a service of the whole machine.
#[cfg(not(target_os = "macos"))]
const OF_SYSTEM: &str = "/var/lib";
/// The same on macOS, which has no `/var/lib`.
#[cfg(target_os = "macos")]
const OF_SYSTEM: &str = "/var/db";

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
        return Some(Path::new(OF_SYSTEM).join(NAME));
    }
    of_user(environment)
}

fn of_user(environment: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    // The specification requires relative paths to be ignored.
    let absolute = |name: &str| {
        environment(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_STATE_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/state")))
        .map(|place| place.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c5_state_is_where_the_user_keeps_state() {
        let with = |given: &[(&str, &str)]| {
            of_user(|name| {
                let found = given.iter().find(|(given, _)| *given == name);
                found.map(|(_, value)| value.into())
            })
        };
        let home = ("HOME", "/users/a");
        assert_eq!(
            with(&[home]),
            Some("/users/a/.local/state/codex-network-proxy".into())
        );
        assert_eq!(
            with(&[("XDG_STATE_HOME", "/state"), ("HOME", "/users/a")]),
            Some("/state/codex-network-proxy".into())
        );
        assert_eq!(
            with(&[("XDG_STATE_HOME", "relative"), ("HOME", "/users/a")]),
            Some("/users/a/.local/state/codex-network-proxy".into())
        );
        assert_eq!(with(&[]), None);
    }
}
