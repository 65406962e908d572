//! The HTTP door: one client connection from its first byte to its last (SPEC section 4).
//!
//! hyper reads and writes the messages. [`ClientStream`] stands between hyper and the socket and passes
//! on only strictly framed bytes. `target` and `headers` interpret a request. `forward` and
//! `connect` carry it out. Where the client takes us for the origin, over HTTP/1 or HTTP/2, `inside`
//! does.

mod answer_head;
mod body;
mod brokering;
mod client_stream;
mod connect;
mod decoded;
mod exchange;
mod first_connect;
mod forward;
mod frame;
pub(crate) mod framing;
mod headers;
mod http2;
pub(crate) mod hypothetical;
mod inside;
mod inspect;
mod interim;
mod origin_connections;
mod request_body;
mod request_state;
mod resend;
mod response_stream;
mod route;
mod scrubbed;
#[cfg(test)]
mod sizes;
mod target;
mod unix_socket;
mod upgrade;
mod watched_requests;

use std::borrow::Cow;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use body::AnswerBody;
use bytes::Bytes;
pub(crate) use client_stream::ClientEnd;
use client_stream::{ClientStream, StopCause, Timeouts};
use codex_network_config::Limits;
use codex_network_policy::{Reason, RequestKind};
use first_connect::FirstRequest;
use framing::Framing;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
pub(crate) use http2::serve_inside as serve_inside_http2;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
pub(crate) use inside::Inside;
use interim::InterimQueue;
pub(crate) use origin_connections::OriginConnections;
use parking_lot::Mutex;
pub(crate) use request_body::RequestBody;
use request_state::{RequestState, UpgradeState};
use target::TargetError;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;
use upgrade::{Switched, UpgradeOffer};
use watched_requests::WatchedRequests;

use crate::attempt::Attempt;
use crate::client::{AttemptId, Client};
use crate::connected::ConnectedClient;
use crate::enforce::Permit;
use crate::incoming::Incoming;
use crate::linger::linger;
use crate::live_policy::Generation;
use crate::outcome::Ending;
use crate::owner::ConnectionHandle;
use crate::prefixed::Prefixed;
use crate::rare::rarely;
use crate::respond::{self, RefusalFormat};
use crate::shared::SharedParts;
use crate::tls::Wire;
use crate::upstream::Reached;

/// The listener's name in records and messages.
pub(crate) const DOOR: &str = "http";
/// How long a connection may still begin requests after a drain has begun.
pub(crate) const LAST_REQUEST_TIMEOUT: Duration = Duration::from_millis(200);

/// The parts of the engine that all doors share.
pub(crate) type Shared = SharedParts<RequestBody>;

/// The state that the requests of one connection share.
pub(crate) struct Session {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// The connection as the limits see it.
    connection: ConnectionHandle,
    role: Role,
    /// The last attempt that the client named.
    attempt: Mutex<Option<AttemptId>>,
    /// The next use of the connection, once the answer in hand has been sent.
    next: Mutex<Option<Next>>,
    /// Interim answers (1xx) on their way to the client.
    interim: InterimQueue,
    /// Whether a request is in hand.
    request_state: RequestState,
    /// The requests that are judged again when the settings change.
    watched: Arc<WatchedRequests>,
}

/// The role that the proxy has for the client.
enum Role {
    /// The client talks to a proxy.
    Proxy,
    /// The client talks to the origin, in intercepted TLS or plain inside a CONNECT.
    Origin(Box<Inside>),
}

impl Role {
    /// The listener's name in records and messages.
    fn door(&self) -> &'static str {
        match self {
            Self::Proxy => DOOR,
            Self::Origin(inside) if inside.wire == Wire::Plain => DOOR,
            Self::Origin(_) => "https",
        }
    }
}

/// The use of a connection after an answer that ends HTTP on it.
pub(crate) enum Next {
    /// After a CONNECT: the way to the destination.
    Connected(Permit, Reached),
    /// After an upgrade: messages that the proxy does not look at.
    Switched(Switched),
}

/// A connection that no longer carries HTTP.
struct Continued<S> {
    stream: S,
    /// The bytes that the client has sent already.
    early: Bytes,
    next: Next,
}

/// Why the proxy ends a connection before its requests are complete.
enum CutOff {
    /// The settings in force forbid a request that is under way.
    Forbidden(Reason),
    /// The connection makes room for another one.
    GivesWay,
}

impl CutOff {
    fn ending(self) -> Ending {
        match self {
            Self::Forbidden(reason) => Ending::forbidden(reason),
            Self::GivesWay => Ending::gives_way(),
        }
    }
}

