//! One request and its answer: over a kept or a new connection, both bodies streaming (SPEC H1).
//!
//! The policy has decided before where the request may go: every function here needs a permit.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use codex_network_config::Action;
use codex_network_policy::Scrutiny;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, header};
use hyper::body::Body as _;
use hyper::upgrade::Upgraded;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::sleep;

use super::answer_head::{self, Codings};
use super::body::AnswerBody;
use super::brokering::Brokering;
use super::inspect::{Direction, Inspection};
use super::interim::InterimTarget;
use super::origin_connections::OriginConnections;
use super::request_body::{RequestBody, Streamed, UploadProgress};
use super::resend::Spare;
use super::route::Route;
use super::upgrade::{self, Switched, UpgradeOffer};
use super::watched_requests::WatchGuard;
use super::{Next, Session, headers};
use crate::content_coding::Decoder;
use crate::enforce::{Flow, LeadsTo};
use crate::incoming::Incoming;
use crate::tls::Wire;
use crate::upstream::{
    AnswerError, BrokenAnswer, Cut, Lease, MAX_FIELDS, ProxyError, Unanswered, UpstreamError,
};

/// Kept connections that are tried before a new one is opened: origins close theirs without notice.
const MAX_KEPT_TRIES: usize = 8;

/// Attempts to send a request that the origin reports as not processed. The second attempt
/// follows at once. Before the third we wait this long, and the wait doubles each time.
const MAX_REFUSALS: u32 = 4;
const REFUSAL_INTERVAL: Duration = Duration::from_millis(100);

/// Most interim answers to one request (RFC 9110 section 15.2). A server that sends `102` every twenty
/// seconds may do so for more than an hour. Over HTTP/2 they also count as frames.
const MAX_INTERIM: usize = 256;

/// The state that the exchanges of one request share.
pub(super) struct OutgoingRequest {
    progress: Arc<UploadProgress>,
    scrutiny: Scrutiny,
    wire: Wire,
    /// The HTTP version that the client speaks.
    version: Version,
    /// The receiver of interim answers.
    pub(super) interim: InterimTarget,
    /// The protocols that the request offers to change to.
    upgrade: UpgradeOffer,
    /// The actions of the matching hook.
    pub(super) actions: Vec<Action>,
    /// The credentials in the request and its answer.
    pub(super) brokering: Arc<Brokering>,
    watch: WatchGuard,
}

impl OutgoingRequest {
    pub(super) fn new(
        session: &Session,
        scrutiny: Scrutiny,
        wire: Wire,
        version: Version,
        upgrade: UpgradeOffer,
    ) -> Self {
        Self {
            progress: Arc::new(UploadProgress::new()),
            scrutiny,
            wire,
            version,
            interim: InterimTarget::of(version, session),
            upgrade,
            actions: Vec::new(),
            brokering: Arc::default(),
            watch: WatchGuard::default(),
        }
    }

    /// Whether the request offers to change protocols outside TLS.
    fn offers_plain_upgrade(&self) -> bool {
        self.wire == Wire::Plain && !self.upgrade.is_empty()
    }

    /// Bodies are inspected only inside interception.
    fn inspection(
        &self,
        session: &Session,
        route: &Route,
        direction: Direction,
    ) -> Option<Box<Inspection>> {
        match self.wire {
            Wire::Plain => None,
            Wire::TlsHttp1 | Wire::TlsHttp2 => {
                Inspection::wanted(session, route.host()?, direction)
            }
        }
    }
}

/// Sends a request and returns its answer, over a kept connection if there is one.
pub(super) async fn send(
    session: &Session,
    route: Route,
    outgoing: &OutgoingRequest,
    parts: http::request::Parts,
    body: Incoming,
    origin: Option<&OriginConnections>,
) -> Result<Response<AnswerBody>, (UpstreamError, Route)> {
    let outcome = try_send(session, &route, outgoing, parts, body, origin).await;
    let limit = route.generation().settings().daemon.limits.idle_timeout;
    session.interim.written(limit).await;
    let (failure, route) = match (outcome, route) {
        (Ok(ExchangeResult::Answer(response)), _) => return Ok(response),
        (Ok(ExchangeResult::Switched(response, upgraded, leads_to)), route) => {
            let client = session.connection.clone();
            let switched = Switched::new(client, route, upgraded, leads_to);
            session.become_next(Next::Switched(switched));
            return Ok(response);
        }
        (Err(failure), route) => (failure, route),
    };
    let refused = outgoing.brokering.refusal();
    let failure = refused.map_or(failure, |refusal| UpstreamError::Refused(Box::new(refusal)));
    route.flow().end(failure.ending());
    Err((failure, route))
}

