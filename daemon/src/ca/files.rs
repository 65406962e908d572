//! The CA in files: a certificate and a key, read by the loader and made by `init` (SPEC M3).
//!
//! Both are opened without following a symlink. The opened file is checked: a regular file of root
//! or of our own user, and the key readable only by its owner. One file without the other is
//! refused. Only this module reads the key, and only [`mod@make`] writes it.

mod make;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use codex_network_config::CaPaths;
use codex_network_files::{LockError, OpenedFile, ReadError, Reading, Trust, Untrusted};
pub(crate) use make::{Made, make, make_directory};
use nix::unistd::Uid;
use p256::pkcs8::DecodePrivateKey as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::certificate::Unfit;
use super::{Ca, Scalar};

/// The names in a state directory.
const CERTIFICATE: &str = "ca.pem";
const KEY: &str = "ca.key";
/// Larger files hold something else.
const MAX_BYTES: u64 = 64 * 1024;

/// Why the files cannot be used, and a remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot {doing} {path}: {error}", path = path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    #[error("{path} is a symlink, which is not followed; give the path of the file itself", path = .0.display())]
    Symlink(PathBuf),
    #[error("{path} is not a regular file", path = .0.display())]
    NotAFile(PathBuf),
    #[error("{path} belongs to user {owner}; it must belong to root or to user {ours}, who runs the proxy", path = path.display())]
    Owner {
        path: PathBuf,
        owner: u32,
        ours: u32,
    },
    #[error("{path} holds a private key and has mode {mode:04o}; only its owner may read it: chmod 600 {path}", path = path.display())]
    OpenKey { path: PathBuf, mode: u32 },
    #[error("others than its owner may write {path} (mode {mode:04o}); forbid it: chmod go-w {path}", path = path.display())]
    OpenCertificate { path: PathBuf, mode: u32 },
    #[error(
        "{there} is there and {missing} is not: a CA is two files; bring the other back, or run \
         `codex-network-proxy init` if it was interrupted, or move this one away",
        there = there.display(), missing = missing.display()
    )]
    Lone { there: PathBuf, missing: PathBuf },
    #[error("{path} must hold exactly one certificate in PEM form", path = .0.display())]
    NotACertificate(PathBuf),
    #[error("{path} holds a private key, and programs may read certificates; move the key to the key file alone", path = .0.display())]
    KeyInCertificate(PathBuf),
    #[error("{path} must hold an unencrypted P-256 key in PKCS#8 form (`BEGIN PRIVATE KEY`); `openssl pkcs8 -topk8 -nocrypt` converts one", path = .0.display())]
    NotAKey(PathBuf),
    #[error("the CA {certificate} with the key {key} cannot be used: {why}{}", advice(*why), certificate = certificate.display(), key = key.display())]
    Unfit {
        certificate: PathBuf,
        key: PathBuf,
        why: Unfit,
    },
    #[error("another user may change its path: {0}")]
    Untrusted(Untrusted),
    #[error("another `codex-network-proxy init` is running: {0}")]
    Busy(LockError),
    #[error(transparent)]
    NotLocked(LockError),
    #[error("cannot make a CA: {0:#}")]
    NotMade(anyhow::Error),
}

/// The remedy for a CA that has expired or is not valid yet.
fn advice(why: Unfit) -> &'static str {
    match why {
        Unfit::Expired => {
            "; move both files away and run `codex-network-proxy init`, with the --config and -c of the \
             proxy, then make programs trust the new one (`proxyctl ca show`)"
        }
        Unfit::NotYet => "; set this machine's clock (`timedatectl`)",
        _ => "",
    }
}

impl FileError {
    fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { doing, path, error }
    }

    fn read(path: &Path, error: ReadError) -> Self {
        let path = path.to_owned();
        match error {
            ReadError::Io(error) => Self::io("open", &path)(error),
            ReadError::Link => Self::Symlink(path),
            ReadError::Directory | ReadError::Special => Self::NotAFile(path),
            error => Self::io("read", &path)(error.into()),
        }
    }

    /// Whether the cause is a missing permission of this process.
    pub(crate) fn is_permission_denied(&self) -> bool {
        matches!(self, Self::Io { error, .. } if error.kind() == io::ErrorKind::PermissionDenied)
    }
}

