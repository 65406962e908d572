//! Unix sockets: finds the file that a path leads to, and connects to that very file. This is the
//! only place in the engine that connects to a unix socket (`ARCHITECTURE.md`, "Invariants").
//!
//! Between the judgement and the connection no other process may put another file in place. On
//! Linux that is impossible: the file is held open (`O_PATH`), the kernel gives its name, and the
//! connection goes through the descriptor. Elsewhere the file is identified by device and inode,
//! which are compared again after the connection is made and before a byte is sent. One attack
//! remains there: a user who may write to a folder on the canonical path can swap the file for the
//! moment of the connection and back again. That user could as well replace the allowed socket for
//! good, since the operator chose that folder.
//!
//! On Linux this serves tests only: a request is refused for its platform before it gets here, and
//! the daemon's worker may neither open files (Landlock) nor make unix sockets (seccomp).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::Duration;

use codex_network_policy::UnixSocketPath;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::ConnectError;
use crate::enforce::unix_socket::{Claim, SocketPermit};
use crate::error::Failure;

#[cfg(not(target_os = "linux"))]
use by_path::Held;
#[cfg(target_os = "linux")]
use held::Held;

/// A file that was found. Another file cannot take its place.
#[derive(Debug)]
pub(crate) struct Socket {
    identity: SocketIdentity,
    held: Held,
}

/// Which file it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SocketIdentity {
    /// Its canonical path.
    path: UnixSocketPath,
    node: Node,
}

/// The system's identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    device: u64,
    inode: u64,
}

/// The file at a path, and the entries of the list that lead to the same file.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) found: Result<Socket, SocketError>,
    pub(crate) aliases: Vec<UnixSocketPath>,
}

/// Why an allowed socket cannot be used. The text is for the client and the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    /// The path leads nowhere.
    #[error("there is no such socket")]
    Missing,
    /// A folder, a file, or anything else that is not a socket.
    #[error("the file at this path is not a socket")]
    NotASocket,
    /// The user that the proxy runs as has no permission.
    #[error("the user that the proxy runs as may not use the socket")]
    Inaccessible,
    /// Its canonical path is longer than an address may be.
    #[error("the path of the socket is too long for this system")]
    TooLong,
    /// Another file was there after the connection was made.
    #[error("the socket was replaced while the proxy connected to it")]
    #[cfg_attr(
        all(target_os = "linux", not(test)),
        expect(dead_code, reason = "cannot happen there")
    )]
    Replaced,
    /// Any other connection error.
    #[error("{}", connecting(.0))]
    Connect(#[source] ConnectError),
}

fn connecting(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Refused => "nothing listens on the socket",
        ConnectError::Timeout => "the connection timed out",
        ConnectError::ExhaustedDescriptors => "the proxy has no file descriptors left",
        ConnectError::Unreachable | ConnectError::Other(_) => "the connection failed",
    }
}

/// Finds the file of a claim's path, and has it judged.
pub(crate) async fn permitted(claim: Claim) -> Result<SocketPermit, Failure> {
    let (path, entries) = (claim.path().clone(), claim.entries());
    let limit = claim.generation().settings().daemon.limits.connect_timeout;
    // Looking at a file can take as long as its file server takes.
    let look = tokio::task::spawn_blocking(move || Look::at(&path, entries));
    let look = match timeout(limit, look).await {
        Ok(Ok(look)) => look,
        Ok(Err(_)) | Err(_) => Look {
            found: Err(SocketError::Connect(ConnectError::Timeout)),
            aliases: Vec::new(),
        },
    };
    claim.vet(look)
}

/// Connects to the permitted socket.
pub(super) async fn connect(
    permit: &SocketPermit,
    limit: Duration,
) -> Result<UnixStream, SocketError> {
    let socket = permit.socket();
    timeout(limit, socket.held.connect(&socket.identity))
        .await
        .unwrap_or(Err(SocketError::Connect(ConnectError::Timeout)))
}

/// The normalised form of a system path; `None` when it is relative.
pub(crate) fn path_of(path: &Path) -> Option<UnixSocketPath> {
    UnixSocketPath::parse(path.as_os_str().as_bytes()).ok()
}

fn as_path(path: &UnixSocketPath) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}

