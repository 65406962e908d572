//! The HTTP door: one client connection from its first byte to its last (SPEC section 4).
//!
//! hyper reads and writes the messages; [`ClientStream`] stands between it and the socket and lets
//! only strictly framed bytes through; `target` and `headers` say what a request means; `forward`
//! and `connect` carry it out.

mod body;
mod client_stream;
mod connect;
mod forward;
pub(crate) mod framing;
mod headers;
mod interim;
mod target;
mod turn;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use codex_network_policy::Protocol;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) use body::{Answer, RequestBody};
use client_stream::{ClientStream, Stop, Timeouts};
use interim::Interim;
use target::TargetError;
use turn::Turns;

use crate::Shared;
use crate::client::{AttemptId, Client};
use crate::enforce::{self, Attempt};
use crate::live_policy::Generation;
use crate::respond::{self, Door};
use crate::tunnel::Tunnel;

/// The listener's name in records and messages.
pub(crate) const DOOR: &str = "http";
/// How long after a drain has begun a connection may still begin a request.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What the requests of one connection share.
pub(crate) struct Session {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// A CONNECT that was answered with 200: the connection becomes this tunnel.
    tunnel: Mutex<Option<Tunnel>>,
    /// Interim answers (1xx) on their way to the client.
    interim: Interim,
    /// Whether a request is in hand.
    turns: Turns,
}

/// Serves one accepted connection to its end.
pub(crate) async fn serve(shared: Arc<Shared>, stream: TcpStream, address: SocketAddr) {
    let limits = shared.live.current().settings().daemon.limits;
    let timeouts = Timeouts {
        header: limits.header_timeout,
        idle: limits.idle_timeout,
    };
    let interim = Interim::default();
    let turns = Turns::default();
    let crowded = {
        let shared = Arc::clone(&shared);
        move || {
            let most = shared
                .live
                .current()
                .settings()
                .daemon
                .limits
                .max_connections;
            !shared.connections.has_room(most)
        }
    };
    let client = ClientStream::new(
        stream,
        limits.max_header_bytes,
        timeouts,
        turns.clone(),
        interim.clone(),
        Box::new(crowded),
    );
    let session = Arc::new(Session {
        shared: Arc::clone(&shared),
        address,
        tunnel: Mutex::default(),
        interim,
        turns,
    });
    let service = service_fn(|request: Request<Incoming>| {
        let session = Arc::clone(&session);
        let turn = session.turns.take();
        let answer: BoxFuture<'static, _> = Box::pin(async move {
            let answer = session.answer(request).await;
            Ok::<_, std::convert::Infallible>(answer.map(|body| body.tracked(turn)))
        });
        answer
    });
    let mut connection = http1::Builder::new()
        .preserve_header_case(true)
        .auto_date_header(false)
        // The framing has refused more than this already.
        .max_buf_size(limits.max_header_bytes.max(8192) * 2)
        .serve_connection(TokioIo::new(client), service);
    // A client that has only just connected has its first request on the way: hyper would hang up on
    // it, where it would have been refused nothing.
    let drain = async {
        shared.drain.begun().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    let mut drain = std::pin::pin!(drain);
    let mut asked_to_end = false;
    let outcome = loop {
        tokio::select! {
            outcome = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break outcome,
            () = &mut drain, if !asked_to_end => {}
        }
        asked_to_end = true;
        Pin::new(&mut connection).graceful_shutdown();
    };
    let parts = connection.into_parts();
    let client = parts.io.into_inner();
    let tunnel = session.take_tunnel();
    if let Some(tunnel) = tunnel {
        let (stream, _) = client.into_parts();
        tunnel.run(&shared, stream, parts.read_buf).await;
        return;
    }
    match outcome {
        // What the framing lets through and hyper cannot read, such as a target that is no URI;
        // hyper has answered it.
        Err(error) if error.is_parse() => {
            tracing::info!(client = %address, door = DOOR, "refused a malformed request: {error}");
        }
        Err(error) => {
            tracing::debug!(client = %address, %error, "a client connection ended early");
            if error.is_user() {
                // An answer broke off in its body: an orderly close would end it for HTTP/1.0.
                let (stream, _) = client.into_parts();
                let _ = stream.set_zero_linger();
                return;
            }
        }
        Ok(()) => {}
    }
    session.close(client).await;
}

