//! HTTP/2 inside intercepted TLS: one connection from its first frame to its last, with concurrent
//! requests.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use codex_network_config::duration_text;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::{Method, Request};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::inside::{Inside, NotProcessed};
use super::response_stream::ResponseStream;
use super::{ClientEnd, Role, Session, Shared};
use crate::activity::Activity;
use crate::frames::{FrameMeter, Side};
use crate::http2::{self, GivenUp, SendError};
use crate::http2_memory::{MemoryNeed, MemoryShare};
use crate::incoming::{Incoming, Received};
use crate::observed::Observed;
use crate::outcome::Ending;

/// Requests that one connection may have in hand: as many as there is memory for, and at most as many as
/// RFC 9113 section 6.5.2 asks for at least.
const MIN_STREAMS: u32 = 16;
const MAX_STREAMS: u32 = 100;
/// Bytes of a request that a client may send before the origin takes them. The window of the connection
/// is that of all its streams: an origin that leaves an upload unread must not hold up another one.
/// Clients are usually on this machine, so half a MiB keeps them sending.
const MIN_STREAM_WINDOW: u32 = 16 * 1024;
const MAX_STREAM_WINDOW: u32 = 512 * 1024;
/// The connection ends when a client has reset this many streams before we began them ("rapid reset"),
/// or when we have reset this many streams because of its faults.
const MAX_RESET_STREAMS: usize = 20;
const MAX_ERROR_STREAMS: usize = 128;
/// Bytes of answers that wait in one stream for a client to take them.
const MIN_SEND_BUFFER: u32 = 16 * 1024;
const MAX_SEND_BUFFER: u32 = 64 * 1024;
const NEED: MemoryNeed = MemoryNeed::new(MAX_STREAMS, MAX_STREAM_WINDOW, MAX_SEND_BUFFER);

