//! A connection to an origin, an upstream proxy or a unix socket, while a request uses it.
//!
//! Over HTTP/1 it carries one request at a time, and waits in the [`Pool`] between two requests. Over
//! HTTP/2 it carries many requests and never goes to the pool: it belongs to one client.
//!
//! If an origin leaves the content of a request unread, it reads that as the next request of the
//! connection.
//! So a request with content is the last one of its HTTP/1 connection in two cases: its method does not
//! define content, or the proxy adds secrets to requests (to a host with hooks, and to an upstream proxy
//! with credentials). A secret therefore never follows a client's content.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use codex_network_policy::defines_content;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::client::conn::http1;
use tokio::sync::OwnedSemaphorePermit;

use super::Outgoing;
use super::answer_error::{AnswerError, BrokenAnswer};
use super::cut::Cut;
use super::far_end::{FarEnd, Unanswered};
use super::http2;
use super::pool::{Checkout, Idle, Pool};
use super::proxy::{self};
use crate::drain::Drain;
use crate::enforce::LeadsTo;
use crate::incoming::{BodyError, Incoming};
use crate::live_policy::Generation;

/// How much earlier than the origin the proxy closes a kept connection, so that no request is sent while
/// the origin closes it. If the origin's time is short, the proxy keeps the connection for half of it.
const KEEP_MARGIN: Duration = Duration::from_secs(1);

/// The sending half of a connection.
pub(crate) enum OriginSender<B> {
    /// One request at a time.
    Http1(http1::SendRequest<B>),
    /// Many requests at a time, each with a permit.
    Http2(http2::Http2Sender),
}

/// A connection in use. [`release`](Self::release) keeps it for the next request; dropping it
/// closes it.
pub(crate) struct Lease<B> {
    pool: Arc<Pool<B>>,
    key: Checkout,
    drain: Drain,
    sender: OriginSender<B>,
    far: FarEnd,
    fate: Fate,
    /// The permit for a request on an HTTP/2 connection.
    permit: Option<OwnedSemaphorePermit>,
}

/// Identifies a connection.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionId(FarEnd);

/// Whether a connection is kept after its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Retired,
}

impl<B: Outgoing> Lease<B> {
    /// A lease of a kept connection, if there is one.
    pub(super) async fn kept(pool: &Arc<Pool<B>>, key: Checkout, drain: &Drain) -> Option<Self> {
        let (sender, far) = pool.take(&key).await?;
        let sender = OriginSender::Http1(sender);
        Some(Self::new(Arc::clone(pool), key, sender, far, drain.clone()))
    }

    /// A lease of a new connection, for its first request.
    pub(super) fn new(
        pool: Arc<Pool<B>>,
        key: Checkout,
        sender: OriginSender<B>,
        far: FarEnd,
        drain: Drain,
    ) -> Self {
        let permit = match &sender {
            OriginSender::Http1(_) => None,
            OriginSender::Http2(sender) => sender.permit(),
        };
        Self {
            pool,
            key,
            drain,
            sender,
            far,
            fate: Fate::Kept,
            permit,
        }
    }

