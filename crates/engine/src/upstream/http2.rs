//! HTTP/2 with an origin: many requests at once over one connection.

mod origin;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use codex_network_policy::defines_content;
use futures_util::FutureExt as _;
use h2::client::{self, Connection, SendRequest};
use h2::{Reason, SendStream};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

pub(crate) use self::origin::Http2Origin;
pub(super) use self::origin::{Http2Use, KeptHttp2};
use super::Outgoing;
use super::answer_error::{AnswerError, without_debug_data};
use super::far_end::{FarEnd, Unanswered};
use crate::frames::FrameMeter;
use crate::http2::{self, GivenUp, SendError};
use crate::http2_memory::{MemoryNeed, MemoryShare};
use crate::incoming::{BodyError, Incoming, Received};
use crate::observed::Observed;

/// Requests that one connection carries at once. A client with more requests gets more connections.
/// [`Http2Origin`] counts them.
const MIN_STREAMS: u32 = 4;
const MAX_STREAMS: u32 = 16;
/// Bytes of an answer that an origin may send before the client reads them. The window of the connection
/// is as large as those of all its streams, so an unread answer does not block another one.
const MIN_STREAM_WINDOW: u32 = 64 * 1024;
const MAX_STREAM_WINDOW: u32 = 1024 * 1024;
/// Bytes of a request that may wait in one stream until the origin takes them.
const MIN_SEND_BUFFER: u32 = 16 * 1024;
const MAX_SEND_BUFFER: u32 = 1024 * 1024;
pub(super) const NEED: MemoryNeed =
    MemoryNeed::new(MAX_STREAMS, MAX_STREAM_WINDOW, MAX_SEND_BUFFER);
/// Largest header section of an answer, in bytes.
const MAX_HEADERS: u32 = 256 * 1024;
/// Streams that may be opened before the origin's SETTINGS arrive with its limit: the smallest limit that
/// RFC 9113 section 6.5.2 recommends.
const INITIAL_STREAMS: usize = 100;
/// Streams that we may reset for the origin's faults before the connection ends.
const MAX_ERROR_STREAMS: usize = 1024;

/// The sending half of a connection.
#[derive(Clone, Debug)]
pub(super) struct Http2Sender {
    requests: SendRequest<Bytes>,
    /// The last stream that has left this side.
    last_sent: Arc<AtomicU32>,
}

/// Begins HTTP/2 with an origin. The share of the memory limits windows and streams.
pub(super) async fn handshake<S>(
    stream: Observed<S, FrameMeter>,
    last_sent: Arc<AtomicU32>,
    memory: &MemoryShare,
) -> Result<(Http2Sender, Connection<Observed<S, FrameMeter>>), h2::Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stream_window = memory.of(MIN_STREAM_WINDOW, MAX_STREAM_WINDOW);
    let streams = max_requests(memory);
    let (requests, connection) = client::Builder::new()
        // Fixed windows: adaptive windows would send PINGs and outgrow the share.
        .initial_window_size(stream_window)
        .initial_connection_window_size(stream_window * streams)
        .max_send_buffer_size(memory.of(MIN_SEND_BUFFER, MAX_SEND_BUFFER) as usize)
        // Other clients allow 16 KiB, which large sets of cookies and policies exceed. Each field counts
        // for 32 bytes more (RFC 9113 section 6.5.2), which bounds the number of fields.
        .max_header_list_size(MAX_HEADERS)
        .initial_max_send_streams(INITIAL_STREAMS)
        .max_local_error_reset_streams(Some(MAX_ERROR_STREAMS))
        // We do not use server push.
        .enable_push(false)
        // The defaults of h2 are right for these: frames of 16 KiB, the smallest limit of HTTP/2, so that
        // no stream waits long for another; a header table of 4 KiB; no PINGs, since gRPC servers allow
        // one in five minutes and close the connection after more ("too many pings"). TCP detects an
        // origin that is gone, and `idle_timeout` one that is silent.
        .handshake(stream)
        .await?;
    let sender = Http2Sender {
        requests,
        last_sent,
    };
    Ok((sender, connection))
}

/// Requests that a connection with this share of the memory carries at once.
fn max_requests(memory: &MemoryShare) -> u32 {
    memory.of(MIN_STREAMS, MAX_STREAMS)
}

impl Http2Sender {
    /// Whether the connection takes no further requests.
    fn is_closed(&self) -> bool {
        // The clone sends no request, so it does not wait for a stream.
        matches!(self.clone().poll_ready(), Poll::Ready(Err(_)))
    }

    /// Whether a request can be sent, or why the connection takes no further ones.
    fn poll_ready(&mut self) -> Poll<Result<(), h2::Error>> {
        let mut context = Context::from_waker(Waker::noop());
        self.requests.poll_ready(&mut context)
    }

