//! The private proxies of `run` (SPEC J3): where their directories are, and the control sockets of those that run now.
//!
//! A jail confines the network and not the files, so its program could make such a directory too, or put a real one
//! elsewhere, with a proxy of its own at its path that shows false questions. So a listener at such a path must be
//! outside of every jail (`TrustedListeners::OutsideJails`).

use std::env;
use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;

/// The begin of the directories' names.
pub(crate) const PREFIX: &str = "codex-network-proxy-run-";
/// The file of the control socket.
pub(crate) const SOCKET: &str = "control.sock";

/// The directory in which private proxies have theirs: the user's runtime directory, else the one for temporary files.
pub(crate) fn parent() -> PathBuf {
    let runtime = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let runtime = runtime.filter(|path| path.is_absolute() && is_of_this_user(path));
    runtime.unwrap_or_else(env::temp_dir)
}

/// The control sockets in the directories that only this user may enter, in the order of their names.
pub(crate) fn sockets() -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent()) else {
        return Vec::new();
    };
    let named = entries
        .flatten()
        .filter(|entry| has_prefix(&entry.file_name()));
    let own = named
        .map(|entry| entry.path())
        .filter(|path| is_private(path));
    let sockets = own
        .map(|path| path.join(SOCKET))
        .filter(|path| path.exists());
    let mut sockets: Vec<PathBuf> = sockets.collect();
    sockets.sort();
    sockets
}

/// Whether this is the path of such a control socket, or leads to one.
pub(crate) fn is_socket(path: &Path) -> bool {
    let is_one = |path: &Path| {
        let directory = path.parent().and_then(Path::file_name);
        path.file_name() == Some(OsStr::new(SOCKET)) && directory.is_some_and(has_prefix)
    };
    is_one(path) || path.canonicalize().is_ok_and(|path| is_one(&path))
}

/// Whether this is a directory of this user, in which other users can rename nothing. Variables survive `su`.
fn is_of_this_user(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|of| {
        of.is_dir() && of.uid() == Uid::effective().as_raw() && of.mode() & 0o022 == 0
    })
}

/// Whether this is a directory that only this user may enter, and not a link.
fn is_private(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|of| {
        of.is_dir() && of.uid() == Uid::effective().as_raw() && of.mode() & 0o777 == 0o700
    })
}

fn has_prefix(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PREFIX))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        let mode = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("our own directory");
    }

    #[test]
    fn j3_a_runtime_directory_that_others_change_is_not_used() {
        let directory = tempfile::tempdir().expect("a directory");
        for (mode, is_used) in [
            (0o700, true),
            (0o755, true),
            (0o770, false),
            (0o1777, false),
        ] {
            set_mode(directory.path(), mode);
            assert_eq!(is_of_this_user(directory.path()), is_used, "{mode:o}");
        }
        if Uid::effective().is_root() {
            std::os::unix::fs::chown(directory.path(), Some(54_321), None).expect("we are root");
            set_mode(directory.path(), 0o700);
            assert!(!is_of_this_user(directory.path()), "of another user");
        }
    }

    #[test]
    fn q6_only_a_directory_that_no_other_user_may_enter_is_that_of_a_private_proxy() {
        let directory = tempfile::tempdir().expect("a directory");
        for (mode, is_one) in [(0o700, true), (0o750, false), (0o701, false)] {
            set_mode(directory.path(), mode);
            assert_eq!(is_private(directory.path()), is_one, "{mode:o}");
        }
        set_mode(directory.path(), 0o700);
        let link = directory.path().join("link");
        symlink(directory.path(), &link).expect("our own directory");
        assert!(!is_private(&link));
    }

    #[test]
    fn q6_the_socket_of_a_private_proxy_is_told_by_its_path_and_by_its_real_path() {
        let directory = tempfile::tempdir().expect("a directory");
        let private = directory.path().join(format!("{PREFIX}1-0"));
        std::fs::create_dir(&private).expect("our own directory");
        let socket = private.join(SOCKET);
        assert!(is_socket(&socket), "before it exists");
        std::fs::write(&socket, "").expect("our own directory");
        let link = directory.path().join("link");
        symlink(&socket, &link).expect("our own directory");
        for (path, is_one) in [
            (&socket, true),
            (&link, true),
            (&private.join("other.sock"), false),
            (&directory.path().join(SOCKET), false),
        ] {
            assert_eq!(is_socket(path), is_one, "{}", path.display());
        }
    }
}
