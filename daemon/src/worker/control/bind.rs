//! Making the control socket: where, with which permissions, and never at another's expense.

use std::fs::{self, DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _,
};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use codex_network_config::{Control, Principal};
use codex_network_control::place;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Group, Uid};
use socket2::{Domain, SockAddr, Socket, Type};

/// A bound socket and its file, which goes with it.
#[derive(Debug)]
pub(super) struct Bound {
    path: PathBuf,
    /// Device and inode of the file, to know it again.
    file: (u64, u64),
}

/// Binds the socket at the configured or the default place. `None`: there is no default place for
/// this user, or its directory cannot be made; the log says so, and the proxy runs without.
pub(super) fn bind(control: &Control) -> anyhow::Result<Option<(UnixListener, Bound)>> {
    let root = Uid::effective().is_root();
    let default = || {
        if root {
            Some(place::of_system().to_path_buf())
        } else {
            place::of_user(|name| std::env::var_os(name))
        }
    };
    let configured = control.socket.is_some();
    let Some(path) = control.socket.clone().or_else(default) else {
        tracing::warn!(
            "there is no control socket, since XDG_RUNTIME_DIR is not set; set it, or [daemon.control] socket, to use proxyctl"
        );
        return Ok(None);
    };
    if let Err(error) = make_directory(&path, if root { 0o755 } else { 0o700 }) {
        if configured {
            return Err(error);
        }
        tracing::warn!(
            "there is no control socket: {error:#}; set [daemon.control] socket to another place to use proxyctl"
        );
        return Ok(None);
    }
    bind_at(&path, control).map(Some)
}

fn bind_at(path: &Path, control: &Control) -> anyhow::Result<(UnixListener, Bound)> {
    let cannot = || format!("cannot open the control socket {}", path.display());
    let _turn = one_at_a_time(path);
    clear(path).with_context(cannot)?;
    let reach = Reach::of(control);
    // The mode is right from the first moment on; widening it, if at all, comes last.
    let before = umask(Mode::from_bits_truncate(!reach.mode_at_first() & 0o777));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.with_context(cannot)?;
    let file = fs::symlink_metadata(path).with_context(cannot)?;
    let bound = Bound {
        path: path.to_path_buf(),
        file: identity(&file),
    };
    if let Reach::Group(group) = reach {
        std::os::unix::fs::chown(path, None, Some(group)).with_context(cannot)?;
        fs::set_permissions(path, Permissions::from_mode(0o660)).with_context(cannot)?;
    }
    Ok((listener, bound))
}

/// Who has to be able to connect; who may is decided from the peer credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// Nobody is named: the owner (and root).
    Owner,
    /// One group is named and nobody else.
    Group(u32),
    /// Users, or several groups: file permissions cannot say that.
    Everyone,
}

impl Reach {
    fn of(control: &Control) -> Self {
        let mut named = control.administrators.iter().chain(&control.observers);
        let Some(first) = named.next() else {
            return Self::Owner;
        };
        let alone = named.all(|other| other == first);
        match first {
            Principal::Group(name) if alone => match Group::from_name(name) {
                Ok(Some(group)) => Self::Group(group.gid.as_raw()),
                // It admits nobody, which the log tells.
                _ => Self::Owner,
            },
            _ => Self::Everyone,
        }
    }

    fn mode_at_first(self) -> nix::libc::mode_t {
        match self {
            Self::Owner | Self::Group(_) => 0o600,
            Self::Everyone => 0o666,
        }
    }
}

fn make_directory(socket: &Path, mode: u32) -> anyhow::Result<()> {
    let directory = parent(socket);
    match DirBuilder::new().mode(mode).create(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // It may be there although we may not make it.
        Err(_) if directory.is_dir() => Ok(()),
        Err(error) => {
            let path = directory.display();
            Err(error)
                .with_context(|| format!("cannot make the directory {path} for the control socket"))
        }
    }
}

/// Keeps two proxies that start at the same moment from removing each other's sockets. Only in a
/// directory of our own: in another, somebody else could hold the lock for ever.
fn one_at_a_time(socket: &Path) -> Option<Flock<File>> {
    let directory = File::open(parent(socket)).ok()?;
    let ours = directory.metadata().ok()?.uid() == Uid::effective().as_raw();
    ours.then(|| Flock::lock(directory, FlockArg::LockExclusive).ok())?
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

#[cfg(not(target_os = "linux"))]
fn holder(_socket: &Socket) -> Option<i32> {
    None
}

fn parent(socket: &Path) -> &Path {
    match socket.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

impl Bound {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Somebody may have put another socket there since.
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|file| identity(&file) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
    }
}
