//! One `connect` of a program: what the supervisor took from the program, and the connection.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::unistd::Pid;
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketType};

use super::descriptors::{self, Callers, errno};
use crate::jail::stage::calls;

/// Size of `struct sockaddr_storage`, the kernel's limit for addresses.
const MAX_ADDRESS: usize = 128;
/// Size of `struct sockaddr_un`.
const MAX_UNIX_ADDRESS: usize = 110;
/// Bytes of the family, before a path.
const FAMILY: usize = 2;

/// Bytes between the family and the numbers in `struct sockaddr_nl`.
const NETLINK_PADDING: usize = 2;
/// Bytes of the numbers: that of the socket, and the groups.
const NETLINK_NUMBERS: usize = 8;

/// A program's call, which waits for its answer.
pub(super) struct Call {
    pub(super) id: u64,
    pub(super) thread: Pid,
    /// A duplicate of the program's descriptor: the same socket.
    socket: OwnedFd,
    address: [u8; MAX_ADDRESS],
    length: usize,
    begun: Instant,
}

/// Where a call leads.
pub(super) enum Address {
    /// To a unix socket at a path.
    Path(PathBuf),
    /// To an address of the socket's own network namespace.
    Other,
}

/// How far a connection has come.
pub(super) enum Progress {
    Done(Result<(), Errno>),
    /// Not finished in the time given.
    Waits,
}

impl Call {
    /// Takes the socket and the address. `None` when the caller is gone.
    pub(super) fn read(
        listener: BorrowedFd<'_>,
        received: &libc::seccomp_notif,
        callers: &mut Callers,
    ) -> Result<Option<Self>, Errno> {
        let thread = Pid::from_raw(received.pid.cast_signed());
        let taken = Self::take_all(received, thread, callers);
        // Only now is it certain that `thread` was the caller, and not a later one with its number.
        if calls::is_waiting(listener, received.id) {
            taken.map(Some)
        } else {
            callers.forget(thread);
            Ok(None)
        }
    }

    fn take_all(
        received: &libc::seccomp_notif,
        thread: Pid,
        callers: &mut Callers,
    ) -> Result<Self, Errno> {
        let [descriptor, address, length, ..] = received.data.args;
        // The kernel reads the lower halves of these registers.
        let lower = |register: u64| {
            let [first, second, third, fourth, ..] = register.to_le_bytes();
            i32::from_le_bytes([first, second, third, fourth])
        };
        let (descriptor, length) = (lower(descriptor), lower(length));
        let socket = callers
            .take(thread, descriptor)
            .map_err(|error| match error {
                Errno::EBADF => error,
                _ => Errno::EACCES,
            })?;
        let length = usize::try_from(length).map_err(|_| Errno::EINVAL)?;
        let mut bytes = [0; MAX_ADDRESS];
        let read = bytes.get_mut(..length).ok_or(Errno::EINVAL)?;
        if !read.is_empty() {
            calls::read_memory(thread, address, read)?;
        }
        Ok(Self {
            id: received.id,
            thread,
            socket,
            address: bytes,
            length,
            begun: Instant::now(),
        })
    }

    /// Where the call leads. An error when its socket must not connect.
    pub(super) fn address(&self, network: u64) -> Result<Address, Errno> {
        if calls::network_of(self.socket.as_fd())? != network {
            return Err(Errno::EACCES);
        }
        let domain = sockopt::socket_domain(&self.socket).map_err(errno)?;
        if domain == AddressFamily::NETLINK && self.leads_to_netlink() {
            return Err(Errno::EPERM);
        }
        if domain != AddressFamily::UNIX {
            return Ok(Address::Other);
        }
        if !self.is_stream()? {
            return Err(Errno::EACCES);
        }
        // As `unix_validate_addr` of the kernel.
        if self.length <= FAMILY || self.length > MAX_UNIX_ADDRESS {
            return Err(Errno::EINVAL);
        }
        let (family, name) = self.address[..self.length].split_at(FAMILY);
        if family != AddressFamily::UNIX.as_raw().to_ne_bytes() {
            return Err(Errno::EINVAL);
        }
        let path = name.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(if path.is_empty() {
            Address::Other
        } else {
            Address::Path(std::ffi::OsString::from_vec(path.to_vec()).into())
        })
    }

