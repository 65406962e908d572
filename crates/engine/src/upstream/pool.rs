//! Upstream HTTP connections between two requests.
//!
//! A connection is kept under the authority that it was vetted for, or the file that a unix socket is,
//! and the generation of the settings that vetted it: after a change nothing old is handed out, so a kept connection can
//! never carry what the new policy would refuse to dial. An HTTP/2 connection carries many requests
//! at once and never gets here: it belongs to the client that it was made for, and ends with it.
//!
//! An origin that leaves the content of a request unread takes it for the next request of the
//! connection. So a request with content is the last one of its HTTP/1 connection where its method
//! does not define content, and where requests get a secret on the way: to a host with hooks, and to
//! an upstream proxy with credentials. A secret therefore never follows a client's content.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use codex_network_policy::{Authority, defines_content};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{TrySendError, http1, http2};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answer_error::{AnswerError, Answerer, BrokenAnswer};
use super::connection::Connection;
use super::cut::Cut;
use super::evidence::Evidence;
use super::proxy::{self, AbsoluteForm};
use super::tls::Wire;
use super::unix_socket::SocketIdentity;
use crate::drain::Drain;
use crate::enforce::unix_socket::{SocketPermit, UNIX_SOCKET};
use crate::enforce::{LeadsTo, Permit};
use crate::http::RequestBody;
use crate::live_policy::Generation;

/// Kept connections per authority or unix socket; more are closed after use.
const PER_PEER: usize = 256;
/// Kept connections in all.
const IN_ALL: usize = 1024;
/// How long a connection is kept without a request, if its origin names no shorter time. Most origins
/// close theirs after 60 seconds or more; being first avoids sending a request into a connection that is
/// just being closed.
const KEEP_MILLIS: u64 = 50_000;
const KEEP: Duration = Duration::from_millis(KEEP_MILLIS);
/// How much earlier than its origin we give a connection up: a request must not meet the close. Of a short
/// time, half.
const KEEP_MARGIN: Duration = Duration::from_secs(1);

/// What a kept connection was vetted for.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    key: Key,
    generation: u64,
    secrets: Secrets,
}

/// Whether requests to a peer may get a secret on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secrets {
    Injected,
    Never,
}

/// Whom a connection leads to, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    peer: Peer,
    wire: Wire,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Peer {
    Host(Authority),
    UnixSocket(SocketIdentity),
}

/// The sending half of a connection.
#[derive(Debug)]
pub(crate) enum Sender {
    /// One request at a time.
    Http1(http1::SendRequest<RequestBody>),
    /// Many at a time, each with a place.
    Http2(http2::SendRequest<RequestBody>, Arc<Semaphore>),
}

/// The kept connections.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    generation: u64,
    idle: HashMap<Key, Vec<Idle>>,
    count: usize,
    swept: Option<Instant>,
    closed: bool,
}

#[derive(Debug)]
struct Idle {
    sender: Sender,
    far: FarEnd,
    since: Instant,
}

/// A connection in use. [`release`](Self::release) keeps it for the next request; dropping it
/// closes it.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    key: Checkout,
    drain: Drain,
    sender: Sender,
    far: FarEnd,
    fate: Fate,
    /// The place of a request among those that an HTTP/2 connection carries at once.
    place: Option<OwnedSemaphorePermit>,
}

/// Tells connections apart.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionId(FarEnd);

/// What becomes of a connection after its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Retired,
}

/// Who reads what is sent, and where that leads.
#[derive(Clone, Debug)]
pub(super) struct FarEnd(Arc<Far>);

#[derive(Debug)]
struct Far {
    leads_to: LeadsTo,
    /// An upstream proxy reads it; `None`: the origin.
    proxy: Option<AbsoluteForm>,
    answerer: Answerer,
    evidence: Evidence,
    cut: Cut,
    /// How long the connection may wait for a request, in milliseconds.
    keep: AtomicU64,
}

impl FarEnd {
    /// The origin, whoever else passes its bytes on.
    pub(super) fn origin(connection: &Connection) -> Self {
        Self::new(connection.leads_to().clone(), Answerer::Host, None)
    }