/// Marks a request for a URL that has no path, which [`Uri`] reads as "/".
#[derive(Clone, Copy, Debug)]
struct EmptyPath;

/// Serves one accepted connection to its end, or to the answer to a CONNECT.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    stream: TcpStream,
    address: SocketAddr,
    connection: ConnectionHandle,
) -> Option<ConnectedClient<Reached>> {
    let limits = shared.live().current().settings().daemon.limits;
    let first_head_until = Instant::now() + limits.header_timeout;
    let max_head = limits.max_header_bytes;
    let first = first_connect::serve(
        shared,
        stream,
        address,
        &connection,
        max_head,
        first_head_until,
    );
    let (stream, framing, attempt) = match first.await {
        FirstRequest::Connected(connected) => return Some(connected),
        FirstRequest::Ended => return None,
        FirstRequest::Http(stream, framing, attempt) => (stream, framing, attempt),
    };
    let session = Session::new(shared, address, connection, Role::Proxy);
    *session.attempt.lock() = attempt;
    serve_requests(session, stream, framing, first_head_until).await
}

/// A client of HTTP at another door, which has read its first bytes.
pub(crate) struct BegunClient {
    pub(crate) stream: TcpStream,
    pub(crate) begun: Bytes,
    pub(crate) address: SocketAddr,
    pub(crate) connection: ConnectionHandle,
}

/// Serves a client of HTTP at another door, where its first head must be complete at this moment.
pub(crate) async fn serve_begun(
    shared: &Arc<Shared>,
    client: BegunClient,
    first_head_until: Instant,
) -> Option<ConnectedClient<Reached>> {
    let BegunClient {
        stream,
        begun,
        address,
        connection,
    } = client;
    let session = Session::new(shared, address, connection, Role::Proxy);
    let framing = Framing::new(session.limits().max_header_bytes);
    let stream = Prefixed::new(begun, stream);
    serve_requests(session, stream, framing, first_head_until).await
}

/// Serves requests to the end of the connection, or to the answer to a CONNECT.
async fn serve_requests(
    session: Arc<Session>,
    stream: Prefixed<TcpStream>,
    framing: Framing,
    first_head_until: Instant,
) -> Option<ConnectedClient<Reached>> {
    let shared = Arc::clone(&session.shared);
    // Boxed, so that a tunnel does not keep this memory.
    let http = Box::pin(run(session, stream, framing, first_head_until));
    let Continued {
        stream,
        early,
        next,
    } = http.await?;
    // Usually hyper has read all of these bytes.
    let (unread, stream) = stream.into_parts();
    let early = if unread.is_empty() {
        early
    } else {
        [early, unread].concat().into()
    };
    match next {
        Next::Connected(permit, upstream) => Some(ConnectedClient {
            permit,
            client: stream,
            early,
            upstream,
        }),
        Next::Switched(switched) => {
            Box::pin(switched.run(shared.live(), &shared.pipes, stream, early)).await;
            None
        }
    }
}

/// Serves HTTP/1.x inside intercepted TLS, or plain inside a CONNECT, to its end.
pub(crate) async fn serve_inside<S: ClientEnd>(
    shared: &Arc<Shared>,
    stream: S,
    address: SocketAddr,
    inside: Inside,
) {
    let connection = inside.client.connection.clone();
    let session = Session::new(shared, address, connection, Role::Origin(Box::new(inside)));
    let limits = session.limits();
    let framing = Framing::new(limits.max_header_bytes);
    let first_head_until = Instant::now() + limits.header_timeout;
    let Some(continued) = run(session, stream, framing, first_head_until).await else {
        return;
    };
    if let Next::Switched(switched) = continued.next {
        let Continued { stream, early, .. } = continued;
        Box::pin(switched.run(shared.live(), &shared.pipes, stream, early)).await;
    }
}

