//! Paths of unix sockets. A path leads only to a socket that a program has made in the jail.
//!
//! The number of a file does not suffice to recognize such a socket: `sock_diag(7)` gives 32 bits of it,
//! and file systems such as btrfs use one number for several files. So the supervisor looks for the
//! socket itself: it takes the unix sockets that the jail's programs have bound, checks that they belong
//! to the jail's network namespace, and lets the kernel open the files that they are bound to. When one
//! of these is the file at the program's path, the connection goes through the socket's own file. It
//! cannot reach any other socket, even if the comparison were wrong.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use codex_network_files::Reading;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::Pid;
use rustix::net::{AddressFamily, SocketFlags, SocketType, getpeername, socket_with, sockopt};

use super::call::{self, Call};
use super::descriptors::{self, errno};
use crate::jail::stage::calls;

/// Files of sockets that stay open.
const MAX_FILES: usize = 64;
/// Most descriptors that are tried in a process that does not list them.
const MAX_DESCRIPTORS: i32 = 1 << 16;
/// Largest list of unix sockets that is read.
const MAX_LIST: u64 = 8 << 20;

/// Device and number of a file. It is unique among files that exist or are open.
type Identity = (u64, u64);

/// The files of sockets that were found in the jail. A file that is open keeps its number, and at most
/// one socket is ever bound to it.
#[derive(Default)]
pub(super) struct SocketFiles(Mutex<VecDeque<(Identity, Arc<OwnedFd>)>>);

impl SocketFiles {
    /// The file of the socket at a path of the calling program. `EACCES` when its socket is not the
    /// jail's.
    pub(super) fn open(
        &self,
        call: &Call,
        path: &Path,
        network: u64,
    ) -> Result<Arc<OwnedFd>, Errno> {
        let target = open_path(call.thread, path)?;
        let facts = fstat(&target)?;
        if SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
            return Err(why_not(&target));
        }
        let identity = (facts.st_dev, facts.st_ino);
        if let Some(file) = self.known(identity) {
            return Ok(file);
        }
        if let Some(file) = find(identity, network) {
            return Ok(self.keep(identity, file));
        }
        Err(why_not(&target))
    }

    fn known(&self, identity: Identity) -> Option<Arc<OwnedFd>> {
        let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = files.iter().find(|(known, _)| *known == identity);
        known.map(|(_, file)| Arc::clone(file))
    }

    fn keep(&self, identity: Identity, file: OwnedFd) -> Arc<OwnedFd> {
        let file = Arc::new(file);
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if files.len() >= MAX_FILES {
            files.pop_front();
        }
        files.push_back((identity, Arc::clone(&file)));
        file
    }
}

/// Opens the file at a path as the program would: below its working directory, or below its root. That
/// is this process's root, since the filter permits no other.
fn open_path(thread: Pid, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    if let Some(path) = of_own_process(thread, path) {
        return openat(AT_FDCWD, &path, flags, Mode::empty());
    }
    if path.is_absolute() {
        return openat(AT_FDCWD, path, flags, Mode::empty());
    }
    let directory = format!("/proc/{thread}/cwd");
    let directory = openat(
        AT_FDCWD,
        directory.as_str(),
        flags | OFlag::O_DIRECTORY,
        Mode::empty(),
    )?;
    openat(&directory, path, flags, Mode::empty())
}

/// The path below the program's own process in `/proc`, if it leads there by the usual names. `/proc/self` and
/// the links to it mean this process here.
fn of_own_process(thread: Pid, path: &Path) -> Option<PathBuf> {
    let names = [
        ("/proc/self", ""),
        ("/proc/thread-self", ""),
        ("/dev/fd", "fd"),
        ("/dev/stdin", "fd/0"),
        ("/dev/stdout", "fd/1"),
        ("/dev/stderr", "fd/2"),
    ];
    names.iter().find_map(|(name, meaning)| {
        let below = path.strip_prefix(name).ok()?;
        let own = PathBuf::from(format!("/proc/{thread}"));
        let parts = [Path::new(meaning), below].into_iter();
        Some(
            own.join(
                parts
                    .filter(|part| !part.as_os_str().is_empty())
                    .collect::<PathBuf>(),
            ),
        )
    })
}

