//! The content of an answer without the real values of credentials (SPEC B12).

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::brokering::scrub_fields;
use crate::broker::{CurrentScrubber, ScrubbedStream};
use crate::incoming::BodyError;

/// A body whose content is scrubbed while it passes. A value may be refreshed meanwhile, and the origin may then have
/// the newer one, so each part is searched with the scrubber in force after the part has arrived.
pub(super) struct Scrubbed<B> {
    body: B,
    current: Arc<CurrentScrubber>,
    stream: ScrubbedStream,
    /// Pieces that may be sent on.
    ready: VecDeque<Bytes>,
    trailers: Option<HeaderMap>,
    /// Whether all of the content has arrived.
    has_ended: bool,
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Scrubbed<B> {
    pub(super) fn new(body: B, current: &Arc<CurrentScrubber>) -> Self {
        Self {
            has_ended: body.is_end_stream(),
            body,
            current: Arc::clone(current),
            stream: ScrubbedStream::new(current.load()),
            ready: VecDeque::new(),
            trailers: None,
        }
    }

    fn finish(&mut self) {
        self.has_ended = true;
        self.stream.follow(&self.current);
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
                    self.stream.follow(&self.current);
                    let ready = &mut self.ready;
                    self.stream.push(piece, |piece| ready.push_back(piece));
                    if self.body.is_end_stream() {
                        self.finish();
                    }
                }
                Err(frame) => {
                    self.stream.follow(&self.current);
                    self.trailers = frame.into_trailers().ok().map(|mut trailers| {
                        scrub_fields(self.stream.scrubber(), &mut trailers);
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
        let preserves_length = self.stream.scrubber().preserves_length();
        if preserves_length && self.ready.is_empty() && !self.has_ended {
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use http::HeaderValue;
    use parking_lot::Mutex;

    use super::*;
    use crate::broker::Scrubber;

    const VALUE: &str = "sk-proj-Zm9vYmFyLWJhei1xdXV4";
    const RENEWED: &str = "sk-proj-UmVuZXdlZC1iYXotcXV4";
    const DUMMY: &str = "sk-proj-maskedY2FsbGVkLWl0Lj";

    /// An answer that has more frames later.
    #[derive(Clone, Default)]
    struct Open(Arc<Mutex<VecDeque<Frame<Bytes>>>>);

    impl Body for Open {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            let next = self.0.lock().pop_front();
            next.map_or(Poll::Pending, |frame| Poll::Ready(Some(Ok(frame))))
        }
    }

    struct Answer {
        origin: Open,
        current: Arc<CurrentScrubber>,
        body: Scrubbed<Open>,
    }

    impl Answer {
        /// An answer that begins before the refresh.
        fn begin() -> Self {
            let origin = Open::default();
            let current = Arc::new(CurrentScrubber::new(Scrubber::new([(VALUE, DUMMY)])));
            let body = Scrubbed::new(origin.clone(), &current);
            Self {
                origin,
                current,
                body,
            }
        }

        fn refresh(&self) {
            let pairs = [(RENEWED, DUMMY), (VALUE, DUMMY)];
            self.current.replace(Scrubber::new(pairs));
        }

        /// The content that the client gets after this frame, and the trailers.
        fn after(&mut self, frame: Frame<Bytes>) -> (String, Option<HeaderMap>) {
            self.origin.0.lock().push_back(frame);
            let mut content = Vec::new();
            let mut cx = Context::from_waker(Waker::noop());
            while let Poll::Ready(Some(frame)) = self.body.poll(&mut cx) {
                match frame.expect("a frame").into_data() {
                    Ok(piece) => content.extend_from_slice(&piece),
                    Err(frame) => {
                        let text = String::from_utf8(content).expect("text");
                        return (text, frame.into_trailers().ok());
                    }
                }
            }
            (String::from_utf8(content).expect("text"), None)
        }

        fn after_data(&mut self, piece: &str) -> String {
            let piece = Bytes::copy_from_slice(piece.as_bytes());
            self.after(Frame::data(piece)).0
        }
    }

    #[test]
    fn b12_an_answer_that_began_before_a_refresh_is_scrubbed_of_the_newer_value() {
        let mut answer = Answer::begin();
        let event = |value: &str| format!("data: {value}\n\n");
        assert_eq!(answer.after_data(&event(VALUE)), event(DUMMY));
        answer.refresh();
        for value in [RENEWED, VALUE] {
            assert_eq!(answer.after_data(&event(value)), event(DUMMY));
        }
    }

    #[test]
    fn b12_a_newer_value_that_began_before_the_refresh_is_found() {
        for at in 1..RENEWED.len() {
            let mut answer = Answer::begin();
            let (begin, rest) = RENEWED.split_at(at);
            let mut content = answer.after_data(&format!("data: {begin}"));
            assert_eq!(content, "data: ");
            answer.refresh();
            content += &answer.after_data(&format!("{rest}\n\n"));
            assert_eq!(content, format!("data: {DUMMY}\n\n"));
        }
    }

    #[test]
    fn b12_trailers_after_a_refresh_are_scrubbed_of_the_newer_value() {
        let mut answer = Answer::begin();
        assert_eq!(answer.after_data(&format!("token={RENEWED}")), "");
        answer.refresh();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-token", HeaderValue::from_static(RENEWED));
        let (content, trailers) = answer.after(Frame::trailers(trailers));
        assert_eq!(content, format!("token={DUMMY}"));
        assert_eq!(trailers.expect("trailers")["x-token"], DUMMY);
    }
}
