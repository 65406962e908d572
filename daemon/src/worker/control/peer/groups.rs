//! The supplementary groups of a caller, from the kernel (`SO_PEERGROUPS`, socket(7)).
//!
//! They are those that the caller had when it connected, so a caller that changes or ends meanwhile
//! changes nothing. `/proc/PID/status` would tell those of whichever process has that number now.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::libc;

/// Groups that the first call has room for. For a caller in more, there is a second call.
const USUAL_GROUPS: usize = 64;

/// The most groups that Linux gives a process (`NGROUPS_MAX`).
const MAX_GROUPS: usize = 65536;

/// Asks the kernel about the other end of a connected unix socket.
pub(super) fn supplementary(stream: &impl AsFd) -> io::Result<Vec<u32>> {
    match ask(stream, USUAL_GROUPS) {
        Err(error) if error.raw_os_error() == Some(libc::ERANGE) => ask(stream, MAX_GROUPS),
        answer => answer,
    }
}

#[expect(
    unsafe_code,
    reason = "neither nix nor rustix nor socket2 has this option"
)]
fn ask(stream: &impl AsFd, room: usize) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; room];
    let bytes = room * size_of::<libc::gid_t>();
    let mut length = libc::socklen_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the whole call, since `stream` is borrowed. `groups` has
    // `length` bytes, of which the kernel writes as many as it then puts into `length`. Every bit
    // pattern is a `gid_t`.
    let outcome = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    let written = usize::try_from(length).map_err(io::Error::other)?;
    groups.truncate(written / size_of::<libc::gid_t>());
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use nix::unistd::{Gid, getgroups};

    use super::*;

    #[test]
    fn k3_the_kernel_reports_the_supplementary_groups_of_the_other_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        let _caller = UnixStream::connect(&path).expect("it listens");
        let (accepted, _) = listener.accept().expect("a caller");
        let mut reported = supplementary(&accepted).expect("groups");
        let own = getgroups().expect("our groups").into_iter();
        let mut own: Vec<u32> = own.map(Gid::as_raw).collect();
        reported.sort_unstable();
        own.sort_unstable();
        assert_eq!(reported, own);
    }

    #[test]
    fn k3_a_socket_without_another_end_has_no_groups() {
        let lone = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
        assert!(supplementary(&lone).is_err());
    }
}
