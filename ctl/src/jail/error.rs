//! Why there is no jail, and the remedy (SPEC J7).

use std::fmt;
use std::io;
use std::path::Path;

use codex_network_files::Reading;

/// Why the jail could not be made, or has failed, in one line that says what to do.
#[derive(Debug)]
pub(crate) struct JailError {
    /// The failed step and its cause.
    pub(crate) cause: String,
    /// The remedy, where there is a known one.
    pub(crate) remedy: Option<String>,
    /// Whether the command had begun.
    pub(crate) has_begun: bool,
}

/// Separates the parts of an error that a stage sends.
const SEPARATOR: char = '\0';
/// The last part of an error of a jail whose command had begun.
const BEGUN: &str = "begun";

impl JailError {
    /// A failed step of the system.
    pub(super) fn step(step: &str, error: &io::Error) -> Self {
        Self::without_remedy(format!("{step}: {error}"))
    }

    /// The kernel refuses a namespace, or the rights in it.
    pub(super) fn namespaces(step: &str, error: &io::Error) -> Self {
        Self {
            cause: format!("{step}: {error}"),
            remedy: Some(remedy(error, setting)),
            has_begun: false,
        }
    }

    /// A cause that has no known remedy.
    pub(super) fn without_remedy(cause: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            remedy: None,
            has_begun: false,
        }
    }

    /// The same for a jail whose command had begun.
    pub(super) fn of_running(self) -> Self {
        Self {
            has_begun: true,
            ..self
        }
    }

    /// The error as a stage sends it.
    pub(super) fn encoded(&self) -> String {
        let remedy = self.remedy.as_deref().unwrap_or_default();
        let begun = if self.has_begun { BEGUN } else { "" };
        format!("{}{SEPARATOR}{remedy}{SEPARATOR}{begun}", self.cause)
    }

    /// Reads [`encoded`](Self::encoded).
    pub(super) fn decoded(bytes: &[u8]) -> Self {
        let text = String::from_utf8_lossy(bytes);
        let mut parts = text.split(SEPARATOR);
        let mut part = || parts.next().unwrap_or_default();
        let (cause, remedy, begun) = (part(), part(), part());
        Self {
            cause: cause.to_owned(),
            remedy: (!remedy.is_empty()).then(|| remedy.to_owned()),
            has_begun: begun == BEGUN,
        }
    }
}

impl fmt::Display for JailError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = if self.has_begun {
            "the jail has failed, and its command has ended"
        } else {
            "cannot make the jail"
        };
        write!(f, "{event}: {}", self.cause)?;
        match &self.remedy {
            Some(remedy) => write!(f, "; {remedy}"),
            None => Ok(()),
        }
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
        "a container or a chroot forbids user namespaces, or this already runs in a jail: permit them, or start the command directly; --isolation env confines nothing".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j7_each_cause_has_its_remedy() {
        let refused = io::Error::from_raw_os_error(nix::libc::EPERM);
        let full = io::Error::from_raw_os_error(nix::libc::ENOSPC);
        for (name, value, error, remedy_has) in [
            (
                "user/max_user_namespaces",
                "0",
                &full,
                "sysctl user.max_user_namespaces=",
            ),
            (
                "kernel/unprivileged_userns_clone",
                "0",
                &refused,
                "sysctl kernel.unprivileged_userns_clone=1",
            ),
            (
                "kernel/apparmor_restrict_unprivileged_userns",
                "1",
                &refused,
                "/etc/apparmor.d/proxyctl",
            ),
            ("user/max_user_namespaces", "100", &full, "/proc/sys/user"),
            (
                "user/max_user_namespaces",
                "100",
                &refused,
                "a container or a chroot",
            ),
        ] {
            let setting = |asked: &str| (asked == name).then(|| value.to_owned());
            let remedy = remedy(error, setting);
            assert!(remedy.contains(remedy_has), "{name}={value}: {remedy}");
        }
    }

    #[test]
    fn j7_an_error_of_a_stage_arrives_whole() {
        let sent = JailError {
            cause: "one: two".to_owned(),
            remedy: Some("three".to_owned()),
            has_begun: false,
        };
        let arrived = JailError::decoded(sent.encoded().as_bytes());
        assert_eq!(arrived.to_string(), "cannot make the jail: one: two; three");
        let without = JailError::without_remedy("one");
        let arrived = JailError::decoded(without.encoded().as_bytes());
        assert_eq!(arrived.to_string(), "cannot make the jail: one");
        let running = JailError::without_remedy("one").of_running();
        let arrived = JailError::decoded(running.encoded().as_bytes());
        assert_eq!(
            arrived.to_string(),
            "the jail has failed, and its command has ended: one"
        );
    }
}