impl Look {
    fn at(path: &UnixSocketPath, mut entries: Vec<UnixSocketPath>) -> Self {
        let found = Socket::find(path);
        match &found {
            Ok(socket) => entries.retain(|entry| {
                let file = std::fs::canonicalize(as_path(entry)).ok();
                file.as_deref().and_then(path_of).as_ref() == Some(socket.path())
            }),
            Err(_) => entries.clear(),
        }
        Self {
            found,
            aliases: entries,
        }
    }
}

impl Socket {
    fn find(path: &UnixSocketPath) -> Result<Self, SocketError> {
        let (held, canonical, metadata) = Held::find(as_path(path))?;
        if !metadata.file_type().is_socket() {
            return Err(SocketError::NotASocket);
        }
        let identity = SocketIdentity {
            path: path_of(&canonical).ok_or(SocketError::Missing)?,
            node: Node::of(&metadata),
        };
        Ok(Self { identity, held })
    }

    /// Its canonical path.
    pub(crate) fn path(&self) -> &UnixSocketPath {
        &self.identity.path
    }

    pub(crate) fn node(&self) -> Node {
        self.identity.node
    }

    pub(super) fn identity(&self) -> &SocketIdentity {
        &self.identity
    }
}

impl Node {
    pub(crate) fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

#[cfg(target_os = "linux")]
mod held {
    //! The file held open.

    use std::fs::{File, Metadata, OpenOptions, read_link};
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
    use std::path::PathBuf;

    use nix::libc::O_PATH;

    use super::{Path, SocketError, SocketIdentity, UnixStream, dial};

    #[derive(Debug)]
    pub(super) struct Held(File);

    impl Held {
        pub(super) fn find(path: &Path) -> Result<(Self, PathBuf, Metadata), SocketError> {
            // Opens nothing: the descriptor is a lasting reference to the file (open(2)).
            let held = OpenOptions::new()
                .read(true)
                .custom_flags(O_PATH)
                .open(path)
                .map(Self)?;
            let canonical = read_link(held.name())?;
            let metadata = held.0.metadata()?;
            // For a file without a name the kernel may give the name of another file.
            if metadata.nlink() == 0 {
                return Err(SocketError::Missing);
            }
            Ok((held, canonical, metadata))
        }

        pub(super) async fn connect(
            &self,
            _identity: &SocketIdentity,
        ) -> Result<UnixStream, SocketError> {
            dial(&self.name()).await
        }

        fn name(&self) -> PathBuf {
            format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
        }
    }
}

#[cfg(any(not(target_os = "linux"), test))]
mod by_path {
    //! The file known by device and inode. Compiled on Linux for its tests.

    use std::fs::{Metadata, canonicalize, symlink_metadata};
    use std::path::PathBuf;

    use super::{Node, Path, SocketError, SocketIdentity, UnixStream, as_path, dial};

    #[derive(Debug)]
    pub(super) struct Held;

    impl Held {
        pub(super) fn find(path: &Path) -> Result<(Self, PathBuf, Metadata), SocketError> {
            let canonical = canonicalize(path)?;
            // Links are not followed: if it is a link by now, it is not a socket.
            let metadata = symlink_metadata(&canonical)?;
            Ok((Self, canonical, metadata))
        }

        pub(super) async fn connect(
            &self,
            identity: &SocketIdentity,
        ) -> Result<UnixStream, SocketError> {
            let path = as_path(&identity.path);
            let stream = dial(path).await?;
            let now = symlink_metadata(path)?;
            if Node::of(&now) == identity.node {
                Ok(stream)
            } else {
                Err(SocketError::Replaced)
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the place that connects to unix sockets; only what was found and permitted gets here"
)]
async fn dial(path: &Path) -> Result<UnixStream, SocketError> {
    Ok(UnixStream::connect(path).await?)
}

impl From<io::Error> for SocketError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{
            InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied,
        };
        match error.kind() {
            NotFound | NotADirectory => Self::Missing,
            PermissionDenied => Self::Inaccessible,
            // The second is the standard library's error for an address that does not fit.
            InvalidFilename | InvalidInput => Self::TooLong,
            _ if error.raw_os_error() == Some(nix::libc::ELOOP) => Self::Missing,
            _ => Self::Connect(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