    /// Sends a request. The last request of a connection gets `Connection: close`. `on_interim` gets
    /// interim answers as they arrive (RFC 9110 section 15.2).
    pub(crate) fn send(
        &mut self,
        mut request: Request<B>,
        on_interim: impl Fn(StatusCode, &HeaderMap) + Send + Sync + 'static,
    ) -> BoxFuture<'static, Result<Response<Incoming>, Unanswered<B>>> {
        let is_last = self.ends_with(&request);
        let far = self.far.clone();
        match &mut self.sender {
            OriginSender::Http1(sender) => {
                if is_last {
                    mark_last(request.headers_mut());
                    self.fate = Fate::Retired;
                }
                proxy::address(&mut request, far.form());
                hyper::ext::on_informational(&mut request, move |interim| {
                    on_interim(interim.status(), interim.headers());
                });
                let answered = sender.try_send_request(request);
                let answered = answered.map(move |answered| match answered {
                    Ok(answer) => Ok(answer.map(Incoming::from)),
                    Err(mut error) => {
                        let unsent = error.take_message();
                        Err(far.unanswered(unsent, error.into_error()))
                    }
                });
                answered.boxed()
            }
            OriginSender::Http2(sender) => sender.clone().send(request, far, on_interim).boxed(),
        }
    }

    /// Whether no request may follow this one on an HTTP/1 connection.
    fn ends_with(&self, request: &Request<B>) -> bool {
        let adds_secret = self.key.injects_secrets() || self.far.adds_credentials();
        !request.body().is_end_stream()
            && (adds_secret || !defines_content(request.method().as_str()))
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
            error,
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
        self.key.generation() == generation.connections()
    }

    /// The identity of the connection.
    pub(crate) fn id(&self) -> ConnectionId {
        ConnectionId(self.far.clone())
    }

    /// Whether the connection carries many requests at once.
    pub(crate) fn is_multiplexed(&self) -> bool {
        matches!(self.sender, OriginSender::Http2(..))
    }

    /// Whether the connection takes further requests.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether this is the only lease of an HTTP/2 connection, so that the connection has no request in
    /// hand.
    pub(crate) fn is_idle(&self) -> bool {
        match &self.sender {
            OriginSender::Http1(_) => false,
            OriginSender::Http2(sender) => sender.is_only_one(),
        }
    }

    /// Another lease of the same connection for a request. `None` unless the connection is open, carries
    /// many requests at once, and has a free permit.
    pub(crate) fn shared(&self) -> Option<Self> {
        let mut lease = self.keeper()?;
        if let OriginSender::Http2(sender) = &lease.sender {
            lease.permit = Some(sender.permit()?);
        }
        Some(lease)
    }

    /// Another lease of the same connection, if the connection carries many requests at once and is open.
    /// The lease keeps the connection for further requests and takes no permit.
    pub(crate) fn keeper(&self) -> Option<Self> {
        let OriginSender::Http2(sender) = &self.sender else {
            return None;
        };
        (!sender.is_closed() && !self.far.is_going_away()).then(|| Self {
            pool: Arc::clone(&self.pool),
            key: self.key.clone(),
            drain: self.drain.clone(),
            sender: OriginSender::Http2(sender.clone()),
            far: self.far.clone(),
            fate: self.fate,
            permit: None,
        })
    }

    /// The lease without its permit, since it has no request yet.
    pub(crate) fn without_permit(mut self) -> Self {
        self.permit = None;
        self
    }

    /// Keeps the connection out of the pool after this request.
    pub(crate) fn retire(&mut self) {
        self.fate = Fate::Retired;
    }

    /// Keeps the connection for a shorter time than its origin does.
    pub(crate) fn keep_for(&mut self, origins: Duration) {
        let margin = KEEP_MARGIN.min(origins / 2);
        self.far.keep_for(origins.saturating_sub(margin));
    }

    /// Returns the connection to the pool once its answer has been read to the end.
    pub(crate) fn release(self) {
        self.far.evidence().note_end_of_answer();
        if self.fate == Fate::Retired {
            return;
        }
        // An HTTP/2 connection belongs to its client, which has another lease of it.
        let OriginSender::Http1(mut sender) = self.sender else {
            return;
        };
        if sender.is_closed() || self.drain.has_begun() {
            return;
        }
        let (pool, key, far) = (self.pool, self.key, self.far);
        let drain = self.drain.clone();
        let keep = move |sender| {
            if !far.cut().is_unwritable() {
                pool.put(key, Idle::new(sender, far), &drain);
            }
        };
        if sender.is_ready() {
            keep(sender);
            return;
        }
        // The connection's task has not seen the end yet. One more poll is enough.
        self.drain.spawn(async move {
            if sender.ready().await.is_ok() {
                keep(sender);
            }
        });
    }
}

impl PartialEq for ConnectionId {
    fn eq(&self, other: &Self) -> bool {
        self.0.is(&other.0)
    }
}

impl<B> OriginSender<B> {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
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
