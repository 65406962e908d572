//! Whether a listener is in the process namespace of its caller. Processes of a jail (SPEC J14) have one of their own.
//!
//! The kernel records the process that called listen(2). Its number may have been used again since, so a descriptor of
//! the process (`SO_PEERPIDFD`, Linux 6.5) tells whether the number is still its own.

use std::os::fd::AsFd;
use std::path::PathBuf;

use codex_network_files::Reading;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};

/// More bytes than the kernel's file about the state of a process has.
const MAX_STATUS: u64 = 64 * 1024;

/// Whether the process that listens at the other end is in this process namespace and lives. `pid` is its number.
pub(super) fn is_own(stream: &impl AsFd, pid: i32) -> bool {
    let process = match getsockopt(stream, sockopt::PeerPidfd) {
        Ok(process) => Some(process),
        // An older kernel.
        Err(Errno::ENOPROTOOPT) => None,
        // The process has ended.
        Err(_) => return false,
    };
    // In this order: while the process lives, its number is no other one's.
    has_no_other_number(pid) && process.is_none_or(|process| lives(&process))
}

/// Whether a process has a number in the namespace of `/proc` alone, and in none below it.
fn has_no_other_number(pid: i32) -> bool {
    let status = PathBuf::from(format!("/proc/{pid}/status"));
    let status = Reading::up_to(MAX_STATUS)
        .read_text(&status)
        .unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_some_and(|numbers| numbers.split_whitespace().count() == 1)
}

/// Whether a process has not ended. Its descriptor is readable then.
fn lives(process: &impl AsFd) -> bool {
    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO) == Ok(0)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::Command;

    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
    };

    use super::*;

    #[test]
    fn q6_a_listener_of_this_namespace_is_told_from_one_that_has_ended() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let _listener = UnixListener::bind(&path).expect("our own directory");
        let stream = UnixStream::connect(&path).expect("it listens");
        let own = i32::try_from(std::process::id()).expect("a number");
        assert!(is_own(&stream, own));
        assert!(!is_own(&stream, i32::MAX), "there is no such process");
    }

    /// The listener has ended, and another process keeps its socket. Its number could be that of any process by now.
    #[test]
    fn q6_the_number_of_a_listener_that_has_ended_proves_nothing() {
        const IS_LISTENER: &str = "LISTENS_AND_ENDS";
        if std::env::var_os(IS_LISTENER).is_some() {
            let socket = std::io::stdin();
            return listen(&socket.as_fd(), Backlog::MAXCONN).expect("the socket that it got");
        }
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("s");
        let kind = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
        let socket = socket(AddressFamily::Unix, kind.0, kind.1, None).expect("a socket");
        let address = UnixAddr::new(&path).expect("a short path");
        bind(socket.as_raw_fd(), &address).expect("our own directory");
        let test = std::thread::current();
        let listener = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", test.name().expect("a test")])
            .env(IS_LISTENER, "")
            .stdin(socket.try_clone().expect("a descriptor"))
            .output()
            .expect("it runs");
        assert!(listener.status.success(), "{listener:?}");
        let stream = UnixStream::connect(&path).expect("this process keeps the socket");
        // As if this process had got its number.
        let own = i32::try_from(std::process::id()).expect("a number");
        assert!(!is_own(&stream, own));
    }
}