/// The result of a request that succeeded.
enum ExchangeResult {
    Answer(Response<AnswerBody>),
    /// The connection changes protocols.
    Switched(Response<AnswerBody>, Upgraded, LeadsTo),
}

async fn try_send(
    session: &Session,
    route: &Route,
    outgoing: &OutgoingRequest,
    mut parts: http::request::Parts,
    body: Incoming,
    origin: Option<&OriginConnections>,
) -> Result<ExchangeResult, UpstreamError> {
    let upstream = &session.shared.upstream;
    // HTTP/2 has no upgrade (RFC 9113 section 8.6). The proxy sends no extended CONNECT (RFC 8441).
    if outgoing.wire == Wire::TlsHttp2 && outgoing.upgrade.has_websocket() {
        return Err(UpstreamError::NoWebSocket);
    }
    let inspection = outgoing.inspection(session, route, Direction::Request);
    let flow = route.flow();
    let (body, continue_signal) = request_body(&mut parts, body, outgoing, inspection, flow);
    let (spare, body) = Spare::of(&parts, body, outgoing.wire);
    let mut message = Request::from_parts(parts, body);
    let ready = |origin: &OriginConnections| origin.take(route, upstream, outgoing.wire);
    let mut opened = origin.map_or(Ok(None), ready)?;
    let mut failed_on = None;
    let (mut tries, mut refusals) = (0, 0);
    // Rare parts are boxed, so that the future of each request stays small.
    loop {
        let kept = match opened.take() {
            Some(opened) => Some(opened),
            // A kept connection may lead to an upstream proxy that reads each request. Such a proxy does not
            // change protocols.
            None if outgoing.offers_plain_upgrade() || tries >= MAX_KEPT_TRIES => None,
            // `OriginConnections` takes HTTP/2 connections from the pool.
            None if outgoing.wire == Wire::TlsHttp2 => None,
            None => route.kept(upstream, outgoing.wire).await,
        };
        let is_kept = kept.is_some();
        tries += 1;
        let lease = match (kept, route) {
            (Some(lease), _) => lease,
            (None, Route::Host(permit)) if outgoing.offers_plain_upgrade() => {
                Box::pin(upstream.connect_upgrade(permit)).await?
            }
            (None, route) => match origin {
                Some(origin) => {
                    let failed_on = failed_on.as_ref();
                    Box::pin(origin.open(route, upstream, outgoing.wire, failed_on)).await?
                }
                None => Box::pin(route.open(upstream, outgoing.wire)).await?,
            },
        };
        // Another request may have opened the connection, and the origin may have closed it since.
        let is_shared = lease.is_multiplexed() && tries < MAX_KEPT_TRIES;
        let connection = lease.id();
        let failed = match exchange(
            session,
            route,
            outgoing,
            lease,
            message,
            (spare.is_idempotent(), &continue_signal),
        )
        .await
        {
            Ok(outcome) => return Ok(outcome),
            Err(failed) => failed,
        };
        message = match (failed.unsent, failed.failure) {
            (Unsent::Outdated, failure) => match spare.if_idempotent() {
                Some(mut request) => {
                    outgoing
                        .brokering
                        .renew_fields(session, request.headers_mut());
                    request
                }
                None => return Err(failure),
            },
            (Unsent::Request(request), _) if is_kept || is_shared => *request,
            (Unsent::Taken, failure) if is_shared => match spare.again() {
                Some(request) => request,
                None => return Err(failure),
            },
            (_, UpstreamError::NotProcessed(error)) => {
                refusals += 1;
                match spare.again() {
                    Some(request) if refusals < MAX_REFUSALS => {
                        if refusals > 1 {
                            sleep(REFUSAL_INTERVAL * 2_u32.pow(refusals - 2)).await;
                        }
                        opened = origin.map_or(Ok(None), ready)?;
                        request
                    }
                    _ => return Err(UpstreamError::NotProcessed(error)),
                }
            }
            // An origin that answers, or resets a stream, has read the request.
            (Unsent::No, UpstreamError::Answer(broken))
                if is_kept && broken.cause.is_lost_connection() =>
            {
                match spare.if_idempotent() {
                    Some(request) => request,
                    None => return Err(broken.into()),
                }
            }
            (_, failure) => return Err(failure),
        };
        failed_on = Some(connection);
    }
}