/// Serves HTTP/1.x until the end, or until the connection becomes something else.
async fn run<S: ClientEnd>(
    session: Arc<Session>,
    stream: S,
    framing: Framing,
    first_head_until: Instant,
) -> Option<Continued<S>> {
    let limits = session.limits();
    let timeouts = Timeouts {
        header: limits.header_timeout,
        idle: limits.idle_timeout,
    };
    let client = ClientStream::new(
        stream,
        framing,
        first_head_until,
        timeouts,
        session.request_state.clone(),
        session.interim.clone(),
        session.connection.clone(),
    );
    let service = service_fn(|request: Request<hyper::body::Incoming>| {
        let mut request = request.map(Incoming::from);
        let session = Arc::clone(&session);
        let active = session.request_state.begin(&session.connection);
        if active.is_pathless() {
            request.extensions_mut().insert(EmptyPath);
        }
        if !UpgradeOffer::read(request.headers(), request.version()).is_empty() {
            session.request_state.set_upgrade(UpgradeState::Requested);
        }
        let answer: BoxFuture<'static, _> = Box::pin(async move {
            let answer = session.answer(request).await;
            session.request_state.set_upgrade(match answer.status() {
                StatusCode::SWITCHING_PROTOCOLS => UpgradeState::Done,
                _ => UpgradeState::None,
            });
            Ok::<_, std::convert::Infallible>(answer.map(|body| body.tracked(active)))
        });
        answer
    });
    let mut connection = http1::Builder::new()
        // Some origins, and some clients, recognize a field in one spelling only.
        .preserve_header_case(true)
        // An origin need not send a date, and a proxy adds none for it (RFC 9110 section 6.6.1).
        .auto_date_header(false)
        // The other defaults of hyper fit: keep-alive; it refuses invalid fields and spaces in
        // request lines, as the framing has done before; no timer, since `ClientStream` has the timeouts;
        // no answer waits for the next one of a pipeline.
        // The framing already has stricter limits than these.
        .max_buf_size(limits.max_header_bytes.max(8192) * 2)
        .serve_connection(TokioIo::new(client), service);
    let mut last_request = std::pin::pin!(rarely(|| session.should_end()));
    let mut cut_off = std::pin::pin!(rarely(|| session.cut_off()));
    let mut should_end = false;
    let outcome = loop {
        tokio::select! {
            outcome = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break outcome,
            cause = &mut cut_off => {
                let must_reset = match cause {
                    // A client takes an orderly close for the end of an answer without a length.
                    CutOff::Forbidden(_) => true,
                    CutOff::GivesWay => session.request_state.is_active(),
                };
                session.connection.end(cause.ending());
                if must_reset {
                    let (stream, _) = connection.into_parts().io.into_inner().into_parts();
                    let _ = stream.socket().set_zero_linger();
                }
                return None;
            }
            () = &mut last_request, if !should_end => {}
        }
        should_end = true;
        Pin::new(&mut connection).graceful_shutdown();
    };
    let parts = connection.into_parts();
    let client = parts.io.into_inner();
    if let Some(next) = session.take_next() {
        let (stream, stop) = client.into_parts();
        if matches!(stop, Some(StopCause::Malformed(_))) {
            // We took the bytes behind a request that changed the protocol for HTTP; they are lost.
            let _ = stream.socket().set_zero_linger();
            return None;
        }
        return Some(Continued {
            stream,
            early: parts.read_buf,
            next,
        });
    }
    let (address, door) = (session.address, session.role.door());
    match outcome {
        // hyper has answered with a bare head. The framing refuses all that hyper is known to refuse, so
        // this is a difference between the two.
        Err(error) if error.is_parse() && session.may_log("malformed requests") => {
            tracing::info!(client = %address, door, "refused a malformed request: {error}");
        }
        Err(error) => {
            tracing::debug!(client = %address, door, %error, "a client connection ended early");
            if error.is_user() {
                // An answer broke off in its body. An HTTP/1.0 client would take an orderly close for its
                // end.
                let (stream, _) = client.into_parts();
                let _ = stream.socket().set_zero_linger();
                return None;
            }
        }
        Ok(()) => {}
    }
    session.close(client).await;
    None
}

/// The name of a method, as attempts keep it.
fn method_name(method: &Method) -> Cow<'static, str> {
    const COMMON: [&str; 7] = ["GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"];
    let name = method.as_str();
    match COMMON.into_iter().find(|common| *common == name) {
        Some(common) => Cow::Borrowed(common),
        None => Cow::Owned(name.to_owned()),
    }
}

impl Session {
    fn new(
        shared: &Arc<Shared>,
        address: SocketAddr,
        connection: ConnectionHandle,
        role: Role,
    ) -> Arc<Self> {
        Arc::new(Self {
            shared: Arc::clone(shared),
            address,
            connection,
            role,
            attempt: Mutex::default(),
            next: Mutex::default(),
            interim: InterimQueue::default(),
            request_state: RequestState::default(),
            watched: Arc::default(),
        })
    }

    fn limits(&self) -> Limits {
        self.shared.live().current().settings().daemon.limits
    }

    /// Completes when the connection should take no request after the current one.
    async fn should_end(&self) {
        match &self.role {
            Role::Proxy => {
                self.shared.drain.begun().await;
                // The first request of a client that has just connected may be on its way. Without this
                // wait hyper would close the connection instead of answering.
                tokio::time::sleep(LAST_REQUEST_TIMEOUT).await;
            }
            Role::Origin(inside) => tokio::select! {
                () = self.shared.drain.begun() => tokio::time::sleep(LAST_REQUEST_TIMEOUT).await,
                () = inside.end.cancelled() => {}
            },
        }
    }

