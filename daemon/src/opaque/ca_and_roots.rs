//! The public facts about the CA, and the roots. None of them is secret.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_network_config::CaCertificate;

use super::{put, take};

/// The CA in force, and the roots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CaAndRoots {
    pub(crate) ca: Option<Arc<CaCertificate>>,
    pub(crate) roots: Arc<[Arc<[u8]>]>,
}

impl CaAndRoots {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Neither a certificate nor a path is ever empty, so an empty part means "none".
        let none = CaCertificate::default();
        let ca = self.ca.as_deref().unwrap_or(&none);
        put(&mut bytes, &ca.der);
        for path in [&ca.kept_at, &ca.certificate_file, &ca.bundle_file] {
            let path = path.as_deref().unwrap_or(Path::new(""));
            put(&mut bytes, path.as_os_str().as_bytes());
        }
        for root in self.roots.iter() {
            put(&mut bytes, root);
        }
        bytes
    }

    /// Reads the output of [`to_bytes`](Self::to_bytes).
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (der, rest) = take(bytes)?;
        let (kept_at, rest) = take(rest)?;
        let (certificate_file, rest) = take(rest)?;
        let (bundle_file, mut rest) = take(rest)?;
        let mut roots = Vec::new();
        while !rest.is_empty() {
            let (root, left) = take(rest)?;
            roots.push(Arc::from(root));
            rest = left;
        }
        let path =
            |bytes: &[u8]| (!bytes.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(bytes)));
        let ca = (!der.is_empty()).then(|| {
            Arc::new(CaCertificate {
                der: der.into(),
                kept_at: path(kept_at),
                certificate_file: path(certificate_file),
                bundle_file: path(bundle_file),
            })
        });
        Some(Self {
            ca,
            roots: roots.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m5_the_ca_and_the_roots_are_read_back_unchanged_and_never_in_part() {
        let sent = CaAndRoots {
            ca: Some(Arc::new(CaCertificate {
                der: Arc::from(&b"certificate"[..]),
                kept_at: None,
                certificate_file: Some("/state/ca-0.pem".into()),
                bundle_file: Some("/state/ca-bundle-0.pem".into()),
            })),
            roots: [Arc::from(&b"root"[..])].into(),
        };
        let bytes = sent.to_bytes();
        assert_eq!(CaAndRoots::from_bytes(&bytes), Some(sent));
        let last = bytes.len() - (8 + b"root".len());
        for end in (0..bytes.len()).filter(|end| *end != last) {
            assert_eq!(CaAndRoots::from_bytes(&bytes[..end]), None, "cut to {end}");
        }
        let nothing = CaAndRoots::default();
        assert_eq!(CaAndRoots::from_bytes(&nothing.to_bytes()), Some(nothing));
    }
}