    /// The program behind a unix socket.
    pub(super) fn unix_socket() -> Self {
        Self::new(LeadsTo::nowhere(), Answerer::Program, None)
    }

    /// An upstream proxy.
    pub(super) fn proxy(leads_to: LeadsTo, form: AbsoluteForm) -> Self {
        Self::new(leads_to, Answerer::UpstreamProxy, Some(form))
    }

    fn new(leads_to: LeadsTo, answerer: Answerer, proxy: Option<AbsoluteForm>) -> Self {
        Self(Arc::new(Far {
            leads_to,
            proxy,
            answerer,
            evidence: Evidence::default(),
            cut: Cut::default(),
            keep: AtomicU64::new(KEEP_MILLIS),
        }))
    }

    fn keep(&self) -> Duration {
        Duration::from_millis(self.0.keep.load(Ordering::Relaxed))
    }

    fn keep_for(&self, limit: Duration) {
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        self.0.keep.store(limit.min(KEEP_MILLIS), Ordering::Relaxed);
    }

    /// Ends the connection, where it is one over HTTP/1.
    pub(super) fn cut(&self) -> Cut {
        self.0.cut.clone()
    }

    /// What the connection has shown.
    pub(super) fn evidence(&self) -> &Evidence {
        &self.0.evidence
    }

    /// Why there is no usable head of an answer.
    pub(super) fn broken_head(&self, error: hyper::Error) -> BrokenAnswer {
        BrokenAnswer {
            by: self.0.answerer,
            cause: AnswerError::of_head(&error, self.evidence()),
            error,
        }
    }

    fn form(&self) -> Option<&AbsoluteForm> {
        self.0.proxy.as_ref()
    }

    /// Whether each request gets the operator's credentials for an upstream proxy.
    fn adds_credentials(&self) -> bool {
        self.form().is_some_and(AbsoluteForm::has_credentials)
    }
}

impl Checkout {
    pub(crate) fn of(permit: &Permit, wire: Wire) -> Self {
        let (authority, generation) = (permit.authority(), permit.generation());
        let hooks = &generation.settings().mitm.hooks;
        Self {
            key: Key {
                peer: Peer::Host(authority.clone()),
                wire,
            },
            generation: generation.number(),
            secrets: if hooks.has(&authority.host) {
                Secrets::Injected
            } else {
                Secrets::Never
            },
        }
    }

    pub(super) fn of_unix_socket(permit: &SocketPermit) -> Self {
        Self {
            key: Key {
                peer: Peer::UnixSocket(permit.socket().identity().clone()),
                wire: Wire::Plain,
            },
            generation: permit.generation().number(),
            secrets: Secrets::Never,
        }
    }
}

/// For logs; a unix socket without its path.
impl fmt::Display for Checkout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key.peer {
            Peer::Host(authority) => write!(f, "origin {authority}"),
            peer @ Peer::UnixSocket(_) => peer.fmt(f),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(authority) => authority.fmt(f),
            Self::UnixSocket(_) => f.write_str(UNIX_SOCKET),
        }
    }
}

impl Pool {
    pub(crate) fn idle(&self) -> usize {
        self.lock().count
    }

    /// Takes a kept connection that is still open and ready, the youngest first.
    pub(crate) async fn checkout(self: &Arc<Self>, key: Checkout, drain: &Drain) -> Option<Lease> {
        loop {
            let mut idle = self.lock().take(&key)?;
            if idle.is_fresh(Instant::now()) && idle.sender.ready().await.is_ok() {
                return Some(Lease {
                    pool: Arc::clone(self),
                    key,
                    drain: drain.clone(),
                    sender: idle.sender,
                    far: idle.far,
                    fate: Fate::Kept,
                    place: None,
                });
            }
        }
    }

    /// Keeps nothing any more, from now on.
    pub(crate) fn close(&self) {
        *self.lock() = Kept {
            closed: true,
            ..Kept::default()
        };
    }

