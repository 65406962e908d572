//! The mounts of the jail: a `/proc` of its own processes, and its own `/etc/resolv.conf`.

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// The file, while its file system is mounted on `/proc`.
const PRIVATE: &str = "/proc/resolv.conf";
const NOTHING: Option<&str> = None;

/// The content of `/etc/resolv.conf`: the policy DNS.
const NAME_SERVER: &str = "nameserver 127.0.0.1\n";

/// Mounts all of it. Nothing of it shows outside the jail: mounts of a new user namespace do not
/// propagate.
pub(super) fn prepare() -> io::Result<()> {
    name_server()?;
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), plain, NOTHING)
        .map_err(|error| step("cannot mount /proc", error))?;
    // The settings of the jail's network belong to user 0 of the outer namespace, who is the caller, and
    // those of the kernel to root.
    read_only("/proc/sys")?;
    if fs::exists("/proc/sysrq-trigger")? {
        read_only("/proc/sysrq-trigger")?;
    }
    leave_old_proc()
}

/// A working directory in `/proc` is still in the one that is mounted over.
fn leave_old_proc() -> io::Result<()> {
    if statfs(".").map_err(io::Error::from)?.filesystem_type() != PROC_SUPER_MAGIC {
        return Ok(());
    }
    let by_name = env::current_dir().and_then(env::set_current_dir);
    by_name.or_else(|_| env::set_current_dir("/"))
}

/// Puts a file over `/etc/resolv.conf`. Without that file, libraries use 127.0.0.1 anyway.
fn name_server() -> io::Result<()> {
    if !fs::exists(RESOLV_CONF).unwrap_or(false) {
        return Ok(());
    }
    let failed = |error| step("cannot replace /etc/resolv.conf", error);
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // A place for a moment, which every system has. Below, the file is the only thing left of it.
    mount(
        Some("tmpfs"),
        "/proc",
        Some("tmpfs"),
        plain,
        Some("size=4k,mode=755"),
    )
    .map_err(failed)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(PRIVATE)?;
    file.write_all(NAME_SERVER.as_bytes())?;
    mount(
        Some(PRIVATE),
        RESOLV_CONF,
        NOTHING,
        MsFlags::MS_BIND,
        NOTHING,
    )
    .map_err(failed)?;
    umount2("/proc", MntFlags::MNT_DETACH).map_err(failed)?;
    let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | plain;
    mount(NOTHING, RESOLV_CONF, NOTHING, again, NOTHING).map_err(failed)
}

/// Makes a part of the jail's `/proc` read-only.
fn read_only(path: &str) -> io::Result<()> {
    let failed = |error| step(&format!("cannot make {path} read-only"), error);
    mount(Some(path), path, NOTHING, MsFlags::MS_BIND, NOTHING).map_err(failed)?;
    let again = MsFlags::MS_BIND
        | MsFlags::MS_REMOUNT
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV
        | MsFlags::MS_NOEXEC;
    mount(NOTHING, path, NOTHING, again, NOTHING).map_err(failed)
}

fn step(step: &str, error: nix::Error) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("{step}: {error}"))
}