    /// Whether the address names another socket than the kernel's, or groups. The kernel permits that to
    /// this process, and not to the program (`netlink_connect`).
    fn leads_to_netlink(&self) -> bool {
        let (family, rest) = self.address.split_at(FAMILY);
        family == AddressFamily::NETLINK.as_raw().to_ne_bytes()
            && rest[NETLINK_PADDING..NETLINK_PADDING + NETLINK_NUMBERS] != [0; NETLINK_NUMBERS]
    }

    /// Replaces the address by the path of an open file.
    pub(super) fn lead_to(&mut self, file: &OwnedFd) {
        (self.address, self.length) = file_address(file.as_fd());
    }

    /// Connects the socket. Waits at most `limit`, if the socket blocks.
    pub(super) fn connect(&mut self, limit: Duration) -> Progress {
        let blocks = !self.is_nonblocking() && self.is_stream().unwrap_or(true);
        if !blocks {
            return Progress::Done(self.connect_now());
        }
        // The time limit is the socket's, for want of one for a single call.
        let Ok(own) = sockopt::socket_timeout(&self.socket, Timeout::Send) else {
            return Progress::Done(Err(Errno::EACCES));
        };
        let left = own.map(|own| own.saturating_sub(self.begun.elapsed()));
        let shorter = left.is_none_or(|left| left > limit);
        if shorter && sockopt::set_socket_timeout(&self.socket, Timeout::Send, Some(limit)).is_err()
        {
            return Progress::Done(Err(Errno::EACCES));
        }
        let outcome = self.connect_now();
        if shorter {
            // It was valid before.
            let _ = sockopt::set_socket_timeout(&self.socket, Timeout::Send, own);
        }
        match outcome {
            Err(Errno::EINPROGRESS | Errno::EALREADY | Errno::EAGAIN) if shorter => Progress::Waits,
            // The socket's own time limit, which a program sees as these.
            Err(Errno::EALREADY) => Progress::Done(Err(Errno::EINPROGRESS)),
            outcome => Progress::Done(outcome),
        }
    }

    /// Whether the caller has a handler for a signal that waits for the end of the call.
    pub(super) fn is_interrupted(&self) -> bool {
        let [thread, process, blocked, caught] =
            descriptors::status(self.thread, ["SigPnd:", "ShdPnd:", "SigBlk:", "SigCgt:"]).map(
                |set| {
                    set.and_then(|set| u64::from_str_radix(&set, 16).ok())
                        .unwrap_or(0)
                },
            );
        (thread | process) & !blocked & caught != 0
    }

    fn connect_now(&self) -> Result<(), Errno> {
        calls::connect(self.socket.as_fd(), &self.address[..self.length])
    }

    /// Whether the socket is of a connected type.
    fn is_stream(&self) -> Result<bool, Errno> {
        let kind = sockopt::socket_type(&self.socket).map_err(errno)?;
        Ok(kind == SocketType::STREAM || kind == SocketType::SEQPACKET)
    }

    fn is_nonblocking(&self) -> bool {
        let flags = fcntl(&self.socket, FcntlArg::F_GETFL).unwrap_or(0);
        OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK)
    }
}

/// The address of the unix socket that an open file is, whatever its path is by now, and its length.
pub(super) fn file_address(file: BorrowedFd<'_>) -> ([u8; MAX_ADDRESS], usize) {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let mut bytes = [0; MAX_ADDRESS];
    bytes[..FAMILY].copy_from_slice(&AddressFamily::UNIX.as_raw().to_ne_bytes());
    bytes[FAMILY..FAMILY + path.len()].copy_from_slice(path.as_bytes());
    // With the byte that ends the path.
    (bytes, FAMILY + path.len() + 1)
}
