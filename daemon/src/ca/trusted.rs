//! The certificates that a child already trusts: those in the files that its environment names. The
//! bundle that replaces these files includes them (SPEC B2).
//!
//! The author of that environment chose the files, so they are read with care: regular files of a
//! bounded size, from which only certificates are taken. A private key next to them is not copied
//! and does not stay in memory. A file that cannot be used is left out with a warning; a child that
//! trusts less than before fails with its own error.

use std::collections::BTreeSet;
use std::path::Path;

use codex_network_files::{ReadError, Reading};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::certificate::is_certificate;

/// Largest file that is read; the roots of a whole system take a tenth of this.
const MAX_FILE_BYTES: u64 = 4 << 20;
/// Most bytes of certificates (DER) of all files together.
const MAX_BYTES: usize = 8 << 20;

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";

/// The certificates that a child trusts.
#[derive(Debug, Default)]
pub(crate) struct Trusted {
    /// DER, in an order that does not depend on the files, since the bundle is named by its
    /// content.
    pub(crate) certificates: BTreeSet<Vec<u8>>,
    /// The parts that were left out, a sentence each.
    pub(crate) warnings: Vec<String>,
}

/// Why a file, or a part of it, cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("it is not absolute, and the child's working directory is not known")]
    Relative,
    #[error(transparent)]
    Unread(#[from] ReadError),
    #[error("it holds no certificate in PEM")]
    Nothing,
    #[error("certificate {0} in it is broken; the others are taken")]
    Broken(usize),
    #[error(
        "{0} certificates in it are broken, number {1} the first of them; the others are taken"
    )]
    SomeBroken(usize, usize),
    #[error("all the files together hold more than {} MiB", MAX_BYTES >> 20)]
    TooMany,
}

/// Reads what these variables name, each file once.
pub(crate) fn read<'a>(named: impl IntoIterator<Item = (&'a str, &'a str)>) -> Trusted {
    let mut trusted = Trusted::default();
    let mut seen = BTreeSet::new();
    let mut size = 0;
    for (variable, path) in named {
        if path.is_empty() || !seen.insert(path) {
            continue;
        }
        let mut leave_out = |why: &Unusable| {
            trusted.warnings.push(format!(
                "not all that a child trusts by {variable}={path:?} is in its bundle: {why}"
            ));
        };
        let content = match content(Path::new(path)) {
            Ok(content) => content,
            Err(why) => {
                leave_out(&why);
                continue;
            }
        };
        let mut found = 0;
        let mut broken = Vec::new();
        for block in blocks(&content) {
            found += 1;
            let Some(certificate) = certificate(block) else {
                broken.push(found);
                continue;
            };
            if size + certificate.len() > MAX_BYTES {
                leave_out(&Unusable::TooMany);
                break;
            }
            let length = certificate.len();
            if trusted.certificates.insert(certificate) {
                size += length;
            }
        }
        // One line for a file, however many broken certificates it has.
        match *broken {
            [] if found == 0 => leave_out(&Unusable::Nothing),
            [] => {}
            [one] => leave_out(&Unusable::Broken(one)),
            [first, ..] => leave_out(&Unusable::SomeBroken(broken.len(), first)),
        }
    }
    trusted
}

fn content(path: &Path) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    if !path.is_absolute() {
        return Err(Unusable::Relative);
    }
    Ok(Reading::up_to(MAX_FILE_BYTES).read(path)?)
}

/// The certificates of a file, as PEM (RFC 7468). Text between them is not decoded.
fn blocks(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = content;
    std::iter::from_fn(move || {
        let block = &rest[find(rest, BEGIN)?..];
        let end = find(block, END).map_or(block.len(), |end| end + END.len());
        let (block, left) = block.split_at(end);
        rest = left;
        Some(block)
    })
}

fn find(text: &[u8], mark: &[u8]) -> Option<usize> {
    text.windows(mark.len()).position(|part| part == mark)
}

fn certificate(block: &[u8]) -> Option<Vec<u8>> {
    let certificate = CertificateDer::from_pem_slice(block).ok()?;
    is_certificate(&certificate).then(|| certificate.to_vec())
}

#[cfg(test)]
mod tests;
