//! An engine that intercepts, an origin that speaks TLS, and a client between them, all in one
//! process. The CA is the test's own, so it can count the issued certificates.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use codex_network_config::{Settings, Sources, Supplied, SystemFiles, UpstreamProxies, load};
use codex_network_engine::{Dial, EngineParts, LeafIssuer, Resolve};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::super::kit::doors::{self, Doors};
use super::super::kit::network::{Names, Redirect};
use super::super::kit::records::Records;
use super::super::kit::server::serve;
use super::super::kit::stream::{in_time, read_head};
use super::super::kit::tls::Ca;

pub(crate) struct Scene {
    pub(crate) doors: Doors,
    /// The CA of the proxy.
    pub(crate) ca: Arc<Ca>,
    /// The CA of the origin, which the proxy trusts.
    pub(crate) origin_ca: Arc<Ca>,
    origin: SocketAddr,
    /// The number of sessions that the origin has resumed.
    pub(crate) resumed: Arc<AtomicUsize>,
    dialler: Arc<Redirect>,
    /// The end of every dial; `None` refuses it.
    end: Arc<Mutex<Option<SocketAddr>>>,
    records: Arc<Records>,
}

impl Scene {
    /// `policy` is a configuration; the origin is `origin.test`, and all of
    /// `*.many.test`, speaking `protocols`.
    pub(crate) async fn new(policy: &str, protocols: &[&str]) -> Self {
        Self::behind(policy, protocols, None).await
    }

    /// The same with an upstream proxy between the engine and the origin: its URL is `scheme` and
    /// `proxy.test`, and dialling anything else leads nowhere.
    pub(crate) async fn behind(policy: &str, protocols: &[&str], scheme: Option<&str>) -> Self {
        Self::amended(policy, protocols, scheme, |_| {}).await
    }

    /// The same with other parts.
    pub(crate) async fn amended(
        policy: &str,
        protocols: &[&str],
        scheme: Option<&str>,
        amend: impl FnOnce(&mut EngineParts),
    ) -> Self {
        let origin_ca = Arc::new(Ca::new("the origin's"));
        let resumed = Arc::<AtomicUsize>::default();
        let config = origin_ca.server(&["origin.test", "*.many.test"], protocols);
        let origin = origin(config, Arc::clone(&resumed)).await;
        let mut end = origin;
        let settings = settings(policy);
        let mut supplied = trusting(&origin_ca);
        if let Some(scheme) = scheme {
            let url = OsString::from(format!("{scheme}://proxy.test:3128"));
            let proxies = UpstreamProxies::from_environment(|name| {
                (name == "https_proxy").then(|| url.clone())
            });
            supplied.upstream_proxies = Arc::new(proxies.expect("a usable variable"));
            let tls = (scheme == "https").then(|| origin_ca.server(&["proxy.test"], &["http/1.1"]));
            end = proxy(end, tls).await;
        }
        let ca = Arc::new(Ca::new("the proxy's"));
        // `verdict reason protocol method`
        let records = Records::new(|event| {
            format!(
                "{} {} {} {}",
                event.decision.verdict(),
                event.decision.reason(),
                event.protocol,
                event.method.as_deref().unwrap_or("none"),
            )
        });
        let names = Names::new(|_| vec![IpAddr::from([93, 184, 215, 14])]);
        let end = Arc::new(Mutex::new(Some(end)));
        let ends = Arc::clone(&end);
        let dialler = Redirect::new(move |_| *ends.lock().expect("not poisoned"));
        let mut parts = EngineParts {
            supplied,
            resolver: Some(names as Arc<dyn Resolve>),
            dialler: Arc::clone(&dialler) as Arc<dyn Dial>,
            issuer: Some(Arc::clone(&ca) as Arc<dyn LeafIssuer>),
            audit: Arc::clone(&records) as _,
            ..EngineParts::default()
        };
        amend(&mut parts);
        Self {
            doors: Doors::open(settings, parts),
            ca,
            origin_ca,
            origin,
            resumed,
            dialler,
            end,
            records,
        }
    }

    /// A connection through CONNECT, before any TLS.
    pub(crate) async fn connect(&self, authority: &str) -> TcpStream {
        self.doors.tunnel(authority).await.expect("a tunnel")
    }

    /// The whole answer to a CONNECT that is refused.
    pub(crate) async fn refused(&self, authority: &str) -> String {
        let refused = self.doors.tunnel(authority).await;
        refused.expect_err("no tunnel")
    }

    /// A connection through SOCKS5 to a name, before any TLS.
    pub(crate) async fn socks5(&self, name: &str, port: u16) -> TcpStream {
        let (stream, reply) = self.doors.socks5_tunnel(name, port).await;
        assert_eq!(reply, 0);
        stream
    }

    /// TLS through CONNECT, with a server that has a certificate of this authority.
    pub(crate) async fn tls(
        &self,
        authority: &str,
        name: &str,
        client: Arc<ClientConfig>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let stream = self.connect(authority).await;
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        TlsConnector::from(client).connect(name, stream).await
    }

