//! The content of a CA certificate, and whether it can be our CA's (SPEC M3).

use std::time::SystemTime;

use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// Why a key and a certificate cannot be our CA. The sentence says what is wrong; the message
/// around it names the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("the key is not a P-256 key")]
    Key,
    #[error("the certificate cannot be read")]
    Unreadable,
    #[error("the certificate is not that of a CA (basicConstraints)")]
    NotACa,
    #[error("the certificate may not sign others (keyUsage)")]
    MayNotSign,
    #[error("the key and the certificate do not match")]
    OtherKey,
    #[error("the certificate has expired")]
    Expired,
    #[error("the certificate is not valid yet")]
    NotYet,
    #[error("the certificate's subject has a form that its leaves cannot name")]
    Subject,
}

/// The validity period of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: OffsetDateTime,
    pub(super) not_after: OffsetDateTime,
}

/// Facts about a certificate, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    /// Roughly in the form of RFC 4514.
    pub(crate) subject: String,
    /// SHA-256, in the form of `openssl x509 -fingerprint`.
    pub(crate) fingerprint: String,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
}

/// SHA-256.
pub(crate) fn fingerprint(der: &[u8]) -> [u8; 32] {
    Sha256::digest(der).into()
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.concat()
}

/// Upper-case hexadecimal with colons.
fn colons(bytes: &[u8]) -> String {
    let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// Describes a certificate; `None` when the bytes are not one.
pub(crate) fn describe(der: &[u8]) -> Option<Described> {
    let certificate = parse(der).ok()?;
    let validity = certificate.validity();
    Some(Described {
        subject: certificate.subject().to_string(),
        fingerprint: colons(&fingerprint(der)),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
    })
}

/// Whether the certificate can be that of a CA with this public key, now.
pub(super) fn judge(der: &[u8], public_key: &[u8; 65], now: SystemTime) -> Result<Validity, Unfit> {
    let certificate = parse(der)?;
    let is_ca = certificate
        .basic_constraints()
        .ok()
        .flatten()
        .is_some_and(|constraints| constraints.value.ca);
    if !is_ca {
        return Err(Unfit::NotACa);
    }
    // RFC 5280 section 4.2.1.3: without the extension everything is allowed.
    let may_sign = match certificate.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    };
    if !may_sign {
        return Err(Unfit::MayNotSign);
    }
    if certificate.public_key().subject_public_key.data.as_ref() != public_key {
        return Err(Unfit::OtherKey);
    }
    let nameless = certificate.subject().iter().next().is_none();
    if nameless
        || certificate
            .subject()
            .iter()
            .any(|part| part.iter().count() != 1)
    {
        return Err(Unfit::Subject);
    }
    let validity = certificate.validity();
    let judged = Validity {
        not_before: validity.not_before.to_datetime(),
        not_after: validity.not_after.to_datetime(),
    };
    let now = OffsetDateTime::from(now);
    if now < judged.not_before {
        return Err(Unfit::NotYet);
    }
    if now >= judged.not_after {
        return Err(Unfit::Expired);
    }
    Ok(judged)
}

/// Whether the issuer of a leaf equals the subject of a CA certificate, byte by byte.
pub(super) fn issued_by(leaf: &[u8], ca: &[u8]) -> bool {
    match (parse(leaf), parse(ca)) {
        (Ok(leaf), Ok(ca)) => leaf.issuer().as_raw() == ca.subject().as_raw(),
        _ => false,
    }
}

/// Whether the bytes are a certificate.
pub(super) fn is_certificate(der: &[u8]) -> bool {
    parse(der).is_ok()
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Unfit> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Unfit::Unreadable),
    }
}
