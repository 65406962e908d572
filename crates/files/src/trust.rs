//! Who may change a file: checks the owner and the mode of the file and of every directory above it.
//!
//! The rule is that of OpenSSH's `StrictModes`. It is stricter for root than for other users. A file
//! or directory is called a place here:
//!
//! - A place belongs to root or to the user who runs this process.
//! - Other users may not write to it. A directory with the sticky bit, like `/tmp`, may be
//!   writable for others, since they cannot replace files of other users. Then the files in it,
//!   links included, must belong to root or to this user.
//! - The group may not write either. There is one exception, for users other than root: their own
//!   group may write. Debian and Fedora give each user a group of the same number with no other
//!   member. Root has no such exception, so that an access control list, which the kernel shows as
//!   the group's bits, does not pass.
//! - Links are followed one at a time, and the directories of their targets are checked too.
//!
//! The owner of `/` counts as root: in a user namespace that is the user who made the namespace.
//!
//! The walk begins at `/`. No other user can replace a directory that it has passed, so a path that
//! passes keeps meaning the same file.

use std::ffi::OsString;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use nix::unistd::Uid;

/// How many links are followed at most. The kernel has the same limit.
const MAX_LINKS: usize = 40;
const STICKY: u32 = 0o1000;

/// Groups that are trusted like root. On macOS `/var/run` belongs to `daemon`, whose members are
/// services of the system.
const ROOT_GROUPS: &[u32] = if cfg!(target_os = "macos") {
    &[0, 1]
} else {
    &[]
};

/// The user whose places are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    user: u32,
}

/// Another user or group that may change a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Its owner.
    User(u32),
    /// The members of its group, or those of an access control list.
    Group(u32),
    /// All users.
    Everyone,
}

/// A file or directory that fails the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its path, perhaps above the requested one.
    pub path: PathBuf,
    /// Who may change it.
    pub writer: Writer,
    /// Its permission bits.
    pub mode: u32,
    /// The user who should own it.
    owner: u32,
}

/// Why a place cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// Other users may change it.
    #[error("{0}")]
    Writable(Fault),
    /// A part of the path could not be inspected.
    #[error("cannot see who may change {path}: {error}", path = path.display())]
    Unseen {
        /// The path that could not be inspected.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
}

/// A file or directory on the way to a place.
#[derive(Debug)]
pub struct Inspected {
    /// Its path, with all links followed.
    pub path: PathBuf,
    /// Why it fails the rule, if it does.
    pub fault: Option<Fault>,
}

/// The walk to a place.
#[derive(Debug, Default)]
struct Walk {
    passed: Vec<Inspected>,
    /// The file at the end of the path; `None` when it does not exist, or when it is an open
    /// descriptor of this process.
    end: Option<Metadata>,
}

/// The facts that the rule depends on.
#[derive(Clone, Copy, Debug)]
struct FileFacts {
    kind: FileKind,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Directory,
    Link,
    Device,
    /// Any other file.
    File,
}

impl Trust {
    /// The places of the user who runs this process.
    pub fn of_process() -> Self {
        Self::of_user(Uid::effective().as_raw())
    }

    /// The places of this user.
    pub const fn of_user(user: u32) -> Self {
        Self { user }
    }

    /// The places of root.
    pub const fn of_root() -> Self {
        Self::of_user(0)
    }

    /// Whether a path that others may change is refused. Root refuses it. Other users get a
    /// warning: their mistake harms only themselves, and in containers, for example, they often do
    /// not own the directories above their files.
    pub const fn is_binding(self) -> bool {
        self.user == 0
    }

    /// Checks a place. If it does not exist, checks the existing part of its path.
    ///
    /// # Errors
    ///
    /// The first file or directory on the path, from `/` on, that others may change.
    pub fn check(self, path: &Path) -> Result<(), Untrusted> {
        self.check_end(path).map(drop)
    }

    /// Checks a directory that must hold only the user's files, whatever is above it. Other users
    /// may not add files, so the sticky bit does not help.
    ///
    /// # Errors
    ///
    /// Returns an error if others may write to it, or it cannot be inspected.
    pub fn check_own_directory(self, path: &Path) -> Result<(), Untrusted> {
        let metadata = path.metadata().map_err(|error| Untrusted::Unseen {
            path: path.to_owned(),
            error,
        })?;
        let facts = FileFacts::of(&metadata);
        let facts = FileFacts {
            mode: facts.mode & !STICKY,
            ..facts
        };
        match self.judge(facts, false, |uid| uid == 0 || uid == self.user) {
            Some(writer) => Err(Untrusted::Writable(Fault {
                path: path.to_owned(),
                writer,
                mode: metadata.mode() & 0o7777,
                owner: self.user,
            })),
            None => Ok(()),
        }
    }

    /// As [`check`](Self::check), and returns the file at the end; `None` also for an open
    /// descriptor.
    pub(crate) fn check_end(self, path: &Path) -> Result<Option<Metadata>, Untrusted> {
        let walk = self.walk(path)?;
        match walk.passed.into_iter().find_map(|passed| passed.fault) {
            Some(fault) => Err(Untrusted::Writable(fault)),
            None => Ok(walk.end),
        }
    }

    /// Everything on the path to a place, from `/` on, with the result for each.
    ///
    /// # Errors
    ///
    /// Returns an error if the path cannot be inspected.
    pub fn inspect(self, path: &Path) -> Result<Vec<Inspected>, Untrusted> {
        self.walk(path).map(|walk| walk.passed)
    }

