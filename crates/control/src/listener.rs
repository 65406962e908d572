//! The owner of a control socket's listener, and which owners a caller trusts (SPEC K2).
//!
//! The path of a socket does not prove who listens there: variables that name a path survive `su`,
//! and any user can make a directory. The kernel knows which process called listen(2), and reports it
//! on the connected socket before a byte is sent. `proxyctl` finds the owner's name, and chooses which
//! users to trust.

#[cfg(target_os = "linux")]
mod namespace;

use std::fmt;
use std::io;

use tokio::net::UnixStream;

/// The process that called listen(2) on a socket, at that time. For a socket of the service
/// manager, that is the service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerOwner {
    /// Its effective user id.
    pub uid: u32,
    /// Its process id, if the system reports it.
    pub pid: Option<i32>,
}

/// The users whose listeners a caller trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedListeners {
    /// Root only.
    Root,
    /// Root and this user id.
    RootAnd(u32),
    /// These processes of this user. For a socket that the caller has made for a proxy that it starts.
    Processes {
        /// The user id.
        uid: u32,
        /// The caller, which has made the socket, and the proxy.
        pids: [u32; 2],
    },
    /// Processes in the process namespace of the caller: not those of a jail. For the socket of a private proxy, which a
    /// program in a jail could put elsewhere and replace.
    OutsideJails {
        /// Of this user alone.
        user: Option<u32>,
    },
    /// Any user. For a socket that the caller has named explicitly.
    Any,
}

impl ListenerOwner {
    /// Asks the kernel about the other end of a connection.
    pub(crate) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            uid: credentials.uid(),
            // A process of another PID namespace has no number here.
            pid: credentials.pid().filter(|pid| *pid > 0),
        })
    }
}

impl TrustedListeners {
    /// Whether the listener at the other end is trusted.
    pub(crate) fn permit(self, stream: &UnixStream, listener: ListenerOwner) -> bool {
        let is_where_it_must_be = match self {
            Self::OutsideJails { .. } => is_in_own_namespace(stream, listener),
            Self::Root | Self::RootAnd(_) | Self::Processes { .. } | Self::Any => true,
        };
        is_where_it_must_be && self.include(listener)
    }

    /// Whether listeners of this owner are trusted, where they may be.
    pub fn include(self, listener: ListenerOwner) -> bool {
        let uid = listener.uid;
        match self {
            Self::Root => uid == 0,
            Self::RootAnd(user) => uid == 0 || uid == user,
            Self::Processes { uid: user, pids } => {
                let pid = listener.pid.and_then(|pid| u32::try_from(pid).ok());
                uid == user && pid.is_some_and(|pid| pids.contains(&pid))
            }
            Self::OutsideJails { user } => user.is_none_or(|user| uid == user),
            Self::Any => true,
        }
    }
}

/// Whether a listener is in the process namespace of the caller.
#[cfg(target_os = "linux")]
fn is_in_own_namespace(stream: &UnixStream, listener: ListenerOwner) -> bool {
    listener
        .pid
        .is_some_and(|pid| namespace::is_own(stream, pid))
}

/// There are no process namespaces.
#[cfg(not(target_os = "linux"))]
fn is_in_own_namespace(_: &UnixStream, _: ListenerOwner) -> bool {
    true
}

/// `uid 1000, process 4711`.
impl fmt::Display for ListenerOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uid {}", self.uid)?;
        match self.pid {
            Some(pid) => write!(f, ", process {pid}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j3_only_the_started_proxy_and_its_starter_are_trusted() {
        let trusted = TrustedListeners::Processes {
            uid: 7,
            pids: [100, 101],
        };
        for (uid, pid, is_trusted) in [
            (7, Some(100), true),
            (7, Some(101), true),
            (7, Some(102), false),
            (7, None, false),
            (8, Some(100), false),
            (0, Some(102), false),
        ] {
            let listener = ListenerOwner { uid, pid };
            assert_eq!(trusted.include(listener), is_trusted, "{listener:?}");
        }
    }

    #[test]
    fn k2_root_alone_root_and_one_user_or_all_users_are_trusted() {
        for (trusted, root, user, other) in [
            (TrustedListeners::Root, true, false, false),
            (TrustedListeners::RootAnd(7), true, true, false),
            (TrustedListeners::RootAnd(0), true, false, false),
            (TrustedListeners::Any, true, true, true),
        ] {
            let trusts = [0, 7, 8].map(|uid| trusted.include(ListenerOwner { uid, pid: None }));
            assert_eq!(trusts, [root, user, other], "{trusted:?}");
        }
    }
}
