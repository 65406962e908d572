//! The system's own store of trusted certificates, changed with the system's own tools.
//!
//! An installed file has the certificate's fingerprint in its name. Uninstalling removes only files
//! with such a name and exactly that certificate.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use codex_network_files::Reading;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "codex-network-proxy-ca-";
const SUFFIX: &str = ".crt";
/// How many bytes of the fingerprint are in a file name.
const NAME_BYTES: usize = 8;
/// The longest certificate that is read.
const MAX_CERTIFICATE_BYTES: u64 = 64 * 1024;
/// The longest list of trusted certificates that is read.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// The store of macOS.
const KEYCHAIN: &str = "/Library/Keychains/System.keychain";

/// A store, below a root that is `/` except in tests.
#[derive(Clone, Debug)]
pub(crate) struct TrustStore {
    root: PathBuf,
    kind: StoreKind,
}

/// The kind of the system's tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoreKind {
    /// `update-ca-certificates(8)`: Debian, Ubuntu, Alpine and others.
    Debian,
    /// `update-ca-trust(8)`: Fedora, RHEL and others.
    Fedora,
    /// `security(1)`.
    Macos,
}

/// A tool and its arguments.
#[derive(Debug)]
pub(crate) struct ToolCall<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: Vec<OsString>,
}

/// A function that runs a tool. The error says why it failed.
type Run<'a> = dyn FnMut(&ToolCall<'_>) -> Result<(), String> + 'a;

/// Whether a system trusts a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CaTrust {
    Yes,
    No,
    /// It cannot be determined.
    Unknown,
}

/// The changed files.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StoreChange {
    /// Nothing was changed. On installing, these files existed already; on uninstalling, none existed.
    Nothing(Vec<PathBuf>),
    Files(Vec<PathBuf>),
}

impl StoreChange {
    pub(crate) fn files(&self) -> &[PathBuf] {
        let (Self::Nothing(files) | Self::Files(files)) = self;
        files
    }
}

impl TrustStore {
    /// The store of the system below this root; `None` if it is of no known kind.
    pub(crate) fn of(root: &Path) -> Option<Self> {
        let kind = if cfg!(target_os = "macos") {
            StoreKind::Macos
        } else {
            // Either system may have the directories of the other, but not its tool.
            [StoreKind::Debian, StoreKind::Fedora]
                .into_iter()
                .find(|kind| root.join(kind.program()).exists())?
        };
        Some(Self {
            root: root.to_owned(),
            kind,
        })
    }

