//! Replaces a file at once: readers see the old content or the new one, whatever fails.
//!
//! A link is followed: its target is replaced, and the link stays. The new file gets the owner, the group
//! and the mode of the old one. Access control lists and extended attributes are not copied.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use codex_network_files::{FileLock, LockError, Reading, Trust};
use nix::fcntl::OFlag;
use nix::unistd::{AccessFlags, Uid, access};

/// Largest file that is replaced: the largest that a configuration may have.
const MAX_BYTES: u64 = 64 << 20;
/// The wait for another change of the same file.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);
/// The mode of a new file: a policy is no secret, but a file of Codex may hold others.
const NEW_FILE_MODE: u32 = 0o600;
const NEW_SYSTEM_FILE_MODE: u32 = 0o644;

/// A file that can be replaced. It is locked until this is dropped.
#[derive(Debug)]
pub(crate) struct Replacement {
    /// The file itself, without links.
    target: PathBuf,
    _lock: FileLock,
}

/// Why a file was not replaced. It is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotReplaced {
    #[error(transparent)]
    Locked(#[from] LockError),
    #[error("{} was changed by another program meanwhile; run the command again", .0.display())]
    Changed(PathBuf),
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: {why}", path.display())]
    Unusable { path: PathBuf, why: String },
}

/// Why this user may not replace a file; `None` if they may.
pub(super) fn obstacle(path: &Path) -> Option<String> {
    let target = match target(path) {
        Ok(target) => target,
        Err(error) => return Some(error.to_string()),
    };
    match target.metadata() {
        Ok(metadata) if !metadata.is_file() => return Some("it is not a regular file".to_owned()),
        Ok(metadata) if metadata.nlink() > 1 => {
            return Some(
                "it has another name (a hard link), which would keep the old content".to_owned(),
            );
        }
        Ok(metadata)
            if !Uid::effective().is_root() && metadata.uid() != Uid::effective().as_raw() =>
        {
            return Some(format!("it belongs to user {}", metadata.uid()));
        }
        Ok(_) => {
            if let Err(error) = access(&target, AccessFlags::W_OK) {
                return Some(format!("it may not be written: {}", error.desc()));
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Some(error.to_string()),
    }
    // A directory that is not there is made.
    let directory = target
        .ancestors()
        .skip(1)
        .find(|directory| directory.exists())?;
    let written = access(directory, AccessFlags::W_OK | AccessFlags::X_OK);
    written.err().map(|error| {
        format!(
            "its directory {} may not be written: {}",
            directory.display(),
            error.desc()
        )
    })
}

impl Replacement {
    /// Locks a file. Waits for another change of it. Makes its directory.
    pub(crate) fn of(path: &Path) -> Result<Self, NotReplaced> {
        let failed = |error| NotReplaced::Io {
            path: path.to_owned(),
            error,
        };
        let target = target(path).map_err(failed)?;
        if let Some(directory) = target.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
            let user = Trust::of_process();
            if user.is_binding() {
                // In a directory that others may change, they could put another file in its place.
                user.check(directory)
                    .map_err(|error| NotReplaced::Unusable {
                        path: path.to_owned(),
                        why: error.to_string(),
                    })?;
            }
        }
        let lock = FileLock::beside(&target, LOCK_TIMEOUT)?;
        Ok(Self {
            target,
            _lock: lock,
        })
    }

    /// Writes the new content in place of the old one; `None` is no file. The file must have the old
    /// content until then.
    pub(crate) fn replace(&self, old: Option<&str>, new: Option<&str>) -> Result<(), NotReplaced> {
        let failed = |error| NotReplaced::Io {
            path: self.target.clone(),
            error,
        };
        let Some(new) = new else {
            self.compare(old)?;
            return std::fs::remove_file(&self.target).map_err(failed);
        };
        let beside = self.beside();
        let written = self.write(&beside, new).map_err(failed);
        let replaced = written.and_then(|()| {
            self.compare(old)?;
            std::fs::rename(&beside, &self.target).map_err(failed)
        });
        if replaced.is_err() {
            let _ = std::fs::remove_file(&beside);
            return replaced;
        }
        // The new name must last too. The content is in place, so a failure changes nothing.
        if let Some(directory) = self.target.parent() {
            let _ = File::open(directory).and_then(|directory| directory.sync_all());
        }
        Ok(())
    }

    /// Compares the file with the content that the change was made from.
    fn compare(&self, old: Option<&str>) -> Result<(), NotReplaced> {
        let now = match Reading::up_to(MAX_BYTES).read(&self.target) {
            Ok(now) => Some(now),
            Err(error) => {
                let error = io::Error::from(error);
                if error.kind() != ErrorKind::NotFound {
                    return Err(NotReplaced::Io {
                        path: self.target.clone(),
                        error,
                    });
                }
                None
            }
        };
        if now.as_ref().map(|now| now.as_slice()) == old.map(str::as_bytes) {
            Ok(())
        } else {
            Err(NotReplaced::Changed(self.target.clone()))
        }
    }

    /// The name of the new file until it is renamed. No proxy reads it: it does not end in `.toml`.
    fn beside(&self) -> PathBuf {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.target.file_name().unwrap_or_default());
        name.push(".new");
        self.target.with_file_name(name)
    }

    fn write(&self, beside: &Path, content: &str) -> io::Result<()> {
        let old = match self.target.metadata() {
            Ok(old) => Some(old),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        // One that a killed change has left. The lock is ours, so no other change writes it.
        match std::fs::remove_file(beside) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(NEW_FILE_MODE)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(beside)?;
        file.write_all(content.as_bytes())?;
        self.give(&file, old.as_ref())?;
        file.sync_all()
    }

    /// Gives the new file the owner, the group and the mode of the old one.
    fn give(&self, file: &File, old: Option<&Metadata>) -> io::Result<()> {
        let mode = match old {
            Some(old) => {
                let new = file.metadata()?;
                if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                    std::os::unix::fs::fchown(file, Some(old.uid()), Some(old.gid()))?;
                }
                old.mode() & 0o7777
            }
            None if self.target.starts_with("/etc") => NEW_SYSTEM_FILE_MODE,
            None => NEW_FILE_MODE,
        };
        file.set_permissions(Permissions::from_mode(mode))
    }
}

/// The file at the end of all links. A link to nothing leads to the file that is missing.
fn target(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            if path.is_symlink() {
                return Err(io::Error::new(
                    ErrorKind::NotFound,
                    "it is a link to a file that does not exist",
                ));
            }
            std::path::absolute(path)
        }
        found => found,
    }
}

#[cfg(test)]
mod tests;
