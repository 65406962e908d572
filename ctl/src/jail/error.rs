//! Why there is no jail, and the remedy (SPEC J7).

use std::fmt;
use std::io;
use std::path::Path;

use codex_network_files::Reading;

/// Why the jail could not be made, in one line that says what to do.
#[derive(Debug)]
pub(crate) struct JailError(String);

impl JailError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    /// A failed step of the system.
    pub(super) fn step(step: &str, error: &io::Error) -> Self {
        Self(format!("{step}: {error}"))
    }

    /// The kernel refuses a namespace, or the rights in it.
    pub(super) fn namespaces(step: &str, error: &io::Error) -> Self {
        Self(format!("{step}: {error}; {}", remedy(error, setting)))
    }
}

impl JailError {
    /// The message, for a stage that passes it to `proxyctl`.
    pub(super) fn message(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot make the jail: {}", self.0)
    }
}

/// The value of a kernel setting below `/proc/sys`, without white space at its ends.
fn setting(name: &str) -> Option<String> {
    let path = format!("/proc/sys/{name}");
    let text = Reading::up_to(4096).read_text(Path::new(&path)).ok()?;
    Some(text.trim().to_owned())
}

/// The remedy for a refused namespace, from the kernel's settings.
fn remedy(error: &io::Error, setting: impl Fn(&str) -> Option<String>) -> String {
    let is = |name: &str, value: &str| setting(name).as_deref() == Some(value);
    if is("user/max_user_namespaces", "0") {
        "this machine forbids user namespaces: `sysctl user.max_user_namespaces=10000` as root permits them".to_owned()
    } else if is("kernel/unprivileged_userns_clone", "0") {
        "this machine forbids user namespaces: `sysctl kernel.unprivileged_userns_clone=1` as root permits them".to_owned()
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "AppArmor forbids user namespaces: install the profile /etc/apparmor.d/proxyctl of the package, and run `apparmor_parser -r` on it as root".to_owned()
    } else if error.raw_os_error() == Some(nix::libc::ENOSPC) {
        "there are too many namespaces, or they are nested too deeply: /proc/sys/user has the limits".to_owned()
    } else {
        "a container or a chroot forbids user namespaces: permit them there, or use --isolation env, which confines nothing".to_owned()
    }
}
