//! One request and its answer: over a kept or a new connection, both bodies streaming (SPEC H1).
//!
//! Who may be asked was decided before: everything here needs a permit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use codex_network_config::Action;
use codex_network_policy::Scrutiny;
use http::{Method, Request, Response, StatusCode, Version, header};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::Upgraded;
use tokio::sync::{Notify, mpsc, oneshot};

use super::body::{Answer, RequestBody, Streamed};
use super::first::First;
use super::inspect::{Direction, Inspection};
use super::passage::Passage;
use super::underway::Place;
use super::upgrade::{self, Switched};
use super::{Next, Session, headers};
use crate::activity::Activity;
use crate::enforce::LeadsTo;
use crate::error::Failure;
use crate::respond;
use crate::upstream::tls::Wire;
use crate::upstream::{Cut, Lease, ProxyError};

/// Kept connections that are tried before a new one is made: origins close theirs without notice.
const KEPT_TRIES: usize = 8;

/// Interim answers to one request (RFC 9110 section 15.2): one every twenty seconds, as `102` comes,
/// for an hour and more. HTTP/2 counts them among its frames.
const MAX_INTERIM: usize = 256;

/// What the exchanges of one request share.
pub(super) struct Sent {
    activity: Arc<Activity>,
    scrutiny: Scrutiny,
    wire: Wire,
    /// Whether the client understands interim answers.
    takes_interim: bool,
    /// Whether the request asks to change to WebSocket.
    upgrade: Upgrade,
    /// What the hook that matches does to the request.
    pub(super) actions: Vec<Action>,
    place: Place,
}

/// Whether a request asks to change protocols.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upgrade {
    Unasked,
    WebSocket,
}

impl Sent {
    pub(super) fn new(scrutiny: Scrutiny, wire: Wire, version: Version, upgrade: Upgrade) -> Self {
        Self {
            activity: Arc::new(Activity::new()),
            scrutiny,
            wire,
            // RFC 9110 section 15.2: HTTP/1.0 knows none. hyper's HTTP/2 server cannot send any.
            takes_interim: version == Version::HTTP_11,
            upgrade,
            actions: Vec::new(),
            place: Place::default(),
        }
    }

    /// Whether the request asks to change to WebSocket outside TLS.
    fn asks_plainly(&self) -> bool {
        self.wire == Wire::Plain && self.upgrade == Upgrade::WebSocket
    }

    /// Bodies are looked at inside interception alone.
    fn inspection(
        &self,
        session: &Session,
        passage: &Passage,
        direction: Direction,
    ) -> Option<Box<Inspection>> {
        match self.wire {
            Wire::Plain => None,
            Wire::TlsHttp1 | Wire::TlsHttp2 => {
                Inspection::wanted(session, passage.host()?, direction)
            }
        }
    }
}

/// Sends a request and brings its answer, over a kept connection if there is one.
pub(super) async fn send(
    session: &Session,
    passage: Passage,
    sent: &Sent,
    parts: http::request::Parts,
    body: Incoming,
    first: Option<&First>,
) -> Result<Response<Answer>, (Failure, Passage)> {
    let outcome = try_send(session, &passage, sent, parts, body, first).await;
    let limit = passage.generation().settings().daemon.limits.idle_timeout;
    session.interim.written(limit).await;
    let (failure, passage) = match (outcome, passage) {
        (Ok(Outcome::Answer(response)), _) => return Ok(response),
        (Ok(Outcome::Switched(response, upgraded, leads_to)), Passage::Host(permit)) => {
            session.become_next(Next::Switched(Switched::new(permit, upgraded, leads_to)));
            return Ok(response);
        }
        // Nobody can have asked: such a request is refused.
        (Ok(Outcome::Switched(..)), passage) => (passage.blame(Failure::UnaskedUpgrade), passage),
        (Err(failure), passage) => (passage.blame(failure), passage),
    };
    tracing::debug!(
        client = %session.address, authority = %passage, fault = ?failure.fault(), error = %failure,
        "a permitted request failed",
    );
    Err((failure, passage))
}

/// What comes of a request that went well.
enum Outcome {
    Answer(Response<Answer>),
    /// The connection changes to WebSocket.
    Switched(Response<Answer>, Upgraded, LeadsTo),
}

