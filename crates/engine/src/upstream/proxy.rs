//! Whether a connection goes through one of the operator's own proxies, and what that proxy is sent
//! (SPEC H12).
//!
//! Policy comes first: callers show a permit and addresses that were vetted as for a direct
//! connection, although the proxy looks the name up again by itself. Local targets go direct. Only
//! `connect.rs` dials, and a proxy's addresses pass the enforcement point like all others.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use codex_network_config::{ProxyScheme, UpstreamProxies, UpstreamProxy};
use codex_network_policy::{Authority, is_local_address};
use http::header::PROXY_AUTHORIZATION;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, uri};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::connect::{self, Dial};
use super::connect_answer::{ConnectAnswerReader, Parsed};
use super::connection::Stream;
use super::error::UpstreamError;
use super::proxy_error::ProxyError;
use crate::enforce::{Permit, VettedAddrs};
use crate::live_policy::Generation;
use crate::tls::Offer;

/// The purpose of a connection. It decides which environment variable names the upstream proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyUse {
    /// Plain HTTP requests, those with `Upgrade` included. An upstream proxy passes an upgrade on
    /// only in a tunnel (RFC 9110 section 7.8, RFC 6455 section 4.1).
    Http,
    /// Traffic that the proxy must not see.
    Tunnel,
}

/// Connections since the start, by their first hop.
#[derive(Debug, Default)]
pub(super) struct Ways {
    pub(super) direct: AtomicU64,
    pub(super) http_proxy: AtomicU64,
    pub(super) tunnel_proxy: AtomicU64,
}

/// The form of requests for a proxy that reads them: a whole URL, and our credentials.
#[derive(Clone, Debug)]
pub(super) struct AbsoluteForm {
    authority: uri::Authority,
    credentials: Option<HeaderValue>,
}

impl Ways {
    pub(super) fn note(&self, proxy_use: ProxyUse) {
        let way = match proxy_use {
            ProxyUse::Http => &self.http_proxy,
            ProxyUse::Tunnel => &self.tunnel_proxy,
        };
        way.fetch_add(1, Ordering::Relaxed);
    }
}

/// The proxy that carries the connection; `None` for the direct way. Local and private addresses go
/// direct, with all vetted addresses: seen from the proxy they would be other machines.
pub(super) fn carrying<'a>(
    permit: &'a Permit,
    vetted: &VettedAddrs,
    proxy_use: ProxyUse,
) -> Option<&'a Arc<UpstreamProxy>> {
    let generation = permit.generation();
    let addresses = vetted.as_slice().iter().map(SocketAddr::ip);
    chosen(generation, permit.authority(), addresses, proxy_use)
}

/// The proxy that carries a connection to an authority with these addresses.
pub(super) fn chosen<'g>(
    generation: &'g Generation,
    authority: &Authority,
    mut addresses: impl Iterator<Item = IpAddr>,
    proxy_use: ProxyUse,
) -> Option<&'g Arc<UpstreamProxy>> {
    let settings = generation.settings();
    let proxies: &UpstreamProxies = &generation.supplied().upstream_proxies;
    let proxy = match proxy_use {
        ProxyUse::Http => proxies.http(),
        ProxyUse::Tunnel => proxies.tunnel(),
    }?;
    let is_local = |address| is_local_address(address, generation.machine());
    let goes_past = !settings.allow_upstream_proxy
        || proxies.no_proxy().covers(authority)
        || addresses.any(is_local);
    (!goes_past).then_some(proxy)
}

/// Connects to a proxy before the deadline, in TLS if its URL begins with `https`.
pub(super) async fn reach(
    dialler: &dyn Dial,
    permit: &Permit,
    vetted: &VettedAddrs,
    proxy: &UpstreamProxy,
    deadline: Instant,
) -> Result<Stream, UpstreamError> {
    let generation = permit.generation();
    let host = &proxy.authority.host;
    let addresses = super::lookup(generation.resolver(), host)
        .await
        .map_err(ProxyError::Resolve)?;
    let addresses = permit.proxy_addresses(vetted, &proxy.authority, &addresses)?;
    let connecting = connect::connect(dialler, &addresses, left(deadline));
    let measured = permit.flow().meters().dial.measure(connecting).await;
    let stream = measured.map_err(ProxyError::Connect)?;
    permit.admit_peer(stream.peer_addr().ok())?;
    match proxy.scheme {
        ProxyScheme::Http => Ok(Stream::Tcp(stream)),
        ProxyScheme::Https => {
            let tls = generation.tls();
            let (stream, ..) = tls
                .connect(stream, host, Offer::Http1, left(deadline))
                .await
                .map_err(ProxyError::Tls)?;
            Ok(Stream::Tls(stream))
        }
    }
}

