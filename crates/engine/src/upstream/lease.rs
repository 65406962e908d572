//! A connection to an origin, an upstream proxy or a unix socket, while a request uses it.
//!
//! It waits in the [`Pool`] between two requests. Over HTTP/1 it carries one request at a time. Over
//! HTTP/2 it carries many requests of one client at a time ([`Http2Origin`]).
//!
//! If an origin leaves the content of a request unread, it reads that as the next request of the
//! connection.
//! So a request with content is the last one of its HTTP/1 connection in two cases: its method does not
//! define content, or the proxy adds secrets to requests (to a host with hooks, to one that a credential of
//! the session may go to, and to an upstream proxy with credentials). A secret therefore never follows a client's content.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use codex_network_policy::defines_content;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::client::conn::http1;

use super::Outgoing;
use super::answer_error::{AnswerError, BrokenAnswer, loggable};
use super::cut::Cut;
use super::far_end::{FarEnd, Unanswered};
use super::http2::{Http2Origin, Http2Use};
use super::pool::{Checkout, Idle, Pool};
use super::proxy::{self};
use crate::drain::Drain;
use crate::enforce::LeadsTo;
use crate::incoming::{BodyError, Incoming};
use crate::live_policy::Generation;
use crate::owner::ConnectionHandle;

/// How much earlier than the origin the proxy closes a kept connection, so that no request is sent while
/// the origin closes it. If the origin's time is short, the proxy keeps the connection for half of it.
const KEEP_MARGIN: Duration = Duration::from_secs(1);

/// A connection in use. [`release`](Self::release) keeps it for the next request; dropping it
/// closes it if it is an HTTP/1 one.
pub(crate) struct Lease<B> {
    sender: OriginSender<B>,
    far: FarEnd,
}

/// The sending half of a connection.
enum OriginSender<B> {
    /// One request at a time.
    Http1(Http1Sender<B>),
    /// Many requests at a time.
    Http2(Http2Use),
}

struct Http1Sender<B> {
    requests: http1::SendRequest<B>,
    pool: Arc<Pool<B>>,
    key: Checkout,
    drain: Drain,
    fate: Fate,
}

/// Identifies a connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionId(FarEnd);

/// Whether an HTTP/1 connection is kept after its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Retired,
}

impl<B: Outgoing> Lease<B> {
    /// A lease of a kept HTTP/1 connection, if there is one.
    pub(super) async fn kept(pool: &Arc<Pool<B>>, key: Checkout, drain: &Drain) -> Option<Self> {
        let (requests, far) = pool.take(&key).await?;
        Some(Self::http1(pool, key, requests, far, drain.clone()))
    }

    /// A lease of a kept HTTP/2 connection for this client, if there is one.
    pub(super) fn kept_http2(
        pool: &Pool<B>,
        key: &Checkout,
        client: &ConnectionHandle,
    ) -> Option<Self> {
        pool.take_http2(key, client).map(Self::http2)
    }

    /// A lease of an HTTP/1 connection.
    pub(super) fn http1(
        pool: &Arc<Pool<B>>,
        key: Checkout,
        requests: http1::SendRequest<B>,
        far: FarEnd,
        drain: Drain,
    ) -> Self {
        let sender = OriginSender::Http1(Http1Sender {
            requests,
            pool: Arc::clone(pool),
            key,
            drain,
            fate: Fate::Kept,
        });
        Self { sender, far }
    }

    /// A lease of an HTTP/2 connection.
    pub(super) fn http2(taken: Http2Use) -> Self {
        Self {
            far: taken.origin().far().clone(),
            sender: OriginSender::Http2(taken),
        }
    }

    /// A lease for a further request of the client that uses this HTTP/2 connection. `None` if the
    /// connection has no room.
    pub(crate) fn further(origin: &Arc<Http2Origin>, client: &ConnectionHandle) -> Option<Self> {
        origin.use_again(client).map(Self::http2)
    }

    /// Sends a request. The last request of a connection gets `Connection: close`. `on_interim` gets
    /// interim answers as they arrive (RFC 9110 section 15.2).
    pub(crate) fn send(
        &mut self,
        mut request: Request<B>,
        on_interim: impl Fn(StatusCode, &HeaderMap) + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<Response<Incoming>, Unanswered<B>>> {
        let far = self.far.clone();
        match &mut self.sender {
            OriginSender::Http1(sender) => {
                if sender.ends_with(&request, &far) {
                    mark_last(request.headers_mut());
                    sender.fate = Fate::Retired;
                }
                proxy::address(&mut request, far.form());
                hyper::ext::on_informational(&mut request, move |interim| {
                    on_interim(interim.status(), interim.headers());
                });
                let answered = sender.requests.try_send_request(request);
                let answered = answered.map(move |answered| match answered {
                    Ok(answer) => Ok(answer.map(Incoming::from)),
                    Err(mut error) => {
                        let unsent = error.take_message();
                        Err(far.unanswered(unsent, error.into_error()))
                    }
                });
                answered.boxed()
            }
            OriginSender::Http2(sender) => sender.send(request, on_interim).boxed(),
        }
    }

    /// The addresses that the connection may lead to.
    pub(crate) fn leads_to(&self) -> &LeadsTo {
        self.far.leads_to()
    }

    /// Ends the connection at its next read if it is an HTTP/1 one.
    pub(crate) fn cut(&self) -> Cut {
        self.far.cut()
    }

    /// Whether an upstream proxy answers, for the origin or for itself.
    pub(crate) fn is_with_proxy(&self) -> bool {
        self.far.form().is_some()
    }

    /// Why no usable head of an answer arrived.
    pub(crate) fn broken_head(&self, error: impl Into<BodyError>) -> BrokenAnswer {
        self.far.broken_head(error)
    }

    /// Why the content of an answer does not come to its end. Without an error it ended before its length.
    pub(crate) fn broken_body(&self, error: Option<BodyError>) -> BrokenAnswer {
        let of_body = |error: &BodyError| AnswerError::of_body(error.as_ref(), self.far.evidence());
        BrokenAnswer {
            by: self.far.answerer(),
            cause: error.as_ref().map_or(AnswerError::Incomplete, of_body),
            error: error.map(loggable),
        }
    }

    /// An answer that can be read but not used.
    pub(crate) fn unusable(&self, cause: AnswerError) -> BrokenAnswer {
        self.far.unusable(cause)
    }

    /// The address at the other end: of the origin, or of the upstream proxy.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.far.peer()
    }

