//! Making the control socket: where, with which permissions, and never at another's expense.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use codex_network_files::{FileLock, LockError, Node, Trust, make_directory};
use nix::sys::stat::{Mode, umask};
use nix::unistd::Uid;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::privsep::message::Listener;
use crate::privsep::settled::{Callers, Chosen, ControlPlace};

/// Binding takes an instant; a process that holds the lock for longer is stuck.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The listening socket. The file of one that we bound goes with it.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our file, to know it again; `None` when the socket was handed to us, and
    /// its file is the service manager's.
    file: Option<(u64, u64)>,
    /// The same of the file whose permissions are ours to set: also of one that launchd made, since a
    /// property list can name nobody who is to be let in.
    permissions: Option<(u64, u64)>,
}

/// Binds the socket. `None`: nobody chose its place and the directory cannot be made; the log says
/// so, and the proxy runs without.
pub(super) fn bind(place: &ControlPlace) -> anyhow::Result<Option<ControlSocket>> {
    let path = &place.path;
    let mode = if Uid::effective().is_root() {
        0o755
    } else {
        0o700
    };
    if let Err(error) = prepare(parent(path), mode) {
        if place.chosen == Chosen::Configured {
            return Err(error);
        }
        tracing::warn!(
            "there is no control socket: {error:#}; set [daemon.control] socket to another place to use proxyctl"
        );
        return Ok(None);
    }
    let cannot = || format!("cannot open the control socket {}", path.display());
    let _turn = one_at_a_time(path).with_context(cannot)?;
    clear(path).with_context(cannot)?;
    // Never wider than it should be, from the first moment on.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.with_context(cannot)?;
    let file = Node::of(path).with_context(cannot)?.identity();
    let socket = ControlSocket {
        listener,
        path: path.clone(),
        file: Some(file),
        permissions: Some(file),
    };
    socket.admit(place.callers);
    Ok(Some(socket))
}

/// Makes the socket's directory if it is missing. Another user who may change it could put a socket of
/// their own in the place of ours, so root does not use it; other users are told.
fn prepare(directory: &Path, mode: u32) -> anyhow::Result<()> {
    let user = Trust::of_process();
    if let Err(error) = user.check(directory) {
        if user.is_binding() {
            bail!("the control socket's directory is refused: {error}");
        }
        tracing::warn!("others may replace the control socket: {error}");
    }
    match make_directory(directory, mode) {
        Ok(()) => Ok(()),
        // It may be there although we may not make it.
        Err(_) if directory.is_dir() => Ok(()),
        Err(error) => {
            let path = directory.display();
            Err(error)
                .with_context(|| format!("cannot make the directory {path} for the control socket"))
        }
    }
}

/// Keeps two proxies that start at the same moment from removing each other's sockets. In a directory
/// that others may write to, like `/tmp`, they could stand in the lock's place: then there is none.
fn one_at_a_time(socket: &Path) -> anyhow::Result<Option<FileLock>> {
    match FileLock::beside(socket, LOCK_TIMEOUT) {
        Ok(lock) => Ok(Some(lock)),
        Err(error @ LockError::Held { .. }) => Err(error.into()),
        Err(error) => {
            tracing::debug!("the control socket is made without a lock: {error}");
            Ok(None)
        }
    }
}

/// Takes a socket away that nobody listens on, and nothing else.
fn clear(path: &Path) -> anyhow::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !file.file_type().is_socket() {
        bail!(
            "there is a file that is no socket; move it away, or set [daemon.control] socket to another path"
        );
    }
    match connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).context("cannot remove the stale socket that is there")?;
            tracing::info!(path = %path.display(), "removed a stale control socket");
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
            Err(error).context("there is a socket of somebody else")
        }
        other => {
            let holder = other.ok().and_then(|socket| holder(&socket));
            let holder = holder.map_or_else(String::new, |pid| format!(" (process {pid})"));
            bail!(
                "another codex-network-proxy{holder} listens on it; stop that one, or set [daemon.control] socket to another path"
            );
        }
    }
}

/// Connects without waiting: a full queue is an answer too.
fn connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// The process that listens, as far as the system tells.
#[cfg(target_os = "linux")]
fn holder(socket: &Socket) -> Option<i32> {
    let credentials =
        nix::sys::socket::getsockopt(socket, nix::sys::socket::sockopt::PeerCredentials).ok()?;
    Some(credentials.pid()).filter(|pid| *pid > 0)
}

#[cfg(target_os = "macos")]
fn holder(socket: &Socket) -> Option<i32> {
    let pid = nix::sys::socket::getsockopt(socket, nix::sys::socket::sockopt::LocalPeerPid).ok()?;
    Some(pid).filter(|pid| *pid > 0)
}

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
fn holder(_socket: &Socket) -> Option<i32> {
    None
}

fn parent(socket: &Path) -> &Path {
    match socket.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

impl ControlSocket {
    /// One that the service manager made.
    pub(super) fn handed(listener: UnixListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let path = address
            .as_pathname()
            .unwrap_or(Path::new("(unnamed)"))
            .to_path_buf();
        let permissions = if cfg!(target_os = "macos") {
            Some(Node::of(&path)?.identity())
        } else {
            None
        };
        Ok(Self {
            listener,
            path,
            file: None,
            permissions,
        })
    }

    /// Lets those connect who have to be able to; who may stay is the worker's business. The file of a
    /// socket that systemd handed to us stays as its unit says.
    pub(super) fn admit(&self, callers: Callers) {
        let path = &self.path;
        let Some(file) = Node::of(path)
            .ok()
            .filter(|file| self.permissions == Some(file.identity()))
        else {
            return;
        };
        let (mode, owner) = (file.metadata().mode() & 0o777, file.metadata().gid());
        let admitted = match callers {
            Callers::Owner => file.set_mode(0o600),
            Callers::Everyone => file.set_mode(0o666),
            Callers::Group(group) if owner == group && mode == 0o660 => Ok(()),
            // Closed in between, so that no other group is let in.
            Callers::Group(group) => file
                .set_mode(0o600)
                .and_then(|()| file.set_group(group))
                .and_then(|()| file.set_mode(0o660)),
        };
        if let Err(error) = admitted {
            // The worker knows its callers all the same, and the proxy is worth more than its control
            // socket.
            tracing::warn!(
                path = %path.display(),
                "the control socket cannot be given to those who are named ({error}); enable \
                 codex-network-proxy-control.socket, which makes it right"
            );
        }
    }

    /// Whether we bound it or it was handed to us.
    pub(super) fn from(&self) -> Listener {
        if self.file.is_some() {
            Listener::Open
        } else {
            Listener::Handed
        }
    }

    /// Where it is, in words.
    pub(super) fn address(&self) -> String {
        self.path.display().to_string()
    }

    /// A copy for a worker.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.listener.try_clone()?.into())
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Another may have been put in its place.
        let ours = Node::of(&self.path).is_ok_and(|file| self.file == Some(file.identity()));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}
