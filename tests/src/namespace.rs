//! A test that runs in a network or a file system of its own.

use std::process::Command;

use crate::machine::{Need, has};

const INSIDE: &str = "IN_A_NAMESPACE_OF_ITS_OWN";
/// The exit code when the namespace cannot be prepared.
const CANNOT: i32 = 77;

/// A namespace to run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// A network without any other machine.
    Network,
    /// The same, and a copy of `/etc` that the test may change.
    NetworkAndEtc,
}

/// Runs this test again in a namespace, after the shell commands `prepare`. Returns whether this is
/// that run. If no such namespace can be made, writes a line about it and runs nothing.
///
/// A user's own namespace would need a user namespace, in which the daemon would be root without an
/// account to drop to. So this needs root.
#[must_use]
pub fn is_inside(test: &str, namespace: Namespace, prepare: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let etc = "mount -t tmpfs tmpfs /mnt && cp -a /etc/. /mnt && mount --move /mnt /etc";
    let (flags, needs, made): (&[&str], &[Need], &str) = match namespace {
        Namespace::Network => (&["--net"], &[Need::Network], "true"),
        Namespace::NetworkAndEtc => (&["--net", "--mount"], &[Need::Network, Need::Mounts], etc),
    };
    if !needs.iter().all(|need| has(*need)) {
        return false;
    }
    let prepare = format!("{{ ip link set lo up && {made} && {prepare}; }} >&2");
    let script = format!("{prepare} || exit {CANNOT}; exec \"$0\" \"$@\"");
    let ran = Command::new("unshare")
        .args(flags)
        .args(["sh", "-c", &script])
        .arg(std::env::current_exe().expect("the test program"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "yes")
        .output();
    let shown = |output: &[u8]| String::from_utf8_lossy(output).into_owned();
    match ran {
        Ok(ran) if ran.status.success() => assert!(shown(&ran.stdout).contains("1 passed")),
        Ok(ran) => panic!("{}{}", shown(&ran.stdout), shown(&ran.stderr)),
        Err(error) => panic!("unshare does not start: {error}"),
    }
    false
}