    /// Sends a request and returns the answer. Dropping the future resets the stream. `uploading` is
    /// released when the content of the request has been sent.
    async fn send<B: Outgoing>(
        mut self,
        request: Request<B>,
        far: FarEnd,
        uploading: Option<Http2Use>,
        on_interim: impl Fn(StatusCode, &HeaderMap) + Send + Sync,
    ) -> Result<Response<Incoming>, Unanswered<B>> {
        // No stream of this sender waits, so it is ready, or the connection has ended.
        if let Poll::Ready(Err(error)) = self.poll_ready() {
            let broken = far.broken_head(error);
            return Err(Unanswered::Unsent(Some(Box::new(request)), broken));
        }
        let (mut parts, content) = request.into_parts();
        let given_up = parts.extensions.remove::<GivenUp>();
        let is_whole = content.is_end_stream();
        if is_whole && defines_content(parts.method.as_str()) {
            // RFC 9110 section 8.6: some origins require it (411).
            parts
                .headers
                .entry(CONTENT_LENGTH)
                .or_insert(HeaderValue::from_static("0"));
        }
        let head = Request::from_parts(parts, ());
        let (mut answer, stream) = match self.requests.send_request(head, is_whole) {
            Ok(begun) => begun,
            Err(error) if self.is_closed() => {
                return Err(Unanswered::Unsent(None, far.broken_head(error)));
            }
            Err(error) => return Err(Unanswered::Broken(far.broken_head(error))),
        };
        let number = answer.stream_id().as_u32();
        let mut upload = (!is_whole).then(|| Upload::begin(content, stream, given_up, uploading));
        let answered = poll_fn(|cx| {
            // Polled only when no interim answer is left: polling the answer drops later interim answers.
            let answered = loop {
                match answer.poll_informational(cx) {
                    // RFC 9113 section 8.6: there is no such answer in HTTP/2.
                    Poll::Ready(Some(Ok(interim)))
                        if interim.status() == StatusCode::SWITCHING_PROTOCOLS =>
                    {
                        let broken = far.unusable(AnswerError::UnaskedUpgrade);
                        return Poll::Ready(Err(Unanswered::Broken(broken)));
                    }
                    Poll::Ready(Some(Ok(interim))) => {
                        on_interim(interim.status(), interim.headers());
                    }
                    Poll::Ready(Some(Err(_)) | None) => break answer.poll_unpin(cx),
                    Poll::Pending => break Poll::Pending,
                }
            };
            if let Poll::Ready(Ok(answered)) = answered {
                return Poll::Ready(Ok(answered));
            }
            if let Some(upload) = &mut upload
                && let Poll::Ready(error) = upload.poll_broken(cx)
            {
                return Poll::Ready(Err(Unanswered::Content(error)));
            }
            answered.map_err(|error| self.unanswered(number, error, &far))
        });
        let answered = answered.await?;
        if let Some(upload) = upload {
            upload.detach();
        }
        let (parts, content) = answered.into_parts();
        let content = Received::new(content, &parts.headers);
        Ok(Response::from_parts(parts, content.into()))
    }

    /// Why the request of a stream has no answer. An origin has not processed the request if it refused
    /// the stream (RFC 9113 section 8.7), or excluded it with GOAWAY (section 6.8; h2 reports this error
    /// only for excluded streams). The request was not sent if its stream was still waiting for the
    /// origin's limit of streams.
    fn unanswered<B>(&self, stream: u32, error: h2::Error, far: &FarEnd) -> Unanswered<B> {
        let is_goaway = error.is_go_away() && error.is_remote();
        if is_goaway {
            far.go_away();
        }
        let is_refused =
            error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM);
        if is_goaway || is_refused {
            return Unanswered::Unprocessed(without_debug_data(error));
        }
        let broken = far.broken_head(error);
        if stream > self.last_sent.load(Ordering::Relaxed) {
            Unanswered::Unsent(None, broken)
        } else {
            Unanswered::Broken(broken)
        }
    }
}

/// Sends the content of a request. Dropping it resets the stream.
struct Upload {
    /// Gets the error when the content breaks off.
    broken: Option<oneshot::Receiver<BodyError>>,
    task: AbortOnDropHandle<()>,
}

impl Upload {
    /// Sends the content until the client has given the request up.
    fn begin<B: Outgoing>(
        content: B,
        mut stream: SendStream<Bytes>,
        given_up: Option<GivenUp>,
        uploading: Option<Http2Use>,
    ) -> Self {
        let (breaks, broken) = oneshot::channel();
        let task = tokio::spawn(async move {
            let given_up = async {
                match given_up {
                    Some(GivenUp(token)) => token.cancelled_owned().await,
                    None => std::future::pending().await,
                }
            };
            let sent = tokio::select! {
                biased;
                sent = http2::send(content, &mut stream) => sent,
                () = given_up => {
                    stream.send_reset(Reason::CANCEL);
                    drop(uploading);
                    return;
                }
            };
            match sent {
                Ok(()) => {
                    if let Some(uploading) = uploading {
                        uploading.release();
                    }
                }
                Err(SendError::Content(error)) => {
                    let reason = http2::reason(&error).unwrap_or(Reason::CANCEL);
                    // Before the reset, which ends the answer too.
                    let _ = breaks.send(error);
                    stream.send_reset(reason);
                }
                Err(SendError::Stream(error)) => {
                    let error = SendError::Stream(error.map(without_debug_data));
                    tracing::debug!(%error, "an origin takes no more of a request");
                }
            }
        });
        Self {
            broken: Some(broken),
            task: AbortOnDropHandle::new(task),
        }
    }