    /// A session with the proxy for the origin. The client offers these protocols in ALPN.
    pub(crate) async fn session(&self, protocols: &[&str]) -> TlsStream<TcpStream> {
        let client = self.ca.client(protocols);
        let session = self.tls("origin.test:443", "origin.test", client).await;
        session.expect("a session with the proxy")
    }

    /// TLS with the origin itself.
    pub(crate) async fn direct(&self, client: Arc<ClientConfig>) -> TlsStream<TcpStream> {
        let stream = doors::connect(self.origin).await;
        let name = ServerName::try_from("origin.test").expect("a name");
        let connector = TlsConnector::from(client);
        connector.connect(name, stream).await.expect("TLS")
    }

    /// Leads every further dial here, or refuses it.
    pub(crate) fn lead_to(&self, end: Option<SocketAddr>) {
        *self.end.lock().expect("not poisoned") = end;
    }

    /// The number of dials since the last call.
    pub(crate) fn dials(&self) -> usize {
        self.dialler.dialled().len()
    }

    /// The records since the last call.
    pub(crate) fn records(&self) -> Vec<String> {
        self.records.take()
    }
}

/// Supplies this authority as the only trusted root.
pub(crate) fn trusting(trusted: &Ca) -> Supplied {
    let files = SystemFiles {
        roots: [Arc::from(trusted.der.as_ref())].into(),
        ..SystemFiles::default()
    };
    Supplied {
        files,
        ..Supplied::default()
    }
}

/// The settings of a text, with a value for the variable `TOKEN`.
pub(crate) fn settings(policy: &str) -> Settings {
    load(
        &Sources::none()
            .with_text("test", policy)
            .with_environment(|name| (name == "TOKEN").then(|| "hunter2".into())),
    )
    .expect("a policy")
    .settings
}

/// Sends one request, in the protocol that the two sides agreed on.
pub(crate) async fn ask(
    stream: TlsStream<TcpStream>,
    request: Request<Empty<Bytes>>,
) -> Response<Bytes> {
    whole(try_ask(stream, request).await.expect("an answer")).await
}

/// The same for a request that may get no answer.
pub(crate) async fn try_ask(
    stream: TlsStream<TcpStream>,
    request: Request<Empty<Bytes>>,
) -> hyper::Result<Response<Incoming>> {
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .expect("HTTP/1.1");
        tokio::spawn(connection);
        sender.send_request(request).await
    }
}

/// Reads the rest until the connection ends, in any way.
pub(crate) async fn ended(stream: &mut (impl AsyncRead + Unpin)) {
    let mut rest = Vec::new();
    let _ = in_time(stream.read_to_end(&mut rest)).await;
}

pub(crate) async fn whole(response: Response<Incoming>) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Response::from_parts(parts, body)
}

/// Another origin with the same names and authority, which speaks these protocols.
pub(crate) async fn origin_of(scene: &Scene, protocols: &[&str]) -> SocketAddr {
    let config = scene.origin_ca.server(&["origin.test"], protocols);
    origin(config, Arc::clone(&scene.resumed)).await
}

/// Answers every request but those for `/never` with its method, target, protocol version and
/// credentials.
async fn origin(config: Arc<ServerConfig>, resumed: Arc<AtomicUsize>) -> SocketAddr {
    let acceptor = TlsAcceptor::from(config);
    serve(move |stream| {
        let (acceptor, resumed) = (acceptor.clone(), Arc::clone(&resumed));
        async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            if stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
                resumed.fetch_add(1, Ordering::Relaxed);
            }
            let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let service = service_fn(|request: Request<Incoming>| async move {
                if request.uri().path() == "/never" {
                    std::future::pending::<()>().await;
                }
                let field = |name| request.headers().get(name).and_then(|it| it.to_str().ok());
                let text = format!(
                    "{} {} {:?} {:?} {:?}",
                    request.method(),
                    request.uri().path(),
                    request.version(),
                    field("authorization"),
                    field("x_api_key").or(field("x-api-key")),
                );
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(text))))
            });
            let stream = TokioIo::new(stream);
            let _ended = if h2 {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(stream, service)
                    .await
            } else {
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(stream, service)
                    .await
            };
        }
    })
    .await
}

/// Answers every CONNECT, and carries its bytes to the origin; in TLS if there is a certificate.
async fn proxy(origin: SocketAddr, tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    serve(move |stream| {
        let tls = tls.clone();
        async move {
            match tls {
                None => carry(stream, origin).await,
                Some(tls) => {
                    if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                        carry(stream, origin).await;
                    }
                }
            }
        }
    })
    .await
}

async fn carry(mut client: impl AsyncRead + AsyncWrite + Unpin, origin: SocketAddr) {
    let head = read_head(&mut client).await.expect("a head");
    assert!(head.starts_with("CONNECT origin.test:443 "));
    let mut origin = doors::connect(origin).await;
    let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let _ = client.flush().await;
    let _ = tokio::io::copy_bidirectional(&mut client, &mut origin).await;
}
