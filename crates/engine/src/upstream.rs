//! The way out: resolve, vet, connect; and for HTTP, keep connections for the next request.
//!
//! Everything here needs a [`Permit`]. A name is looked up once per connection, the addresses are
//! vetted in `enforce.rs`, and those very addresses are dialled (SPEC P4).

mod connect;
mod pool;
mod resolve;

use std::net::IpAddr;
use std::sync::Arc;

use codex_network_policy::Host;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

pub use connect::{ConnectError, Dial, TcpDialler};
pub(crate) use pool::{Checkout, Lease, Pool};
pub use resolve::{DnsResolver, Resolve, ResolveError, ResolverOptions, ResolverSetupError};

use crate::drain::Drain;
use crate::enforce::Permit;
use crate::error::Failure;
use crate::http::RequestBody;

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
    pub(crate) async fn pooled(&self, permit: &Permit) -> Option<Lease> {
        let lease = self
            .pool
            .checkout(Checkout::of(permit), &self.drain)
            .await?;
        permit.admit_pooled();
        Some(lease)
    }

    /// A new HTTP/1.1 connection, which goes to the pool once its answer has been read.
    pub(crate) async fn connect_http(&self, permit: &Permit) -> Result<Lease, Failure> {
        let stream = self.open(permit).await?;
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .handshake::<_, RequestBody>(TokioIo::new(stream))
            .await
            .map_err(Failure::Answer)?;
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
        Ok(Lease::new(
            Arc::clone(&self.pool),
            Checkout::of(permit),
            sender,
            self.drain.clone(),
        ))
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
