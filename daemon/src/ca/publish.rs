//! The public files: the CA's certificate, and a bundle of it and the system's roots (SPEC M5).
//!
//! They are named by the SHA-256 of their content and never change: a program that has a path gets
//! the same content across reloads and changes of the CA. Old ones are removed after a while.

use std::fs::{DirEntry, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use codex_network_files::{Reading, Trust, Untrusted};
use nix::fcntl::OFlag;

use super::certificate::{fingerprint, hex};
use super::files::make_directory;
use super::pem;

const CERTIFICATE: &str = "ca-";
const BUNDLE: &str = "ca-bundle-";
const END: &str = ".pem";
/// Beginning of the name of a file that is being written.
const NEW: &str = ".ca-new-";
/// Hexadecimal digits of a name.
const DIGITS: usize = 16;
/// Files of this age are removed, except for the newest.
const MAX_UNUSED_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// This many files of a kind stay, at any age.
const MIN_KEPT: usize = 8;
/// A file that is still being written after this time is abandoned.
const MAX_TEMPORARY_AGE: Duration = Duration::from_secs(60 * 60);

/// The paths of the files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Published {
    pub(crate) certificate: PathBuf,
    pub(crate) bundle: PathBuf,
}

/// Writes both files into the state directory, which is made if it is missing.
///
/// # Errors
///
/// A sentence that says why the files could not be written. No partial file ever has a final name.
pub(crate) fn publish<'a>(
    state: &Path,
    ca: &'a [u8],
    roots: impl IntoIterator<Item = &'a [u8]>,
    now: SystemTime,
) -> Result<Published, String> {
    own_directory(state)?;
    let write = || -> io::Result<Published> {
        let certificate = pem::certificate(ca);
        let bundle = pem::bundle(roots, ca);
        let published = Published {
            certificate: put(state, CERTIFICATE, certificate.as_bytes(), now)?,
            bundle: put(state, BUNDLE, bundle.as_bytes(), now)?,
        };
        prune(state, Some(&published), now)?;
        Ok(published)
    };
    write().map_err(|error| format!("cannot write {}: {error}", state.display()))
}

/// Removes old files, when no new ones are written. Without the directory there are none.
pub(crate) fn clean(state: &Path, now: SystemTime) {
    if Trust::of_process().check_own_directory(state).is_ok() {
        // The next time finds what stays.
        let _ = prune(state, None, now);
    }
}

/// Makes the state directory if it is missing. No other user may write there.
///
/// # Errors
///
/// A sentence that says why the directory cannot be used.
pub(crate) fn own_directory(state: &Path) -> Result<(), String> {
    let user = Trust::of_process();
    if user.is_binding() {
        user.check(state).map_err(|error| refused(&error))?;
    }
    make_directory(state).map_err(|error| error.to_string())?;
    user.check_own_directory(state)
        .map_err(|error| refused(&error))
}

/// A user who may write into the directory decides which CA other users trust, and which configuration
/// a service falls back to.
fn refused(error: &Untrusted) -> String {
    format!("others may write there: {error}")
}

/// Writes a file under the name of its content, unless it exists.
fn put(state: &Path, kind: &str, content: &[u8], now: SystemTime) -> io::Result<PathBuf> {
    let mark = &hex(&fingerprint(content))[..DIGITS];
    let path = state.join(format!("{kind}{mark}{END}"));
    if is_there(&path, content, now) {
        return Ok(path);
    }
    let mut chance = [0; DIGITS / 2];
    getrandom::fill(&mut chance).map_err(io::Error::from)?;
    let new = state.join(format!("{NEW}{}", hex(&chance)));
    let write = || -> io::Result<()> {
        let mut file = File::options()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&new)?;
        file.set_permissions(Permissions::from_mode(0o644))?;
        file.write_all(content)?;
        file.sync_all()?;
        // An existing file of this name has this content, or is broken.
        std::fs::rename(&new, &path)?;
        File::open(state)?.sync_all()
    };
    write().inspect_err(|_| {
        // If this fails, the next prune finds it.
        let _ = std::fs::remove_file(&new);
    })?;
    Ok(path)
}

/// Whether the file exists with the right content. If so, its age starts again.
fn is_there(path: &Path, content: &[u8], now: SystemTime) -> bool {
    let there = Reading::up_to(content.len() as u64).without_links();
    let Ok(file) = there.open(path) else {
        return false;
    };
    let is_sound = file.metadata().mode() & 0o7777 == 0o644
        && file.read().is_ok_and(|there| *there == content);
    if is_sound {
        // If this fails, only the age is wrong.
        let _ = File::options()
            .append(true)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(path)
            .and_then(|file| file.set_modified(now));
    }
    is_sound
}

/// Removes old files. Files whose names are not exactly in our form stay.
fn prune(state: &Path, current: Option<&Published>, now: SystemTime) -> io::Result<()> {
    let (mut certificates, mut bundles) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(state)?.flatten() {
        let Some(age) = age(&entry, now) else {
            continue;
        };
        let path = entry.path();
        match kind(&entry) {
            Some(BUNDLE) => bundles.push((age, path)),
            Some(CERTIFICATE) => certificates.push((age, path)),
            Some(_) if age > MAX_TEMPORARY_AGE => std::fs::remove_file(path)?,
            Some(_) | None => {}
        }
    }
    for mut files in [certificates, bundles] {
        files.sort_unstable();
        for (age, path) in files.into_iter().skip(MIN_KEPT) {
            let is_current = current
                .is_some_and(|current| path == current.certificate || path == current.bundle);
            if age > MAX_UNUSED_AGE && !is_current {
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(())
}

/// The time since a regular file was written.
fn age(entry: &DirEntry, now: SystemTime) -> Option<Duration> {
    let metadata = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
    // A file from the future is new.
    Some(
        now.duration_since(metadata.modified().ok()?)
            .unwrap_or_default(),
    )
}

/// The kind of file that a name stands for, if it is in our form.
fn kind(entry: &DirEntry) -> Option<&'static str> {
    let name = entry.file_name();
    let name = name.to_str()?;
    let is_mark = |text: &str| {
        text.len() == DIGITS
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    [(BUNDLE, END), (CERTIFICATE, END), (NEW, "")]
        .into_iter()
        .find(|(kind, end)| {
            name.strip_prefix(kind)
                .and_then(|rest| rest.strip_suffix(end))
                .is_some_and(is_mark)
        })
        .map(|(kind, _)| kind)
}

#[cfg(test)]
mod tests;
