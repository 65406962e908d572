//! An engine that intercepts, an origin that speaks TLS, and a client between them, all in one
//! process. The CA is the test's own, so it can count the issued certificates.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use codex_network_config::{Settings, Sources, Supplied, SystemFiles, UpstreamProxies, load};
use codex_network_engine::{
    AuditEvent, AuditSink, Dial, Door, Engine, EngineParts, IssueError, IssuedLeaf, LeafIssuer,
    Listening, Resolve, ResolveError,
};
use codex_network_policy::Host;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SignatureAlgorithm,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// An authority of one test.
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
            // Long enough for others to ask for the same certificate.
            tokio::task::yield_now().await;
            Ok(IssuedLeaf {
                chain: self.sign(&[&host.to_string()], &Point(*public_key)),
                not_before: SystemTime::now(),
                not_after: SystemTime::now() + Duration::from_secs(7 * 86_400),
            })
        })
    }
}

/// Resolves every name to a public address, and every dial leads to the origin.
struct Everywhere(SocketAddr);

impl Resolve for Everywhere {
    fn resolve<'a>(&'a self, _name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        Box::pin(async { Ok(vec![IpAddr::from([93, 184, 215, 14])]) })
    }
}

impl Dial for Everywhere {
    #[expect(
        clippy::disallowed_methods,
        reason = "the scripted dialler ends at the test's origin"
    )]
    fn dial(&self, _address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(self.0))
    }
}

/// Keeps the records, as `verdict reason protocol method`.
#[derive(Default)]
pub(crate) struct Audit(Mutex<Vec<String>>);

impl AuditSink for Audit {
    fn record(&self, event: &AuditEvent<'_>) {
        let line = format!(
            "{} {} {} {}",
            event.decision.verdict(),
            event.decision.reason(),
            event.protocol,
            event.method.unwrap_or("none"),
        );
        self.0.lock().expect("not poisoned").push(line);
    }
}

pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) http: Listening,
    pub(crate) socks5: Listening,
    pub(crate) ca: Arc<Ca>,
    pub(crate) audit: Arc<Audit>,
    pub(crate) origin_ca: Arc<Ca>,
    pub(crate) origin: SocketAddr,
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
        let origin = origin(origin_ca.server(&["origin.test", "*.many.test"], protocols)).await;
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
        let audit = Arc::new(Audit::default());
        let mut parts = EngineParts {
            supplied,
            resolver: Some(Arc::new(Everywhere(end))),
            dialler: Arc::new(Everywhere(end)),
            issuer: Some(Arc::clone(&ca) as Arc<dyn LeafIssuer>),
            audit: Arc::clone(&audit) as Arc<dyn AuditSink>,
            ..EngineParts::default()
        };
        amend(&mut parts);
        let engine = Engine::new(Arc::new(settings), parts).expect("an engine");
        let open = |door| {
            let listener =
                std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
            engine.open(door, listener).expect("a door")
        };
        let (http, socks5) = (open(Door::Http), open(Door::Socks5));
        Self {
            engine,
            http,
            socks5,
            ca,
            audit,
            origin_ca,
            origin,
        }
    }

    /// A connection through CONNECT, before any TLS.
    #[expect(
        clippy::disallowed_methods,
        reason = "to the test's own engine on loopback"
    )]
    pub(crate) async fn connect(&self, authority: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.http.address())
            .await
            .expect("the door is open");
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("an answer"));
        }
        let head = String::from_utf8_lossy(&head);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        stream
    }

    /// The whole answer to a CONNECT that is refused.
    #[expect(
        clippy::disallowed_methods,
        reason = "to the test's own engine on loopback"
    )]
    pub(crate) async fn refused(&self, authority: &str) -> String {
        let mut stream = TcpStream::connect(self.http.address())
            .await
            .expect("the door is open");
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    }

    /// A connection through SOCKS5 to a name, before any TLS.
    #[expect(
        clippy::disallowed_methods,
        reason = "to the test's own engine on loopback"
    )]
    pub(crate) async fn socks5(&self, name: &str, port: u16) -> TcpStream {
        let mut stream = TcpStream::connect(self.socks5.address())
            .await
            .expect("the door is open");
        let mut request = vec![5, 1, 0, 5, 1, 0, 3];
        request.push(u8::try_from(name.len()).expect("a short name"));
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(&port.to_be_bytes());
        stream.write_all(&request).await.expect("a request");
        let mut reply = [0; 2 + 10];
        stream.read_exact(&mut reply).await.expect("a reply");
        assert_eq!(reply[..4], [5, 0, 5, 0], "{reply:?}");
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

    /// TLS with the origin itself.
    #[expect(
        clippy::disallowed_methods,
        reason = "to the test's own origin on loopback"
    )]
    pub(crate) async fn direct(&self, client: Arc<ClientConfig>) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.origin).await.expect("the origin");
        let name = ServerName::try_from("origin.test").expect("a name");
        let connector = TlsConnector::from(client);
        connector.connect(name, stream).await.expect("TLS")
    }

    /// The records since the last call.
    pub(crate) fn records(&self) -> Vec<String> {
        std::mem::take(&mut *self.audit.0.lock().expect("not poisoned"))
    }
}

/// Roots with this authority alone.
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

/// The settings of a text.
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
    let end = stream.read_to_end(&mut rest);
    tokio::time::timeout(Duration::from_secs(30), end)
        .await
        .expect("it ends")
        .ok();
}

pub(crate) async fn whole(response: Response<Incoming>) -> Response<Bytes> {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Response::from_parts(parts, body)
}

/// Answers every request but those for `/never` with its method, target, protocol version and
/// credentials.
async fn origin(config: Arc<ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a listener");
    let address = listener.local_addr().expect("an address");
    let acceptor = TlsAcceptor::from(config);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
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
            });
        }
    });
    address
}

/// Answers every CONNECT, and carries its bytes to the origin; in TLS if there is a certificate.
async fn proxy(origin: SocketAddr, tls: Option<Arc<ServerConfig>>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a listener");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                match tls {
                    None => carry(stream, origin).await,
                    Some(tls) => {
                        if let Ok(stream) = TlsAcceptor::from(tls).accept(stream).await {
                            carry(stream, origin).await;
                        }
                    }
                }
            });
        }
    });
    address
}

#[expect(clippy::disallowed_methods, reason = "the test's own proxy")]
async fn carry(mut client: impl AsyncRead + AsyncWrite + Unpin, origin: SocketAddr) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("a head"));
    }
    assert!(head.starts_with(b"CONNECT origin.test:443 "));
    let mut origin = TcpStream::connect(origin).await.expect("the origin");
    let _ = client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
    let _ = client.flush().await;
    let _ = tokio::io::copy_bidirectional(&mut client, &mut origin).await;
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
