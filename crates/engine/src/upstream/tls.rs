//! TLS to origins and upstream proxies: verified against the platform's roots, never against our own CA (SPEC M6).
//!
//! The name that is verified and sent as SNI is the authority's host. There is no way around the
//! verification: a certificate that does not hold is a failure that names the reason.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use codex_network_policy::Host;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// TLS sessions remembered for resumption, over all origins.
const SESSIONS: usize = 1024;

/// The protocols that are offered to an origin in ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offer {
    /// `http/1.1`.
    Http1,
    /// `h2`.
    Http2,
    /// Both; the origin chooses.
    Either,
}

/// How HTTP is spoken to an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    /// HTTP/1.1 as it is.
    Plain,
    /// HTTP/1.1 in TLS.
    TlsHttp1,
    /// HTTP/2 in TLS.
    TlsHttp2,
}

/// The client's side of TLS, for all origins.
#[derive(Debug)]
pub(crate) struct UpstreamTls {
    configs: [Arc<ClientConfig>; 3],
    /// What is trusted, to tell whether new settings trust something else.
    roots: Arc<[Arc<[u8]>]>,
}

/// Why there is no TLS session with an origin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The handshake took too long.
    #[error("the TLS handshake timed out")]
    Timeout,
    /// The certificate has ended, or has not begun.
    #[error("its certificate has expired or is not valid yet")]
    Expired,
    /// The certificate is for somebody else.
    #[error("its certificate is not valid for this name")]
    WrongName,
    /// Nobody whom this machine trusts has signed the certificate.
    #[error("its certificate is not signed by an authority that this machine trusts")]
    UnknownIssuer,
    /// The certificate was revoked.
    #[error("its certificate was revoked")]
    Revoked,
    /// Anything else about the certificate. The detail is for the log.
    #[error("its certificate is not valid ({0:?})")]
    Certificate(CertificateError),
    /// The two sides have no protocol in common, or one broke the rules.
    #[error("the TLS handshake failed ({0})")]
    Protocol(rustls::Error),
    /// The connection broke.
    #[error("the connection broke during the TLS handshake")]
    Io(#[source] io::Error),
    /// The host has no form that TLS knows.
    #[error("TLS has no form for this host")]
    NoServerName,
}

impl UpstreamTls {
    /// Trusts these roots (DER) and no others. The one that is there already where it trusts the
    /// same, so that sessions survive a reload.
    pub(crate) fn renewed(
        old: Option<&Arc<Self>>,
        roots: &Arc<[Arc<[u8]>]>,
    ) -> Result<Arc<Self>, rustls::Error> {
        match old {
            Some(old) if old.roots == *roots => Ok(Arc::clone(old)),
            _ => Self::new(Arc::clone(roots)).map(Arc::new),
        }
    }

    /// Roots that cannot be read are left out.
    fn new(roots: Arc<[Arc<[u8]>]>) -> Result<Self, rustls::Error> {
        let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
        let mut store = RootCertStore::empty();
        let certificates = roots.iter().map(|root| CertificateDer::from(root.to_vec()));
        let (_, unread) = store.add_parsable_certificates(certificates);
        if unread > 0 {
            tracing::warn!(unread, "some of the trusted certificates cannot be read");
        }
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        // Clones share the remembered sessions.
        let offering = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Self {
            configs: [
                offering(&[b"http/1.1"]),
                offering(&[b"h2"]),
                offering(&[b"h2", b"http/1.1"]),
            ],
            roots,
        })
    }

    /// Makes a TLS session with `host` over a connection to it.
    pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &Host,
        offer: Offer,
        limit: Duration,
    ) -> Result<(TlsStream<S>, Wire), TlsError> {
        let name = server_name(host)?;
        let connector = TlsConnector::from(Arc::clone(&self.configs[offer as usize]));
        let stream = timeout(limit, connector.connect(name, stream))
            .await
            .map_err(|_| TlsError::Timeout)??;
        let wire = match (stream.get_ref().1.alpn_protocol(), offer) {
            (Some(b"h2"), _) => Wire::TlsHttp2,
            // One that does not negotiate speaks HTTP/1.1, and nobody asked it for that.
            (_, Offer::Http2) => {
                return Err(TlsError::Protocol(rustls::Error::NoApplicationProtocol));
            }
            _ => Wire::TlsHttp1,
        };
        Ok((stream, wire))
    }
}

impl TlsError {
    /// Whether the origin speaks nothing of what was offered in ALPN.
    pub(crate) fn is_no_common_protocol(&self) -> bool {
        matches!(
            self,
            Self::Protocol(
                rustls::Error::NoApplicationProtocol
                    | rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
            )
        )
    }
}

fn server_name(host: &Host) -> Result<ServerName<'static>, TlsError> {
    match host {
        Host::Name(name) => DnsName::try_from(name.as_str().to_owned())
            .map(ServerName::DnsName)
            .map_err(|_| TlsError::NoServerName),
        Host::V4(address) => Ok(ServerName::from(std::net::IpAddr::V4(*address))),
        Host::V6(host) => Ok(ServerName::from(std::net::IpAddr::V6(host.address()))),
    }
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(invalid)) => Self::from(invalid.clone()),
            Some(other) => Self::Protocol(other.clone()),
            None => Self::Io(error),
        }
    }
}

impl From<CertificateError> for TlsError {
    fn from(error: CertificateError) -> Self {
        match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Expired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::WrongName
            }
            CertificateError::UnknownIssuer => Self::UnknownIssuer,
            CertificateError::Revoked => Self::Revoked,
            other => Self::Certificate(other),
        }
    }
}
