//! The stream on which one HTTP/2 request is answered: interim answers and the head of the final one.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use hyper::body::Body as _;
use parking_lot::{Mutex, MutexGuard};

use super::body::AnswerBody;
use crate::respond;

/// Most bytes of interim answers to one request; h2 itself does not limit what waits. Further interim
/// answers are dropped, which RFC 9110 section 15.2 allows.
const MAX_INTERIM_BYTES: usize = 16 * 1024;

/// The stream of a request, for interim answers and the final answer.
#[derive(Clone)]
pub(super) struct ResponseStream(Arc<Mutex<Responding>>);

struct Responding {
    respond: SendResponse<Bytes>,
    /// Bytes of interim answers that may still be sent.
    interim_left: usize,
}

impl ResponseStream {
    pub(super) fn new(respond: SendResponse<Bytes>) -> Self {
        Self(Arc::new(Mutex::new(Responding {
            respond,
            interim_left: MAX_INTERIM_BYTES,
        })))
    }

    /// Sends an interim answer, if there is room for it.
    pub(super) fn interim(&self, status: StatusCode, fields: &HeaderMap) {
        let size = fields
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len() + 32)
            .sum::<usize>()
            + 32;
        let mut responding = self.lock();
        let Some(left) = responding.interim_left.checked_sub(size) else {
            return;
        };
        responding.interim_left = left;
        let interim = respond::interim_head(status, fields.clone());
        if let Err(error) = responding.respond.send_informational(interim) {
            tracing::debug!(%error, "an interim answer was not sent");
        }
    }

    /// Resolves when the client has reset the stream, or the connection has ended.
    pub(super) async fn reset(&self) {
        poll_fn(
            |cx: &mut Context<'_>| match self.lock().respond.poll_reset(cx) {
                Poll::Ready(_) => Poll::Ready(()),
                Poll::Pending => Poll::Pending,
            },
        )
        .await;
    }

    /// Tells the client that its request was not processed (RFC 9113 section 8.7).
    pub(super) fn refuse(&self) {
        self.lock().respond.send_reset(Reason::REFUSED_STREAM);
    }

    /// Sends the head of an answer. If content follows, it is sent to the stream.
    pub(super) fn begin(
        &self,
        answer: Response<AnswerBody>,
    ) -> Result<(Option<AnswerBody>, SendStream<Bytes>), h2::Error> {
        let (mut parts, content) = answer.into_parts();
        // Answers of our own announce the end of their connection (RFC 9113 section 8.2.2).
        parts.headers.remove(CONNECTION);
        let is_whole = content.is_end_stream();
        if !is_whole && let Some(length) = content.size_hint().exact() {
            parts
                .headers
                .entry(CONTENT_LENGTH)
                .or_insert_with(|| HeaderValue::from(length));
        }
        let head = Response::from_parts(parts, ());
        let mut responding = self.lock();
        match responding.respond.send_response(head, is_whole) {
            Ok(stream) => Ok(((!is_whole).then_some(content), stream)),
            Err(error) => {
                responding.respond.send_reset(Reason::INTERNAL_ERROR);
                Err(error)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Responding> {
        self.0.lock()
    }
}
