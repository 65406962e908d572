//! The way out: resolve, vet, connect; and for HTTP, keep connections for the next request.
//!
//! Everything here needs a [`Permit`]. A name is looked up once per connection, and `enforce.rs` vets the
//! addresses. The proxy then dials, or sends to, exactly these addresses (SPEC P4), or it has the
//! operator's own proxy connect to the name (SPEC H12).

mod answer_error;
mod collector;
mod connect;
pub(crate) mod connect_answer;
mod connection;
mod cut;
pub(crate) mod datagram;
mod error;
mod evidence;
mod far_end;
mod http2;
mod lease;
mod pool;
mod proxy;
mod proxy_error;
mod remembered_alpn;
mod unix_socket;
mod upgraded;

use std::alloc::Layout;
use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use answer_error::without_debug_data;
pub(crate) use answer_error::{AnswerError, BrokenAnswer};
use bytes::Bytes;
use codex_network_config::UpstreamProxy;
use codex_network_policy::{Authority, Handling, Host, Protocol};
pub use collector::{CollectorConnection, CollectorError};
pub use connect::{Dial, TcpDialler};
pub(crate) use connection::{Connection, Reached, Stream};
pub(crate) use cut::Cut;
use cut::Cuttable;
pub(crate) use error::UpstreamError;
use far_end::FarEnd;
pub(crate) use far_end::Unanswered;
pub(crate) use http2::Http2Origin;
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
pub(crate) use lease::{ConnectionId, Lease};
use pool::{Checkout, Idle, Pool};
use proxy::{AbsoluteForm, ProxyUse, Ways};
pub(crate) use proxy_error::ProxyError;
use remembered_alpn::RememberedAlpn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
pub(crate) use upgraded::UpgradedStream;

use crate::activity::Activity;
use crate::drain::Drain;
use crate::enforce::unix_socket::SocketPermit;
use crate::enforce::{Enforcer, Permit, VettedAddrs};
use crate::frames::{FrameMeter, Side};
use crate::http2_memory::Http2Memory;
use crate::incoming::BodyError;
use crate::live_policy::Generation;
use crate::observed::Observed;
use crate::rare::rarely;
use crate::resolve::{Resolve, ResolveError};
use crate::tls::{ClientCertificate, Offer, Wire};

/// Most fields of an answer. Browsers limit only the size of the fields (hyper: 408 KiB). With a
/// higher limit, the parser's two arrays (32 bytes a field each) would cost more to allocate than the
/// request itself.
pub(crate) const MAX_FIELDS: usize = 1024;
/// The rows of these arrays: a prime number, so that no other allocation has their size by chance.
const PARSED_FIELDS: usize = 1031;
/// Each of these arrays. It says where the fields of an answer are and has none of their bytes, so it need not be
/// overwritten when it is freed. No vector grows to this size, and no table has it.
pub const FIELD_TABLE: Layout = match Layout::array::<httparse::Header<'static>>(PARSED_FIELDS) {
    Ok(layout) => layout,
    Err(_) => panic!("it is small"),
};

/// The content of a request on its way out. `http` chooses the type.
pub(crate) trait Outgoing:
    Body<Data = Bytes, Error = BodyError> + Send + Unpin + 'static
{
}

impl<B> Outgoing for B where B: Body<Data = Bytes, Error = BodyError> + Send + Unpin + 'static {}

/// Dials permitted authorities and keeps their HTTP connections, for requests with content of type
/// `B`.
pub(crate) struct Upstream<B> {
    dialler: Arc<dyn Dial>,
    pool: Arc<Pool<B>>,
    drain: Drain,
    ways: Ways,
    http2_memory: Arc<Http2Memory>,
    alpn: RememberedAlpn,
}

/// Connections opened since the start, by their first hop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) direct: u64,
    pub(crate) http_proxy: u64,
    pub(crate) tunnel_proxy: u64,
}

