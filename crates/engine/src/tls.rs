//! TLS to origins and upstream proxies, verified against the platform's roots and never against our
//! own CA (SPEC M6).
//!
//! The authority's host is sent as SNI and verified. Verification cannot be switched off; the failure for
//! an invalid certificate names the reason.

mod certificate_request;

use std::io;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use certificate_request::ClientCertificate;
use certificate_request::NoCertificate;
use codex_network_config::DestinationScheme;
use codex_network_policy::Host;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, InvalidMessage, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cryptography;
use crate::stream_end::StreamEnd;

/// Most TLS sessions that are kept for resumption, for all origins together.
const MAX_SESSIONS: usize = 1024;

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

/// The version of HTTP for an origin, and whether it is in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Wire {
    /// HTTP/1.1 without TLS.
    Plain,
    /// HTTP/1.1 in TLS.
    TlsHttp1,
    /// HTTP/2 in TLS.
    TlsHttp2,
}

impl Wire {
    /// The scheme of its requests.
    pub(crate) fn scheme(self) -> DestinationScheme {
        match self {
            Self::Plain => DestinationScheme::Http,
            Self::TlsHttp1 | Self::TlsHttp2 => DestinationScheme::Https,
        }
    }
}

/// The client's side of TLS, for all origins.
#[derive(Debug)]
pub(crate) struct UpstreamTls {
    configs: [Arc<ClientConfig>; 3],
    /// The trusted roots, to compare with those of new settings.
    roots: Arc<[Arc<[u8]>]>,
}

