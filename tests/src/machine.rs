//! The needs of tests that a machine may not fulfil, and the one way to report a missing one.
//!
//! A test returns when [`has`] is false. The line that [`has`] writes is the record of it:
//! `.ci/tests` counts these lines, and fails in a setting that must have what was missing.

use std::fmt;
use std::io::Write as _;
use std::net::{Ipv6Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use nix::unistd::{Uid, User};

/// How each line begins.
const PREFIX: &str = "cannot run here";

/// `CAP_SYS_PTRACE`, as `capabilities(7)` numbers it.
const CAP_SYS_PTRACE: u32 = 19;

/// A need that not every machine fulfils.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The effective user is root.
    Root,
    /// Root may mount for one program alone: not in a container, and not in a chroot.
    Mounts,
    /// Root may read processes that cannot be dumped: not in a container.
    Ptrace,
    /// The loopback interface has `::1`: not in a container.
    Ipv6,
    /// Root may make a network for one program alone: not in a container.
    Network,
    /// This user may make user namespaces, and a network with rules of `nft` in them: not in a container or a
    /// chroot.
    UserNamespaces,
    /// Linux 6.12 or newer.
    SignalScope,
    /// The program that follows system calls: not in a container or a chroot.
    Strace,
    /// The package is not installed: the worker's own account is missing.
    NoServiceAccount,
    /// A user without rights may execute this program: not one in root's home directory.
    ForAll(&'static str),
    /// This process may open that many descriptors for one test.
    Descriptors(u64),
}

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => formatter.write_str("needs root"),
            Self::Mounts => formatter.write_str("needs a root that may mount (`unshare --mount`)"),
            Self::Ptrace => formatter.write_str("needs a root with CAP_SYS_PTRACE"),
            Self::Ipv6 => formatter.write_str("needs ::1 on the loopback interface"),
            Self::Network => formatter
                .write_str("needs a root that may make a network (`unshare --net ip link`)"),
            Self::UserNamespaces => formatter.write_str(
                "needs user namespaces (`unshare --user --net --pid --fork --mount-proc`) and nft",
            ),
            Self::SignalScope => {
                formatter.write_str("needs Linux 6.12, for Landlock's scope of signals")
            }
            Self::Strace => formatter.write_str("needs strace"),
            Self::NoServiceAccount => {
                formatter.write_str("needs a machine without the user codex-network-proxy")
            }
            Self::ForAll(program) => {
                write!(formatter, "needs {program} where every user may execute it")
            }
            Self::Descriptors(count) => write!(formatter, "needs {count} file descriptors"),
        }
    }
}

/// Whether the machine has what a test needs. If not, writes one line on standard error.
#[must_use]
pub fn has(need: Need) -> bool {
    let missing = missing(need);
    if let Some(missing) = missing {
        say(missing);
    }
    missing.is_none()
}

/// Whether the machine has this, for a test that checks something in both cases.
#[must_use]
pub fn can(need: Need) -> bool {
    missing(need).is_none()
}

/// Whether root runs the tests, for a test that checks something in both cases.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// A user without rights, with an account that every Debian has. A test that root runs can become this user.
pub fn ordinary_user() -> User {
    let user = User::from_name("games").expect("the user database");
    user.expect("the account that Debian has for games")
}