    fn put(&self, key: Checkout, idle: Idle) {
        self.lock().put(key, idle);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, key: &Checkout) -> Option<Idle> {
        self.sweep(key.generation);
        if key.generation != self.generation {
            return None;
        }
        let idle = self.idle.get_mut(&key.key)?.pop()?;
        self.count -= 1;
        Some(idle)
    }

    fn put(&mut self, key: Checkout, new: Idle) {
        self.sweep(key.generation);
        if self.closed || key.generation != self.generation || self.count >= IN_ALL {
            return;
        }
        let idle = self.idle.entry(key.key).or_default();
        if idle.len() < PER_PEER {
            idle.push(new);
            self.count += 1;
        }
    }

    /// Forgets what belongs to an older generation, at once, and what is closed or has waited too
    /// long, now and then.
    fn sweep(&mut self, generation: u64) {
        if generation > self.generation {
            *self = Self {
                generation,
                closed: self.closed,
                ..Self::default()
            };
        }
        let now = Instant::now();
        if self.swept.is_some_and(|swept| now - swept < KEEP / 10) {
            return;
        }
        self.swept = Some(now);
        self.idle.retain(|_, idle| {
            idle.retain(|idle| idle.is_fresh(now) && !idle.sender.is_closed());
            !idle.is_empty()
        });
        self.count = self.idle.values().map(Vec::len).sum();
    }
}

impl Idle {
    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < self.far.keep()
    }
}

impl Lease {
    /// Of a new connection, for a first request.
    pub(super) fn new(
        pool: Arc<Pool>,
        key: Checkout,
        sender: Sender,
        far: FarEnd,
        drain: Drain,
    ) -> Self {
        let place = match &sender {
            Sender::Http1(_) => None,
            Sender::Http2(_, places) => Arc::clone(places).try_acquire_owned().ok(),
        };
        Self {
            pool,
            key,
            drain,
            sender,
            far,
            fate: Fate::Kept,
            place,
        }
    }

