//! The content of an answer without its content codings (SPEC B12).

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame};

use crate::content_coding::{CodingError, Decoder};
use crate::enforce::Flow;
use crate::incoming::BodyError;
use crate::upstream::UpstreamError;

/// A body that is decoded while it passes.
pub(super) struct Decoded<B> {
    body: B,
    decoder: Decoder,
    trailers: Option<HeaderMap>,
    progress: Progress,
    flow: Flow,
    /// The failure because of content that cannot be decoded.
    failure: Option<UpstreamError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Open,
    /// All of the content has arrived.
    Arrived,
    /// All of it was sent on, but perhaps the trailer section.
    Sent,
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Decoded<B> {
    /// The body must leave the end of the flow to this one.
    pub(super) fn new(body: B, decoder: Decoder, flow: Flow, failure: UpstreamError) -> Self {
        Self {
            body,
            decoder,
            trailers: None,
            progress: Progress::Open,
            flow,
            failure: Some(failure),
        }
    }

    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            if self.progress == Progress::Sent {
                let trailers = self.trailers.take();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            match ready!(self.decoder.poll_piece(cx)) {
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Ok(None) => {}
                Err(error) => return self.fail(error),
            }
            if self.progress == Progress::Arrived {
                if let Err(error) = self.decoder.finish() {
                    return self.fail(error);
                }
                self.progress = Progress::Sent;
                self.flow.complete();
                continue;
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.decoder.push(piece),
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        self.progress = Progress::Arrived;
                    }
                },
                None => self.progress = Progress::Arrived,
            }
        }
    }

    /// Ends the answer. The client sees that it is incomplete.
    fn fail(&mut self, error: CodingError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.progress = Progress::Sent;
        self.trailers = None;
        let error: BodyError = match self.failure.take() {
            Some(failure) => {
                self.flow.end(failure.ending());
                failure.into()
            }
            None => error.into(),
        };
        Poll::Ready(Some(Err(error)))
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.progress == Progress::Sent && self.trailers.is_none()
    }
}
