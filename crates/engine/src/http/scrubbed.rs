//! The content of an answer without the real values of credentials (SPEC B12).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::brokering::scrub_fields;
use crate::broker::{ScrubbedStream, Scrubber};
use crate::incoming::BodyError;

/// A body whose content is scrubbed while it passes.
pub(super) struct Scrubbed<B> {
    body: B,
    scrubber: Arc<Scrubber>,
    stream: ScrubbedStream,
    /// Pieces that may be sent on.
    ready: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// Whether all of the content has arrived.
    has_ended: bool,
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Scrubbed<B> {
    pub(super) fn new(body: B, scrubber: &Arc<Scrubber>) -> Self {
        Self {
            has_ended: body.is_end_stream(),
            body,
            scrubber: Arc::clone(scrubber),
            stream: ScrubbedStream::new(Arc::clone(scrubber)),
            ready: VecDeque::new(),
            trailers: None,
        }
    }

    fn finish(&mut self) {
        self.has_ended = true;
        let ready = &mut self.ready;
        self.stream.finish(|piece| ready.push_back(piece));
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.has_ended {
                let trailers = self.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    self.finish();
                    continue;
                }
            };
            match frame.into_data() {
                Ok(piece) => {
                    let ready = &mut self.ready;
                    self.stream.push(piece, |piece| ready.push_back(piece));
                    if self.body.is_end_stream() {
                        self.finish();
                    }
                }
                Err(frame) => {
                    self.trailers = frame.into_trailers().ok().map(|mut trailers| {
                        scrub_fields(&self.scrubber, &mut trailers);
                        trailers
                    });
                    self.finish();
                }
            }
        }
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.has_ended && self.ready.is_empty() && self.trailers.is_none()
    }

    /// The length, where it is that of the upstream's content: before the first piece, of content that keeps
    /// its length.
    pub(super) fn size_hint(&self) -> SizeHint {
        if self.scrubber.preserves_length() && self.ready.is_empty() && !self.has_ended {
            let held = self.stream.held_bytes() as u64;
            match self.body.size_hint().exact() {
                Some(exact) => SizeHint::with_exact(exact + held),
                None => SizeHint::default(),
            }
        } else {
            SizeHint::default()
        }
    }
}