    /// Whether the connection was vetted under these settings, name servers and roots.
    pub(crate) fn is_of(&self, generation: &Generation) -> bool {
        match &self.sender {
            OriginSender::Http1(sender) => sender.key.generation() == generation.connections(),
            OriginSender::Http2(sender) => sender.origin().is_of(generation),
        }
    }

    /// The identity of the connection.
    pub(crate) fn id(&self) -> ConnectionId {
        ConnectionId(self.far.clone())
    }

    /// Whether the connection carries many requests at once.
    pub(crate) fn is_multiplexed(&self) -> bool {
        self.origin().is_some()
    }

    /// The connection, if it carries many requests at once.
    pub(crate) fn origin(&self) -> Option<&Arc<Http2Origin>> {
        match &self.sender {
            OriginSender::Http1(_) => None,
            OriginSender::Http2(sender) => Some(sender.origin()),
        }
    }

    /// Ends the lease of a connection that has no request yet. An HTTP/2 connection stays with its client.
    pub(crate) fn put_off(self) {
        if let OriginSender::Http2(sender) = self.sender {
            sender.put_off();
        }
    }

    /// Keeps the connection from other clients. An HTTP/1 connection ends after this request.
    pub(crate) fn retire(&mut self) {
        match &mut self.sender {
            OriginSender::Http1(sender) => sender.fate = Fate::Retired,
            OriginSender::Http2(sender) => sender.bind(),
        }
    }

    /// Ends an HTTP/1 connection after this request, since the origin may leave content of the request
    /// unread. Over HTTP/2 only the stream ends.
    pub(crate) fn end_with_early_answer(&mut self) {
        if let OriginSender::Http1(sender) = &mut self.sender {
            sender.fate = Fate::Retired;
        }
    }

    /// Keeps the connection for a shorter time than its origin does.
    pub(crate) fn keep_for(&mut self, origins: Duration) {
        let margin = KEEP_MARGIN.min(origins / 2);
        self.far.keep_for(origins.saturating_sub(margin));
    }

    /// Returns the connection to the pool once its answer has been read to the end.
    pub(crate) fn release(self) {
        self.far.evidence().note_end_of_answer();
        match self.sender {
            OriginSender::Http1(sender) => sender.release(self.far),
            OriginSender::Http2(sender) => sender.release(),
        }
    }
}

impl<B: Outgoing> Http1Sender<B> {
    /// Whether no request may follow this one.
    fn ends_with(&self, request: &Request<B>, far: &FarEnd) -> bool {
        let adds_secret = self.key.injects_secrets() || far.adds_credentials();
        !request.body().is_end_stream()
            && (adds_secret || !defines_content(request.method().as_str()))
    }

    fn release(self, far: FarEnd) {
        let Self {
            mut requests,
            pool,
            key,
            drain,
            fate,
        } = self;
        if fate == Fate::Retired || requests.is_closed() || drain.has_begun() {
            return;
        }
        let tasks = drain.clone();
        let keep = move |requests| {
            if !far.cut().is_unwritable() {
                pool.put(&key, Idle::http1(requests, far), &drain);
            }
        };
        if requests.is_ready() {
            keep(requests);
            return;
        }
        // The connection's task has not seen the end yet. One more poll is enough.
        tasks.spawn(async move {
            if requests.ready().await.is_ok() {
                keep(requests);
            }
        });
    }
}

impl ConnectionId {
    /// Whether it is the identity of this connection.
    pub(crate) fn is_of(&self, origin: &Http2Origin) -> bool {
        self.0.is(origin.far())
    }
}

/// Marks a request as the last one of its connection (RFC 9112 section 9.6).
fn mark_last(fields: &mut HeaderMap) {
    // A request that is sent again already has the field.
    let is_marked = fields
        .get_all(CONNECTION)
        .iter()
        .any(|field| field == "close");
    if !is_marked {
        fields.append(CONNECTION, HeaderValue::from_static("close"));
    }
}
