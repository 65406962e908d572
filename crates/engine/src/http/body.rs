//! The bodies of answers. The proxy never holds a whole body of an upstream; each body knows what its
//! end means.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use codex_network_policy::{self as policy};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::decoded::Decoded;
use super::frame;
use super::headers;
use super::inspect::Inspection;
use super::request_body::RequestBody;
use super::request_state::ActiveRequest;
use super::scrubbed::Scrubbed;
use super::watched_requests::WatchGuard;
use crate::broker::CurrentScrubber;
use crate::content_coding::Decoder;
use crate::enforce::Flow;
use crate::incoming::{BodyError, Incoming};
use crate::upstream::{Lease, UpstreamError};

/// After the answer to a refused HTTP/2 request, we read and discard up to this many bytes of the
/// request, for up to this time.
const MAX_DISCARDED: usize = 64 * 1024 * 1024;
const DISCARD_TIMEOUT: Duration = Duration::from_secs(5);

/// An answer's body on its way to the client.
pub(crate) struct AnswerBody {
    content: AnswerContent,
    /// Released when the answer has been sent or abandoned.
    _active: Option<ActiveRequest>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "most answers are an upstream's, and cost no allocation"
)]
enum AnswerContent {
    Own(Full<Bytes>),
    /// The content of an upstream's answer, without real values of credentials.
    Scrubbed(Box<Scrubbed<AnswerBody>>),
    /// The content of an upstream's answer, without its content codings.
    Decoded(Box<Decoded<AnswerBody>>),
    Upstream {
        body: Incoming,
        /// The bytes that are missing yet, if the content has a length.
        left: Option<u64>,
        /// The connection, which is kept if the body ends without an error.
        lease: Option<Lease<RequestBody>>,
        /// Lets a held-back request body end with the answer.
        _expected: Option<oneshot::Sender<()>>,
        inspection: Option<Box<Inspection>>,
        flow: Flow,
        /// Whether the end of the content completes the flow.
        completes: bool,
        _watch: WatchGuard,
    },
}

/// Whether a request has content: in HTTP/1 by its framing, in HTTP/2 unless its HEADERS end the
/// stream. `Content-Length: 0` means no content. Chunked framing counts as content, even of length 0.
pub(super) fn content(body: &Incoming) -> policy::Content {
    if body.is_end_stream() {
        policy::Content::Absent
    } else {
        policy::Content::Present
    }
}

/// The content of an answer broke off, with an error or before its length. The connection is in no
/// state to carry another request.
fn broke_off(
    flow: &Flow,
    lease: &mut Option<Lease<RequestBody>>,
    error: Option<BodyError>,
) -> BodyError {
    let Some(lease) = lease.take() else {
        return "the content broke off".into();
    };
    let failure = UpstreamError::from(lease.broken_body(error));
    flow.end(failure.ending());
    failure.into()
}

impl AnswerBody {
    /// A body of our own.
    pub(crate) fn own(text: impl Into<Bytes>) -> Self {
        Self {
            content: AnswerContent::Own(Full::new(text.into())),
            _active: None,
        }
    }

    /// The body of an upstream's answer.
    pub(super) fn upstream(
        body: Incoming,
        lease: Lease<RequestBody>,
        expected: Option<oneshot::Sender<()>>,
        inspection: Option<Box<Inspection>>,
        watch: WatchGuard,
        flow: Flow,
    ) -> Self {
        let mut lease = Some(lease);
        if body.is_end_stream()
            && let Some(lease) = lease.take()
        {
            lease.release();
            flow.complete();
        }
        Self {
            content: AnswerContent::Upstream {
                body,
                left: None,
                lease,
                _expected: expected,
                inspection,
                flow,
                completes: true,
                _watch: watch,
            },
            _active: None,
        }
    }

    /// Ends an upstream's body after this many bytes. The upstream's connection ends too.
    pub(super) fn ending_after(mut self, length: u64) -> Self {
        if let AnswerContent::Upstream { left, lease, .. } = &mut self.content {
            *left = Some(length);
            if let Some(lease) = lease {
                lease.retire();
            }
        }
        self
    }