async fn try_send(
    session: &Session,
    passage: &Passage,
    sent: &Sent,
    mut parts: http::request::Parts,
    body: Incoming,
    first: Option<&First>,
) -> Result<Outcome, Failure> {
    let upstream = &session.shared.upstream;
    // A request without a body can be sent a second time, if its method allows (RFC 9110
    // section 9.2.2) and the first connection was a kept one that the origin had closed meanwhile.
    let spare = (body.is_end_stream() && is_idempotent(&parts.method)).then(|| parts.clone());
    let inspection = sent.inspection(session, passage, Direction::Request);
    let (body, mut expected) = request_body(&mut parts, body, sent, inspection);
    let mut message = Request::from_parts(parts, body);
    let mut opened = first.map_or(Ok(None), |first| first.take(passage))?;
    let tried = opened.as_ref().map(Lease::id);
    for _ in 0..KEPT_TRIES {
        let kept = match opened.take() {
            Some(opened) => Some(opened),
            // Who answers on a kept one may be a proxy, which reads requests and changes nothing.
            None if sent.asks_plainly() => None,
            None => passage.kept(upstream, sent.wire).await,
        };
        let Some(lease) = kept else { break };
        match exchange(session, passage, sent, lease, message, &mut expected).await {
            Ok(outcome) => return Ok(outcome),
            Err(Broken {
                unsent: Some(unsent),
                ..
            }) => message = *unsent,
            Err(Broken {
                failure,
                unsent: None,
            }) => match (&spare, &failure) {
                // An origin that resets a stream has read the request, and has not closed anything.
                (Some(parts), Failure::Answer(error)) if !was_reset(error) => {
                    message = Request::from_parts(parts.clone(), RequestBody::empty());
                }
                _ => return Err(failure),
            },
        }
    }
    let lease = match passage {
        Passage::Host(permit) if sent.asks_plainly() => upstream.connect_websocket(permit).await?,
        passage => match first {
            Some(first) => {
                let tried = tried.as_ref();
                first.open(passage, upstream, sent.wire, tried).await?
            }
            None => passage.open(upstream, sent.wire).await?,
        },
    };
    exchange(session, passage, sent, lease, message, &mut expected)
        .await
        .map_err(|broken| broken.failure)
}

/// An exchange that did not work out.
struct Broken {
    failure: Failure,
    /// The request, when it never left.
    unsent: Option<Box<Request<RequestBody>>>,
}

/// One request and its answer over one connection.
async fn exchange(
    session: &Session,
    passage: &Passage,
    sent: &Sent,
    mut lease: Lease,
    mut request: Request<RequestBody>,
    expected: &mut Option<oneshot::Sender<()>>,
) -> Result<Outcome, Broken> {
    let (interim, mut interims) = mpsc::channel(4);
    let count = Arc::new(InterimCount::new(lease.cut()));
    let counted = Arc::clone(&count);
    hyper::ext::on_informational(&mut request, move |response| {
        counted.add();
        // A full queue loses an interim answer, which is allowed; it must not hold the origin up.
        let _ = interim.try_send(Interim::read(response.status(), response.headers()));
    });
    let limit = passage.generation().settings().daemon.limits.idle_timeout;
    let silence = sent.activity.silence(limit);
    let (underway, live) = (&session.underway, &session.shared.live);
    sent.place.take(underway, passage, lease.leads_to(), live);
    if headers::authenticate_the_connection(request.headers()) {
        lease.retire();
    }
    let answer = lease.send(request);
    tokio::pin!(silence, answer);
    let answer = loop {
        tokio::select! {
            biased;
            // A flood must not keep this from its turn.
            () = count.exceeded.notified() => {
                return Err(Broken { failure: Failure::InterimFlood, unsent: None });
            }
            Some(interim) = interims.recv() => match interim {
                Interim::Continue => { expected.take().map(|wanted| wanted.send(())); }
                Interim::Pass(bytes) if sent.takes_interim => session.interim.push(bytes),
                Interim::Pass(_) => {}
            },
            answer = &mut answer => break answer,
            () = &mut silence => {
                return Err(Broken { failure: Failure::AnswerTimeout(limit), unsent: None });
            }
        }
    };
    let response = answer.map_err(|mut error| {
        let unsent = error.take_message().map(Box::new);
        let error = error.into_error();
        let failure = if error.is_user() {
            Failure::RequestBody(error)
        } else {
            Failure::Answer(error)
        };
        Broken { failure, unsent }
    })?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return switch(sent, &lease, response)
            .await
            .map_err(|failure| Broken {
                failure,
                unsent: None,
            });
    }
    if lease.is_with_proxy() && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        // Between the proxies: the client was asked for nothing and could give nothing.
        return Err(Broken {
            failure: ProxyError::Credentials.into(),
            unsent: None,
        });
    }
    if !headers::is_plainly_coded(response.headers()) {
        return Err(Broken {
            failure: Failure::TransferCoding,
            unsent: None,
        });
    }
    let (mut parts, body) = response.into_parts();
    if headers::authenticate_the_connection(&parts.headers) {
        lease.retire();
    }
    headers::to_client(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Ok(Outcome::Answer(Response::from_parts(
        parts,
        Answer::upstream(
            body,
            lease,
            expected.take(),
            sent.inspection(session, passage, Direction::Response),
            sent.place.clone(),
        ),
    )))
}

