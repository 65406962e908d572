//! The CA for interception: its public facts (SPEC M5).

use serde::{Deserialize, Serialize};

/// Which facts about the CA to return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaQuery {
    /// Also return the system's roots with the CA, as PEM: some hundred kilobytes.
    pub bundle: bool,
}

/// The CA in force. Without one (`mitm = false`) every field is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ca {
    /// The certificate's subject.
    pub subject: String,
    /// The certificate's SHA-256, as upper-case pairs with colons.
    pub fingerprint: String,
    /// The time from which the certificate is valid.
    pub not_before: i64,
    /// Until when it is valid.
    pub not_after: i64,
    /// The CA certificate's file. `None` when the CA exists only in memory and ends with the
    /// process.
    pub kept_at: Option<String>,
    /// The public file with the certificate; `None` when it could not be written, or is not needed yet.
    pub certificate_file: Option<String>,
    /// The public file with the system's roots and the certificate.
    pub bundle_file: Option<String>,
    /// Whether the public files are not written yet, because nothing can be intercepted.
    pub unused: bool,
    /// How many root certificates the system has.
    pub roots: usize,
    /// The certificate.
    pub pem: String,
    /// The roots and the certificate, if requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bundle: Option<String>,
}