impl<B: Outgoing> Upstream<B> {
    pub(crate) fn new(dialler: Arc<dyn Dial>, drain: Drain, http2_memory: Http2Memory) -> Self {
        Self {
            dialler,
            pool: Arc::new(Pool::new()),
            drain,
            ways: Ways::default(),
            http2_memory: Arc::new(http2_memory),
            alpn: RememberedAlpn::default(),
        }
    }

    /// The memory that all HTTP/2 connections share, with origins and with clients.
    pub(crate) fn http2_memory(&self) -> &Arc<Http2Memory> {
        &self.http2_memory
    }

    /// How many kept HTTP connections wait for a request.
    pub(crate) fn idle(&self) -> usize {
        self.pool.idle()
    }

    /// How many connections were opened.
    pub(crate) fn opened(&self) -> Opened {
        let count = |way: &std::sync::atomic::AtomicU64| way.load(Ordering::Relaxed);
        Opened {
            direct: count(&self.ways.direct),
            http_proxy: count(&self.ways.http_proxy),
            tunnel_proxy: count(&self.ways.tunnel_proxy),
        }
    }

    /// Opens a connection for a permit: looks the name up once, vets the addresses once, and then dials
    /// only these addresses, or the upstream proxy if the destination is outside the site.
    pub(crate) async fn open(&self, permit: &Permit) -> Result<Connection, UpstreamError> {
        self.open_for(permit, ProxyUse::Tunnel).await
    }

    /// Connects to the destination of a CONNECT. Where the client will be intercepted, a kept connection
    /// for intercepted requests to the same authority is enough, and none is opened.
    pub(crate) async fn reach(&self, permit: &Permit) -> Result<Reached, UpstreamError> {
        if permit.handling() == Handling::Intercept
            && let Some(kept) = self.kept_for_interception(permit)
        {
            return Ok(kept);
        }
        self.open(permit).await.map(Reached::Connection)
    }

    /// An open kept connection for intercepted requests, if there is one. It was vetted for the same
    /// authority under the same generation.
    fn kept_for_interception(&self, permit: &Permit) -> Option<Reached> {
        let (wire, far) = [Wire::TlsHttp1, Wire::TlsHttp2]
            .into_iter()
            .find_map(|wire| {
                let far = self.pool.find(&Checkout::of(permit, wire))?;
                Some((wire, far))
            })?;
        permit.admit_pooled();
        permit.flow().connected(far.peer());
        Some(Reached::Kept(far.leads_to().clone(), wire))
    }

    /// Whether a connection is kept that was vetted for the same authority under the same generation.
    pub(crate) fn keeps(&self, permit: &Permit, wire: Wire) -> bool {
        let key = Checkout::of(permit, wire);
        self.pool.find(&key).is_some()
    }

    /// The protocol that the origin chose when it was last offered both, if that is known.
    pub(crate) fn chosen_wire(&self, permit: &Permit) -> Option<Wire> {
        self.alpn.choice(permit)
    }

    /// Opens a connection of the proxy itself to the collector of these settings (SPEC O2).
    pub(crate) async fn connect_collector(
        &self,
        enforcer: &Enforcer,
        generation: &Generation,
        limit: Duration,
    ) -> Result<CollectorConnection, CollectorError> {
        collector::connect_collector(self.dialler.as_ref(), enforcer, generation, limit).await
    }

    async fn open_for(
        &self,
        permit: &Permit,
        proxy_use: ProxyUse,
    ) -> Result<Connection, UpstreamError> {
        let vetted = vetted(permit).await?;
        let Some(proxy) = proxy::carrying(permit, &vetted, proxy_use) else {
            return self.dial(permit, &vetted).await;
        };
        // Boxed: most connections need no room for this.
        Box::pin(self.open_through(permit, &vetted, proxy, proxy_use)).await
    }

