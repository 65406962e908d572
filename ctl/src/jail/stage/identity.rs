//! The users of the jail's namespaces (`user_namespaces(7)`).
//!
//! In the outer namespace the caller is user 0, so that `nft` keeps the namespace's capabilities when it is
//! executed. In the inner one the caller has the same user and group as outside. For root, both
//! namespaces have all users of the machine, so that files keep their owners.

use std::fs;
use std::io;
use std::path::Path;

use codex_network_files::Reading;
use nix::unistd::{Gid, Pid, Uid};

/// The caller's user and group, as the namespace outside the jail numbers them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    uid: Uid,
    gid: Gid,
}

impl Caller {
    pub(super) fn current() -> Self {
        Self {
            uid: Uid::effective(),
            gid: Gid::effective(),
        }
    }

    pub(super) fn is_root(self) -> bool {
        self.uid.is_root()
    }
}

/// Makes the caller user 0 of this process's new namespace.
pub(super) fn write_as_root(caller: Caller) -> io::Result<()> {
    // An ordinary user may map groups only if the namespace cannot change its list of groups.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {} 1", caller.uid))?;
    fs::write("/proc/self/gid_map", format!("0 {} 1", caller.gid))
}

/// Maps all users and groups of this process's namespace into the one that `process` has made.
pub(in super::super) fn write_whole(process: u32) -> io::Result<()> {
    for map in ["uid_map", "gid_map"] {
        let own = own_map(map)?;
        fs::write(format!("/proc/{process}/{map}"), same_numbers(&own)?)?;
    }
    Ok(())
}

/// Maps the caller's own numbers in the inner namespace, which `process` has made. Called in the outer
/// one.
pub(super) fn write_inner(process: Pid, caller: Caller) -> io::Result<()> {
    let own = own_map("uid_map")?;
    let single = own.split_whitespace().nth(2) == Some("1") && own.lines().count() == 1;
    if !single {
        return write_whole(process.as_raw().cast_unsigned());
    }
    fs::write(
        format!("/proc/{process}/uid_map"),
        format!("{} 0 1", caller.uid),
    )?;
    fs::write(
        format!("/proc/{process}/gid_map"),
        format!("{} 0 1", caller.gid),
    )
}

/// The map of this process's namespace.
fn own_map(map: &str) -> io::Result<String> {
    let path = format!("/proc/self/{map}");
    // The kernel permits 340 lines.
    let reading = Reading::up_to(64 << 10);
    reading
        .read_text(Path::new(&path))
        .map_err(io::Error::other)
}

/// A map in which every number of the reader's namespace stands for itself.
fn same_numbers(own: &str) -> io::Result<String> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "a malformed map of users");
    let mut map = String::new();
    for line in own.lines() {
        let mut numbers = line.split_whitespace();
        let first = numbers.next().ok_or_else(malformed)?;
        let count = numbers.nth(1).ok_or_else(malformed)?;
        map.extend([first, " ", first, " ", count, "\n"]);
    }
    Ok(map)
}