/// An exchange that failed.
struct FailedExchange {
    failure: UpstreamError,
    /// Whether the request was sent.
    unsent: Unsent,
}

enum Unsent {
    /// The request was sent, or may have been.
    No,
    /// The request was not sent; here it is.
    Request(Box<Request<RequestBody>>),
    /// The request was not sent. The [`Spare`] has the content that was taken from it.
    Taken,
    /// The origin refused a credential whose value is another one by now. The [`Spare`] has the request.
    Outdated,
}

impl From<Unanswered<RequestBody>> for FailedExchange {
    fn from(unanswered: Unanswered<RequestBody>) -> Self {
        match unanswered {
            Unanswered::Unsent(request, broken) => Self {
                failure: broken.into(),
                unsent: request.map_or(Unsent::Taken, Unsent::Request),
            },
            Unanswered::Unprocessed(error) => UpstreamError::NotProcessed(error).into(),
            Unanswered::Content(error) => UpstreamError::RequestBody(error).into(),
            Unanswered::Broken(broken) => broken.into(),
        }
    }
}

impl<E: Into<UpstreamError>> From<E> for FailedExchange {
    fn from(failure: E) -> Self {
        Self {
            failure: failure.into(),
            unsent: Unsent::No,
        }
    }
}

/// One request and its answer over one connection.
async fn exchange(
    session: &Session,
    route: &Route,
    outgoing: &OutgoingRequest,
    mut lease: Lease<RequestBody>,
    request: Request<RequestBody>,
    (may_repeat, continue_signal): (bool, &ContinueSignal),
) -> Result<ExchangeResult, FailedExchange> {
    let count = Arc::new(InterimCount::new(lease.cut()));
    let (counted, target, signal) = (
        Arc::clone(&count),
        outgoing.interim.clone(),
        continue_signal.clone(),
    );
    let brokering = Arc::clone(&outgoing.brokering);
    let on_interim = move |status, fields: &HeaderMap| {
        if status == StatusCode::CONTINUE {
            signal.send();
        }
        let mut fields = fields.clone();
        headers::to_client(&mut fields);
        // RFC 9110 section 8.6: it has none. Clients take one for the length of the answer.
        fields.remove(header::CONTENT_LENGTH);
        brokering.scrub_fields(&mut fields);
        target.pass(status, &fields);
        counted.add();
    };
    let limit = route.generation().settings().daemon.limits.idle_timeout;
    let silence = outgoing.progress.activity.silence(limit);
    let (watched, live) = (&session.watched, session.shared.live());
    let attempt = route.watched(lease.leads_to());
    outgoing
        .watch
        .start(watched, attempt, route.generation(), live);
    route.flow().connected(lease.peer());
    if headers::authenticate_the_connection(request.headers()) {
        lease.retire();
    }
    let is_head = request.method() == Method::HEAD;
    let answer = lease.send(request, on_interim);
    tokio::pin!(silence, answer);
    let answer = loop {
        tokio::select! {
            biased;
            // Polled first, or a flood would starve it. Waking this task makes hyper look for bytes to
            // write to the client.
            () = count.changed.notified() => {
                if count.is_exceeded() {
                    return Err(lease.unusable(AnswerError::InterimFlood).into());
                }
            }
            answer = &mut answer => break answer,
            () = &mut silence => {
                return Err(lease.unusable(AnswerError::Silent(limit)).into());
            }
        }
    };
    let response = answer?;
    if response.headers().len() > MAX_FIELDS {
        return Err(lease.unusable(AnswerError::TooManyFields).into());
    }
    if response.status() == StatusCode::UNAUTHORIZED && may_repeat {
        // Boxed, since it is rare.
        Box::pin(unless_outdated(session, outgoing, &lease)).await?;
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Box::pin(switch(outgoing, &lease, response)).await?);
    }
    if lease.is_with_proxy() && response.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        // The client has no credentials for the upstream proxy, so the 407 is not for the client.
        return Err(ProxyError::Credentials.into());
    }
    let (mut parts, body) = response.into_parts();
    let codings = match parts.status {
        _ if is_head => Codings::Plain,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Codings::Plain,
        _ => codings(outgoing, &parts.headers)
            .ok_or_else(|| lease.unusable(AnswerError::TransferCoding))?,
    };
    if headers::authenticate_the_connection(&parts.headers) {
        lease.retire();
    }
    if let Some(origins) = answer_head::keep_alive(&parts.headers) {
        lease.keep_for(origins);
    }
    headers::to_client(&mut parts.headers);
    headers::one_length(&mut parts.headers);
    let decoding = decoding(outgoing, &lease, &mut parts, &body, is_head)?;
    let mut length = None;
    match codings {
        Codings::Plain => {}
        Codings::Identity(stated) => length = stated,
        Codings::Others(names) => {
            // hyper applies `chunked` and adds its name here.
            parts.headers.insert(header::TRANSFER_ENCODING, names);
        }
    }
    if outgoing.progress.is_partial() {
        lease.end_with_early_answer();
        close_early(outgoing, &mut parts.headers);
    }
    parts.version = Version::HTTP_11;
    let inspection = outgoing.inspection(session, route, Direction::Response);
    let watch = outgoing.watch.clone();
    let flow = route.flow().clone();
    let mut answer =
        AnswerBody::upstream(body, lease, continue_signal.take(), inspection, watch, flow);
    if let Some(length) = length {
        answer = answer.ending_after(length);
    }
    let answer = scrubbed(answer, decoding, outgoing);
    Ok(ExchangeResult::Answer(Response::from_parts(parts, answer)))
}

