//! The mounts that lead out of the jail: file systems whose files are the kernel's, or a process's, and
//! not data.
//!
//! `/sys` and its like become read-only. Of `/proc` and `/dev/mqueue` the jail gets its own. The others
//! are replaced by an empty directory.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{FileStat, Mode, SFlag, stat};

use super::table::{self, Mount};
use super::{NOTHING, PLAIN, read_only, step};

/// Where file systems of the kernel are, whatever their kind.
const SYS: &str = "/sys";

/// How the jail treats the mounts of a kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Treatment {
    /// Files of the kernel. Writing to them changes the machine: `cgroup.kill`, `uevent_helper`.
    ReadOnly,
    /// The machine's processes. The jail's own `/proc` takes its place.
    OwnProcesses,
    /// The machine's message queues. Those of the jail's IPC namespace take their place.
    OwnQueues,
    /// A process outside answers: the automounter looks up any name that is used as a directory. Pipes and
    /// devices work on a read-only mount too.
    Hide,
}

impl Treatment {
    fn of(mount: &Mount) -> Option<Self> {
        match mount.kind.as_str() {
            "proc" => Some(Self::OwnProcesses),
            "mqueue" => Some(Self::OwnQueues),
            "autofs" | "binder" | "rpc_pipefs" => Some(Self::Hide),
            "binfmt_misc" | "bpf" | "cgroup" | "cgroup2" | "configfs" | "cpuset" | "debugfs"
            | "dlmfs" | "efivarfs" | "functionfs" | "fusectl" | "nfsd" | "ocfs2_dlmfs"
            | "openpromfs" | "pstore" | "resctrl" | "s390_hypfs" | "securityfs" | "selinuxfs"
            | "smackfs" | "sysfs" | "tracefs" | "xenfs" => Some(Self::ReadOnly),
            _ if mount.path.starts_with(SYS) => Some(Self::ReadOnly),
            _ => None,
        }
    }
}

/// The mounts that lead out, as they were before the jail changed any.
pub(super) struct WaysOut {
    table: Vec<Mount>,
}

impl WaysOut {
    /// Reads the machine's `/proc`, so this comes before the jail's own.
    pub(super) fn find() -> io::Result<Self> {
        let table = table::read()?;
        Ok(Self { table })
    }

    /// Closes all of them. Uses the jail's `/proc`.
    pub(super) fn close(&self) -> io::Result<()> {
        for mount in &self.table {
            let Some(treatment) = Treatment::of(mount) else {
                continue;
            };
            let closed = match mount.visible()? {
                Some(found) => self.close_one(mount, treatment, &found),
                None => Ok(()),
            };
            closed.map_err(|error| {
                let what = format!("cannot close {} ({})", mount.path.display(), mount.kind);
                step(&what, &error)
            })?;
        }
        Ok(())
    }

    /// The mounts of this kind of file system.
    pub(super) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Mount> {
        self.table.iter().filter(move |mount| mount.kind == kind)
    }

    /// Whether a file is in one of these file systems.
    pub(super) fn include(&self, path: &str) -> io::Result<bool> {
        let file = stat(path)?;
        let mut mounts = self.table.iter();
        Ok(mounts.any(|mount| Treatment::of(mount).is_some() && mount.has_device_of(&file)))
    }

    fn close_one(&self, found: &Mount, treatment: Treatment, file: &FileStat) -> io::Result<()> {
        let path = found.path.as_path();
        let is_whole = found.root == Path::new("/");
        match treatment {
            Treatment::ReadOnly => read_only(path),
            Treatment::OwnProcesses if is_whole => {
                let all = MsFlags::MS_BIND | MsFlags::MS_REC;
                Ok(mount(Some("/proc"), path, NOTHING, all, NOTHING)?)
            }
            Treatment::OwnQueues if is_whole => {
                Ok(mount(Some("mqueue"), path, Some("mqueue"), PLAIN, NOTHING)?)
            }
            _ if SFlag::from_bits_truncate(file.st_mode).contains(SFlag::S_IFDIR) => {
                self.hide(found)
            }
            _ => Ok(mount(
                Some("/dev/null"),
                path,
                NOTHING,
                MsFlags::MS_BIND,
                NOTHING,
            )?),
        }
    }

    /// Puts an empty directory over a mount. The mounts on directories in it stay, such as home directories
    /// that were mounted automatically.
    fn hide(&self, hidden: &Mount) -> io::Result<()> {
        let below = self.table.iter();
        let below = below.filter(|mount| mount.parent == hidden.id && mount.path != hidden.path);
        let mut kept = Vec::new();
        for mount in below {
            // `O_PATH` makes the automounter do nothing.
            let options = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            if let Ok(directory) = open(&mount.path, options, Mode::empty()) {
                kept.push((mount, directory));
            }
        }
        let path = hidden.path.as_path();
        let options = Some("size=1m,mode=755");
        mount(Some("tmpfs"), path, Some("tmpfs"), PLAIN, options)?;
        for (below, directory) in kept {
            fs::create_dir_all(&below.path)?;
            let source = format!("/proc/self/fd/{}", directory.as_raw_fd());
            let all = MsFlags::MS_BIND | MsFlags::MS_REC;
            mount(Some(source.as_str()), &below.path, NOTHING, all, NOTHING)?;
        }
        read_only(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j14_each_kind_of_mount_has_its_treatment() {
        let of = |kind: &str, path: &str| {
            let line = format!("36 35 0:5 / {path} rw - {kind} none rw");
            Treatment::of(&table::parsed(line.as_bytes()).expect("a mount"))
        };
        assert_eq!(of("proc", "/srv/root/proc"), Some(Treatment::OwnProcesses));
        assert_eq!(of("mqueue", "/dev/mqueue"), Some(Treatment::OwnQueues));
        assert_eq!(of("autofs", "/net"), Some(Treatment::Hide));
        assert_eq!(of("cgroup2", "/run/cgroup"), Some(Treatment::ReadOnly));
        assert_eq!(of("tmpfs", "/sys/fs/cgroup"), Some(Treatment::ReadOnly));
        assert_eq!(of("tmpfs", "/run"), None);
        assert_eq!(of("tmpfs", "/system"), None);
    }
}
