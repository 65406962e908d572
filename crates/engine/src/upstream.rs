//! The way out: resolve, vet, connect; and for HTTP, keep connections for the next request.
//!
//! Everything here needs a [`Permit`]. A name is looked up once per connection, the addresses are
//! vetted in `enforce.rs`, and those very addresses are dialled (SPEC P4).

mod connect;
mod pool;
mod resolve;
pub(crate) mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use codex_network_policy::Host;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub use connect::{ConnectError, Dial, TcpDialler};
pub(crate) use pool::Lease;
use pool::{Checkout, Pool, Sender};
pub use resolve::{DnsResolver, Resolve, ResolveError, ResolverOptions, ResolverSetupError};

use crate::drain::Drain;
use crate::enforce::Permit;
use crate::error::Failure;
use crate::http::RequestBody;
use tls::{Offer, Wire};

/// Largest header section of an HTTP/2 answer, in bytes.
const MAX_HTTP2_HEADERS: u32 = 256 * 1024;
/// An HTTP/2 connection in use is asked this often whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Dials permitted authorities and keeps their HTTP connections.
pub(crate) struct Upstream {
    dialler: Arc<dyn Dial>,
    pool: Arc<Pool>,
    drain: Drain,
}

impl Upstream {
    pub(crate) fn new(dialler: Arc<dyn Dial>, drain: Drain) -> Self {
        Self {
            dialler,
            pool: Arc::default(),
            drain,
        }
    }

    /// How many kept HTTP connections wait for a request.
    pub(crate) fn idle(&self) -> usize {
        self.pool.idle()
    }

    /// Opens a connection for a permit: one lookup, one vetting, then only those addresses.
    pub(crate) async fn open(&self, permit: &Permit) -> Result<TcpStream, Failure> {
        let addresses = addresses_of(permit).await?;
        let vetted = permit.vet(&addresses)?;
        let limit = permit.generation().settings().daemon.limits.connect_timeout;
        connect::connect(self.dialler.as_ref(), &vetted, limit)
            .await
            .map_err(Failure::Connect)
    }

    /// A kept HTTP connection that was vetted for the same authority under the same generation.
    pub(crate) async fn pooled(&self, permit: &Permit, wire: Wire) -> Option<Lease> {
        let lease = self
            .pool
            .checkout(Checkout::of(permit, wire), &self.drain)
            .await?;
        permit.admit_pooled();
        Some(lease)
    }

    /// A new HTTP connection, which is kept for further requests.
    pub(crate) async fn connect_http(&self, permit: &Permit, wire: Wire) -> Result<Lease, Failure> {
        let stream = self.open(permit).await?;
        match wire {
            Wire::Plain => {
                let peer = stream.peer_addr().ok();
                self.over(permit, wire, stream, peer).await
            }
            Wire::TlsHttp1 => self
                .secure(permit, stream, Offer::Http1)
                .await
                .map(|it| it.0),
            Wire::TlsHttp2 => self
                .secure(permit, stream, Offer::Http2)
                .await
                .map(|it| it.0),
        }
    }

    /// Makes a connection that was opened for the permit one for HTTP in TLS, and tells what the
    /// origin chose.
    pub(crate) async fn secure(
        &self,
        permit: &Permit,
        stream: TcpStream,
        offer: Offer,
    ) -> Result<(Lease, Wire), Failure> {
        let generation = permit.generation();
        // Without it nothing is intercepted, and nobody gets here.
        if !generation.intercepts() {
            return Err(Failure::NoInterception);
        }
        let limit = generation.settings().daemon.limits.connect_timeout;
        let peer = stream.peer_addr().ok();
        let host = &permit.authority().host;
        let (stream, wire) = generation.tls().connect(stream, host, offer, limit).await?;
        let lease = self.over(permit, wire, stream, peer).await?;
        Ok((lease, wire))
    }

    async fn over<S>(
        &self,
        permit: &Permit,
        wire: Wire,
        stream: S,
        peer: Option<SocketAddr>,
    ) -> Result<Lease, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = TokioIo::new(stream);
        let sender = if wire == Wire::TlsHttp2 {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .max_header_list_size(MAX_HTTP2_HEADERS)
                .keep_alive_interval(KEEP_ALIVE)
                .handshake::<_, RequestBody>(stream)
                .await
                .map_err(Failure::Answer)?;
            self.drive(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::Builder::new()
                .preserve_header_case(true)
                .handshake::<_, RequestBody>(stream)
                .await
                .map_err(Failure::Answer)?;
            self.drive(connection.with_upgrades());
            Sender::Http1(sender)
        };
        Ok(Lease::new(
            Arc::clone(&self.pool),
            Checkout::of(permit, wire),
            sender,
            peer,
            self.drain.clone(),
        ))
    }

    /// Runs a connection to its end.
    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
        let (pool, drain) = (Arc::clone(&self.pool), self.drain.clone());
        self.drain.spawn(async move {
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = &mut connection => ended,
                () = drain.begun() => {
                    // What is kept for a next request has none to wait for.
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

async fn addresses_of(permit: &Permit) -> Result<Vec<IpAddr>, Failure> {
    let name = match &permit.authority().host {
        Host::Name(name) => name,
        Host::V4(address) => return Ok(vec![IpAddr::V4(*address)]),
        Host::V6(host) => return Ok(vec![IpAddr::V6(host.address())]),
    };
    let resolved = permit.generation().resolver().resolve(name.as_str()).await;
    match resolved {
        Ok(addresses) if !addresses.is_empty() => Ok(addresses),
        Ok(_) => Err(ResolveError::NotFound),
        Err(error) => Err(error),
    }
    .map_err(|error| {
        tracing::debug!(%error, host = name.as_str(), "a permitted name does not resolve");
        permit.unresolved();
        Failure::Resolve(error)
    })
}