impl Session {
    /// Answers one request.
    async fn answer(&self, request: Request<Incoming>) -> Response<Answer> {
        let attempt = request
            .headers()
            .get(http::header::PROXY_AUTHORIZATION)
            .and_then(|field| AttemptId::from_credentials(field.as_bytes()));
        let client = Client {
            address: self.address,
            attempt,
        };
        if request.method() == Method::CONNECT {
            connect::answer(self, client, &request).await
        } else {
            forward::answer(self, client, request).await
        }
    }

    /// Answers a request whose target cannot be served. What was given for a host and is none is
    /// policy's to refuse, so that it is recorded as at every door.
    fn refuse_target(
        &self,
        error: &TargetError,
        generation: &Generation,
        attempt: &Attempt,
        uri: &Uri,
    ) -> Response<Answer> {
        let TargetError::Host { text, .. } = error else {
            self.say_malformed(error);
            return respond::bad_request(&error.to_string());
        };
        let (door, default_port) = match attempt.protocol {
            Protocol::HttpConnect => (Door::Connect, 0),
            _ => (Door::Http, 80),
        };
        let port = uri.port_u16().unwrap_or(default_port);
        let host = uri.host().unwrap_or(text).as_bytes();
        let recorder = &self.shared.recorder;
        let refusal = enforce::refuse_invalid_host(recorder, generation, attempt, host, port);
        respond::refusal(&refusal, door)
    }

    /// Logs a request that is none. What is said must hold nothing of the client's that could end a
    /// line.
    fn say_malformed(&self, why: &dyn std::fmt::Display) {
        tracing::info!(client = %self.address, door = DOOR, "refused a malformed request: {why}");
    }

    /// Makes the connection a tunnel once the answer in hand has been sent.
    fn become_tunnel(&self, tunnel: Tunnel) {
        *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }

    fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Ends the connection, with an answer if its stream was cut for a reason that the client
    /// should hear and no other answer is half way out.
    async fn close(&self, client: ClientStream) {
        let (mut stream, stop) = client.into_parts();
        let answer = match stop {
            None | Some(Stop::Idle) => None,
            Some(Stop::Flaw(flaw)) => {
                tracing::info!(client = %self.address, door = DOOR, "refused a malformed request: {flaw}");
                Some(respond::malformed(flaw))
            }
            Some(Stop::BrokenContent(flaw)) => {
                tracing::info!(client = %self.address, door = DOOR, "refused a malformed request: {flaw}");
                // The request itself has had its answer.
                None
            }
            Some(Stop::SlowHead) => {
                tracing::info!(client = %self.address, door = DOOR, "gave up on a request whose header did not arrive in time");
                Some(respond::slow_head())
            }
        };
        if let Some(answer) = answer {
            let _ = stream.write_all(&answer).await;
        }
        linger(stream).await;
    }
}

/// Closes so that the client can read what was sent: closing a socket with unread input resets it,
/// and a reset throws away what the client has not read yet (RFC 9112 section 9.6).
pub(crate) async fn linger(mut stream: TcpStream) {
    const LONGEST: Duration = Duration::from_secs(2);
    const MOST: u64 = 256 * 1024;
    if stream.shutdown().await.is_err() {
        return;
    }
    let (mut rest, mut nowhere) = (stream.take(MOST), tokio::io::sink());
    let _ = tokio::time::timeout(LONGEST, tokio::io::copy(&mut rest, &mut nowhere)).await;
}