/// Content without its coding and without real values.
fn scrubbed(
    mut answer: AnswerBody,
    decoding: Option<(Decoder, UpstreamError)>,
    outgoing: &OutgoingRequest,
) -> AnswerBody {
    if let Some((decoder, failure)) = decoding {
        answer = answer.decoded(decoder, failure);
    }
    match outgoing.brokering.scrubber() {
        Some(scrubber) => answer.scrubbed(scrubber),
        None => answer,
    }
}

/// An error if the value of a credential that the origin refused is another one by now (SPEC B13).
async fn unless_outdated(
    session: &Session,
    outgoing: &OutgoingRequest,
    lease: &Lease<RequestBody>,
) -> Result<(), FailedExchange> {
    if outgoing.brokering.gets_other_values(session).await {
        return Err(FailedExchange {
            failure: lease.unusable(AnswerError::Broken).into(),
            unsent: Unsent::Outdated,
        });
    }
    Ok(())
}

/// Makes an early answer, one that came before the whole request, the last one of the client's
/// connection. The origin may leave the rest of the request unread, and the rest could then be taken for
/// the next request, by the origin or by us (RFC 9112 section 9.3). In HTTP/2 only the stream ends.
fn close_early(outgoing: &OutgoingRequest, fields: &mut HeaderMap) {
    if outgoing.version != Version::HTTP_2 {
        let close = http::HeaderValue::from_static("close");
        fields.insert(header::CONNECTION, close);
    }
}

/// The transfer codings that the answer to the client names. HTTP/1.0 and HTTP/2 have no transfer codings
/// (RFC 9112 section 6.1, RFC 9113 section 8.2.2). Real values are not found in them.
fn codings(outgoing: &OutgoingRequest, fields: &HeaderMap) -> Option<Codings> {
    let codings = Codings::of(fields).ok()?;
    let others_pass =
        outgoing.version == Version::HTTP_11 && outgoing.brokering.scrubber().is_none();
    (others_pass || !matches!(codings, Codings::Others(_))).then_some(codings)
}

/// Prepares the head of an answer for content that is scrubbed. Gives the decoder of content that has a coding, and
/// the failure if it cannot be decoded.
fn decoding(
    outgoing: &OutgoingRequest,
    lease: &Lease<RequestBody>,
    parts: &mut http::response::Parts,
    body: &Incoming,
    is_head: bool,
) -> Result<Option<(Decoder, UpstreamError)>, BrokenAnswer> {
    let codings = match outgoing.brokering.prepare(parts) {
        Ok(codings) => codings,
        Err(_) if is_head => return Ok(None),
        Err(error) => return Err(lease.unusable(error)),
    };
    if codings.is_identity() || body.is_end_stream() {
        return Ok(None);
    }
    let undecodable = lease.unusable(AnswerError::Undecodable);
    match Decoder::new(&codings, &outgoing.brokering.windows()) {
        Ok(decoder) => Ok(Some((decoder, undecodable.into()))),
        Err(_) => Err(undecodable),
    }
}