/// Looks for the socket that is bound to a file, among those of all programs in the jail.
fn find(identity: Identity, network: u64) -> Option<OwnedFd> {
    let mut bound = bound_sockets();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        if bound.is_empty() {
            return None;
        }
        let number = process.file_name();
        let number = number.to_str().and_then(|name| name.parse().ok());
        let Some(number @ 2..) = number else {
            continue;
        };
        let process = Pid::from_raw(number);
        for descriptor in candidates(process, &bound) {
            // The program may have closed it, or ended.
            let Ok(socket) = descriptors::take(process, descriptor) else {
                continue;
            };
            if fstat(&socket).is_ok_and(|facts| bound.remove(&facts.st_ino))
                && let Ok(file) = file_of_socket(&socket, network)
                && fstat(&file).is_ok_and(|facts| (facts.st_dev, facts.st_ino) == identity)
            {
                return Some(file);
            }
        }
    }
    None
}

/// The descriptors of a process that may be one of the bound sockets.
fn candidates(process: Pid, bound: &BTreeSet<u64>) -> Vec<i32> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else {
        // A process that forbids tracing hides the list (`ssh-agent` is one).
        let [size] = descriptors::status(process, ["FDSize:"]);
        let size: i32 = size.and_then(|size| size.parse().ok()).unwrap_or(0);
        return (0..size.min(MAX_DESCRIPTORS)).collect();
    };
    let number = |descriptor: fs::DirEntry| {
        let link = fs::read_link(descriptor.path()).ok()?;
        let is_bound = socket_number(link.as_os_str()).is_some_and(|it| bound.contains(&it));
        let name = descriptor.file_name();
        is_bound.then(|| name.to_str()?.parse().ok()).flatten()
    };
    descriptors.flatten().filter_map(number).collect()
}

/// The file of a program's unix socket, if the socket was made in the jail and bound there.
fn file_of_socket(socket: &OwnedFd, network: u64) -> Result<OwnedFd, Errno> {
    if calls::network_of(socket.as_fd())? != network
        || sockopt::socket_domain(socket).map_err(errno)? != AddressFamily::UNIX
    {
        return Err(Errno::EACCES);
    }
    // The accepting end of a connection has the connecting program's namespace, and the path that the
    // other program has bound.
    match getpeername(socket) {
        Err(rustix::io::Errno::NOTCONN) => calls::file_of(socket.as_fd()),
        _ => Err(Errno::EACCES),
    }
}

/// The numbers of the jail's unix sockets that are bound to paths and not connected. A program may write
/// anything into a path, so these are only candidates.
fn bound_sockets() -> BTreeSet<u64> {
    let list = Reading::up_to(MAX_LIST).read(Path::new("/proc/self/net/unix"));
    let list = list.map(|list| list.to_vec()).unwrap_or_default();
    let mut numbers = BTreeSet::new();
    for line in list.split(|byte| *byte == b'\n') {
        let mut fields = line
            .split(|byte| *byte == b' ')
            .filter(|field| !field.is_empty());
        // Address, references, protocol, flags, type, state, number, path.
        let (state, number, path) = (fields.nth(5), fields.next(), fields.next());
        let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        if let (Some(b"01"), Some(number), Some([first, ..])) = (state, number, path)
            && *first != b'@'
        {
            numbers.insert(number);
        }
    }
    numbers
}

/// The number in `socket:[NUMBER]`.
fn socket_number(link: &OsStr) -> Option<u64> {
    let number = link
        .as_bytes()
        .strip_prefix(b"socket:[")?
        .strip_suffix(b"]")?;
    std::str::from_utf8(number).ok()?.parse().ok()
}

/// Why no connection is made: `ECONNREFUSED` when no socket is bound to the file, which programs expect
/// of a file that was left behind. A datagram socket finds out, since it never connects to a stream.
fn why_not(target: &OwnedFd) -> Errno {
    let probe = socket_with(
        AddressFamily::UNIX,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    );
    let (address, length) = call::file_address(target.as_fd());
    match probe.map(|probe| calls::connect(probe.as_fd(), &address[..length])) {
        Ok(Err(Errno::ECONNREFUSED)) => Errno::ECONNREFUSED,
        _ => Errno::EACCES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j6_the_usual_names_of_descriptors_are_those_of_the_program() {
        let of = |path: &str| of_own_process(Pid::from_raw(7), Path::new(path));
        for (path, meant) in [
            ("/proc/self/cwd/own", "/proc/7/cwd/own"),
            ("/proc/thread-self/fd/3", "/proc/7/fd/3"),
            ("/dev/fd/3", "/proc/7/fd/3"),
            ("/dev/fd/3/own", "/proc/7/fd/3/own"),
            ("/dev/stdin", "/proc/7/fd/0"),
            ("/dev/stderr", "/proc/7/fd/2"),
        ] {
            assert_eq!(of(path), Some(meant.into()), "{path}");
        }
        for other in ["/dev/fdx/3", "/dev/null", "dev/fd/3", "/proc/8/fd/3"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