    /// Completes when the connection must end at once.
    async fn cut_off(&self) -> CutOff {
        tokio::select! {
            reason = self.watched.forbidden(self.shared.live()) => CutOff::Forbidden(reason),
            () = self.connection.gives_way() => CutOff::GivesWay,
        }
    }

    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>) -> Response<AnswerBody> {
        if let Role::Origin(inside) = &self.role {
            return inside::answer(self, inside, request).await;
        }
        let client = Client {
            address: self.address,
            attempt: self.attempt(request.headers()),
            connection: self.connection.clone(),
        };
        if request.method() == Method::CONNECT {
            // Boxed, so that the future of each other request stays small.
            Box::pin(connect::answer(self, client, &request))
                .await
                .map(AnswerBody::own)
        } else {
            forward::answer(self, client, request).await
        }
    }

    /// The attempt that a request belongs to. An attempt that one request names marks all later requests
    /// of the connection too (SPEC H11), until a request names another one.
    fn attempt(&self, headers: &HeaderMap) -> Option<AttemptId> {
        let named = headers
            .get(http::header::PROXY_AUTHORIZATION)
            .and_then(|field| AttemptId::from_credentials(field.as_bytes()));
        let mut known = self.attempt.lock();
        if named.is_some() {
            *known = named;
        }
        known.clone()
    }

    /// Answers a request whose target cannot be served. An invalid host is refused by the policy, which
    /// records the refusal as every listener does.
    fn refuse_target(
        &self,
        error: &TargetError,
        generation: &Generation,
        attempt: &Attempt,
        uri: &Uri,
    ) -> Response<Bytes> {
        let TargetError::Host { text, .. } = error else {
            // `OPTIONS *` is a ping of this server (RFC 9110 section 9.3.7), and well-formed. `proxyctl
            // doctor` sends it.
            let is_ping = uri.path() == "*" && attempt.kind.method() == Some("OPTIONS");
            if !(is_ping && matches!(error, TargetError::NotAbsolute)) {
                self.log_malformed(error);
            }
            return respond::bad_request(&error.to_string());
        };
        let (format, default_port) = match attempt.kind {
            RequestKind::HttpConnect => (RefusalFormat::Text, 0),
            _ => (RefusalFormat::Json, 80),
        };
        let port = uri.port_u16().unwrap_or(default_port);
        let host = uri.host().unwrap_or(text).as_bytes();
        let enforcer = &self.shared.enforcer;
        let refusal = enforcer.refuse_invalid_host(generation, attempt, host, port);
        respond::refusal(&refusal, format)
    }

    /// Whether the limit on log lines allows this client another one.
    fn may_log(&self, kind: &'static str) -> bool {
        self.shared.recorder().may_log(&self.connection, kind)
    }

    /// Logs a malformed request. `why` must not contain client text that could end a log line.
    fn log_malformed(&self, why: &dyn std::fmt::Display) {
        if !self.may_log("malformed requests") {
            return;
        }
        tracing::info!(client = %self.address, door = self.role.door(), "refused a malformed request: {why}");
    }

    /// Sets the use of the connection after the current answer has been sent.
    fn become_next(&self, next: Next) {
        *self.next.lock() = Some(next);
    }

    fn take_next(&self) -> Option<Next> {
        self.next.lock().take()
    }

    /// Ends the connection. If the stream was cut for a reason that concerns the client, and no other
    /// answer is partly sent, an answer tells the reason.
    async fn close<S: ClientEnd>(&self, client: ClientStream<S>) {
        let (mut stream, stop) = client.into_parts();
        let door = self.role.door();
        let answer = match stop {
            None | Some(StopCause::Idle | StopCause::Finished | StopCause::TunnelBytes) => None,
            Some(StopCause::Malformed(error)) => {
                self.log_malformed(&error);
                Some(respond::malformed(error.status(), &error))
            }
            Some(StopCause::BrokenContent(error)) => {
                self.log_malformed(&error);
                // The request itself was answered.
                None
            }
            Some(StopCause::SlowHead) => {
                if self.may_log("slow requests") {
                    tracing::info!(client = %self.address, door, "gave up on a request whose header did not arrive in time");
                }
                Some(respond::slow_head())
            }
        };
        if let Some(answer) = answer {
            let _ = stream.write_all(&answer).await;
        }
        linger(stream).await;
    }
}