/// Why there is no TLS session with a host. The text is for clients and the log, and follows the
/// host's name or "the upstream proxy".
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The handshake took too long.
    #[error("the TLS handshake timed out")]
    Timeout,
    /// The certificate has expired or is not valid yet.
    #[error("certificate_expired: its certificate has expired or is not valid yet")]
    Expired,
    /// The certificate is for another name.
    #[error("certificate_wrong_name: its certificate is for another name")]
    WrongName,
    /// No authority that this machine trusts has signed the certificate.
    #[error(
        "certificate_unknown_issuer: its certificate is not signed by an authority that this machine trusts"
    )]
    UnknownIssuer,
    /// The certificate was revoked.
    #[error("certificate_revoked: its certificate was revoked")]
    Revoked,
    /// Another error of the certificate. The detail is for the log.
    #[error("certificate_invalid: its certificate is not valid")]
    Certificate(#[source] OtherCertificateError),
    /// The host requested a client certificate, and ended the handshake when it got none.
    #[error(
        "it asked for a client certificate, which this proxy does not have, and ended the TLS handshake; such a \
         host works only where TLS is not intercepted"
    )]
    ClientCertificate(#[source] io::Error),
    /// The host ended the handshake.
    #[error("it ended the TLS handshake with the alert {0:?}")]
    Alert(AlertDescription),
    /// The host supports only older or only newer versions.
    #[error("it shares no TLS version or cipher suite with this proxy")]
    NothingInCommon(#[source] rustls::Error),
    /// The host did not choose HTTP/2, and nothing else was offered.
    #[error("it did not agree in the TLS handshake to speak HTTP/2")]
    NoHttp2,
    /// The host speaks another protocol.
    #[error("its answer to the TLS handshake is not TLS")]
    NotTls(#[source] rustls::Error),
    /// The host broke the rules of TLS.
    #[error("it broke the rules of the TLS handshake")]
    Protocol(#[source] rustls::Error),
    /// The connection was closed, in order or apparently so.
    #[error("it closed the connection during the TLS handshake")]
    Closed,
    /// The connection was reset.
    #[error("it reset the connection during the TLS handshake")]
    Reset,
    /// The connection ended in another way.
    #[error("the connection broke during the TLS handshake")]
    Broken(#[source] io::Error),
    /// The host cannot be written in TLS.
    #[error("TLS has no form for this host")]
    NoServerName,
}

/// The error of rustls for a certificate.
#[derive(Debug, thiserror::Error)]
#[error("{0:?}")]
pub(crate) struct OtherCertificateError(CertificateError);

impl UpstreamTls {
    /// Trusts these roots (DER) and no others. Returns the old value if it trusts the same roots,
    /// so that sessions survive a reload.
    pub(crate) fn renewed(
        old: Option<&Arc<Self>>,
        roots: &Arc<[Arc<[u8]>]>,
    ) -> Result<Arc<Self>, rustls::Error> {
        match old {
            Some(old) if old.roots == *roots => Ok(Arc::clone(old)),
            _ => Self::new(Arc::clone(roots)).map(Arc::new),
        }
    }

    /// Roots that cannot be parsed are skipped.
    fn new(roots: Arc<[Arc<[u8]>]>) -> Result<Self, rustls::Error> {
        let mut store = RootCertStore::empty();
        let certificates = roots.iter().map(|root| CertificateDer::from(root.to_vec()));
        let (_, unread) = store.add_parsable_certificates(certificates);
        if unread > 0 {
            tracing::warn!(unread, "some of the trusted certificates cannot be read");
        }
        let mut config = ClientConfig::builder_with_provider(cryptography::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_client_cert_resolver(Arc::new(NoCertificate));
        config.resumption = Resumption::in_memory_sessions(MAX_SESSIONS);
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

    /// Makes a TLS session with `host` over a connection to it. Also returns whether the host requested a
    /// client certificate: over TLS 1.3 it refuses the session only after the handshake.
    pub(crate) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        host: &Host,
        offer: Offer,
        limit: Duration,
    ) -> Result<(Box<TlsStream<S>>, Wire, ClientCertificate), TlsError> {
        let name = server_name(host)?;
        let connector = TlsConnector::from(Arc::clone(&self.configs[offer as usize]));
        let handshake = certificate_request::watched(connector.connect(name, stream));
        let (stream, certificate) = timeout(limit, handshake)
            .await
            .map_err(|_| TlsError::Timeout)?;
        let stream = stream.map_err(|error| TlsError::of(error, certificate))?;
        let wire = match (stream.get_ref().1.alpn_protocol(), offer) {
            (Some(b"h2"), _) => Wire::TlsHttp2,
            // An origin that chooses no protocol speaks HTTP/1.1, which was not offered.
            (_, Offer::Http2) => {
                return Err(TlsError::NoHttp2);
            }
            _ => Wire::TlsHttp1,
        };
        // Boxed, since it is moved through many futures.
        Ok((Box::new(stream), wire, certificate))
    }
}

impl TlsError {
    /// Whether the origin supports none of the protocols offered in ALPN.
    pub(crate) fn is_no_common_protocol(&self) -> bool {
        matches!(
            self,
            Self::NoHttp2 | Self::Alert(AlertDescription::NoApplicationProtocol)
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

impl TlsError {
    /// Why a handshake failed.
    fn of(error: io::Error, certificate: ClientCertificate) -> Self {
        let tls = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::InvalidCertificate(invalid)) => Self::from(invalid.clone()),
            Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => {
                Self::ClientCertificate(error)
            }
            None | Some(rustls::Error::AlertReceived(_))
                if certificate == ClientCertificate::AskedFor =>
            {
                Self::ClientCertificate(error)
            }
            Some(rustls::Error::AlertReceived(alert)) => Self::Alert(*alert),
            Some(other @ rustls::Error::PeerIncompatible(_)) => {
                Self::NothingInCommon(other.clone())
            }
            Some(
                other @ rustls::Error::InvalidMessage(
                    InvalidMessage::InvalidContentType
                    | InvalidMessage::UnknownProtocolVersion
                    | InvalidMessage::InvalidEmptyPayload
                    | InvalidMessage::MessageTooLarge,
                ),
            ) => Self::NotTls(other.clone()),
            Some(other) => Self::Protocol(other.clone()),
            None => match StreamEnd::of(&error) {
                StreamEnd::Closed => Self::Closed,
                StreamEnd::Reset => Self::Reset,
                StreamEnd::Alert(_) | StreamEnd::BadTls | StreamEnd::Broken => Self::Broken(error),
            },
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
            other => Self::Certificate(OtherCertificateError(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OpenSSL and others refuse with `handshake_failure` over TLS 1.2, and some servers with a reset.
    #[test]
    fn m6_a_refusal_after_a_certificate_request_is_for_the_missing_certificate() {
        let alert = |alert| io::Error::other(rustls::Error::AlertReceived(alert));
        let reset = || io::Error::from(io::ErrorKind::ConnectionReset);
        for (error, asked, wanted) in [
            (
                alert(AlertDescription::CertificateRequired),
                ClientCertificate::Unasked,
                "asked for a client certificate",
            ),
            (
                alert(AlertDescription::HandshakeFailure),
                ClientCertificate::AskedFor,
                "asked for a client certificate",
            ),
            (
                reset(),
                ClientCertificate::AskedFor,
                "asked for a client certificate",
            ),
            (
                alert(AlertDescription::HandshakeFailure),
                ClientCertificate::Unasked,
                "the alert HandshakeFailure",
            ),
            (reset(), ClientCertificate::Unasked, "reset the connection"),
            (
                io::Error::other(rustls::Error::InvalidCertificate(CertificateError::Expired)),
                ClientCertificate::AskedFor,
                "certificate_expired",
            ),
        ] {
            let text = TlsError::of(error, asked).to_string();
            assert!(text.contains(wanted), "{text}");
        }
    }
}