/// Requests a connection to the authority from a proxy. Returns the bytes that arrived after the
/// head of its answer.
pub(super) async fn request_tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &UpstreamProxy,
    authority: &Authority,
    deadline: Instant,
) -> Result<Bytes, ProxyError> {
    let request = connect_request(proxy, authority);
    let exchange = async {
        stream.write_all(&request).await.map_err(ProxyError::Io)?;
        stream.flush().await.map_err(ProxyError::Io)?;
        let mut bytes = BytesMut::with_capacity(1024);
        let mut reader = ConnectAnswerReader::default();
        loop {
            if let Parsed::Complete(answer) = reader.feed(&bytes)? {
                return Ok((answer, bytes));
            }
            match stream.read_buf(&mut bytes).await {
                Ok(0) => return Err(ProxyError::HungUp),
                Ok(_) => {}
                Err(error) => return Err(ProxyError::Io(error)),
            }
        }
    };
    let (answer, mut bytes) = timeout_at(deadline, exchange)
        .await
        .map_err(|_| ProxyError::Timeout)??;
    match answer.status {
        200..300 => Ok(bytes.split_off(answer.length).freeze()),
        407 => Err(ProxyError::Credentials),
        status => Err(ProxyError::Status(status)),
    }
}

fn connect_request(proxy: &UpstreamProxy, authority: &Authority) -> Vec<u8> {
    // A zone means nothing on another machine, and the port is always written (RFC 9110 section
    // 9.3.6).
    let target = authority.host_field(None);
    let target = target.as_bytes();
    let mut request = [b"CONNECT ", target, b" HTTP/1.1\r\nHost: ", target, b"\r\n"].concat();
    if let Some(credentials) = basic(proxy) {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credentials.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

impl AbsoluteForm {
    pub(super) fn new(proxy: &UpstreamProxy, authority: &Authority) -> Result<Self, ProxyError> {
        let authority = uri::Authority::try_from(authority.host_field(Some(80)).as_bytes())
            .map_err(|_| ProxyError::NoForm)?;
        Ok(Self {
            authority,
            credentials: basic(proxy),
        })
    }

    pub(super) fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }
}

/// Gives an HTTP/1 request the form for its receiver: the proxy, or the origin (`None`).
pub(super) fn address<B>(request: &mut Request<B>, proxy: Option<&AbsoluteForm>) {
    // A request that could not be sent passes here again.
    request.headers_mut().remove(PROXY_AUTHORIZATION);
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    (parts.scheme, parts.authority) = match proxy {
        None => (None, None),
        Some(form) => (Some(Scheme::HTTP), Some(form.authority.clone())),
    };
    let whole_server = PathAndQuery::from_static("*");
    if proxy.is_some() && parts.path_and_query == Some(whole_server) {
        // The request to a proxy has an empty path (RFC 9112 section 3.2.4), which `Uri` reads and
        // writes as "/".
        parts.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    if let Some(credentials) = proxy.and_then(|form| form.credentials.clone()) {
        request
            .headers_mut()
            .insert(PROXY_AUTHORIZATION, credentials);
    }
}

/// The field that carries the credentials (RFC 7617 section 2).
fn basic(proxy: &UpstreamProxy) -> Option<HeaderValue> {
    let credentials = BASE64_STANDARD.encode(proxy.credentials.as_ref()?.reveal());
    let mut value = HeaderValue::try_from(format!("Basic {credentials}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn h12_a_request_changes_its_form_with_its_recipient() {
        let variable = |name: &str| {
            (name == "http_proxy").then(|| OsString::from("http://user:pass@proxy.test:3128"))
        };
        let proxies = UpstreamProxies::from_environment(variable).expect("a usable variable");
        for (authority, whole) in [
            ("origin.test:80", "http://origin.test/a?b"),
            ("origin.test:8000", "http://origin.test:8000/a?b"),
            ("[2001:db8::1]:80", "http://[2001:db8::1]/a?b"),
            ("[fe80::1%eth0]:80", "http://[fe80::1]/a?b"),
        ] {
            let authority = Authority::parse(authority, None).expect("an authority");
            let proxy = proxies.http().expect("a proxy");
            let form = AbsoluteForm::new(proxy, &authority).expect("a form");
            assert!(!format!("{form:?}").contains("dXNlcjpwYXNz"), "{form:?}");
            let mut request = Request::new(());
            *request.uri_mut() = Uri::from_static("/a?b");
            // To the proxy twice, as after a failed send; then to the origin itself.
            for _ in 0..2 {
                address(&mut request, Some(&form));
                assert_eq!(request.uri().to_string(), whole);
                let fields: Vec<_> = request
                    .headers()
                    .get_all(PROXY_AUTHORIZATION)
                    .iter()
                    .collect();
                assert_eq!(fields, ["Basic dXNlcjpwYXNz"]);
            }
            address(&mut request, None);
            assert_eq!(request.uri().to_string(), "/a?b");
            let mut options = Request::new(());
            *options.uri_mut() = Uri::from_static("*");
            address(&mut options, None);
            assert_eq!(options.uri(), "*");
            address(&mut options, Some(&form));
            assert_eq!(options.uri().to_string(), whole.replace("a?b", ""));
            assert!(
                request.headers().is_empty(),
                "the origin gets no credentials"
            );
        }
    }
}
