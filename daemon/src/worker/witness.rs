//! The roles' privilege as the kernel reports it, for `proxyctl status`.
//!
//! The confined worker cannot open files under `/proc`, so it opens the two that it needs before;
//! the kernel generates their content at every read. With `ProtectProc=invisible` only root sees the
//! monitor there, so it opens them before it becomes another user. Other systems than Linux have no
//! such files, and `status` shows less.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use codex_network_control::message::Role;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Uid, getppid};

/// Longest `/proc/PID/status` that is read; the files have about 1.5 KiB.
const MAX_SMAPS: usize = 16 * 1024;

/// The roles, with an open file for each.
#[derive(Debug)]
pub(super) struct Witness {
    monitor: Eye,
    worker: Eye,
    landlock: Option<String>,
    restarts: u32,
}

#[derive(Debug)]
struct Eye {
    pid: u32,
    status: Option<File>,
}

impl Witness {
    /// Call it before the worker gives up its privilege. `restarts` is how many workers came before.
    pub(super) fn open(restarts: u32) -> Self {
        let eye = |pid: u32| Eye {
            pid,
            status: File::open(format!("/proc/{pid}/status")).ok(),
        };
        Self {
            monitor: eye(u32::try_from(getppid().as_raw()).unwrap_or_default()),
            worker: eye(std::process::id()),
            landlock: None,
            restarts,
        }
    }

    /// Notes what Landlock restricts, which no file reports.
    pub(super) fn note_landlock(&mut self, landlock: Option<String>) {
        self.landlock = landlock;
    }

    /// The roles as they are now.
    pub(super) fn roles(&self) -> Vec<Role> {
        let monitor = self.monitor.role("monitor");
        let mut worker = self.worker.role("worker");
        worker.uid = Uid::effective().as_raw();
        worker.landlock.clone_from(&self.landlock);
        let limit = getrlimit(Resource::RLIMIT_NOFILE);
        worker.descriptor_limit = limit.ok().map(|(soft, _hard)| soft);
        worker.restarts = Some(self.restarts.into());
        vec![monitor, worker]
    }
}

impl Eye {
    fn role(&self, name: &str) -> Role {
        let mut role = Role {
            name: name.to_owned(),
            pid: self.pid,
            ..Role::default()
        };
        let Some(status) = self.read() else {
            return role;
        };
        let field = |name: &str| {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim)
        };
        // The effective one is the second of four.
        let uid = field("Uid").and_then(|uids| uids.split_ascii_whitespace().nth(1)?.parse().ok());
        role.uid = uid.unwrap_or_default();
        role.capabilities = field("CapEff").map(str::to_owned);
        role.no_new_privs = field("NoNewPrivs").map(|barred| barred == "1");
        role.seccomp = field("Seccomp").map(|mode| {
            let mode = match mode {
                "0" => "off",
                "1" => "strict",
                "2" => "filter",
                other => other,
            };
            mode.to_owned()
        });
        role
    }

    fn read(&self) -> Option<String> {
        let mut text = vec![0; MAX_SMAPS];
        let length = self.status.as_ref()?.read_at(&mut text, 0).ok()?;
        text.truncate(length);
        String::from_utf8(text).ok()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn k1_the_kernel_tells_of_both_roles() {
        let [monitor, worker] = <[Role; 2]>::try_from(Witness::open(3).roles()).expect("two roles");
        assert_eq!(worker.pid, std::process::id());
        assert_eq!(worker.uid, Uid::effective().as_raw());
        assert_eq!(worker.restarts, Some(3));
        assert!(worker.descriptor_limit.is_some_and(|limit| limit > 0));
        assert!(worker.capabilities.is_some_and(|set| set.len() == 16));
        assert_eq!(
            monitor.pid,
            u32::try_from(getppid().as_raw()).expect("a process id")
        );
        assert!(monitor.seccomp.is_some());
    }
}
