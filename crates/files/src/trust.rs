//! Who may change a place: the owner and the mode of a file and of every directory above it.
//!
//! The rule is that of OpenSSH's `StrictModes`, and as strict as the user is powerful:
//!
//! - A place belongs to root or to the user who runs this process.
//! - Other users may not write to it. A directory with the sticky bit, like `/tmp`, may be written by
//!   others, since they cannot replace what is not theirs; then what is in it has to belong to root or
//!   to this user, links included.
//! - The group may not write either. Only a user other than root may have places that the user's own
//!   group may write: Debian and Fedora give each user a group of the same number with no other member.
//!   Root makes no such exception, so that an access control list, which the kernel shows as the
//!   group's bits, does not pass.
//! - Links are followed one at a time, and the directories that they lead through are judged too.
//!
//! The owner of `/` counts as root: in a user namespace that is who made the namespace.
//!
//! The walk begins at `/`. What it has passed, nobody else can replace any more, so a path that passes
//! keeps meaning the same file.

use std::ffi::OsString;
use std::fmt;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use nix::unistd::Uid;

/// As many links are followed; the kernel's own limit.
const MAX_LINKS: usize = 40;
const STICKY: u32 = 0o1000;

/// Groups that are as good as root. On macOS `/var/run` belongs to `daemon`, whose members are
/// services of the system.
const ROOT_GROUPS: &[u32] = if cfg!(target_os = "macos") {
    &[0, 1]
} else {
    &[]
};

/// The user whose places are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trust {
    user: u32,
}

/// Another than root and the user who may change a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Its owner.
    User(u32),
    /// The members of its group, or those of an access control list.
    Group(u32),
    /// All users.
    Everyone,
}

/// What is wrong with a file or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file or directory itself, perhaps above the one that was asked for.
    pub path: PathBuf,
    /// Who may change it.
    pub writer: Writer,
    /// Its permission bits.
    pub mode: u32,
    /// The user to whom it should belong.
    owner: u32,
}

/// Why a place cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// Others may change it.
    #[error("{0}")]
    Writable(Fault),
    /// The walk came to its end before the place.
    #[error("cannot see who may change {path}: {error}", path = path.display())]
    Unseen {
        /// What could not be looked at.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// A file or directory on the way to a place.
#[derive(Debug)]
pub struct Inspected {
    /// Where it is, with all links followed.
    pub path: PathBuf,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

/// The way to a place.
#[derive(Debug, Default)]
struct Walk {
    passed: Vec<Inspected>,
    /// The file at the end of the way; `None` when there is none, or when it is an open descriptor of
    /// this process.
    end: Option<Metadata>,
}

/// What the verdict is about.
#[derive(Clone, Copy, Debug)]
struct Node {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    Link,
    Device,
    /// Everything else.
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

    /// Whether a place that others may change is refused. Root refuses it. Other users answer for
    /// nobody else, and often do not own what is above their files, as in containers: they are warned.
    pub const fn is_binding(self) -> bool {
        self.user == 0
    }

    /// Judges a place, which need not be there: then what is there of the way to it is judged.
    ///
    /// # Errors
    ///
    /// The first file or directory on the way, from `/` on, that others may change.
    pub fn check(self, path: &Path) -> Result<(), Untrusted> {
        self.check_end(path).map(drop)
    }

    /// Judges a directory as one whose files are all the user's, whatever is above it: others may put
    /// nothing there, so the sticky bit does not help.
    ///
    /// # Errors
    ///
    /// When others may write to it, and when it cannot be looked at.
    pub fn check_own_directory(self, path: &Path) -> Result<(), Untrusted> {
        let metadata = path.metadata().map_err(|error| Untrusted::Unseen {
            path: path.to_owned(),
            error,
        })?;
        let node = Node::of(&metadata);
        let node = Node {
            mode: node.mode & !STICKY,
            ..node
        };
        match self.judge(node, false, |uid| uid == 0 || uid == self.user) {
            Some(writer) => Err(Untrusted::Writable(Fault {
                path: path.to_owned(),
                writer,
                mode: metadata.mode() & 0o7777,
                owner: self.user,
            })),
            None => Ok(()),
        }
    }

    /// The same as [`check`](Self::check), and what is at the end of the way; `None` also for an open descriptor.
    pub(crate) fn check_end(self, path: &Path) -> Result<Option<Metadata>, Untrusted> {
        let walk = self.walk(path)?;
        match walk.passed.into_iter().find_map(|passed| passed.fault) {
            Some(fault) => Err(Untrusted::Writable(fault)),
            None => Ok(walk.end),
        }
    }

    /// Everything on the way to a place with what is wrong with it, from `/` on.
    ///
    /// # Errors
    ///
    /// When the way cannot be seen.
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
                // It was judged on the way down; only its stickiness counts again.
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

    /// Judges one file or directory; gives whether others may put names into it.
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
        let found = self.judge(Node::of(metadata), in_shared, trusts);
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

    /// The whole rule. `in_shared` is whether it is in a directory to which others may write.
    fn judge(self, node: Node, in_shared: bool, trusts: impl Fn(u32) -> bool) -> Option<Writer> {
        // The owner of a link can change neither it nor where it is, except in a shared directory.
        let is_owners = node.kind != Kind::Link || in_shared;
        if is_owners && !trusts(node.uid) {
            return Some(Writer::User(node.uid));
        }
        // A link has no mode. Writing to a device changes no file, and only root makes one.
        if matches!(node.kind, Kind::Link | Kind::Device) {
            return None;
        }
        if node.kind == Kind::Directory && node.mode & STICKY != 0 {
            return None;
        }
        if node.mode & 0o002 != 0 {
            return Some(Writer::Everyone);
        }
        let is_own_group = self.user != 0 && node.gid == node.uid;
        let is_trusted_group = is_own_group || ROOT_GROUPS.contains(&node.gid);
        (node.mode & 0o020 != 0 && !is_trusted_group).then_some(Writer::Group(node.gid))
    }
}

impl Node {
    fn of(metadata: &Metadata) -> Self {
        let kind = metadata.file_type();
        Self {
            kind: if kind.is_dir() {
                Kind::Directory
            } else if kind.is_symlink() {
                Kind::Link
            } else if kind.is_char_device() || kind.is_block_device() {
                Kind::Device
            } else {
                Kind::File
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

/// The names of a path, the last one first.
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

/// Whether others may put names into a directory without being able to replace those that are there.
fn is_shared(metadata: &Metadata) -> bool {
    metadata.is_dir() && metadata.mode() & 0o022 != 0
}

/// Whether a path is an open descriptor of a process, as `/dev/fd/3` is: whoever started this process
/// opened it, and it has no way to judge.
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

/// A path as it can be typed: whatever it holds, it is one word and no command.
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
