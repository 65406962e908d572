//! The system's root certificates, for the worker and for the bundle (SPEC M5, M6).

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_network_files::{OpenedFile, ReadError, Reading};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::watched::{Collection, WatchedPart};

/// Largest file of root certificates, and largest sum of all files. The roots of a whole system
/// take half a megabyte.
const MAX_BYTES: u64 = 16 << 20;

/// The variable for a file with roots, and the one for directories of such files, named as in
/// OpenSSL.
const FILE: &str = "SSL_CERT_FILE";
const DIRECTORIES: &str = "SSL_CERT_DIR";

/// The usual paths of the system's roots, among those that `rustls-native-certs` reads.
#[cfg(not(target_os = "macos"))]
const SYSTEM_PATHS: &[(&str, WatchedPart)] = &[
    ("/etc/ssl/certs", WatchedPart::Entries),
    ("/etc/ssl/certs/ca-certificates.crt", WatchedPart::Itself),
    ("/etc/ssl/ca-bundle.pem", WatchedPart::Itself),
    ("/etc/ssl/cert.pem", WatchedPart::Itself),
    ("/etc/pki/tls/certs", WatchedPart::Entries),
    ("/etc/pki/tls/certs/ca-bundle.crt", WatchedPart::Itself),
    ("/etc/pki/tls/cacert.pem", WatchedPart::Itself),
    (
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        WatchedPart::Itself,
    ),
];
/// They are in keychains, and settings say which of them are trusted.
#[cfg(target_os = "macos")]
const SYSTEM_PATHS: &[(&str, WatchedPart)] = &[
    ("/Library/Keychains/System.keychain", WatchedPart::Itself),
    ("/Library/Security/Trust Settings", WatchedPart::Entries),
];

/// The roots (DER), and a warning when there are none.
#[derive(Default)]
pub(crate) struct Roots {
    pub(crate) certificates: Vec<Arc<[u8]>>,
    pub(crate) warning: Option<String>,
}

/// Reads the platform's roots, or those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Our own CA is
/// never among them, even if it was installed: an upstream that presents a leaf of ours is this
/// proxy, or an attacker who has our key.
pub(crate) fn load(own: &[&[u8]]) -> Roots {
    let named = named(|name| std::env::var_os(name));
    let (found, error) = named.unwrap_or_else(|| {
        let found = rustls_native_certs::load_native_certs();
        (found.certs, found.errors.first().map(ToString::to_string))
    });
    let certificates = without(found.iter().map(AsRef::as_ref), own);
    let warning = certificates.is_empty().then(|| {
        let why = error.map(|error| format!(" ({error})")).unwrap_or_default();
        format!(
            "no root certificates were found{why}, so no intercepted connection gets through to its upstream; \
             {}set SSL_CERT_FILE",
            if cfg!(target_os = "macos") {
                "" // They are in the keychain, which is always installed.
            } else {
                "install ca-certificates, or "
            }
        )
    });
    Roots {
        certificates,
        warning,
    }
}

/// Adds the paths of the roots.
pub(crate) fn watch(paths: &mut Collection) {
    match named_paths(|name| std::env::var_os(name)) {
        None => {
            for (path, part) in SYSTEM_PATHS {
                paths.add(Path::new(path), *part);
            }
        }
        Some(named) => {
            for (path, part) in named {
                paths.add(&path, part);
            }
        }
    }
}

/// The file and the directories that the environment names; `None` when neither variable is set.
fn named_paths(
    environment: impl Fn(&str) -> Option<OsString>,
) -> Option<Vec<(PathBuf, WatchedPart)>> {
    let (file, directories) = (environment(FILE), environment(DIRECTORIES));
    if file.is_none() && directories.is_none() {
        return None;
    }
    let directories = directories.iter().flat_map(std::env::split_paths);
    let directories = directories.filter(|directory| !directory.as_os_str().is_empty());
    let file = file.map(|file| (PathBuf::from(file), WatchedPart::Itself));
    let named = file
        .into_iter()
        .chain(directories.map(|directory| (directory, WatchedPart::Entries)));
    Some(named.collect())
}

/// The certificates in the paths that the environment names, and the first error; `None` when it
/// names no path. They may be any files, so they are read with a limit.
fn named(
    environment: impl Fn(&str) -> Option<OsString>,
) -> Option<(Vec<CertificateDer<'static>>, Option<String>)> {
    let mut found = NamedRoots::default();
    for (path, part) in named_paths(environment)? {
        match part {
            WatchedPart::Itself => found.file(&path),
            WatchedPart::Entries => found.directory(&path),
        }
    }
    Some((found.certificates, found.error))
}