/// The CA's paths in a state directory.
pub(crate) fn in_state(directory: &Path) -> CaPaths {
    CaPaths {
        certificate: directory.join(CERTIFICATE),
        key: directory.join(KEY),
    }
}

/// Reads the pair; `None` when neither file is there.
///
/// # Errors
///
/// Returns an error if the pair exists and cannot be used, or one half is missing.
pub(crate) fn read(paths: &CaPaths, now: SystemTime) -> Result<Option<Ca>, FileError> {
    let lone = |there: &Path, missing: &Path| FileError::Lone {
        there: there.to_owned(),
        missing: missing.to_owned(),
    };
    match (open(&paths.certificate)?, open(&paths.key)?) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(lone(&paths.certificate, &paths.key)),
        (None, Some(_)) => Err(lone(&paths.key, &paths.certificate)),
        (Some(certificate), Some(key)) => {
            let certificate = read_certificate(&paths.certificate, certificate)?;
            let key = read_key(&paths.key, key)?;
            let ca = Ca::load(&key, &certificate, now).map_err(|why| FileError::Unfit {
                certificate: paths.certificate.clone(),
                key: paths.key.clone(),
                why,
            })?;
            Ok(Some(ca))
        }
    }
}

/// Opens a file that may be missing, and returns its metadata. All checks use the opened file: its
/// name may come to mean another file.
fn open(path: &Path) -> Result<Option<OpenedFile>, FileError> {
    let file = match Reading::up_to(MAX_BYTES).without_links().open(path) {
        Ok(file) => file,
        Err(ReadError::Io(error))
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(FileError::read(path, error)),
    };
    check_owner(path, file.metadata(), Uid::effective().as_raw())?;
    Ok(Some(file))
}

/// Root keeps no CA where other users may change a directory of its path.
fn check_place(path: &Path) -> Result<(), FileError> {
    let user = Trust::of_process();
    if user.is_binding() {
        user.check(path).map_err(FileError::Untrusted)?;
    }
    Ok(())
}

/// Refuses a file of another user, who may change it.
fn check_owner(path: &Path, metadata: &Metadata, ours: u32) -> Result<(), FileError> {
    let owner = metadata.uid();
    if owner == 0 || owner == ours {
        return Ok(());
    }
    Err(FileError::Owner {
        path: path.to_owned(),
        owner,
        ours,
    })
}

fn read_certificate(path: &Path, file: OpenedFile) -> Result<Vec<u8>, FileError> {
    let mode = file.metadata().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(FileError::OpenCertificate {
            path: path.to_owned(),
            mode,
        });
    }
    check_place(path)?;
    let pem = file.read().map_err(|error| FileError::read(path, error))?;
    if has_private_key(&pem) {
        return Err(FileError::KeyInCertificate(path.to_owned()));
    }
    let mut found = CertificateDer::pem_slice_iter(&pem);
    match (found.next(), found.next()) {
        (Some(Ok(certificate)), None) => Ok(certificate.to_vec()),
        _ => Err(FileError::NotACertificate(path.to_owned())),
    }
}

/// Whether a PEM file has a private key of any kind, encrypted or not.
fn has_private_key(pem: &[u8]) -> bool {
    pem.split(|byte| *byte == b'\n').any(|line| {
        let line = line.trim_ascii();
        line.starts_with(b"-----BEGIN ") && line.ends_with(b"PRIVATE KEY-----")
    })
}

fn read_key(path: &Path, file: OpenedFile) -> Result<Scalar, FileError> {
    let mode = file.metadata().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(FileError::OpenKey {
            path: path.to_owned(),
            mode,
        });
    }
    check_place(path)?;
    let pem = file.read().map_err(|error| FileError::read(path, error))?;
    let key = std::str::from_utf8(&pem)
        .ok()
        .and_then(|pem| p256::SecretKey::from_pkcs8_pem(pem).ok())
        .ok_or_else(|| FileError::NotAKey(path.to_owned()))?;
    let mut scalar = Scalar::default();
    let bytes = Zeroizing::new(<[u8; 32]>::from(key.to_bytes()));
    scalar.copy_from_slice(&bytes[..]);
    Ok(scalar)
}

#[cfg(test)]
mod tests;
