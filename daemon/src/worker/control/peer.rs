//! Identifies a caller and its access, by the kernel, before a byte is read (SPEC K3).

use codex_network_control::Access;
use nix::unistd::{Gid, Uid};
use tokio::net::UnixStream;

use crate::admitted::Admitted;

/// The process at the other end of a connection, as it was when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its effective user.
    pub(super) user: Uid,
    /// Its effective group.
    pub(super) group: Gid,
    /// Its process id, if the system tells it.
    pub(super) pid: Option<i32>,
}

impl Peer {
    /// Asks the kernel.
    pub(super) fn of(stream: &UnixStream) -> std::io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            user: Uid::from_raw(credentials.uid()),
            group: Gid::from_raw(credentials.gid()),
            pid: credentials.pid(),
        })
    }

    /// The access of this caller; `None` for a stranger.
    pub(super) fn access(&self, admitted: &Admitted) -> Option<Access> {
        admitted.access(self.user, self.group)
    }
}

/// `uid 1000, pid 4711`, for logs.
impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "uid {}", self.user)?;
        match self.pid {
            Some(pid) => write!(f, ", pid {pid}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn k3_the_kernel_tells_who_calls() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let peer = Peer::of(&one).expect("credentials");
        assert_eq!(peer.user, Uid::effective());
        assert_eq!(peer.group, Gid::effective());
    }
}
