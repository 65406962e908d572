//! [`LeafIssuer`]: how the engine obtains leaf certificates. The CA key stays with the implementor.
//!
//! The engine holds one key of its own, shared by all leaves, and no CA key. It passes its public
//! key and a host, and gets a certificate for exactly those (SPEC M4). In the service the monitor
//! is the issuer. In the library it is an object in the same process.

use std::fmt;
use std::time::SystemTime;

use codex_network_policy::Host;
use futures_util::future::BoxFuture;
use rustls::pki_types::CertificateDer;

/// Issues leaf certificates for the interception. Implementations hold the CA key; the engine
/// never sees it.
pub trait LeafIssuer: fmt::Debug + Send + Sync + 'static {
    /// Issues a server certificate for `host` alone. `public_key` is a P-256 point, uncompressed
    /// (SEC 1 section 2.3.3).
    ///
    /// # Errors
    ///
    /// Returns an error if the issuer cannot issue the certificate. The connection is then refused.
    fn issue<'a>(
        &'a self,
        host: &'a Host,
        public_key: &'a [u8; 65],
    ) -> BoxFuture<'a, Result<IssuedLeaf, IssueError>>;

    /// The same for a client of this user, if the user is known. An issuer with limits can give each user a share
    /// of them.
    ///
    /// # Errors
    ///
    /// As [`issue`](Self::issue).
    fn issue_for<'a>(
        &'a self,
        host: &'a Host,
        public_key: &'a [u8; 65],
        _user: Option<u32>,
    ) -> BoxFuture<'a, Result<IssuedLeaf, IssueError>> {
        self.issue(host, public_key)
    }
}

/// A certificate for one host.
#[derive(Clone, Debug)]
pub struct IssuedLeaf {
    /// The leaf first, then the intermediates up to the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The time from which the leaf is valid.
    pub not_before: SystemTime,
    /// The time until which the leaf is valid.
    pub not_after: SystemTime,
}

/// Why there is no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// Too many requests at once.
    #[error("too many certificates are requested at once; try again")]
    Busy,
    /// The client's user, or all users together, have certificates for as many hosts as the issuer permits.
    #[error(
        "too many hosts that are on no list of the policy got certificates within an hour; add the hosts to the allow \
         list, or try again later"
    )]
    TooManyHosts,
    /// The issuer refuses to issue this certificate.
    #[error("the issuer refuses: {0}")]
    Refused(String),
    /// The issuer has ended, or did not answer in time.
    #[error("the issuer does not answer")]
    Gone,
}
