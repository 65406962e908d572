//! Certificates as PEM (RFC 7468), one after the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Characters in a line (RFC 7468 section 2).
const LINE: usize = 64;

/// One certificate.
pub(crate) fn certificate(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = String::with_capacity(body.len() + body.len() / LINE + 56);
    pem.push_str("-----BEGIN CERTIFICATE-----\n");
    // Base64 is ASCII, so every index is a character boundary.
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, left) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = left;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// The roots and our CA, ours last.
pub(crate) fn bundle<'a>(roots: impl IntoIterator<Item = &'a [u8]>, ca: &'a [u8]) -> String {
    roots.into_iter().chain([ca]).map(certificate).collect()
}
