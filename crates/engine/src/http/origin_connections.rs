//! The origin connections that the requests of one intercepted client use.
//!
//! The first one may be opened before the client is answered. Over HTTP/1 the first request takes it, and
//! the pool keeps connections between requests. Over HTTP/2 a connection carries many requests at once, all
//! of this client. Their number is bounded: the window of the connection has room for all their answers,
//! even if the client reads none of them. While the connection has no request, the pool keeps it. A client
//! with more requests at once gets further connections.

use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::request_body::RequestBody;
use super::route::Route;
use crate::live_policy::Generation;
use crate::owner::ConnectionHandle;
use crate::tls::Wire;
use crate::upstream::{ConnectionId, Http2Origin, Lease, Upstream, UpstreamError};

/// The connection that was opened before its first request, and those that carry many requests at once.
pub(crate) struct OriginConnections {
    connections: Mutex<Connections>,
    /// Held, across awaits, while a further connection is opened: requests that wait meanwhile
    /// share that connection.
    opening: tokio::sync::Mutex<()>,
}

struct Connections {
    /// The connection for the first request, until this request takes it; or why it could not be opened.
    first: Option<Result<Lease<RequestBody>, UpstreamError>>,
    /// Connections that carry many requests at once, the oldest first. Those that the pool has taken
    /// since are removed later.
    multiplexed: Vec<Arc<Http2Origin>>,
}

impl OriginConnections {
    /// `opened` is the connection for the first requests, or why it could not be opened.
    pub(crate) fn new(opened: Result<Lease<RequestBody>, UpstreamError>) -> Self {
        let origin = opened.as_ref().ok().and_then(Lease::origin).cloned();
        match (origin, opened) {
            (Some(origin), Ok(lease)) => {
                lease.put_off();
                Self::with(None, vec![origin])
            }
            (_, opened) => Self::with(Some(opened), Vec::new()),
        }
    }

    fn with(
        first: Option<Result<Lease<RequestBody>, UpstreamError>>,
        multiplexed: Vec<Arc<Http2Origin>>,
    ) -> Self {
        Self {
            connections: Mutex::new(Connections { first, multiplexed }),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// No connection is open. The requests use kept ones, or open some.
    pub(crate) fn unopened() -> Self {
        Self::with(None, Vec::new())
    }

    /// A connection with room for another request, if it was vetted under the settings in force: the first
    /// one, or over HTTP/2 one that the client uses, or one of the pool.
    pub(super) fn take(
        &self,
        route: &Route,
        upstream: &Upstream<RequestBody>,
        wire: Wire,
    ) -> Result<Option<Lease<RequestBody>>, UpstreamError> {
        let Route::Host(permit) = route else {
            return Ok(None);
        };
        let client = &permit.attempt().client.connection;
        let mut connections = self.lock();
        let taken = match connections.take(permit.generation(), client) {
            None if wire == Wire::TlsHttp2 => {
                let kept = upstream.pooled_http2(permit);
                kept.inspect(|lease| connections.keep(lease)).map(Ok)
            }
            taken => taken,
        };
        drop(connections);
        if taken.is_some() {
            permit.admit_pooled();
        }
        taken.transpose()
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
        if let Some(lease) = self.take(route, upstream, wire)? {
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
        client: &ConnectionHandle,
    ) -> Option<Result<Lease<RequestBody>, UpstreamError>> {
        let is_usable = |opened: &Result<Lease<RequestBody>, UpstreamError>| {
            opened
                .as_ref()
                .map_or(true, |lease| lease.is_of(generation))
        };
        if let Some(first) = self.first.take().filter(is_usable) {
            return Some(first);
        }
        self.multiplexed
            .retain(|origin| origin.serves(client, generation));
        // The burst of requests is over. Only connections that the pool does not keep are left here.
        if self.multiplexed.first().is_some_and(|it| it.is_idle()) {
            let mut number = 0;
            self.multiplexed.retain(|origin| {
                number += 1;
                number == 1 || !origin.is_idle()
            });
        }
        self.multiplexed
            .iter()
            .find_map(|origin| Lease::further(origin, client))
            .map(Ok)
    }

    /// Keeps a connection for further requests, if it carries many at once.
    fn keep(&mut self, lease: &Lease<RequestBody>) {
        self.multiplexed.extend(lease.origin().cloned());
    }

    /// Removes a connection on which a request failed.
    fn forget(&mut self, tried: Option<&ConnectionId>) {
        if let Some(tried) = tried {
            self.multiplexed.retain(|origin| !tried.is_of(origin));
        }
    }
}
