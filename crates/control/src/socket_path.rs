//! The default path of the control socket (SPEC K2).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The variable that names the socket for `proxyctl`.
pub const VARIABLE: &str = "CODEX_NETWORK_PROXY_CONTROL";

/// The socket of the system service.
#[cfg(not(target_os = "macos"))]
pub const SYSTEM: &str = "/run/codex-network-proxy/control.sock";
/// The socket of the system service. launchd makes the socket but no directories, and macOS has no
/// `/run`.
#[cfg(target_os = "macos")]
pub const SYSTEM: &str = "/var/run/codex-network-proxy.sock";

/// The directory and the file below a user's runtime directory.
const BELOW_RUNTIME: &str = "codex-network-proxy/control.sock";
/// The file in a user's state directory.
const IN_STATE: &str = "control.sock";

/// The socket of a user's own proxy: below `XDG_RUNTIME_DIR`, or on macOS below the user's own
/// `TMPDIR`. `None` if there is no such directory. `environment` looks a variable up.
pub fn of_user(environment: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let directory = |name| {
        environment(name)
            .map(PathBuf::from)
            // The XDG specification requires relative paths to be ignored.
            .filter(|path| path.is_absolute())
    };
    let runtime = directory("XDG_RUNTIME_DIR").or_else(|| {
        cfg!(target_os = "macos")
            .then(|| directory("TMPDIR"))
            .flatten()
    })?;
    Some(runtime.join(BELOW_RUNTIME))
}

/// The socket in the user's state directory, for users without a runtime directory: after `su`, in
/// cron jobs and in containers.
pub fn in_state(directory: &Path) -> PathBuf {
    directory.join(IN_STATE)
}

/// The socket of the system service.
pub fn of_system() -> &'static Path {
    Path::new(SYSTEM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k2_the_users_socket_is_below_the_runtime_directory() {
        let with = |value: &'static str| {
            of_user(move |name| (name == "XDG_RUNTIME_DIR").then(|| value.into()))
        };
        assert_eq!(
            with("/run/user/1000").as_deref(),
            Some(Path::new("/run/user/1000/codex-network-proxy/control.sock"))
        );
        for unusable in ["", "run/user/1000"] {
            assert_eq!(with(unusable), None, "{unusable:?}");
        }
    }
}
