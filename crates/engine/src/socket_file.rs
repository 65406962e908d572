//! Finds the file that the path of a unix socket leads to, and notices if another file takes its
//! place. Nothing here connects; `upstream::unix_socket` does.
//!
//! Between the judgement and the connection no other process may put another file in place. On
//! Linux that is impossible: the file is kept open (`O_PATH`), the kernel gives its name, and the
//! connection goes through the descriptor. Elsewhere the file is identified by device and inode,
//! which are compared again after the connection is made and before a byte is sent. One attack
//! remains there: a user who may write to a folder on the canonical path can swap the file for the
//! moment of the connection and back again. The operator allowed a socket in that folder,
//! so that user could also replace the socket permanently.
//!
//! On Linux this serves tests only: a request is refused for its platform before it gets here, and
//! the daemon's worker may neither open files (Landlock) nor make unix sockets (seccomp).

use std::ffi::OsStr;
#[cfg(target_os = "linux")]
use std::fs::File;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use codex_network_policy::UnixSocketPath;
use tokio::time::timeout;

use crate::connect_error::ConnectError;

/// A socket's file that was found.
#[derive(Debug)]
pub(crate) struct SocketFile {
    identity: SocketIdentity,
    pin: Pin,
}

/// Which file it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SocketIdentity {
    /// Its canonical path.
    path: UnixSocketPath,
    id: FileId,
}

/// The system's identity of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
}

/// The means that keeps another file from being used in place of the one that was found.
#[derive(Debug)]
enum Pin {
    /// The descriptor refers to the file, whatever its name is by now.
    #[cfg(target_os = "linux")]
    Descriptor(File),
    /// The identity is compared after the connection. Compiled on Linux for its tests.
    #[cfg(any(not(target_os = "linux"), test))]
    Comparison,
}

/// The file at a path, and the entries of the lists that lead to the same file.
#[derive(Debug)]
pub(crate) struct SocketLookup {
    pub(crate) found: Result<SocketFile, SocketError>,
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

/// The normalised form of a system path; `None` when it is relative.
pub(crate) fn path_of(path: &Path) -> Option<UnixSocketPath> {
    UnixSocketPath::parse(path.as_os_str().as_bytes()).ok()
}

fn as_path(path: &UnixSocketPath) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}

impl SocketLookup {
    /// Looks for the file within the limit, and compares the files of `entries` with it. A file
    /// server may be slow, so this runs on a thread of its own.
    pub(crate) async fn within(
        limit: Duration,
        path: UnixSocketPath,
        entries: Vec<UnixSocketPath>,
    ) -> Self {
        let lookup = tokio::task::spawn_blocking(move || Self::at(&path, entries));
        match timeout(limit, lookup).await {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(_)) | Err(_) => Self {
                found: Err(SocketError::Connect(ConnectError::Timeout)),
                aliases: Vec::new(),
            },
        }
    }

    pub(crate) fn at(path: &UnixSocketPath, mut entries: Vec<UnixSocketPath>) -> Self {
        let found = SocketFile::find(path);
        match &found {
            Ok(socket) => entries.retain(|entry| {
                let file = fs::canonicalize(as_path(entry)).ok();
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

impl SocketFile {
    /// Finds the file, by the means of this platform.
    pub(crate) fn find(path: &UnixSocketPath) -> Result<Self, SocketError> {
        #[cfg(target_os = "linux")]
        return Self::find_open(as_path(path));
        #[cfg(not(target_os = "linux"))]
        return Self::find_by_path(as_path(path));
    }

    #[cfg(target_os = "linux")]
    fn find_open(path: &Path) -> Result<Self, SocketError> {
        use std::os::unix::fs::OpenOptionsExt as _;

        // Opens nothing: the descriptor is a lasting reference to the file (open(2)).
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_PATH)
            .open(path)?;
        let canonical = fs::read_link(name_of(&file))?;
        let metadata = file.metadata()?;
        // For a file without a name the kernel may give the name of another file.
        if metadata.nlink() == 0 {
            return Err(SocketError::Missing);
        }
        Self::new(&canonical, &metadata, Pin::Descriptor(file))
    }

    #[cfg(any(not(target_os = "linux"), test))]
    pub(crate) fn find_by_path(path: &Path) -> Result<Self, SocketError> {
        let canonical = fs::canonicalize(path)?;
        // Links are not followed: if it is a link by now, it is not a socket.
        let metadata = fs::symlink_metadata(&canonical)?;
        Self::new(&canonical, &metadata, Pin::Comparison)
    }

    fn new(canonical: &Path, metadata: &Metadata, pin: Pin) -> Result<Self, SocketError> {
        if !metadata.file_type().is_socket() {
            return Err(SocketError::NotASocket);
        }
        let identity = SocketIdentity {
            path: path_of(canonical).ok_or(SocketError::Missing)?,
            id: FileId::of(metadata),
        };
        Ok(Self { identity, pin })
    }

    /// Its canonical path.
    pub(crate) fn path(&self) -> &UnixSocketPath {
        &self.identity.path
    }

    pub(crate) fn id(&self) -> FileId {
        self.identity.id
    }

    pub(crate) fn identity(&self) -> &SocketIdentity {
        &self.identity
    }

    /// The path to connect to. It may lead to another file by then; see
    /// [`check_unchanged`](Self::check_unchanged).
    pub(crate) fn address(&self) -> PathBuf {
        match &self.pin {
            #[cfg(target_os = "linux")]
            Pin::Descriptor(file) => name_of(file),
            #[cfg(any(not(target_os = "linux"), test))]
            Pin::Comparison => as_path(self.path()).to_owned(),
        }
    }

    /// Checks after a connection that it leads to this file.
    ///
    /// # Errors
    ///
    /// [`SocketError::Replaced`] when another file is there.
    #[cfg_attr(
        all(target_os = "linux", not(test)),
        expect(
            clippy::unnecessary_wraps,
            reason = "elsewhere the file can be another one"
        )
    )]
    pub(crate) fn check_unchanged(&self) -> Result<(), SocketError> {
        match &self.pin {
            #[cfg(target_os = "linux")]
            Pin::Descriptor(_) => Ok(()),
            #[cfg(any(not(target_os = "linux"), test))]
            Pin::Comparison => {
                let now = fs::symlink_metadata(as_path(self.path()))?;
                if FileId::of(&now) == self.id() {
                    Ok(())
                } else {
                    Err(SocketError::Replaced)
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn name_of(file: &File) -> PathBuf {
    use std::os::fd::AsRawFd as _;

    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

impl FileId {
    pub(crate) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
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