    /// Removes real values of credentials from the content.
    pub(super) fn scrubbed(self, scrubber: &Arc<CurrentScrubber>) -> Self {
        if self.is_end_stream() {
            return self;
        }
        Self {
            content: AnswerContent::Scrubbed(Box::new(Scrubbed::new(self, scrubber))),
            _active: None,
        }
    }

    /// Removes the content codings from the content of an upstream. Content that cannot be decoded ends with this
    /// failure.
    pub(super) fn decoded(mut self, decoder: Decoder, failure: UpstreamError) -> Self {
        let AnswerContent::Upstream {
            flow, completes, ..
        } = &mut self.content
        else {
            return self;
        };
        *completes = false;
        let flow = flow.clone();
        Self {
            content: AnswerContent::Decoded(Box::new(Decoded::new(self, decoder, flow, failure))),
            _active: None,
        }
    }

    /// Drops a body of our own, for an answer to HEAD.
    pub(super) fn leave_out_own(&mut self) {
        if let AnswerContent::Own(body) = &mut self.content {
            *body = Full::default();
        }
    }

    /// Keeps the request in hand until the body has been sent or abandoned.
    pub(super) fn tracked(self, active: ActiveRequest) -> Self {
        active.begin_answer();
        Self {
            _active: Some(active),
            ..self
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.get_mut().content {
            AnswerContent::Own(body) => Pin::new(body)
                .poll_frame(cx)
                .map_err(|never| match never {}),
            AnswerContent::Scrubbed(body) => body.poll(cx),
            AnswerContent::Decoded(body) => body.poll(cx),
            AnswerContent::Upstream { left: Some(0), .. } => Poll::Ready(None),
            AnswerContent::Upstream {
                body,
                left,
                lease,
                inspection,
                flow,
                completes,
                ..
            } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                let frame = match (frame, &mut *left) {
                    (Some(Ok(frame)), Some(left)) => Some(Ok(take_from(left, frame))),
                    (Some(Err(error)), _) => Some(Err(broke_off(flow, lease, Some(error)))),
                    (None, Some(_)) => Some(Err(broke_off(flow, lease, None))),
                    (frame, None) => frame,
                };
                frame::inspect(inspection, frame.as_ref());
                flow.received(frame::length(frame.as_ref()));
                let ended = match &frame {
                    None => true,
                    Some(Ok(_)) => body.is_end_stream(),
                    Some(Err(_)) => false,
                };
                if ended && let Some(lease) = lease.take() {
                    lease.release();
                }
                let is_complete = ended || (*left == Some(0) && matches!(frame, Some(Ok(_))));
                if is_complete && *completes {
                    flow.complete();
                }
                Poll::Ready(frame.map(|frame| {
                    frame.map(|frame| frame::with_trailers(frame, headers::trailers_to_client))
                }))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            AnswerContent::Own(body) => body.is_end_stream(),
            AnswerContent::Scrubbed(body) => body.is_end_stream(),
            AnswerContent::Decoded(body) => body.is_end_stream(),
            AnswerContent::Upstream { body, left, .. } => *left == Some(0) || body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            AnswerContent::Own(body) => body.size_hint(),
            AnswerContent::Scrubbed(body) => body.size_hint(),
            AnswerContent::Decoded(_) => SizeHint::default(),
            AnswerContent::Upstream {
                left: Some(left), ..
            } => SizeHint::with_exact(*left),
            AnswerContent::Upstream { body, .. } => body.size_hint(),
        }
    }
}

/// Reads and discards the rest of an HTTP/2 request that was already answered. RFC 9113 section 8.1
/// allows us to reset the stream instead. But some clients (Java's, httpx) read the answer only after
/// they could send their request, so they would never see it.
pub(super) async fn discard(mut body: Incoming) {
    let discarded = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, Bytes::len);
            if taken > MAX_DISCARDED {
                break;
            }
        }
    };
    // A client that needs longer gets a reset.
    let _ = timeout(DISCARD_TIMEOUT, discarded).await;
}

/// The beginning of a part, at most `left` bytes.
fn take_from(left: &mut u64, frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_data() {
        Ok(mut data) => {
            data.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= data.len() as u64;
            Frame::data(data)
        }
        Err(frame) => frame,
    }
}
