//! Terminals of the jail's own. A program must not reach the launcher's terminal by its path either: there it could read
//! the answer to a question of `run --ask`, or write another question (SPEC Q6).

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::stat::{SFlag, makedev};

use super::kernel::WaysOut;
use super::{NOTHING, step};

const DEV: &str = "/dev";
const TERMINALS: &str = "/dev/pts";
/// The multiplexer in that directory, which makes terminals.
const MULTIPLEXER: &str = "/dev/pts/ptmx";
const KIND: &str = "devpts";
const NO_DEVICE: &str = "/dev/null";

/// The devices that stand for the console that is in the foreground: `/dev/tty0` and `/dev/console`.
const CONSOLES: [(u64, u64); 2] = [(4, 0), (5, 1)];

/// Puts an empty file system of terminals over each one of the machine, and `/dev/null` over the launcher's terminal if
/// it is another device.
pub(super) fn replace(ways_out: &WaysOut, hidden: u64) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = Some("newinstance,ptmxmode=0666,mode=0600");
    mount(Some(KIND), TERMINALS, Some(KIND), flags, options)
        .map_err(|error| step("cannot mount /dev/pts", &error.into()))?;
    for found in ways_out.of_kind(KIND) {
        // The one at the usual place is covered by now.
        let Some(file) = found.visible()? else {
            continue;
        };
        let is_directory = SFlag::from_bits_truncate(file.st_mode).contains(SFlag::S_IFDIR);
        let source = match found.root.file_name() {
            _ if is_directory => TERMINALS,
            Some(name) if name == OsStr::new("ptmx") => MULTIPLEXER,
            _ => NO_DEVICE,
        };
        cover(&found.path, source)?;
    }
    let hidden = [hidden]
        .into_iter()
        .chain(CONSOLES.map(|(major, minor)| makedev(major, minor)));
    let hidden: Vec<u64> = hidden.collect();
    for entry in fs::read_dir(DEV)?.flatten() {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        if found.file_type().is_char_device() && hidden.contains(&found.rdev()) {
            cover(&entry.path(), NO_DEVICE)?;
        }
    }
    Ok(())
}

fn cover(path: &Path, source: &str) -> io::Result<()> {
    let all = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), path, NOTHING, all, NOTHING)
        .map_err(|error| step(&format!("cannot hide {}", path.display()), &error.into()))
}
