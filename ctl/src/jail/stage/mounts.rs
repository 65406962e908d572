//! The mounts of the jail: a `/proc` of its own processes, its own files of names, and no mount that
//! leads to the machine's processes or settings.
//!
//! - `kernel`: the mounts that lead out, and their treatment.
//! - `names`: the files by which programs look names up.
//! - `table`: the list of mounts.
//! - `terminals`: terminals of the jail's own.

mod kernel;
mod names;
mod table;
mod terminals;

use std::env;
use std::fs;
use std::io;
use std::path::Path;

use kernel::WaysOut;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};

const NOTHING: Option<&str> = None;
/// The options of the jail's own file systems.
const PLAIN: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// Parts of `/proc` in which root changes the machine. A kernel need not have them.
const OF_ROOT: [&str; 9] = [
    "/proc/acpi",
    "/proc/bus",
    "/proc/driver",
    "/proc/dynamic_debug",
    "/proc/fs",
    "/proc/irq",
    "/proc/mtrr",
    "/proc/scsi",
    "/proc/sysrq-trigger",
];

/// Mounts all of it. Nothing of it shows outside the jail, and mounts that are made outside from now on do
/// not show in it. With the device number of the launcher's terminal, the jail gets terminals of its own, and no path in
/// it leads to those of the machine.
pub(super) fn prepare(hidden_terminal: Option<u64>) -> io::Result<()> {
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(NOTHING, "/", NOTHING, private, NOTHING)
        .map_err(|error| step("cannot make the mounts private", &error.into()))?;
    let ways_out = WaysOut::find()?;
    names::replace()?;
    mount(Some("proc"), "/proc", Some("proc"), PLAIN, NOTHING)
        .map_err(|error| step("cannot mount /proc", &error.into()))?;
    // The settings of the jail's network belong to user 0 of the outer namespace, who is the caller.
    read_only_part("/proc/sys")?;
    for part in OF_ROOT {
        if fs::exists(part)? {
            read_only_part(part)?;
        }
    }
    if let Some(device) = hidden_terminal {
        terminals::replace(&ways_out, device)?;
    }
    ways_out.close()?;
    leave_covered_directory(&ways_out)
}

/// Enters the working directory anew, by its name: it may be below a mount that now covers it. A directory
/// whose name the user may not use stays, unless it is the kernel's.
fn leave_covered_directory(ways_out: &WaysOut) -> io::Result<()> {
    match env::current_dir().and_then(env::set_current_dir) {
        Ok(()) => Ok(()),
        Err(error)
            if error.kind() == io::ErrorKind::PermissionDenied && !ways_out.include(".")? =>
        {
            Ok(())
        }
        Err(_) => env::set_current_dir("/"),
    }
}

/// Makes a part of the jail's `/proc` read-only.
fn read_only_part(path: &str) -> io::Result<()> {
    let failed = |error: io::Error| step(&format!("cannot make {path} read-only"), &error);
    mount(Some(path), path, NOTHING, MsFlags::MS_BIND, NOTHING)
        .map_err(|error| failed(error.into()))?;
    read_only(Path::new(path)).map_err(failed)
}

/// Makes the mount at this path read-only. Its other options stay: in a user namespace, most of them may not
/// be taken away.
fn read_only(path: &Path) -> io::Result<()> {
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    let options = statvfs(path)?.flags();
    for (option, flag) in [
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    ] {
        flags.set(flag, options.contains(option));
    }
    // Without an option about access times, those in force stay.
    Ok(mount(NOTHING, path, NOTHING, flags, NOTHING)?)
}

fn step(step: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{step}: {error}"))
}