/// The missing need. For one that needs root it may be root itself.
fn missing(need: Need) -> Option<Need> {
    static MOUNTS: LazyLock<bool> = LazyLock::new(|| may_run(&["--mount", "true"]));
    static NETWORK: LazyLock<bool> = LazyLock::new(|| may_run(&["--net", "ip", "link"]));
    static PTRACE: LazyLock<bool> = LazyLock::new(|| has_capability(CAP_SYS_PTRACE));
    static NAMESPACES: LazyLock<bool> = LazyLock::new(|| {
        let all = [
            "--user",
            "--map-root-user",
            "--net",
            "--pid",
            "--fork",
            "--mount-proc",
        ];
        let mut nft = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"].iter();
        nft.any(|nft| Path::new(nft).exists()) && may_run(&[&all[..], &["true"]].concat())
    });
    static IPV6: LazyLock<bool> =
        LazyLock::new(|| TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok());
    let is_there = match need {
        Need::Root => is_root(),
        Need::Mounts | Need::Network | Need::Ptrace if !is_root() => return Some(Need::Root),
        Need::Mounts => *MOUNTS,
        Need::Network => *NETWORK,
        Need::Ptrace => *PTRACE,
        Need::Ipv6 => *IPV6,
        Need::UserNamespaces => *NAMESPACES,
        Need::SignalScope => has_signal_scope(),
        Need::Strace => Path::new("/usr/bin/strace").exists(),
        Need::NoServiceAccount => matches!(User::from_name("codex-network-proxy"), Ok(None)),
        Need::ForAll(program) => is_for_all(program),
        Need::Descriptors(count) => count <= crate::descriptors::limit(),
    };
    (!is_there).then_some(need)
}

/// Whether a program runs in a namespace of its own.
fn may_run(arguments: &[&str]) -> bool {
    let run = Command::new("unshare")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    run.is_ok_and(|status| status.success())
}

/// Whether the ordinary user can execute a program.
fn is_for_all(program: &str) -> bool {
    let mut command = Command::new("sh");
    command.args(["-c", "command -v \"$0\"", program]);
    if is_root() {
        let user = ordinary_user();
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let found = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

fn has_capability(number: u32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"))
        .and_then(|set| u64::from_str_radix(set, 16).ok());
    effective.is_some_and(|set| set >> number & 1 == 1)
}

/// Whether the kernel is new enough.
fn has_signal_scope() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release
        .split(['.', '-'])
        .map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    version >= (6, 12)
}

/// Writes the line past the test runner, which hides the output of passing tests.
fn say(missing: Need) {
    let thread = std::thread::current();
    let line = line(thread.name().unwrap_or("a test"), missing);
    // If standard error is closed, nothing can be reported.
    let _written = std::io::stderr().write_all(line.as_bytes());
}

fn line(test: &str, missing: Need) -> String {
    format!("{PREFIX}: {test}: {missing}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CI: &str = include_str!("../../.ci/tests");

    #[test]
    fn a_missing_need_is_one_line_that_ci_counts() {
        assert_eq!(
            line("roles::l5_a_test", Need::Root),
            "cannot run here: roles::l5_a_test: needs root\n"
        );
        assert!(CI.contains(&format!("grep -o '{PREFIX}: .*'")));
    }

    #[test]
    fn ci_matches_the_text_of_these_lines() {
        let (_, settings) = CI.split_once("case $setting in").expect("the settings");
        let (settings, _) = settings.split_once("esac").expect("their end");
        let needs = [
            Need::Root,
            Need::Mounts,
            Need::Network,
            Need::Ptrace,
            Need::Ipv6,
            Need::UserNamespaces,
            Need::Strace,
            Need::Descriptors(8_000),
        ]
        .map(|need| need.to_string());
        let may = settings.lines().filter_map(|line| line.split_once("may='"));
        let reasons: Vec<&str> = may
            .filter_map(|(_, reasons)| reasons.split('\'').next())
            .flat_map(|reasons| reasons.split('|'))
            .filter(|reason| *reason != "nothing")
            .collect();
        assert!(reasons.len() >= 4, "{reasons:?}");
        for reason in reasons {
            let begins = |need: &String| need.starts_with(&format!("needs {reason}"));
            assert!(needs.iter().any(begins), "no line says {reason:?}");
        }
    }

    #[test]
    fn the_descriptor_limit_decides_whether_descriptors_are_missing() {
        let limit = crate::descriptors::limit();
        let more = Need::Descriptors(limit + 1);
        assert_eq!(missing(more), Some(more));
        assert_eq!(missing(Need::Descriptors(limit)), None);
    }

    #[test]
    fn without_root_only_root_is_reported_missing() {
        let missing = [Need::Root, Need::Mounts, Need::Ptrace].map(missing);
        if is_root() {
            assert_eq!(missing[0], None);
        } else {
            assert_eq!(missing, [Some(Need::Root); 3]);
        }
    }
}