/// The origin changes protocols. It may choose only a protocol that the request offered (RFC 9110
/// section 15.2.2). It must have the whole request first, or it would take the rest for the new protocol.
async fn switch(
    outgoing: &OutgoingRequest,
    lease: &Lease<RequestBody>,
    mut response: Response<Incoming>,
) -> Result<ExchangeResult, BrokenAnswer> {
    let protocols = outgoing
        .upgrade
        .accepted(response.headers())
        .filter(|_| !outgoing.progress.is_partial())
        .ok_or_else(|| lease.unusable(AnswerError::UnaskedUpgrade))?;
    lease.cut().upgrade();
    let upgraded = hyper::upgrade::on(&mut response)
        .await
        .map_err(|error| lease.broken_head(error))?;
    let (mut parts, _) = response.into_parts();
    headers::to_client(&mut parts.headers);
    // It has no content.
    let _ = outgoing.brokering.prepare(&mut parts);
    upgrade::mark(&mut parts.headers, protocols);
    parts.version = Version::HTTP_11;
    let response = Response::from_parts(parts, AnswerBody::own(Bytes::new()));
    Ok(ExchangeResult::Switched(
        response,
        upgraded,
        lease.leads_to().clone(),
    ))
}

/// Releases content that is held back until the origin wants it. Empty if none is held back.
#[derive(Clone, Default)]
struct ContinueSignal(Arc<Mutex<Option<oneshot::Sender<()>>>>);

impl ContinueSignal {
    /// Releases the content. hyper then sends `100` to the client.
    fn send(&self) {
        if let Some(sender) = self.take() {
            let _ = sender.send(());
        }
    }

    fn take(&self) -> Option<oneshot::Sender<()>> {
        self.0.lock().take()
    }
}

/// Counts the interim answers to one request.
struct InterimCount {
    seen: AtomicUsize,
    /// Notified of each.
    changed: Notify,
    connection: Cut,
}

impl InterimCount {
    fn new(connection: Cut) -> Self {
        Self {
            seen: AtomicUsize::new(0),
            changed: Notify::new(),
            connection,
        }
    }

    fn add(&self) {
        if self.seen.fetch_add(1, Ordering::Relaxed) >= MAX_INTERIM {
            self.connection.end();
        }
        self.changed.notify_one();
    }

    /// Whether there were more than [`MAX_INTERIM`].
    fn is_exceeded(&self) -> bool {
        self.seen.load(Ordering::Relaxed) > MAX_INTERIM
    }
}

fn request_body(
    parts: &mut http::request::Parts,
    body: Incoming,
    outgoing: &OutgoingRequest,
    inspection: Option<Box<Inspection>>,
    flow: &Flow,
) -> (RequestBody, ContinueSignal) {
    if body.is_end_stream() {
        return (RequestBody::empty(), ContinueSignal::default());
    }
    outgoing.progress.set_partial(true);
    if outgoing.wire != Wire::TlsHttp2 && body.size_hint().exact().is_none() {
        // For methods that seldom have content, hyper sends content only if the fields announce it.
        let chunked = http::HeaderValue::from_static("chunked");
        parts.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    let body = Box::new(Streamed {
        body,
        progress: Arc::clone(&outgoing.progress),
        scrutiny: outgoing.scrutiny,
        actions: outgoing.actions.clone(),
        inspection,
        flow: flow.clone(),
        search: outgoing.brokering.search(),
        _watch: outgoing.watch.clone(),
    });
    let expects = parts
        .headers
        .get(header::EXPECT)
        .is_some_and(|field| field.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    // Over HTTP/2 the client gets the origin's `100`, and chooses itself how long it waits.
    if !expects || outgoing.version == Version::HTTP_2 {
        return (RequestBody::Streamed(body), ContinueSignal::default());
    }
    let (body, wanted) = RequestBody::expected(body);
    (body, ContinueSignal(Arc::new(Mutex::new(Some(wanted)))))
}