/// Serves a connection to its end.
pub(crate) async fn serve_inside<S: ClientEnd>(
    shared: &Arc<Shared>,
    stream: S,
    address: SocketAddr,
    inside: Inside,
) {
    let end = inside.end.clone();
    let connection = inside.client.connection.clone();
    let activity = Arc::clone(connection.activity());
    activity.note();
    let session = Session::new(shared, address, connection, Role::Origin(Box::new(inside)));
    let limits = session.limits();
    let memory = shared
        .upstream
        .http2_memory()
        .take(NEED, &session.connection);
    let messages = Arc::new(Activity::new());
    let peer = format!("client {address}");
    let meter = FrameMeter::new(Side::Server, peer, Arc::clone(&messages));
    let stream = Observed::new(stream, meter);
    let first_request = Notify::new();
    let shutdown = CancellationToken::new();
    let mut requests = std::pin::pin!(requests(
        stream,
        &session,
        &memory,
        &first_request,
        &shutdown
    ));
    let mut drain = std::pin::pin!(async {
        let idle = async {
            // As over HTTP/1.1: the first request must arrive within the time limit of a head.
            if timeout(limits.header_timeout, first_request.notified())
                .await
                .is_ok()
            {
                activity.silence(limits.idle_timeout).await;
            }
        };
        tokio::select! {
            () = shared.drain.begun() => {}
            () = end.cancelled() => {}
            () = idle => session.connection.end(Ending::idle(limits.idle_timeout)),
        }
    });
    let mut forbidden = std::pin::pin!(session.watched.forbidden(shared.live()));
    // An origin may be silent for `idle_timeout`. After that there must be time to tell the client.
    let stall_limit = limits.idle_timeout.saturating_add(limits.header_timeout);
    let mut stalled = std::pin::pin!(messages.silence(stall_limit));
    let outcome = tokio::select! {
        outcome = requests.as_mut() => outcome,
        () = &mut stalled => {
            tracing::info!(client = %address, "closed a stalled HTTP/2 connection: no part of a message has moved for {}", duration_text(stall_limit));
            session.connection.end(Ending::idle(stall_limit));
            return;
        }
        reason = &mut forbidden => return session.connection.end(Ending::forbidden(reason)),
        () = &mut drain => {
            shutdown.cancel();
            activity.note();
            tokio::select! {
                outcome = requests.as_mut() => outcome,
                reason = &mut forbidden => {
                    return session.connection.end(Ending::forbidden(reason));
                }
                // The client should close after GOAWAY (RFC 9113 section 6.8), but some do not.
                () = activity.silence(limits.header_timeout) => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(client = %address, %error, "an intercepted connection ended early");
    }
}

/// Accepts the requests of a connection until it ends. After GOAWAY it still accepts the requests that
/// are on their way (RFC 9113 section 6.8).
async fn requests<S: ClientEnd>(
    stream: Observed<S, FrameMeter>,
    session: &Session,
    memory: &MemoryShare,
    first_request: &Notify,
    shutdown: &CancellationToken,
) -> Result<(), h2::Error> {
    let max_headers = session.limits().max_header_bytes;
    let streams = memory.of(MIN_STREAMS, MAX_STREAMS);
    let stream_window = memory.of(MIN_STREAM_WINDOW, MAX_STREAM_WINDOW);
    let mut connection = server::Builder::new()
        .max_concurrent_streams(streams)
        // Fixed windows: adaptive windows would outgrow the share.
        .initial_window_size(stream_window)
        .initial_connection_window_size(stream_window * streams)
        .max_send_buffer_size(memory.of(MIN_SEND_BUFFER, MAX_SEND_BUFFER) as usize)
        // The limit of HTTP/1.1. Each field counts for 32 bytes more (RFC 9113 section 6.5.2),
        // which bounds their number.
        .max_header_list_size(u32::try_from(max_headers).unwrap_or(u32::MAX))
        // The first is the default of h2, stated so that it stays. h2 allows 1024 of the others.
        .max_pending_accept_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(Some(MAX_ERROR_STREAMS))
        // The other defaults of h2 fit: frames of 16 KiB, the least that HTTP/2 allows, so that no
        // stream waits long for another; a header table of 4 KiB; no extended CONNECT, which is
        // refused inside; no PINGs, since this code ends silent connections.
        .handshake::<_, Bytes>(stream)
        .await?;
    let mut is_shutting_down = false;
    let mut shutdown = std::pin::pin!(shutdown.cancelled());
    // One task serves all requests, so frames of several requests leave in one write.
    let mut in_hand = FuturesUnordered::new();
    poll_fn(|cx| {
        loop {
            while let Poll::Ready(Some(())) = in_hand.poll_next_unpin(cx) {}
            if !is_shutting_down && shutdown.as_mut().poll(cx).is_ready() {
                is_shutting_down = true;
                connection.graceful_shutdown();
            }
            let before = in_hand.len();
            while let Poll::Ready(accepted) = connection.poll_accept(cx) {
                let Some(accepted) = accepted else {
                    return Poll::Ready(Ok(()));
                };
                let (request, respond) = accepted?;
                first_request.notify_one();
                in_hand.push(answer(session, request, respond));
            }
            if in_hand.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await
}

/// Answers one request.
async fn answer(session: &Session, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
    let _busy = session.connection.activity().busy();
    // Dropping this guard ends what of the request is still on its way.
    let given_up = CancellationToken::new();
    let _guard = given_up.clone().drop_guard();
    let taken = CancellationToken::new();
    let (parts, content) = request.into_parts();
    let is_head = parts.method == Method::HEAD;
    let content = Received::new(content, &parts.headers).cancelling(taken.clone());
    let mut request = Request::from_parts(parts, Incoming::from(content));
    let stream = ResponseStream::new(respond);
    request.extensions_mut().insert(stream.clone());
    request.extensions_mut().insert(GivenUp(given_up));
    let mut answer = tokio::select! {
        answer = session.answer(request) => answer,
        // The client no longer wants an answer, or the connection has ended.
        () = stream.reset() => return,
    };
    if answer.extensions().get::<NotProcessed>().is_some() {
        stream.refuse();
        return;
    }
    if is_head {
        // Over HTTP/1 hyper does this (RFC 9110 section 9.3.2).
        answer.body_mut().leave_out_own();
    }
    let (content, mut stream) = match stream.begin(answer) {
        Ok(begun) => begun,
        Err(error) => {
            tracing::debug!(client = %session.address, %error, "an answer over HTTP/2 was not sent");
            return;
        }
    };
    let sent = match content {
        Some(content) => http2::send(content, &mut stream).await,
        None => Ok(()),
    };
    match sent {
        // The rest of a request that was answered early.
        Ok(()) => tokio::select! {
            () = taken.cancelled() => {}
            _ = poll_fn(|cx| stream.poll_reset(cx)) => {}
        },
        Err(SendError::Content(error)) => {
            stream.send_reset(http2::reason(&error).unwrap_or(Reason::INTERNAL_ERROR));
        }
        Err(error @ SendError::Stream(_)) => {
            tracing::debug!(client = %session.address, %error, "an answer over HTTP/2 ended early");
        }
    }
}