    /// Resolves when the content has broken off.
    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(broken) = &mut self.broken else {
            return Poll::Pending;
        };
        match broken.poll_unpin(cx) {
            Poll::Ready(Ok(error)) => Poll::Ready(error),
            Poll::Ready(Err(_)) => {
                self.broken = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Continues while the answer arrives.
    fn detach(self) {
        self.task.detach();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use http_body_util::combinators::UnsyncBoxBody;
    use http_body_util::{BodyExt as _, Empty};
    use tokio::io::{AsyncReadExt as _, DuplexStream};

    use super::*;
    use crate::activity::Activity;
    use crate::frames::Side;
    use crate::http2_memory::Http2Memory;
    use crate::owner::{ConnectionHandle, Owners};

    /// Begins HTTP/2 with an origin at the other end of this pipe.
    async fn connected(
        near: DuplexStream,
    ) -> (Http2Sender, Connection<Observed<DuplexStream, FrameMeter>>) {
        let memory = Arc::new(Http2Memory::new(Arc::new(Owners::new(None))));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 9));
        let share = memory.take(NEED, &ConnectionHandle::new(nowhere, nowhere));
        let messages = Arc::new(Activity::new());
        let meter = FrameMeter::new(Side::Client, "origin".to_owned(), messages);
        let last_sent = meter.last_sent();
        handshake(Observed::new(near, meter), last_sent, &share)
            .await
            .expect("a connection")
    }

    fn no_content() -> UnsyncBoxBody<Bytes, BodyError> {
        Empty::new().map_err(|never| match never {}).boxed_unsync()
    }

    fn get() -> Request<UnsyncBoxBody<Bytes, BodyError>> {
        let request = Request::get("https://origin.test/").body(no_content());
        request.expect("a request")
    }

    /// gRPC servers close the connection on the third PING within five minutes.
    #[tokio::test(start_paused = true)]
    async fn m6_an_origin_is_sent_no_pings_while_a_stream_is_silent() {
        const PING: u8 = 6;
        let (near, mut far) = tokio::io::duplex(1 << 20);
        let (sender, connection) = connected(near).await;
        let driver = tokio::spawn(connection);
        let answer = sender.send(get(), FarEnd::unix_socket(), None, |_, _| {});
        let answer = tokio::spawn(answer);
        // The paused clock advances whenever all tasks are idle.
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(!answer.is_finished() && !driver.is_finished());
        let mut sent = Vec::new();
        while let Some(read) = far.read_buf(&mut sent).now_or_never() {
            assert_ne!(read.expect("frames"), 0);
        }
        let mut frames = sent.split_off(PREFACE_LENGTH);
        while frames.len() >= 9 {
            assert_ne!(frames[3], PING);
            let length = u32::from_be_bytes([0, frames[0], frames[1], frames[2]]) as usize;
            frames.drain(..9 + length);
        }
    }

    /// Interim answers also come in the middle of a poll. This one polls all the time, so that some do.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn h1_no_interim_answer_is_lost_between_two_looks() {
        const REQUESTS: usize = 2000;
        let (near, far) = tokio::io::duplex(1 << 20);
        let origin = tokio::spawn(async move {
            let mut origin = h2::server::handshake(far).await.expect("a connection");
            while let Some(request) = origin.accept().await {
                let (_, mut respond) = request.expect("a request");
                let mut hint = Response::new(());
                *hint.status_mut() = StatusCode::EARLY_HINTS;
                respond.send_informational(hint).expect("a stream");
                tokio::spawn(async move {
                    tokio::task::yield_now().await;
                    let answer = respond.send_response(Response::new(()), true);
                    answer.expect("a stream");
                });
            }
        });
        let (sender, connection) = connected(near).await;
        let driver = tokio::spawn(connection);
        let seen = Arc::new(AtomicU32::new(0));
        for _ in 0..REQUESTS {
            let count = Arc::clone(&seen);
            let on_interim = move |_, _: &HeaderMap| {
                count.fetch_add(1, Ordering::Relaxed);
            };
            let answer = sender
                .clone()
                .send(get(), FarEnd::unix_socket(), None, on_interim);
            let polled = tokio::task::spawn_blocking(move || {
                let mut answer = std::pin::pin!(answer);
                let mut context = Context::from_waker(Waker::noop());
                loop {
                    if let Poll::Ready(answer) = answer.as_mut().poll(&mut context) {
                        return answer.is_ok();
                    }
                }
            });
            assert!(polled.await.expect("no panic"));
        }
        assert_eq!(seen.load(Ordering::Relaxed) as usize, REQUESTS);
        driver.abort();
        origin.abort();
    }

    const PREFACE_LENGTH: usize = 24;
}
