//! Makes the control socket at its path, with its permissions, and without replacing another
//! process's socket.

use std::fs;
use std::io;
use std::mem::offset_of;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use codex_network_files::{FileLock, LockError, Node, Trust, make_directory};
use nix::libc::sockaddr_un;
use nix::sys::stat::{Mode, umask};
use nix::unistd::Uid;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::privsep::message::ListenerUpdate;
use crate::privsep::settled::{ControlPlace, PathChoice, SocketAccess};

/// Longest path of a unix socket in bytes. The address has room for its end too.
const MAX_PATH: usize = size_of::<sockaddr_un>() - offset_of!(sockaddr_un, sun_path) - 1;

/// Binding is immediate. A process that holds the lock for longer is stuck.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The listening socket. The file of a socket that we bound is removed with it.
#[derive(Debug)]
pub(super) struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our file, to recognise it; `None` for a socket of the service manager,
    /// which owns the file.
    file: Option<(u64, u64)>,
    /// The same for the file whose permissions we set. That includes a socket of the service manager, since
    /// neither a unit nor a property list can name the users who may connect.
    permissions: Option<(u64, u64)>,
}

/// Binds the socket. `None`: the path is the default and its directory cannot be made. The log says
/// so, and the proxy runs without a control socket.
pub(super) fn bind(place: &ControlPlace) -> anyhow::Result<Option<ControlSocket>> {
    let path = &place.path;
    let mode = if Uid::effective().is_root() {
        0o755
    } else {
        0o700
    };
    if let Err(error) = prepare(path, mode, place.chosen) {
        if place.chosen == PathChoice::Configured {
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
    // Its permissions are never wider than they should be, from the first moment on.
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

/// Checks the path, and makes the socket's directory if it is missing. A user who may change it could replace our
/// socket, so root does not use such a directory; other users are warned.
fn prepare(socket: &Path, mode: u32, chosen: PathChoice) -> anyhow::Result<()> {
    let length = socket.as_os_str().len();
    if length > MAX_PATH {
        bail!(
            "the path of the control socket is too long ({length} bytes, and the system takes {MAX_PATH}): {}; set \
             [daemon.control] socket to a shorter one",
            socket.display()
        );
    }
    let directory = parent(socket);
    let user = Trust::of_process();
    if let Err(error) = user.check(directory) {
        if user.is_binding() {
            bail!("the control socket's directory is refused: {error}");
        }
        tracing::warn!("others may replace the control socket: {error}");
    }
    if chosen == PathChoice::Default {
        make_above(directory, mode);
    }
    match make_directory(directory, mode) {
        Ok(()) => Ok(()),
        // It may exist although this process may not make it.
        Err(_) if directory.is_dir() => Ok(()),
        Err(error) => {
            let path = directory.display();
            Err(error)
                .with_context(|| format!("cannot make the directory {path} for the control socket"))
        }
    }
}

/// Makes the directories above a default one, such as `~/.local/state`. If one cannot be made, neither can
/// the last.
fn make_above(directory: &Path, mode: u32) {
    let missing = directory
        .ancestors()
        .skip(1)
        .take_while(|above| !above.exists());
    let missing: Vec<&Path> = missing.collect();
    for above in missing.into_iter().rev() {
        if make_directory(above, mode).is_err() {
            return;
        }
    }
}

/// Keeps two proxies that start at the same moment from removing each other's sockets. In a
/// directory that other users may write to, like `/tmp`, they could occupy the lock's name. Then
/// there is no lock.
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

/// Removes a socket that no process listens on, and nothing else.
fn clear(path: &Path) -> anyhow::Result<()> {
    let file = match fs::symlink_metadata(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !file.file_type().is_socket() {
        bail!(
            "the path is taken by a file that is not a socket; move it away, or set [daemon.control] socket to another path"
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
            Err(error).context("the path is taken by a socket of another program")
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

/// Connects without blocking: a full queue is an answer too.
fn connect(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

/// The process that listens, if the system reports it.
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
    /// A socket of the service manager.
    pub(super) fn handed(listener: UnixListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let path = address
            .as_pathname()
            .unwrap_or(Path::new("(unnamed)"))
            .to_path_buf();
        let file = Node::of(&path).map(|file| file.identity());
        let permissions = if cfg!(target_os = "macos") {
            Some(file?)
        } else {
            // A unit may name an abstract socket.
            file.ok()
        };
        Ok(Self {
            listener,
            path,
            file: None,
            permissions,
        })
    }

    /// Sets the file's permissions so that all permitted callers can connect; the worker decides
    /// which of them may stay. The file of a systemd socket keeps its unit's permissions, unless these keep
    /// permitted callers out.
    pub(super) fn admit(&self, callers: SocketAccess) {
        let path = &self.path;
        let Some(file) = Node::of(path)
            .ok()
            .filter(|file| self.permissions == Some(file.identity()))
        else {
            return;
        };
        let (mode, owner) = (file.metadata().mode() & 0o777, file.metadata().gid());
        let is_of_unit = self.file.is_none() && !cfg!(target_os = "macos");
        let admitted = match callers {
            _ if is_of_unit => match mode_of_unit(callers, owner, mode) {
                Some(mode) => file.set_mode(mode),
                None => Ok(()),
            },
            SocketAccess::Owner => file.set_mode(0o600),
            SocketAccess::Everyone => file.set_mode(0o666),
            SocketAccess::Group(group) if owner == group && mode == 0o660 => Ok(()),
            // Closed in between, so that no other group can connect.
            SocketAccess::Group(group) => file
                .set_mode(0o600)
                .and_then(|()| file.set_group(group))
                .and_then(|()| file.set_mode(0o660)),
        };
        if let Err(error) = admitted {
            // The worker checks its callers in any case, and the proxy is more important than its
            // control socket.
            tracing::warn!(
                path = %path.display(),
                "the control socket cannot be given to the configured callers ({error}); they cannot use proxyctl \
                 until its file lets them connect"
            );
        }
    }

    /// Whether this process bound it or the service manager did.
    pub(super) fn from(&self) -> ListenerUpdate {
        if self.file.is_some() {
            ListenerUpdate::Open
        } else {
            ListenerUpdate::Handed
        }
    }

    /// Its address, as text.
    pub(super) fn address(&self) -> String {
        self.path.display().to_string()
    }

    /// A copy for a worker.
    pub(super) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.listener.try_clone()?.into())
    }
}

/// The mode to set for the file of a unit's socket with this group and mode; `None` to keep it. The group is the
/// unit's, and cannot be changed here.
fn mode_of_unit(callers: SocketAccess, group: u32, mode: u32) -> Option<u32> {
    const EVERYONE: u32 = 0o666;
    const GROUP: u32 = 0o660;
    let is_enough = match callers {
        SocketAccess::Owner => true,
        SocketAccess::Group(permitted) => permitted == group,
        SocketAccess::Everyone => false,
    };
    match (is_enough, mode) {
        // Earlier settings let everyone connect.
        (true, EVERYONE) => Some(GROUP),
        (false, mode) if mode != EVERYONE => Some(EVERYONE),
        _ => None,
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // Another process may have replaced it.
        let ours = Node::of(&self.path).is_ok_and(|file| self.file == Some(file.identity()));
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(not(target_os = "macos"))]
    #[test]
    fn k3_the_socket_of_a_unit_lets_exactly_the_configured_callers_connect() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("control.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let mode = || fs::metadata(&path).expect("the socket").mode() & 0o777;
        let set = |mode| Node::of(&path).and_then(|file| file.set_mode(mode));
        let group = fs::metadata(&path).expect("the socket").gid();
        let socket = ControlSocket::handed(listener).expect("it has a path");
        for (before, callers, after) in [
            (0o660, SocketAccess::Owner, 0o660),
            (0o600, SocketAccess::Owner, 0o600),
            (0o660, SocketAccess::Group(group), 0o660),
            (0o660, SocketAccess::Group(group + 1), 0o666),
            (0o660, SocketAccess::Everyone, 0o666),
            (0o666, SocketAccess::Everyone, 0o666),
            (0o666, SocketAccess::Group(group), 0o660),
            (0o666, SocketAccess::Owner, 0o660),
        ] {
            set(before).expect("our file");
            socket.admit(callers);
            assert_eq!(mode(), after, "{before:o}, {callers:?}");
        }
    }
}