    /// Opens a tunnel through an upstream proxy.
    async fn open_through(
        &self,
        permit: &Permit,
        vetted: &VettedAddrs,
        proxy: &UpstreamProxy,
        proxy_use: ProxyUse,
    ) -> Result<Connection, UpstreamError> {
        let deadline = Instant::now() + connect_timeout(permit);
        let dialler = self.dialler.as_ref();
        let mut stream = proxy::reach(dialler, permit, vetted, proxy, deadline).await?;
        let early = proxy::request_tunnel(&mut stream, proxy, permit.authority(), deadline).await?;
        self.ways.note(proxy_use);
        let connection = Connection::new(stream, early, vetted.all());
        permit.flow().connected(connection.peer());
        Ok(connection)
    }

    async fn dial(
        &self,
        permit: &Permit,
        vetted: &VettedAddrs,
    ) -> Result<Connection, UpstreamError> {
        let limit = connect_timeout(permit);
        let dialled = connect::connect(self.dialler.as_ref(), vetted, limit);
        let stream = permit
            .flow()
            .meters()
            .dial
            .measure(dialled)
            .await
            .map_err(UpstreamError::Connect)?;
        let peer = stream.peer_addr().ok();
        permit.admit_peer(peer)?;
        self.ways.direct.fetch_add(1, Ordering::Relaxed);
        let connection = Connection::direct(stream, peer);
        permit.flow().connected(connection.peer());
        Ok(connection)
    }

    /// A kept HTTP/1 connection that was vetted for the same authority under the same generation.
    pub(crate) async fn pooled(&self, permit: &Permit, wire: Wire) -> Option<Lease<B>> {
        let key = Checkout::of(permit, wire);
        let lease = Lease::kept(&self.pool, key, &self.drain).await?;
        permit.admit_pooled();
        Some(lease)
    }

    /// A kept HTTP/2 connection that was vetted for the same authority under the same generation. The caller
    /// admits it.
    pub(crate) fn pooled_http2(&self, permit: &Permit) -> Option<Lease<B>> {
        let key = Checkout::of(permit, Wire::TlsHttp2);
        Lease::kept_http2(&self.pool, &key, &permit.attempt().client.connection)
    }

    /// A kept connection to exactly the permitted file, under the same generation.
    pub(crate) async fn pooled_unix_socket(&self, permit: &SocketPermit) -> Option<Lease<B>> {
        let key = Checkout::of_unix_socket(permit);
        Lease::kept(&self.pool, key, &self.drain).await
    }

    /// A new connection to a unix socket, which is kept for further requests.
    pub(crate) async fn connect_unix_socket(
        &self,
        permit: &SocketPermit,
    ) -> Result<Lease<B>, UpstreamError> {
        let limit = permit.generation().settings().daemon.limits.connect_timeout;
        let stream = unix_socket::connect(permit, limit)
            .await
            .map_err(UpstreamError::UnixSocket)?;
        self.ways.direct.fetch_add(1, Ordering::Relaxed);
        let key = Checkout::of_unix_socket(permit);
        self.over(key, stream, FarEnd::unix_socket()).await
    }

    /// A new HTTP connection, which is kept for further requests.
    pub(crate) async fn connect_http(
        &self,
        permit: &Permit,
        wire: Wire,
    ) -> Result<Lease<B>, UpstreamError> {
        let offer = match wire {
            Wire::Plain => return self.connect_plain(permit).await,
            Wire::TlsHttp1 => Offer::Http1,
            Wire::TlsHttp2 => Offer::Http2,
        };
        let connection = self.open(permit).await?;
        self.secure(permit, connection, offer).await.map(|it| it.0)
    }

    /// A new connection for a plain HTTP request that offers another protocol. The origin itself reads the
    /// request: an upstream proxy only tunnels it.
    pub(crate) async fn connect_upgrade(&self, permit: &Permit) -> Result<Lease<B>, UpstreamError> {
        let connection = self.open_for(permit, ProxyUse::Http).await?;
        self.plainly(permit, connection).await
    }

    /// Starts plain HTTP with the origin on a connection that was opened for the permit.
    pub(crate) async fn plainly(
        &self,
        permit: &Permit,
        connection: Connection,
    ) -> Result<Lease<B>, UpstreamError> {
        let far = FarEnd::origin(&connection);
        let key = Checkout::of(permit, Wire::Plain);
        self.over(key, connection, far).await
    }