#[derive(Default)]
struct NamedRoots {
    certificates: Vec<CertificateDer<'static>>,
    error: Option<String>,
    read: u64,
    /// The device and the inode of each file that was read. A directory that OpenSSL can use has each file
    /// under two names, and often a file with all of them.
    seen: HashSet<(u64, u64)>,
}

impl NamedRoots {
    fn file(&mut self, path: &Path) {
        let opened = Reading::up_to(MAX_BYTES - self.read).open(path);
        if let Ok(opened) = &opened
            && !self.seen.insert(identity(opened.metadata()))
        {
            return;
        }
        match opened.and_then(OpenedFile::read) {
            Ok(mut content) => {
                // Certificates are no secret, and wiping them takes as long as reading them.
                let content = std::mem::take(&mut *content);
                self.read += content.len() as u64;
                // Text that is not a certificate is skipped, as OpenSSL does.
                let certificates = CertificateDer::pem_slice_iter(&content).flatten();
                self.certificates.extend(certificates);
            }
            Err(ReadError::TooLarge(_)) => {
                let limit = MAX_BYTES >> 20;
                self.fail(path, &format!("it makes more than {limit} MiB of roots"));
            }
            Err(error) => self.fail(path, &error),
        }
    }

    fn directory(&mut self, path: &Path) {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.fail(path, &error),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let is_new = std::fs::metadata(&path).is_ok_and(|metadata| {
                metadata.is_file() && !self.seen.contains(&identity(&metadata))
            });
            if is_new {
                self.file(&path);
            }
        }
    }

    fn fail(&mut self, path: &Path, why: &impl ToString) {
        let why = why.to_string();
        self.error
            .get_or_insert_with(|| format!("{}: {why}", path.display()));
    }
}

fn identity(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}

fn without<'a>(found: impl Iterator<Item = &'a [u8]>, own: &[&[u8]]) -> Vec<Arc<[u8]>> {
    let mut roots: Vec<Arc<[u8]>> = found
        .filter(|certificate| !own.contains(certificate))
        .map(Arc::from)
        .collect();
    // The bundle is named by its content, so the same roots must give the same bundle.
    roots.sort_unstable();
    roots.dedup();
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m6_named_roots_are_read_with_a_limit_and_from_regular_files_alone() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let large = directory.path().join("large");
        std::fs::File::create(&large)
            .and_then(|file| file.set_len(MAX_BYTES + 1))
            .unwrap();
        let load = |variable: &str, path: &Path| {
            let (found, error) = named(|name| (name == variable).then(|| path.into())).unwrap();
            assert!(found.is_empty());
            error.unwrap_or_default()
        };
        for (path, why) in [
            ("/dev/zero".as_ref(), "/dev/zero: it is not a regular file"),
            (&*pipe, "it is not a regular file"),
            (&*large, "it makes more than 16 MiB of roots"),
            (directory.path(), "it is a directory"),
        ] {
            let error = load(FILE, path);
            assert!(error.ends_with(why), "{error}");
        }
        // The pipe in it is skipped.
        let error_text = load(DIRECTORIES, directory.path());
        assert!(
            error_text.ends_with("it makes more than 16 MiB of roots"),
            "{error_text}"
        );
        assert!(named(|_| None).is_none());
    }

    #[test]
    fn m6_a_file_with_several_names_is_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("one.pem");
        let text = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        std::fs::write(&file, text).unwrap();
        std::os::unix::fs::symlink(&file, directory.path().join("0.0")).unwrap();
        std::fs::hard_link(&file, directory.path().join("0.1")).unwrap();
        std::fs::write(directory.path().join("two.pem"), text.repeat(2)).unwrap();
        let (found, error) = named(|name| match name {
            FILE => Some(file.clone().into()),
            _ => Some(directory.path().into()),
        })
        .unwrap();
        assert_eq!((found.len(), error), (3, None));
    }

    #[test]
    fn m6_our_own_ca_is_no_root_even_when_it_was_installed() {
        let installed: [&[u8]; 3] = [b"one", b"ours", b"two"];
        let roots = without(installed.into_iter(), &[b"ours"]);
        assert_eq!(roots, [Arc::from(&b"one"[..]), Arc::from(&b"two"[..])]);
        let again: [&[u8]; 3] = [b"two", b"one", b"two"];
        assert_eq!(without(again.into_iter(), &[]), roots, "in one order");
    }
}
