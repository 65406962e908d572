//! Plain HTTP requests: judged one by one, sent on over a kept or new connection (SPEC H1 to H3).

use std::sync::Arc;

use bytes::Bytes;
use codex_network_policy::{Mode, Protocol};
use http::{Method, Request, Response, StatusCode, Uri, Version, header};
use hyper::body::{Body as _, Incoming};
use tokio::sync::{mpsc, oneshot};

use super::body::{Answer, RequestBody, Streamed};
use super::target;
use super::{Session, headers};
use crate::activity::Activity;
use crate::client::Client;
use crate::enforce::{self, Attempt, Permit};
use crate::error::Failure;
use crate::respond::{self, Door};
use crate::upstream::Lease;

pub(super) async fn answer(
    session: &Session,
    client: Client,
    request: Request<Incoming>,
) -> Response<Answer> {
    let shared = &session.shared;
    let generation = shared.live.current();
    let attempt = Attempt {
        client,
        protocol: Protocol::Http,
        method: Some(request.method().as_str().to_owned()),
        upgrade: request
            .headers()
            .get(header::UPGRADE)
            .map(|token| String::from_utf8_lossy(token.as_bytes()).into_owned()),
    };
    let target = match target::absolute(request.uri(), request.headers()) {
        Ok(target) => target,
        Err(error) => {
            return session.refuse_target(&error, &generation, &attempt, request.uri());
        }
    };
    let mode = generation.policy().mode();
    let permit = match enforce::authorize(&shared.recorder, generation, attempt, target.authority) {
        Ok(permit) => permit,
        Err(refusal) => return respond::refusal(&refusal, Door::Http),
    };
    let (mut parts, body) = request.into_parts();
    headers::to_upstream(&mut parts.headers, permit.authority(), mode);
    parts.uri = Uri::from(target.path);
    let sent = Sent {
        activity: Arc::new(Activity::new()),
        mode,
        // RFC 9110 section 15.2: HTTP/1.0 knows none.
        takes_interim: parts.version != Version::HTTP_10,
    };
    parts.version = Version::HTTP_11;
    let outcome = send(session, &permit, &sent, parts, body).await;
    let limit = permit.generation().settings().daemon.limits.idle_timeout;
    session.interim.written(limit).await;
    match outcome {
        Ok(response) => response,
        Err(failure) => {
            tracing::debug!(
                client = %session.address, authority = %permit.authority(), fault = ?failure.fault(), error = %failure,
                "a permitted request failed",
            );
            respond::failure(&failure, permit.authority(), Door::Http)
        }
    }
}

/// What the exchanges of one request share.
struct Sent {
    activity: Arc<Activity>,
    mode: Mode,
    /// Whether the client understands interim answers.
    takes_interim: bool,
}

/// Sends a request and brings its answer, over a kept connection if there is one.
async fn send(
    session: &Session,
    permit: &Permit,
    sent: &Sent,
    mut parts: http::request::Parts,
    body: Incoming,
) -> Result<Response<Answer>, Failure> {
    let upstream = &session.shared.upstream;
    // A request without a body can be sent a second time, if its method allows (RFC 9110
    // section 9.2.2) and the first connection was a kept one that the origin had closed meanwhile.
    let spare = (body.is_end_stream() && is_idempotent(&parts.method)).then(|| parts.clone());
    let (body, mut expected) = request_body(&mut parts, body, sent);
    let mut message = Request::from_parts(parts, body);
    while let Some(lease) = upstream.pooled(permit).await {
        match exchange(session, permit, sent, lease, message, &mut expected).await {
            Ok(response) => return Ok(response),
            Err(Broken {
                unsent: Some(unsent),
                ..
            }) => message = *unsent,
            Err(Broken {
                failure,
                unsent: None,
            }) => match (&spare, &failure) {
                (Some(parts), Failure::Answer(_)) => {
                    message = Request::from_parts(parts.clone(), RequestBody::empty());
                }
                _ => return Err(failure),
            },
        }
    }
    let lease = upstream.connect_http(permit).await?;
    exchange(session, permit, sent, lease, message, &mut expected)
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
    permit: &Permit,
    sent: &Sent,
    mut lease: Lease,
    mut request: Request<RequestBody>,
    expected: &mut Option<oneshot::Sender<()>>,
) -> Result<Response<Answer>, Broken> {
    let (interim, mut interims) = mpsc::channel(4);
    hyper::ext::on_informational(&mut request, move |response| {
        // A full queue loses an interim answer, which is allowed; it must not hold the origin up.
        let _ = interim.try_send(Interim::read(response.status(), response.headers()));
    });
    let limit = permit.generation().settings().daemon.limits.idle_timeout;
    let silence = sent.activity.silence(limit);
    let answer = lease.sender.try_send_request(request);
    tokio::pin!(silence, answer);
    let answer = loop {
        tokio::select! {
            biased;
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
        return Err(Broken {
            failure: Failure::UnaskedUpgrade,
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
    headers::to_client(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Ok(Response::from_parts(
        parts,
        Answer::upstream(body, lease, expected.take()),
    ))
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
) -> (RequestBody, Option<oneshot::Sender<()>>) {
    if body.is_end_stream() {
        return (RequestBody::empty(), None);
    }
    if body.size_hint().exact().is_none() {
        // Of methods that seldom have content, hyper sends some only if the fields say so.
        let chunked = http::HeaderValue::from_static("chunked");
        parts.headers.insert(header::TRANSFER_ENCODING, chunked);
    }
    let body = Streamed {
        body,
        activity: Arc::clone(&sent.activity),
        mode: sent.mode,
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

fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}
