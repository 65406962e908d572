//! The mounts of this process (`proc_pid_mountinfo(5)`).

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use codex_network_files::Reading;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc::dev_t;
use nix::sys::stat::{FileStat, fstatat, makedev};

/// Longest table. The kernel permits 100,000 mounts (`fs.mount-max`).
const MAX_TABLE_BYTES: u64 = 64 << 20;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) id: u32,
    pub(super) parent: u32,
    device: dev_t,
    /// The directory or file of the file system that is mounted.
    pub(super) root: PathBuf,
    pub(super) path: PathBuf,
    pub(super) kind: String,
}

/// Reads the table. In a new mount namespace, each mount comes after its parent.
pub(super) fn read() -> io::Result<Vec<Mount>> {
    let reading = Reading::up_to(MAX_TABLE_BYTES);
    let bytes = reading
        .read(Path::new("/proc/self/mountinfo"))
        .map_err(io::Error::other)?;
    let lines = bytes.split(|byte| *byte == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            parsed(line).ok_or_else(|| {
                let line = String::from_utf8_lossy(line);
                io::Error::new(io::ErrorKind::InvalidData, format!("not a mount: {line}"))
            })
        })
        .collect()
}

impl Mount {
    /// The mounted directory or file, if its path leads to it: another mount may cover it, and a directory on
    /// the way may be closed to the user, who then cannot reach it either.
    pub(super) fn visible(&self) -> io::Result<Option<FileStat>> {
        match fstatat(AT_FDCWD, &self.path, AtFlags::AT_NO_AUTOMOUNT) {
            Ok(found) => Ok(self.has_device_of(&found).then_some(found)),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a file is in the file system of this mount.
    pub(super) fn has_device_of(&self, file: &FileStat) -> bool {
        file.st_dev == self.device
    }
}

/// Reads `ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [OPTIONAL…] - KIND …`.
pub(super) fn parsed(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || text(fields.next()?)?.parse().ok();
    let (id, parent) = (number()?, number()?);
    let (major, minor) = text(fields.next()?)?.split_once(':')?;
    let device = makedev(major.parse().ok()?, minor.parse().ok()?);
    let (root, path) = (unescaped(fields.next()?), unescaped(fields.next()?));
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    Some(Mount {
        id,
        parent,
        device,
        root,
        path,
        kind: text(fields.next()?)?.to_owned(),
    })
}

fn text(field: &[u8]) -> Option<&str> {
    std::str::from_utf8(field).ok()
}

/// A path, in which the kernel writes white space and backslashes as three octal digits.
fn unescaped(mut field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    while let Some((byte, rest)) = field.split_first() {
        let digits = rest.first_chunk::<3>().filter(|_| *byte == b'\\');
        let value = digits.and_then(|digits| u8::from_str_radix(text(digits)?, 8).ok());
        path.push(value.unwrap_or(*byte));
        field = if value.is_some() { &rest[3..] } else { rest };
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j6_a_line_of_the_mount_table_is_read_with_and_without_optional_fields() {
        let expected = Mount {
            id: 36,
            parent: 35,
            device: makedev(98, 0),
            root: "/mnt1".into(),
            path: "/mnt \\2".into(),
            kind: "ext3".to_owned(),
        };
        for optional in ["", "master:1 ", "shared:7 master:1 "] {
            let line =
                format!(r"36 35 98:0 /mnt1 /mnt\040\1342 rw,noatime {optional}- ext3 /dev/root rw");
            assert_eq!(parsed(line.as_bytes()).as_ref(), Some(&expected), "{line}");
        }
        for malformed in [
            "",
            "36 35",
            "36 35 98:0 / /mnt rw",
            "x 35 98:0 / /m rw - a b c",
        ] {
            assert_eq!(parsed(malformed.as_bytes()), None, "{malformed}");
        }
    }

    #[test]
    fn j6_the_mounts_of_this_process_can_be_read() {
        let table = read().expect("a table");
        let root = table.iter().find(|mount| mount.path == Path::new("/"));
        let found = root.expect("a root").visible();
        assert!(found.expect("the root").is_some());
    }
}
