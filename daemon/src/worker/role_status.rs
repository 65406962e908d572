//! The privilege of monitor and worker as the kernel reports it, for `proxyctl status`.
//!
//! A confined worker cannot open files under `/proc`. So it opens the two that it needs before it
//! confines itself. The kernel generates their content at every read. With `ProtectProc=invisible` only
//! root sees the monitor there, so the worker opens them before it becomes another user. Only Linux has
//! these files. On other systems `status` shows less.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

use codex_network_control::message::Role;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{Uid, getppid};

/// Longest `/proc/PID/status` that is read, in bytes. The files have about 1.5 KiB.
const MAX_STATUS_BYTES: usize = 16 * 1024;

/// The roles, with an open file for each.
#[derive(Debug)]
pub(super) struct RoleStatus {
    monitor: ProcessStatus,
    worker: ProcessStatus,
    landlock: Option<String>,
    restarts: u32,
}

#[derive(Debug)]
struct ProcessStatus {
    pid: u32,
    status: Option<File>,
}

impl RoleStatus {
    /// Call it before the worker gives up its privilege. `restarts` is how many workers came before.
    pub(super) fn open(restarts: u32) -> Self {
        let process = |pid: u32| ProcessStatus {
            pid,
            status: File::open(format!("/proc/{pid}/status")).ok(),
        };
        Self {
            monitor: process(u32::try_from(getppid().as_raw()).unwrap_or_default()),
            worker: process(std::process::id()),
            landlock: None,
            restarts,
        }
    }

    /// Records which accesses Landlock restricts. No file reports that.
    pub(super) fn record_landlock(&mut self, landlock: Option<String>) {
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

impl ProcessStatus {
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
        // The line has the real, effective, saved and file-system ids, in this order.
        let uid = field("Uid").and_then(|uids| uids.split_ascii_whitespace().nth(1)?.parse().ok());
        role.uid = uid.unwrap_or_default();
        role.capabilities = field("CapEff").map(str::to_owned);
        role.no_new_privs = field("NoNewPrivs").map(|set| set == "1");
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
        let mut text = vec![0; MAX_STATUS_BYTES];
        let length = self.status.as_ref()?.read_at(&mut text, 0).ok()?;
        text.truncate(length);
        String::from_utf8(text).ok()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn k1_the_kernel_reports_both_roles() {
        let [monitor, worker] =
            <[Role; 2]>::try_from(RoleStatus::open(3).roles()).expect("two roles");
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
