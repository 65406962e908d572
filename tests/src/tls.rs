//! A certificate authority made for one test, so that clients verify certificates as usual; and
//! both sides of TLS, good and bad: [`Server`], [`Client`].

mod client;
mod server;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
pub use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig};
use tempfile::NamedTempFile;

pub use self::client::{Client, Session};
pub(crate) use self::client::{Writes, server_name};
pub use self::server::Server;

/// A test's own certificate authority. Its certificate is a file for as long as
/// the value lives; its key never leaves memory.
pub struct TestCa {
    issuer: Issuer<'static, KeyPair>,
    certificate: rcgen::Certificate,
    file: NamedTempFile,
}

impl TestCa {
    /// Makes a new authority.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a P-256 key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // With two authorities of one name, clients would report a foreign certificate as badly
        // signed.
        let number = key.public_key_raw().last_chunk().copied();
        let number = u64::from_be_bytes(number.expect("a key has more than eight bytes"));
        let name = format!("authority of one test, {number:x}");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("a certificate of its own");
        // Public like any certificate: the daemon may be another user.
        let file = tempfile::Builder::new()
            .suffix(".pem")
            .permissions(Permissions::from_mode(0o644))
            .tempfile()
            .expect("a temporary file");
        std::fs::write(file.path(), certificate.pem()).expect("the temporary file takes the PEM");
        Self {
            issuer: Issuer::new(params, key),
            certificate,
            file,
        }
    }

    /// The certificate as a PEM file, for clients that need a list of trusted ones.
    pub fn file(&self) -> &Path {
        self.file.path()
    }

    /// The certificate as PEM text.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A server's side of TLS, with a certificate for `names` (DNS names or IP
    /// literals), speaking HTTP/1.1. For anything else see [`Server`].
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        Server::of(self, names).alpn(&["http/1.1"]).config()
    }

    /// A client's side of TLS that trusts this authority and no other.
    pub fn client(&self) -> Arc<ClientConfig> {
        Client::trusting(self).config()
    }
}

impl Default for TestCa {
    fn default() -> Self {
        Self::new()
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

#[cfg(test)]
mod tests;
