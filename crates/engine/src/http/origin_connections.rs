//! The origin connection that the requests of one intercepted client share. It is opened before the
//! client is answered.
//!
//! Over HTTP/1 the first request takes it, and the pool keeps connections between requests. Over
//! HTTP/2 it belongs to this client alone, since one of many clients could use it up. It carries a
//! bounded number of requests at once: as many as their answers fit into its window even if the
//! client reads none of them. A client with more requests in hand gets further connections, which
//! end when it no longer needs them.

use parking_lot::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::request_body::RequestBody;
use super::route::Route;
use crate::live_policy::Generation;
use crate::tls::Wire;
use crate::upstream::{ConnectionId, Lease, Upstream, UpstreamError};

/// The connection that was opened before its first request, and further ones.
pub(crate) struct OriginConnections {
    connections: Mutex<Connections>,
    /// Held, across awaits, while a further connection is opened: requests that wait meanwhile
    /// share that connection.
    opening: tokio::sync::Mutex<()>,
}

/// The client's connections to the origin.
enum Connections {
    /// For one request at a time, until the first request takes it; or why it could not be opened.
    Once(Option<Result<Lease<RequestBody>, UpstreamError>>),
    /// Connections that carry many requests at once, the oldest first.
    Multiplexed(Vec<Lease<RequestBody>>),
}

impl OriginConnections {
    pub(crate) fn new(opened: Result<Lease<RequestBody>, UpstreamError>) -> Self {
        let connections = match opened {
            Ok(lease) if lease.is_multiplexed() => {
                Connections::Multiplexed(vec![lease.without_permit()])
            }
            opened => Connections::Once(Some(opened)),
        };
        Self {
            connections: Mutex::new(connections),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// A connection with room for another request, if it was vetted under the settings in force.
    pub(super) fn take(&self, route: &Route) -> Result<Option<Lease<RequestBody>>, UpstreamError> {
        let Route::Host(permit) = route else {
            return Ok(None);
        };
        let taken = self.lock().take(permit.generation());
        match taken {
            Some(Ok(lease)) => {
                permit.admit_pooled();
                Ok(Some(lease))
            }
            Some(Err(failure)) => {
                permit.admit_pooled();
                Err(failure)
            }
            None => Ok(None),
        }
    }

    /// Opens a further connection. It is kept for the client's next requests if it carries many at
    /// once. `tried` is a connection on which this request failed; it carries no further requests.
    pub(super) async fn open(
        &self,
        route: &Route,
        upstream: &Upstream<RequestBody>,
        wire: Wire,
        tried: Option<&ConnectionId>,
    ) -> Result<Lease<RequestBody>, UpstreamError> {
        if wire != Wire::TlsHttp2 {
            return route.open(upstream, wire).await;
        }
        let limits = &route.generation().settings().daemon.limits;
        // A slow origin delays all waiting requests by one timeout, not each by one more.
        let opening = timeout(limits.connect_timeout, self.opening.lock()).await;
        self.lock().forget(tried);
        if let Some(lease) = self.take(route)? {
            return Ok(lease);
        }
        let lease = route.open(upstream, wire).await?;
        self.lock().keep(&lease);
        drop(opening);
        Ok(lease)
    }

    fn lock(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock()
    }
}

impl Connections {
    fn take(
        &mut self,
        generation: &Generation,
    ) -> Option<Result<Lease<RequestBody>, UpstreamError>> {
        match self {
            Self::Once(opened) => {
                let is_usable = |opened: &Result<Lease<RequestBody>, UpstreamError>| {
                    opened
                        .as_ref()
                        .map_or(true, |lease| lease.is_of(generation))
                };
                opened.take().filter(is_usable)
            }
            Self::Multiplexed(leases) => {
                // The burst of requests is over.
                let is_quiet = leases.first().is_some_and(Lease::is_idle);
                let mut number = 0;
                leases.retain(|lease| {
                    number += 1;
                    let is_needed = number == 1 || !is_quiet || !lease.is_idle();
                    is_needed && lease.is_of(generation) && lease.is_open()
                });
                leases.iter().find_map(Lease::shared).map(Ok)
            }
        }
    }

    /// Keeps a connection for further requests, if it carries many at once.
    fn keep(&mut self, lease: &Lease<RequestBody>) {
        let Some(lease) = lease.keeper() else {
            return;
        };
        match self {
            Self::Once(_) => *self = Self::Multiplexed(vec![lease]),
            Self::Multiplexed(leases) => leases.push(lease),
        }
    }

    fn forget(&mut self, tried: Option<&ConnectionId>) {
        if let (Self::Multiplexed(leases), Some(tried)) = (self, tried) {
            leases.retain(|lease| lease.id() != *tried);
        }
    }
}