    /// Sends a request; if it is to be the last one of the connection, it says so. What cannot be sent
    /// comes back with the error.
    pub(crate) fn send(
        &mut self,
        mut request: Request<RequestBody>,
    ) -> BoxFuture<'static, Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> {
        let is_last = self.ends_with(&request);
        match &mut self.sender {
            Sender::Http1(sender) => {
                if is_last {
                    say_close(request.headers_mut());
                    self.fate = Fate::Retired;
                }
                proxy::address(&mut request, self.far.form());
                sender.try_send_request(request).boxed()
            }
            Sender::Http2(sender, _) => sender.try_send_request(request).boxed(),
        }
    }

    /// Whether no request may follow this one on an HTTP/1 connection.
    fn ends_with(&self, request: &Request<RequestBody>) -> bool {
        let adds_secret = self.key.secrets == Secrets::Injected || self.far.adds_credentials();
        !request.body().is_end_stream()
            && (adds_secret || !defines_content(request.method().as_str()))
    }

    /// The addresses that the connection may lead to.
    pub(crate) fn leads_to(&self) -> &LeadsTo {
        &self.far.0.leads_to
    }

    /// Ends the connection at its next read, where it is one over HTTP/1.
    pub(crate) fn cut(&self) -> Cut {
        self.far.cut()
    }

    /// Whether an upstream proxy answers, for the origin or for itself.
    pub(crate) fn is_with_proxy(&self) -> bool {
        self.far.form().is_some()
    }

    /// Why there is no usable head of an answer.
    pub(crate) fn broken_head(&self, error: hyper::Error) -> BrokenAnswer {
        self.far.broken_head(error)
    }

    /// Why the content of an answer does not come to its end.
    pub(crate) fn broken_body(&self, error: hyper::Error) -> BrokenAnswer {
        BrokenAnswer {
            by: self.far.0.answerer,
            cause: AnswerError::of_body(&error, self.far.evidence()),
            error,
        }
    }

    /// What it was vetted for, for logs; a unix socket without its path.
    pub(crate) fn peer(&self) -> impl fmt::Display + '_ {
        &self.key.key.peer
    }

    /// Whether the connection was vetted under these settings.
    pub(crate) fn is_of(&self, generation: &Generation) -> bool {
        self.key.generation == generation.number()
    }

    /// Whether the origin takes no other request over it.
    pub(crate) fn is_going_away(&self) -> bool {
        self.far.cut().is_going_away()
    }

    /// Which connection it is.
    pub(crate) fn id(&self) -> ConnectionId {
        ConnectionId(self.far.clone())
    }

    /// Whether the connection carries many requests at once.
    pub(crate) fn is_multiplexed(&self) -> bool {
        matches!(self.sender, Sender::Http2(..))
    }

    /// Whether the connection takes further requests.
    pub(crate) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Whether it is the only lease of its connection, if that carries many requests at once: none of
    /// them is in hand.
    pub(crate) fn is_idle(&self) -> bool {
        match &self.sender {
            Sender::Http1(_) => false,
            Sender::Http2(_, places) => Arc::strong_count(places) == 1,
        }
    }

    /// Another lease of the same connection for a request, if it carries many at once, is open, and has
    /// a place left.
    pub(crate) fn shared(&self) -> Option<Self> {
        let mut lease = self.keeper()?;
        if let Sender::Http2(_, places) = &lease.sender {
            lease.place = Some(Arc::clone(places).try_acquire_owned().ok()?);
        }
        Some(lease)
    }

    /// Another lease of the same connection, if it carries many requests at once and is open. It keeps
    /// the connection for further requests and takes no place.
    pub(crate) fn keeper(&self) -> Option<Self> {
        let Sender::Http2(sender, places) = &self.sender else {
            return None;
        };
        (!sender.is_closed() && !self.is_going_away()).then(|| Self {
            pool: Arc::clone(&self.pool),
            key: self.key.clone(),
            drain: self.drain.clone(),
            sender: Sender::Http2(sender.clone(), Arc::clone(places)),
            far: self.far.clone(),
            fate: self.fate,
            place: None,
        })
    }

    /// The lease, its place given up: there is no request for it yet.
    pub(crate) fn without_place(mut self) -> Self {
        self.place = None;
        self
    }

    /// Never gives the connection back: it speaks for whoever used it.
    pub(crate) fn retire(&mut self) {
        self.fate = Fate::Retired;
    }

    /// Keeps the connection for less than its origin does.
    pub(crate) fn keep_for(&mut self, origins: Duration) {
        let margin = KEEP_MARGIN.min(origins / 2);
        self.far.keep_for(origins.saturating_sub(margin));
    }

    /// Gives the connection back once its answer has been read to the end.
    pub(crate) fn release(mut self) {
        self.far.evidence().note_end_of_answer();
        if self.fate == Fate::Retired {
            return;
        }
        // One that carries many requests is its client's, which has another lease.
        let Sender::Http1(sender) = &self.sender else {
            return;
        };
        if sender.is_closed() || self.drain.has_begun() {
            return;
        }
        if sender.is_ready() {
            self.put();
            return;
        }
        // The connection's task has not seen the end yet; that it will is a matter of one poll.
        self.drain.clone().spawn(async move {
            if self.sender.ready().await.is_ok() {
                self.put();
            }
        });
    }

    fn put(self) {
        if self.far.cut().is_unwritable() {
            return;
        }
        let idle = Idle {
            sender: self.sender,
            far: self.far,
            since: Instant::now(),
        };
        self.pool.put(self.key, idle);
    }
}

impl PartialEq for ConnectionId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.0, &other.0.0)
    }
}

impl Sender {
    async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender, _) => sender.ready().await,
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender, _) => sender.is_closed(),
        }
    }
}

/// Says that a request is the last one of its connection (RFC 9112 section 9.6).
fn say_close(fields: &mut HeaderMap) {
    // A request that could not be sent comes here once more.
    let is_said = fields
        .get_all(CONNECTION)
        .iter()
        .any(|field| field == "close");
    if !is_said {
        fields.append(CONNECTION, HeaderValue::from_static("close"));
    }
}
