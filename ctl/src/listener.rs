//! Names the owner of a control socket's listener, for people and for programs (SPEC K2).

use std::fmt;
use std::path::{Path, PathBuf};

use codex_network_control::{Client, ListenerOwner};
use nix::unistd::{Uid, User};
use serde::Serialize;

/// The proxy that answers, as the kernel and the user database identify it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct AnsweringProxy {
    socket: PathBuf,
    uid: u32,
    /// The user's name, if it has one.
    user: Option<String>,
    /// The id of the process that created the socket, which is the proxy or the service manager.
    pid: Option<i32>,
}

impl AnsweringProxy {
    pub(crate) fn of(client: &Client) -> Self {
        Self::at(client.path(), client.listener_owner())
    }

    pub(crate) fn at(socket: &Path, owner: ListenerOwner) -> Self {
        Self {
            socket: socket.to_owned(),
            uid: owner.uid,
            user: user_name(owner.uid),
            pid: owner.pid,
        }
    }

    /// `alice (uid 1000, process 4711)`.
    pub(crate) fn owner(&self) -> String {
        let name = self.user.as_deref().unwrap_or("a user without a name");
        let process = self.pid.map(|pid| format!(", process {pid}"));
        format!("{name} (uid {}{})", self.uid, process.unwrap_or_default())
    }

    /// Whether it is root's.
    pub(crate) fn is_of_root(&self) -> bool {
        self.uid == 0
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

/// A user's name, if the user database has one.
fn user_name(uid: u32) -> Option<String> {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten()?;
    Some(user.name)
}

/// A user's name, or `uid 1000` for one without a name.
pub(crate) fn user_or_uid(uid: u32) -> String {
    user_name(uid).unwrap_or_else(|| format!("uid {uid}"))
}

/// `root (uid 0, process 1) on /run/codex-network-proxy/control.sock`.
impl fmt::Display for AnsweringProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.owner(), self.socket.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k2_the_owner_of_a_listener_is_shown_with_all_known_facts() {
        let at = |uid, pid| {
            let owner = ListenerOwner { uid, pid };
            AnsweringProxy::at(Path::new("/s"), owner).to_string()
        };
        assert_eq!(at(0, Some(1)), "root (uid 0, process 1) on /s");
        assert_eq!(at(0, None), "root (uid 0) on /s");
        let unknown = at(4_000_000_000, None);
        assert_eq!(unknown, "a user without a name (uid 4000000000) on /s");
    }
}
