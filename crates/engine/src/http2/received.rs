//! Content that comes over HTTP/2.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use hyper::body::{Body, Frame, SizeHint};

/// The content of a message, and its trailer fields. The peer may send more when a part is taken.
pub(crate) struct Received {
    stream: RecvStream,
    /// Bytes that are still to come, if `Content-Length` says so. h2 compares the two.
    left: Option<u64>,
    /// Whether the DATA frames are over.
    has_all_data: bool,
}

impl Received {
    /// The content behind these fields.
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
        }
    }

    /// The stream was reset. With `NO_ERROR` an origin that has answered in full asks for no more of the
    /// request (RFC 9113 section 8.1). h2 then reports the reset in place of the end.
    fn ended(&self, error: h2::Error) -> Option<Result<Frame<Bytes>, h2::Error>> {
        let lacks_nothing = self.left.is_none_or(|left| left == 0);
        if error.is_remote() && error.reason() == Some(Reason::NO_ERROR) && lacks_nothing {
            return None;
        }
        Some(Err(error))
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
                Some(Err(error)) => return Poll::Ready(self.ended(error)),
                None => self.has_all_data = true,
            }
        }
        Poll::Ready(match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers.map(Frame::trailers).map(Ok),
            Err(error) => self.ended(error),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
