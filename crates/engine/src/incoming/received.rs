//! Content that comes over HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use hyper::body::{Body, Frame, SizeHint};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The content of a message, and its trailer fields. Taking a part opens the window for the peer again.
pub(crate) struct Received {
    stream: RecvStream,
    /// Bytes that are still to come, if there is a `Content-Length`. h2 checks that it is right.
    left: Option<u64>,
    /// Whether the DATA frames are over.
    has_all_data: bool,
    /// Cancels a token when this is dropped.
    _taken: Option<DropGuard>,
}

impl Received {
    /// The content of a message with these fields.
    pub(crate) fn new(stream: RecvStream, fields: &HeaderMap) -> Self {
        let length = || fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        Self {
            left: if stream.is_end_stream() {
                Some(0)
            } else {
                length()
            },
            stream,
            has_all_data: false,
            _taken: None,
        }
    }

    /// Cancels the token when this is dropped: the content was read to its end or abandoned.
    pub(crate) fn cancelling(self, taken: CancellationToken) -> Self {
        Self {
            _taken: Some(taken.drop_guard()),
            ..self
        }
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.has_all_data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // It fails when the stream has ended, and then the peer needs no room.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.has_all_data = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(
            trailers
                .transpose()
                .map(|trailers| trailers.map(Frame::trailers)),
        )
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
