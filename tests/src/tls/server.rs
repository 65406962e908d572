//! A server's side of TLS: its certificate, and its protocols.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rcgen::{Certificate, CertificateParams, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use time::{Duration, OffsetDateTime};

use super::{TestCa, provider};

/// The configuration of a server, sound by default. For a wrong name give it another name; for an
/// unknown issuer use a [`TestCa`] that the client does not trust.
#[derive(Clone)]
pub struct Server<'a> {
    ca: &'a TestCa,
    names: Vec<String>,
    signed_by: Signer,
    lifetime: Lifetime,
    versions: Vec<&'static SupportedProtocolVersion>,
    alpn: Vec<Vec<u8>>,
    clients: Clients,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy)]
enum Clients {
    Anonymous,
    Certified,
}

#[derive(Clone, Copy)]
enum Signer {
    Authority,
    Itself,
}

#[derive(Clone, Copy)]
enum Lifetime {
    Now,
    Past,
}

impl<'a> Server<'a> {
    /// TLS 1.2 and 1.3, no application protocol, and a certificate for `names`
    /// (DNS names or IP literals) from `ca`.
    pub fn of(ca: &'a TestCa, names: &[&str]) -> Self {
        Self {
            ca,
            names: names.iter().map(ToString::to_string).collect(),
            signed_by: Signer::Authority,
            lifetime: Lifetime::Now,
            versions: vec![&rustls::version::TLS12, &rustls::version::TLS13],
            alpn: Vec::new(),
            clients: Clients::Anonymous,
        }
    }

    /// The application protocols that it speaks, the one it prefers first.
    #[must_use]
    pub fn alpn(mut self, protocols: &[&str]) -> Self {
        self.alpn = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    /// Only this version of TLS.
    #[must_use]
    pub fn only(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    /// The certificate expired yesterday.
    #[must_use]
    pub fn expired(mut self) -> Self {
        self.lifetime = Lifetime::Past;
        self
    }

    /// The certificate is signed with its own key and not by the authority.
    #[must_use]
    pub fn self_signed(mut self) -> Self {
        self.signed_by = Signer::Itself;
        self
    }

    /// Clients must show a certificate of the same authority.
    #[must_use]
    pub fn wanting_certificates(mut self) -> Self {
        self.clients = Clients::Certified;
        self
    }

    /// The configuration, with a certificate made now.
    pub fn config(&self) -> Arc<ServerConfig> {
        let (leaf, key) = self.issue();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&self.versions)
            .expect("ring knows TLS 1.2 and 1.3");
        let builder = match self.clients {
            Clients::Anonymous => builder.with_no_client_auth(),
            Clients::Certified => builder.with_client_cert_verifier(self.verifier()),
        };
        let mut config = builder
            .with_single_cert(vec![leaf.der().clone()], key)
            .expect("the key belongs to the certificate");
        config.alpn_protocols.clone_from(&self.alpn);
        Arc::new(config)
    }

    /// A certificate made now and its key as PEM files, `server.pem` and `server.key`,
    /// for servers that are other programs.
    ///
    /// # Errors
    /// The directory takes no files.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let (leaf, key) = self.issue();
        fs::write(directory.join("server.pem"), leaf.pem())?;
        fs::write(directory.join("server.key"), key.serialize_pem())
    }

    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.ca.certificate.der().clone())
            .expect("a certificate of an authority");
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .expect("a root is there")
    }

    fn issue(&self) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a P-256 key");
        let mut params =
            CertificateParams::new(self.names.clone()).expect("names that a certificate can hold");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        if let Lifetime::Past = self.lifetime {
            let now = OffsetDateTime::now_utc();
            params.not_before = now - Duration::days(30);
            params.not_after = now - Duration::days(1);
        }
        let leaf = match self.signed_by {
            Signer::Authority => {
                // Python 3.13 and later refuse a leaf without it.
                params.use_authority_key_identifier_extension = true;
                params.signed_by(&key, &self.ca.issuer)
            }
            Signer::Itself => params.self_signed(&key),
        }
        .expect("a leaf certificate");
        (leaf, key)
    }
}