    /// Makes the system trust a certificate.
    ///
    /// # Errors
    ///
    /// A sentence, when it cannot. Then no file is left behind.
    pub(crate) fn install(&self, pem: &str, run: &mut Run<'_>) -> Result<StoreChange, String> {
        let fingerprint = name_part(pem.as_bytes()).ok_or("the proxy's CA cannot be read")?;
        let path = self
            .directory()
            .join(format!("{PREFIX}{fingerprint}{SUFFIX}"));
        let is_new = match write_new(&path, pem.as_bytes()) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if read(&path).as_deref() != Some(pem.as_bytes()) {
                    let path = path.display();
                    return Err(format!(
                        "{path} exists and is not this CA; inspect it and move it away"
                    ));
                }
                false
            }
            Err(error) => return Err(format!("cannot write {}: {error}", path.display())),
        };
        // Also when the file existed: an earlier run may have been interrupted.
        let outcome = self.run(&self.arguments_to_trust(&path), run);
        if let Err(why) = outcome {
            if is_new {
                // A file that the system does not trust must not stay.
                let _ = std::fs::remove_file(&path);
            }
            return Err(why);
        }
        Ok(if is_new {
            StoreChange::Files(vec![path])
        } else {
            StoreChange::Nothing(vec![path])
        })
    }

    /// Removes every certificate that [`install`](Self::install) installed.
    ///
    /// # Errors
    ///
    /// A sentence, when a file could not be removed.
    pub(crate) fn uninstall(&self, run: &mut Run<'_>) -> Result<StoreChange, String> {
        let mut removed = Vec::new();
        for path in self.ours() {
            if self.kind == StoreKind::Macos {
                let distrust = [
                    "remove-trusted-cert".into(),
                    "-d".into(),
                    path.clone().into(),
                ];
                self.run(&distrust, run)?;
                let hash = read(&path).and_then(|pem| fingerprint(&pem));
                let hash = hash.ok_or_else(|| format!("cannot read {}", path.display()))?;
                // security(1) writes fingerprints in capitals and compares them as texts.
                let hash = hash.to_ascii_uppercase();
                let delete = [
                    "delete-certificate".into(),
                    "-Z".into(),
                    hash.into(),
                    KEYCHAIN.into(),
                ];
                self.run(&delete, run)?;
            }
            std::fs::remove_file(&path)
                .map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
            removed.push(path);
        }
        if removed.is_empty() {
            return Ok(StoreChange::Nothing(removed));
        }
        match self.kind {
            // Otherwise links to removed files stay in /etc/ssl/certs.
            StoreKind::Debian => self.run(&["--fresh".into()], run)?,
            StoreKind::Fedora => self.run(&["extract".into()], run)?,
            StoreKind::Macos => {}
        }
        Ok(StoreChange::Files(removed))
    }

    /// Whether the system trusts a certificate, by any means.
    pub(crate) fn trust(&self, pem: &str, run: &mut Run<'_>) -> CaTrust {
        let list = match self.kind {
            StoreKind::Debian => "etc/ssl/certs/ca-certificates.crt",
            StoreKind::Fedora => "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
            StoreKind::Macos => return self.verify(pem, run),
        };
        // Far longer than a certificate, because it is a list.
        let Ok(list) = Reading::up_to(MAX_LIST_BYTES).read(&self.root.join(list)) else {
            return CaTrust::Unknown;
        };
        let Ok(wanted) = CertificateDer::from_pem_slice(pem.as_bytes()) else {
            return CaTrust::Unknown;
        };
        let mut trusted = CertificateDer::pem_slice_iter(&list).flatten();
        if trusted.any(|trusted| trusted == wanted) {
            CaTrust::Yes
        } else {
            CaTrust::No
        }
    }

    /// Lets the tool verify our file, which exists only after `install`.
    fn verify(&self, pem: &str, run: &mut Run<'_>) -> CaTrust {
        let wanted = name_part(pem.as_bytes());
        let ours = self
            .ours()
            .into_iter()
            .find(|path| read(path).and_then(|content| name_part(&content)) == wanted);
        let Some(path) = ours else {
            // A profile may have added it; then the keychain has it under its own name.
            return CaTrust::Unknown;
        };
        // The certificate is that of a CA, and verifying it must not fetch anything.
        let verify = ["verify-cert", "-c"].map(OsString::from).into_iter();
        let options = ["-p", "basic", "-l", "-L", "-q"].map(OsString::from);
        let arguments: Vec<OsString> = verify.chain([path.into()]).chain(options).collect();
        match self.run(&arguments, run) {
            Ok(()) => CaTrust::Yes,
            Err(_) => CaTrust::No,
        }
    }

    /// The installed files: their certificate matches their name.
    fn ours(&self) -> Vec<PathBuf> {
        let Ok(entries) = std::fs::read_dir(self.directory()) else {
            return Vec::new();
        };
        let mut ours: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                let named = name
                    .to_str()
                    .and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
                let content = read(&entry.path()).and_then(|pem| name_part(&pem));
                named.is_some() && named == content.as_deref()
            })
            .map(|entry| entry.path())
            .collect();
        ours.sort_unstable();
        ours
    }

    fn directory(&self) -> PathBuf {
        self.root.join(match self.kind {
            StoreKind::Debian => "usr/local/share/ca-certificates",
            StoreKind::Fedora => "etc/pki/ca-trust/source/anchors",
            // The keychain has a copy; this file shows that we added it.
            StoreKind::Macos => "Library/Application Support/codex-network-proxy",
        })
    }

    /// The arguments that make the tool read the directory, or this file.
    fn arguments_to_trust(&self, path: &Path) -> Vec<OsString> {
        match self.kind {
            StoreKind::Debian => Vec::new(),
            StoreKind::Fedora => vec!["extract".into()],
            StoreKind::Macos => ["add-trusted-cert", "-d", "-r", "trustRoot", "-k", KEYCHAIN]
                .map(OsString::from)
                .into_iter()
                .chain([path.into()])
                .collect(),
        }
    }

    fn run(&self, arguments: &[OsString], run: &mut Run<'_>) -> Result<(), String> {
        run(&ToolCall {
            program: &self.root.join(self.kind.program()),
            arguments: arguments.to_vec(),
        })
    }
}

impl StoreKind {
    fn program(self) -> &'static str {
        match self {
            Self::Debian => "usr/sbin/update-ca-certificates",
            Self::Fedora => "usr/bin/update-ca-trust",
            Self::Macos => "usr/bin/security",
        }
    }
}

/// The fingerprint's first bytes; `None` for a text that is not exactly one certificate.
fn name_part(pem: &[u8]) -> Option<String> {
    let fingerprint = fingerprint(pem)?;
    Some(fingerprint[..2 * NAME_BYTES].to_owned())
}

/// SHA-256 of a certificate, in lower-case hexadecimal.
fn fingerprint(pem: &[u8]) -> Option<String> {
    let mut found = CertificateDer::pem_slice_iter(pem);
    let (Some(Ok(certificate)), None) = (found.next(), found.next()) else {
        return None;
    };
    let digest = Sha256::digest(&certificate);
    let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(pairs.concat())
}

/// A small regular file, also through a link.
fn read(path: &Path) -> Option<Vec<u8>> {
    let mut content = Reading::up_to(MAX_CERTIFICATE_BYTES)
        .without_links()
        .read(path)
        .ok()?;
    Some(std::mem::take(&mut *content))
}

/// Writes a new file that all users may read, whatever the umask, and makes its directory if it is
/// missing.
fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests;