    async fn connect_plain(&self, permit: &Permit) -> Result<Lease<B>, UpstreamError> {
        let vetted = vetted(permit).await?;
        let key = Checkout::of(permit, Wire::Plain);
        let Some(proxy) = proxy::carrying(permit, &vetted, ProxyUse::Http) else {
            let connection = self.dial(permit, &vetted).await?;
            let far = FarEnd::origin(&connection);
            return self.over(key, connection, far).await;
        };
        let form = AbsoluteForm::new(proxy, permit.authority())?;
        let deadline = Instant::now() + connect_timeout(permit);
        let dialler = self.dialler.as_ref();
        let stream = proxy::reach(dialler, permit, &vetted, proxy, deadline).await?;
        self.ways.note(ProxyUse::Http);
        let far = FarEnd::proxy(vetted.all(), stream.socket().peer_addr().ok(), form);
        self.over(key, stream, far).await
    }

    /// Starts TLS and HTTP on a connection that was opened for the permit. Returns the protocol that the
    /// origin chose too.
    pub(crate) async fn secure(
        &self,
        permit: &Permit,
        connection: Connection,
        offer: Offer,
    ) -> Result<(Lease<B>, Wire), UpstreamError> {
        let generation = permit.generation();
        // Only intercepted connections get here, so this does not happen.
        if !generation.intercepts() {
            return Err(UpstreamError::NoInterception);
        }
        let limit = connect_timeout(permit);
        let far = FarEnd::origin(&connection);
        let host = &permit.authority().host;
        let connected = generation.tls().connect(connection, host, offer, limit);
        let measured = permit.flow().meters().origin_handshake.measure(connected);
        let (stream, wire, certificate) = measured.await.inspect_err(|error| {
            if error.is_no_common_protocol() {
                self.alpn.forget(permit);
            }
        })?;
        if offer == Offer::Either {
            self.alpn.note(permit, wire);
        }
        if certificate == ClientCertificate::AskedFor {
            far.evidence().note_certificate_request();
        }
        let key = Checkout::of(permit, wire);
        let lease = match wire {
            Wire::TlsHttp2 => self.over_http2(permit, key, stream, far).await?,
            Wire::Plain | Wire::TlsHttp1 => self.over(key, stream, far).await?,
        };
        Ok((lease, wire))
    }