/// The origin changes protocols: only to what was asked for (RFC 9110 section 15.2.2).
async fn switch(
    sent: &Sent,
    lease: &Lease,
    mut response: Response<Incoming>,
) -> Result<Outcome, Failure> {
    if sent.upgrade == Upgrade::Unasked || !upgrade::is_accepted(response.headers()) {
        return Err(Failure::UnaskedUpgrade);
    }
    let upgraded = hyper::upgrade::on(&mut response)
        .await
        .map_err(Failure::Answer)?;
    let (mut parts, _) = response.into_parts();
    headers::to_client(&mut parts.headers);
    upgrade::mark(&mut parts.headers);
    parts.version = Version::HTTP_11;
    let response = Response::from_parts(parts, Answer::own(Bytes::new()));
    Ok(Outcome::Switched(
        response,
        upgraded,
        lease.leads_to().clone(),
    ))
}

/// How many interim answers have come over a connection for one request.
struct InterimCount {
    seen: AtomicUsize,
    /// More than [`MAX_INTERIM`].
    exceeded: Notify,
    connection: Cut,
}

impl InterimCount {
    fn new(connection: Cut) -> Self {
        Self {
            seen: AtomicUsize::new(0),
            exceeded: Notify::new(),
            connection,
        }
    }

    fn add(&self) {
        if self.seen.fetch_add(1, Ordering::Relaxed) >= MAX_INTERIM {
            self.connection.end();
            self.exceeded.notify_one();
        }
    }
}

/// An interim answer of the origin's.
enum Interim {
    /// `100`: the body may come. The client hears of it when its body is asked for.
    Continue,
    /// Any other, as it goes to the client.
    Pass(Bytes),
}

impl Interim {
    fn read(status: StatusCode, fields: &http::HeaderMap) -> Self {
        if status == StatusCode::CONTINUE {
            return Self::Continue;
        }
        let mut fields = fields.clone();
        headers::to_client(&mut fields);
        Self::Pass(respond::interim(status, &fields))
    }
}

fn request_body(
    parts: &mut http::request::Parts,
    body: Incoming,
    sent: &Sent,
    inspection: Option<Box<Inspection>>,
) -> (RequestBody, Option<oneshot::Sender<()>>) {
    if body.is_end_stream() {
        return (RequestBody::empty(), None);
    }
    if sent.wire != Wire::TlsHttp2 && body.size_hint().exact().is_none() {
        // Of methods that seldom have content, hyper sends some only if the fields say so.
        let chunked = http::HeaderValue::from_static("chunked");
        parts.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    let body = Streamed {
        body,
        activity: Arc::clone(&sent.activity),
        scrutiny: sent.scrutiny,
        actions: sent.actions.clone(),
        inspection,
        _place: sent.place.clone(),
    };
    let expects = parts
        .headers
        .get(header::EXPECT)
        .is_some_and(|field| field.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    if !expects {
        return (RequestBody::Streamed(body), None);
    }
    let (body, wanted) = RequestBody::expected(body);
    (body, Some(wanted))
}

/// Whether the origin gave up on one HTTP/2 stream, rather than the connection breaking.
fn was_reset(error: &hyper::Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .is_some_and(h2::Error::is_reset)
}

fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}
