//! Makes the CA's two files so that an interruption at any point leaves nothing, or files that the
//! next run completes (SPEC M3, L5).
//!
//! Both files are first written completely next to their final names, under a name that ends in
//! `.pending`, and synced. Then the key gets its name, then the certificate, each by a hard link: a
//! rename would replace a file that another process has put there meanwhile, a link fails. The
//! pending names are removed last. After an interrupted run, the files show at which step it
//! stopped:
//!
//! | key | certificate | it stopped | what happens now |
//! | --- | --- | --- | --- |
//! | no  | no  | before the key appeared | pending files are thrown away; from the beginning |
//! | yes | no  | in between | the pending certificate of this key appears; without one the key is refused |
//! | no  | yes | that is not ours | refused |
//! | yes | yes | after that | pending files are thrown away |
//!
//! A lock next to the key keeps two runs apart. Only the owner may open it: any user who may
//! read the directory could lock the directory itself.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use codex_network_config::CaPaths;
use codex_network_files::{FileLock, LockError};
use nix::fcntl::OFlag;
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use zeroize::Zeroizing;

use super::{FileError, check_place, open, read, read_certificate, read_key};
use crate::ca::{Ca, Lifetime, pem};

/// The result of a run of `init`.
#[derive(Debug)]
pub(crate) enum Made {
    /// A new CA.
    New(Ca),
    /// Completed an interrupted run.
    Completed(Ca),
    /// Nothing: a valid pair exists.
    There(Ca),
}

impl Made {
    pub(crate) fn ca(&self) -> &Ca {
        let (Self::New(ca) | Self::Completed(ca) | Self::There(ca)) = self;
        ca
    }

    pub(crate) fn into_ca(self) -> Ca {
        let (Self::New(ca) | Self::Completed(ca) | Self::There(ca)) = self;
        ca
    }
}

/// Makes the pair, unless a valid one exists.
///
/// # Errors
///
/// Returns an error if the existing files are not a valid pair, or the files cannot be written. An
/// existing file is never overwritten.
pub(crate) fn make(paths: &CaPaths, now: SystemTime) -> Result<Made, FileError> {
    for path in [&paths.key, &paths.certificate] {
        check_place(path)?;
        make_directory(directory(path))?;
    }
    let _lock = lock(&paths.key)?;
    let pending = PendingFiles::of(paths);
    if let Some(made) = pending.complete(now)? {
        return Ok(made);
    }
    if let Some(there) = read(paths, now)? {
        pending.discard()?;
        return Ok(Made::There(there));
    }
    pending.discard()?;
    let ca = Ca::generate(Lifetime::Kept, now).map_err(FileError::NotMade)?;
    pending.stage_certificate(&ca)?;
    pending.stage_key(&ca)?;
    pending.publish_key()?;
    pending.publish_certificate()?;
    pending.discard()?;
    match read(paths, now)? {
        Some(ca) => Ok(Made::New(ca)),
        None => Err(FileError::NotMade(anyhow::anyhow!(
            "the files are gone again"
        ))),
    }
}

/// Makes a directory that all users may read, under any umask, and its parents. An existing
/// directory stays as it is.
///
/// # Errors
///
/// Returns an error if it cannot be made, or something else has its name.
pub(crate) fn make_directory(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = path.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_directory(above)?;
    }
    match codex_network_files::make_directory(path, 0o755) {
        Ok(()) => Ok(()),
        // Another process was faster.
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(FileError::io("make the directory", path)(error)),
    }
}

/// The pending files.
struct PendingFiles<'a> {
    paths: &'a CaPaths,
    certificate: PathBuf,
    key: PathBuf,
}

impl<'a> PendingFiles<'a> {
    fn of(paths: &'a CaPaths) -> Self {
        Self {
            paths,
            certificate: pending(&paths.certificate),
            key: pending(&paths.key),
        }
    }

    /// If a run stopped between the two files, completes it.
    fn complete(&self, now: SystemTime) -> Result<Option<Made>, FileError> {
        let (certificate, key) = (open(&self.paths.certificate)?, open(&self.paths.key)?);
        let (None, Some(key)) = (certificate, key) else {
            return Ok(None);
        };
        let Some(certificate) = open(&self.certificate)? else {
            // A lone key: `read` refuses it.
            return Ok(None);
        };
        let certificate = read_certificate(&self.certificate, certificate)?;
        let key = read_key(&self.paths.key, key)?;
        let ca = Ca::load(&key, &certificate, now).map_err(|why| FileError::Unfit {
            certificate: self.certificate.clone(),
            key: self.paths.key.clone(),
            why,
        })?;
        self.publish_certificate()?;
        self.discard()?;
        Ok(Some(Made::Completed(ca)))
    }

    fn stage_certificate(&self, ca: &Ca) -> Result<(), FileError> {
        let pem = pem::certificate(ca.certificate());
        write_new(&self.certificate, pem.as_bytes(), 0o644)
    }

    fn stage_key(&self, ca: &Ca) -> Result<(), FileError> {
        let pem = key_pem(ca).map_err(FileError::NotMade)?;
        write_new(&self.key, pem.as_bytes(), 0o600)
    }

    fn publish_key(&self) -> Result<(), FileError> {
        publish(&self.key, &self.paths.key)
    }

    fn publish_certificate(&self) -> Result<(), FileError> {
        publish(&self.certificate, &self.paths.certificate)
    }

    /// Removes the pending names.
    fn discard(&self) -> Result<(), FileError> {
        for path in [&self.key, &self.certificate] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(FileError::io("remove", path)(error));
                }
                _ => {}
            }
        }
        for path in [&self.key, &self.certificate] {
            sync_directory(path)?;
        }
        Ok(())
    }
}

fn key_pem(ca: &Ca) -> anyhow::Result<Zeroizing<String>> {
    let key = p256::SecretKey::from_slice(&ca.scalar()[..])?;
    Ok(key.to_pkcs8_pem(LineEnding::LF)?)
}

fn pending(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pending");
    name.into()
}

/// Writes a file that must not exist, with this mode under any umask, and syncs it.
fn write_new(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            // Never wider than this, not even for a moment.
            .mode(mode)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().map_err(FileError::io("write", path))?;
    sync_directory(path)
}

/// Gives a written file its final name. Fails when the name exists.
fn publish(from: &Path, to: &Path) -> Result<(), FileError> {
    std::fs::hard_link(from, to).map_err(FileError::io("make", to))?;
    sync_directory(to)
}

/// Syncs a file's directory, so that its name survives a crash of the system.
fn sync_directory(of: &Path) -> Result<(), FileError> {
    let directory = directory(of);
    File::open(directory)
        .and_then(|opened| opened.sync_all())
        .map_err(FileError::io("sync", directory))
}

fn directory(of: &Path) -> &Path {
    match of.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    }
}

fn lock(key: &Path) -> Result<FileLock, FileError> {
    FileLock::beside(key, Duration::ZERO).map_err(|error| match error {
        LockError::Held { .. } => FileError::Busy(error),
        LockError::Foreign { .. } | LockError::Io { .. } => FileError::NotLocked(error),
    })
}

#[cfg(test)]
mod tests;
