//! The content of an incoming message: hyper reads it over HTTP/1, h2 over HTTP/2.

mod received;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
pub(crate) use received::Received;

/// Why content broke off.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// Content from a client or an origin, with its trailer fields.
pub(crate) enum Incoming {
    Http1(hyper::body::Incoming),
    Http2(Received),
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Http1(content) => Pin::new(content).poll_frame(cx).map_err(Into::into),
            Self::Http2(content) => Pin::new(content).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(content) => content.is_end_stream(),
            Self::Http2(content) => content.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(content) => content.size_hint(),
            Self::Http2(content) => content.size_hint(),
        }
    }
}

impl From<hyper::body::Incoming> for Incoming {
    fn from(content: hyper::body::Incoming) -> Self {
        Self::Http1(content)
    }
}

impl From<Received> for Incoming {
    fn from(content: Received) -> Self {
        Self::Http2(content)
    }
}
