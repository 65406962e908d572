//! Where certificates for intercepted hosts come from: a trait at the engine's edge (SPEC M4).
//!
//! The key of a leaf is the engine's own; the key of the CA is somebody else's, who is asked for
//! each certificate.

use std::time::SystemTime;

use codex_network_policy::Host;
use futures_util::future::BoxFuture;
use rustls::pki_types::CertificateDer;

/// Issues leaf certificates for the interception (SPEC M4). Implementations hold the CA key; the
/// engine never sees it.
pub trait LeafIssuer: std::fmt::Debug + Send + Sync + 'static {
    /// Issues a certificate for one host and a P-256 public key (SEC 1, uncompressed).
    fn issue<'a>(
        &'a self,
        host: &'a Host,
        public_key: &'a [u8; 65],
    ) -> BoxFuture<'a, Result<IssuedLeaf, IssueError>>;
}

/// A certificate with what vouches for it.
#[derive(Clone, Debug)]
pub struct IssuedLeaf {
    /// The leaf first, then the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// When the leaf is of no use any more.
    pub not_after: SystemTime,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// Too many were asked for at once; later it works.
    #[error("too many certificates are being asked for; try again")]
    Busy,
    /// This one is not issued.
    #[error("no certificate is issued: {0}")]
    Refused(String),
    /// The issuer does not answer.
    #[error("the certificate issuer does not answer")]
    Gone,
}
