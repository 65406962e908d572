//! A certificate authority of one test, for origins and for the proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use codex_network_engine::{IssueError, IssuedLeaf, LeafIssuer};
use codex_network_policy::Host;
use futures_util::future::BoxFuture;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A certificate authority. It issues the proxy's leaves too, and counts them.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: CertificateDer<'static>,
    pub(crate) issued: AtomicUsize,
}

/// A public key as a bare point.
struct Point([u8; 65]);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        let der = params.self_signed(&key).expect("a CA").der().clone();
        Self {
            issuer: Issuer::new(params, key),
            der,
            issued: AtomicUsize::new(0),
        }
    }

    fn sign(&self, names: &[&str], key: &impl PublicKeyData) -> Vec<CertificateDer<'static>> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names");
        let leaf = params.signed_by(key, &self.issuer).expect("a leaf");
        vec![leaf.der().clone(), self.der.clone()]
    }

    /// The TLS of a server with a certificate for these names, which offers these protocols.
    pub(crate) fn server(&self, names: &[&str], protocols: &[&str]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().expect("a key");
        let chain = self.sign(names, &key);
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key.into())
            .expect("a certificate");
        config.alpn_protocols = alpn(protocols);
        Arc::new(config)
    }

    /// The TLS of a client that trusts this authority only, and offers these protocols.
    pub(crate) fn client(&self, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("a root");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn(protocols);
        Arc::new(config)
    }
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ca")
    }
}

impl LeafIssuer for Ca {
    fn issue<'a>(
        &'a self,
        host: &'a Host,
        public_key: &'a [u8; 65],
    ) -> BoxFuture<'a, Result<IssuedLeaf, IssueError>> {
        Box::pin(async move {
            self.issued.fetch_add(1, Ordering::Relaxed);
            // Others may request the same certificate meanwhile.
            tokio::task::yield_now().await;
            Ok(IssuedLeaf {
                chain: self.sign(&[&host.to_string()], &Point(*public_key)),
                not_before: SystemTime::now(),
                not_after: SystemTime::now() + Duration::from_secs(7 * 86_400),
            })
        })
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn alpn(protocols: &[&str]) -> Vec<Vec<u8>> {
    protocols
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect()
}
