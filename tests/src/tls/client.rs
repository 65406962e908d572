//! A client's side of TLS: the authority that it trusts, and its offers.

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, CommonState, HandshakeKind, ProtocolVersion, RootCertStore,
    SupportedProtocolVersion,
};

use super::{TestCa, provider};

/// A client that remembers its TLS sessions. If one value, or a clone of it, connects twice, the
/// second connection resumes the first if the server permits it.
#[derive(Clone)]
pub struct Client {
    roots: Arc<RootCertStore>,
    config: Arc<ClientConfig>,
    writes: Writes,
}

/// How a client's bytes are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    Whole,
    /// One byte per write.
    Trickling,
}

/// The result of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// The server's certificates as DER, its own first.
    pub certificates: Vec<Vec<u8>>,
    /// The application protocol.
    pub alpn: Option<String>,
    /// `TLSv1_2` or `TLSv1_3`.
    pub version: ProtocolVersion,
    /// Whether an earlier session was resumed. Then no certificate was sent, and those above are
    /// the earlier ones.
    pub resumed: bool,
}

impl Client {
    /// Trusts this authority and no other; TLS 1.2 and 1.3, no application protocol.
    pub fn trusting(ca: &TestCa) -> Self {
        Self::trusting_pem(&ca.pem())
    }

    /// Trusts the authorities in a PEM text and no other.
    pub fn trusting_pem(pem: &str) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.expect("a certificate in PEM");
            roots.add(certificate).expect("a CA certificate");
        }
        let roots = Arc::new(roots);
        let versions = [&rustls::version::TLS12, &rustls::version::TLS13];
        Self {
            config: Arc::new(configure(&roots, &versions)),
            roots,
            writes: Writes::Whole,
        }
    }

    /// Only this version of TLS.
    #[must_use]
    pub fn only(self, version: &'static SupportedProtocolVersion) -> Self {
        let mut config = configure(&self.roots, &[version]);
        config
            .alpn_protocols
            .clone_from(&self.config.alpn_protocols);
        config.enable_sni = self.config.enable_sni;
        config.resumption = self.config.resumption.clone();
        Self {
            config: Arc::new(config),
            ..self
        }
    }

    /// The application protocols that it offers.
    #[must_use]
    pub fn alpn(self, protocols: &[&str]) -> Self {
        self.configured(|config| {
            config.alpn_protocols = protocols
                .iter()
                .map(|name| name.as_bytes().to_vec())
                .collect();
        })
    }

    /// Sends no server name; the certificate is still verified for the name.
    #[must_use]
    pub fn without_server_name(self) -> Self {
        self.configured(|config| config.enable_sni = false)
    }

    /// Forgets every session.
    #[must_use]
    pub fn without_resumption(self) -> Self {
        self.configured(|config| config.resumption = Resumption::disabled())
    }

    /// Writes every byte by itself, from the first of the `ClientHello` on.
    #[must_use]
    pub fn trickling(mut self) -> Self {
        self.writes = Writes::Trickling;
        self
    }

    /// The `ClientHello` for `name`, for tests that send it themselves or change it.
    pub fn hello(&self, name: &str) -> Vec<u8> {
        let mut connection = self.connection(name);
        let mut bytes = Vec::new();
        while connection.wants_write() {
            connection
                .write_tls(&mut bytes)
                .expect("memory takes bytes");
        }
        bytes
    }

    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }

    pub(crate) fn connection(&self, name: &str) -> ClientConnection {
        ClientConnection::new(self.config(), server_name(name)).expect("a TLS session")
    }

    pub(crate) fn writes(&self) -> Writes {
        self.writes
    }

    fn configured(mut self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        self
    }
}

impl Session {
    /// The result of a finished handshake.
    pub(crate) fn of(state: &CommonState) -> Self {
        Self {
            certificates: state
                .peer_certificates()
                .unwrap_or_default()
                .iter()
                .map(|certificate| certificate.to_vec())
                .collect(),
            alpn: state
                .alpn_protocol()
                .map(|name| String::from_utf8_lossy(name).into_owned()),
            version: state.protocol_version().expect("the handshake is over"),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
        }
    }
}

pub(crate) fn server_name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).expect("a name that TLS can verify")
}

fn configure(
    roots: &Arc<RootCertStore>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .expect("ring knows TLS 1.2 and 1.3")
        .with_root_certificates(Arc::clone(roots))
        .with_no_client_auth()
}