    /// Speaks HTTP/1.
    async fn over<S>(
        &self,
        key: Checkout,
        stream: S,
        far: FarEnd,
    ) -> Result<Lease<B>, UpstreamError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = Observed::new(stream, far.evidence().clone());
        let stream = Cuttable::new(stream, far.cut());
        let (sender, connection) = http1::Builder::new()
            // Some origins, and some clients, recognize a field in one spelling only.
            .preserve_header_case(true)
            .max_headers(PARSED_FIELDS)
            // A proxy removes this white space and unfolds lines (RFC 9112 sections 5.1 and 5.2).
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            // Leaves out a line that is not a field, as browsers do. Such a line cannot frame the answer for
            // the client: the client gets the fields that hyper understood, framed anew. hyper refuses NUL
            // and a bare CR.
            .ignore_invalid_headers_in_responses(true)
            // hyper's defaults are right for the rest: no HTTP/0.9, whose answers have neither status nor
            // framing; no title case, since the client's spelling is kept; heads of at most 400 KiB, four
            // times what clients accept; one write call where the stream can gather.
            .handshake::<_, B>(TokioIo::new(stream))
            .await
            .map_err(|error| far.broken_head(error))?;
        let (pool, kept) = (Arc::clone(&self.pool), (key.clone(), far.clone()));
        self.drive(async move {
            let ended = connection.with_upgrades().await;
            pool.forget(&kept.0, &kept.1);
            ended
        });
        let drain = self.drain.clone();
        Ok(Lease::http1(&self.pool, key, sender, far, drain))
    }

    /// Speaks HTTP/2.
    async fn over_http2<S>(
        &self,
        permit: &Permit,
        key: Checkout,
        stream: S,
        far: FarEnd,
    ) -> Result<Lease<B>, UpstreamError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let client = &permit.attempt().client.connection;
        let memory = Arc::new(self.http2_memory.take(http2::NEED, client));
        let messages = Arc::new(Activity::new());
        far.evidence().note_http2();
        let stream = Observed::new(stream, far.evidence().clone());
        let meter = FrameMeter::new(Side::Client, key.to_string(), messages);
        let last_sent = meter.last_sent();
        let stream = Observed::new(stream, meter);
        let (sender, connection) = http2::handshake(stream, last_sent, &memory)
            .await
            .map_err(|error| far.broken_head(error))?;
        let (pool, kept) = (Arc::clone(&self.pool), (key.clone(), far.clone()));
        let share = Arc::clone(&memory);
        self.drive(async move {
            let ended = connection.await.map_err(without_debug_data);
            drop(share);
            pool.forget(&kept.0, &kept.1);
            ended
        });
        let generation = key.generation();
        let (pool, drain) = (Arc::downgrade(&self.pool), self.drain.clone());
        let keep = move |origin: &Arc<Http2Origin>| {
            let pool = pool.upgrade().filter(|_| !drain.has_begun());
            pool.is_some_and(|pool| pool.put(&key, Idle::http2(origin), &drain))
        };
        let first = Http2Origin::begin(sender, far, generation, memory, client, keep);
        Ok(Lease::http2(first))
    }

    /// Runs a connection to its end.
    fn drive<E: Display + Send>(
        &self,
        connection: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let (pool, drain) = (Arc::clone(&self.pool), self.drain.clone());
        self.drain.spawn(async move {
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = rarely(|| drain.begun()) => {
                    // No further request will come, so the pool closes its connections.
                    pool.close();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "an upstream connection ended");
            }
        });
    }
}

fn connect_timeout(permit: &Permit) -> Duration {
    permit.generation().settings().daemon.limits.connect_timeout
}

/// Looks the host up once, and has the policy judge its addresses.
pub(crate) async fn vetted(permit: &Permit) -> Result<VettedAddrs, UpstreamError> {
    let host = &permit.authority().host;
    let looked_up = lookup(permit.generation().resolver(), host);
    let looked_up = match host {
        Host::Name(_) => permit.flow().meters().dns.measure(looked_up).await,
        Host::V4(_) | Host::V6(_) => looked_up.await,
    };
    let addresses = looked_up.map_err(|error| {
        permit.unresolved();
        UpstreamError::Resolve(error)
    })?;
    Ok(permit.vet(&addresses)?)
}

/// The upstream proxy that would carry a request by this protocol to an authority with these addresses.
pub(crate) fn proxy_for<'g>(
    generation: &'g Generation,
    authority: &Authority,
    addresses: &[IpAddr],
    protocol: Protocol,
) -> Option<&'g Arc<UpstreamProxy>> {
    let proxy_use = match protocol {
        Protocol::Http => ProxyUse::Http,
        // Datagrams go direct, and a lookup in a jail sends nothing.
        Protocol::Socks5Udp | Protocol::Dns => return None,
        Protocol::HttpConnect | Protocol::Https | Protocol::Socks5Tcp | Protocol::Transparent => {
            ProxyUse::Tunnel
        }
    };
    proxy::chosen(generation, authority, addresses.iter().copied(), proxy_use)
}

/// The addresses of a host; at least one.
pub(crate) async fn lookup(
    resolver: &dyn Resolve,
    host: &Host,
) -> Result<Vec<IpAddr>, ResolveError> {
    let name = match host {
        Host::Name(name) => name,
        Host::V4(address) => return Ok(vec![IpAddr::V4(*address)]),
        Host::V6(host) => return Ok(vec![IpAddr::V6(host.address())]),
    };
    let addresses = resolver.resolve(name.as_str()).await?;
    if addresses.is_empty() {
        return Err(ResolveError::NotFound);
    }
    Ok(addresses)
}