    fn walk(self, path: &Path) -> Result<Walk, Untrusted> {
        let unseen = |path: &Path| {
            let path = path.to_owned();
            move |error| Untrusted::Unseen { path, error }
        };
        let whole = std::path::absolute(path).map_err(unseen(path))?;
        let mut walk = Walk::default();
        let mut here = PathBuf::from("/");
        let root = here.symlink_metadata().map_err(unseen(&here))?;
        let owner = root.uid();
        // A user namespace shows its own root as another user.
        let trusts = |uid: u32| uid == 0 || uid == self.user || uid == owner;
        let mut below = self.inspect_one(&mut walk, &here, &root, false, trusts);
        let mut left: Vec<OsString> = names(&whole);
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                here.pop();
                // It was checked on the way down; only its sticky bit matters again.
                below = here.metadata().is_ok_and(|above| is_shared(&above));
                continue;
            }
            let next = here.join(name);
            if is_descriptor(&next) {
                return Ok(walk);
            }
            let there = match next.symlink_metadata() {
                Ok(there) => there,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                    ) =>
                {
                    return Ok(walk);
                }
                Err(error) => return Err(unseen(&next)(error)),
            };
            let shared = self.inspect_one(&mut walk, &next, &there, below, trusts);
            if there.is_symlink() {
                links += 1;
                if links > MAX_LINKS {
                    return Err(unseen(&next)(nix::Error::ELOOP.into()));
                }
                let target = next.read_link().map_err(unseen(&next))?;
                if target.is_absolute() {
                    here = PathBuf::from("/");
                    below = is_shared(&root);
                }
                left.extend(names(&target));
                continue;
            }
            here = next;
            below = shared;
            walk.end = left.is_empty().then_some(there);
        }
        Ok(walk)
    }

    /// Checks one file or directory. Returns whether others may add names to it.
    fn inspect_one(
        self,
        walk: &mut Walk,
        path: &Path,
        metadata: &Metadata,
        in_shared: bool,
        trusts: impl Fn(u32) -> bool,
    ) -> bool {
        if walk.passed.iter().any(|passed| passed.path == path) {
            return is_shared(metadata);
        }
        let found = self.judge(FileFacts::of(metadata), in_shared, trusts);
        walk.passed.push(Inspected {
            path: path.to_owned(),
            fault: found.map(|writer| Fault {
                path: path.to_owned(),
                writer,
                mode: metadata.mode() & 0o7777,
                owner: self.user,
            }),
        });
        is_shared(metadata)
    }

    /// The complete rule. `in_shared` is whether it is in a directory to which others may write.
    fn judge(
        self,
        facts: FileFacts,
        in_shared: bool,
        trusts: impl Fn(u32) -> bool,
    ) -> Option<Writer> {
        // The owner of a link cannot change the link or its directory, except in a shared
        // directory.
        let is_owners = facts.kind != FileKind::Link || in_shared;
        if is_owners && !trusts(facts.uid) {
            return Some(Writer::User(facts.uid));
        }
        // A link has no mode. Writing to a device changes no file, and only root can make a device.
        if matches!(facts.kind, FileKind::Link | FileKind::Device) {
            return None;
        }
        if facts.kind == FileKind::Directory && facts.mode & STICKY != 0 {
            return None;
        }
        if facts.mode & 0o002 != 0 {
            return Some(Writer::Everyone);
        }
        let is_own_group = self.user != 0 && facts.gid == facts.uid;
        let is_trusted_group = is_own_group || ROOT_GROUPS.contains(&facts.gid);
        (facts.mode & 0o020 != 0 && !is_trusted_group).then_some(Writer::Group(facts.gid))
    }
}

impl FileFacts {
    fn of(metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        Self {
            kind: if kind.is_dir() {
                FileKind::Directory
            } else if kind.is_symlink() {
                FileKind::Link
            } else if kind.is_char_device() || kind.is_block_device() {
                FileKind::Device
            } else {
                FileKind::File
            },
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
        }
    }
}

impl Fault {
    /// The command that repairs it.
    pub fn repair(&self) -> String {
        let path = as_typed(&self.path);
        match self.writer {
            Writer::User(_) if self.owner == 0 => format!("chown root {path}"),
            Writer::User(_) => format!("chown {} {path}", self.owner),
            Writer::Group(_) | Writer::Everyone => format!("chmod go-w {path}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, mode) = (self.path.display(), self.mode);
        match self.writer {
            Writer::User(user) => write!(f, "{path} belongs to user {user}, who may change it")?,
            Writer::Group(group) => write!(
                f,
                "{path} may be changed by group {group} (mode {mode:04o})"
            )?,
            Writer::Everyone => write!(f, "{path} may be changed by every user (mode {mode:04o})")?,
        }
        write!(f, "; to repair: {}", self.repair())
    }
}

/// The components of a path, the last one first.
fn names(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

/// Whether others may add names to a directory but cannot replace those of other users.
fn is_shared(metadata: &Metadata) -> bool {
    metadata.is_dir() && metadata.mode() & 0o022 != 0
}

/// Whether a path is an open descriptor of a process, as `/dev/fd/3` is. The starter of this
/// process opened the file, so there is no path to check.
fn is_descriptor(path: &Path) -> bool {
    let Some(directory) = path.parent() else {
        return false;
    };
    if directory == Path::new("/dev/fd") {
        return true;
    }
    let own = format!("/proc/{}/fd", std::process::id());
    directory == Path::new(&own)
}

/// A path quoted for a shell, so that it is one word whatever it contains.
pub fn as_typed(path: &Path) -> String {
    let path = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%=:,".contains(c);
    if path.chars().all(is_plain) {
        return path;
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests;
