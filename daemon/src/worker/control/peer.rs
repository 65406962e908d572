//! Identifies a caller and its groups, by the kernel, before a byte is read (SPEC K3).

#[cfg(target_os = "linux")]
mod groups;

use nix::unistd::{Gid, Uid};
use tokio::net::UnixStream;

/// The process at the other end of a connection, as it was when it connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    /// Its effective user.
    pub(super) user: Uid,
    /// Its effective group.
    pub(super) group: Gid,
    /// Its process id, if the system reports it.
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

    /// Its groups when it connected: the effective one and, on Linux, the supplementary ones. Elsewhere
    /// only the user database says which users are in a group.
    #[cfg(target_os = "linux")]
    pub(super) fn groups(&self, stream: &UnixStream) -> Vec<Gid> {
        let supplementary = groups::supplementary(stream).unwrap_or_else(|error| {
            tracing::debug!(%error, "the system does not tell the groups of a caller of the control socket");
            Vec::new()
        });
        let supplementary = supplementary.into_iter().map(Gid::from_raw);
        supplementary.chain([self.group]).collect()
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn groups(&self, _stream: &UnixStream) -> Vec<Gid> {
        vec![self.group]
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
    async fn k3_the_kernel_identifies_the_caller() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let peer = Peer::of(&one).expect("credentials");
        assert_eq!(peer.user, Uid::effective());
        assert_eq!(peer.group, Gid::effective());
    }
}
