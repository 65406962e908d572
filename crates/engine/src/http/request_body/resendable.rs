//! Content that can be sent again.
//!
//! We remember the content that was already sent, up to a limit and only until there is an answer. A
//! connection that failed may still hold its handle of the content; the handle ends when the content is
//! taken back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};

use super::RequestBody;
use crate::incoming::BodyError;

/// Most bytes that we remember: the window that every HTTP/2 origin grants at the start (RFC 9113
/// section 6.9.2). We cannot have sent more to an origin that refuses a stream at once.
const MAX_REMEMBERED: usize = 65_535;
/// Each part counts as at least this many bytes: a part of one byte costs more memory than its byte.
const MIN_PART: usize = 1024;

/// The content of a request, as one connection reads it.
pub(crate) struct Resendable {
    content: Arc<Mutex<RememberedContent>>,
    /// The number of the attempt that reads the content here.
    sending: usize,
}

/// Takes content back. Dropping it means that the content will not be needed again.
pub(in crate::http) struct Original(Arc<Mutex<RememberedContent>>);

struct RememberedContent {
    /// The content that no connection has read yet.
    rest: Box<RequestBody>,
    /// The parts that a connection has read, unless they exceed the limit.
    remembered: Option<Vec<Part>>,
    /// The size of the remembered parts, as they count against the limit.
    length: usize,
    /// How many of those parts the present attempt has read.
    given: usize,
    sending: usize,
    is_wanted: bool,
}

#[derive(Clone)]
enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Resendable {
    /// Content that no connection has read yet, and the means to take it back.
    pub(in crate::http) fn new(body: RequestBody) -> (Self, Original) {
        let content = Arc::new(Mutex::new(RememberedContent {
            rest: Box::new(body),
            remembered: Some(Vec::new()),
            length: 0,
            given: 0,
            sending: 0,
            is_wanted: true,
        }));
        let original = Original(Arc::clone(&content));
        (
            Self {
                content,
                sending: 0,
            },
            original,
        )
    }

    fn content(&self) -> Option<MutexGuard<'_, RememberedContent>> {
        let content = lock(&self.content);
        (content.sending == self.sending).then_some(content)
    }
}

impl Original {
    /// All of the content once more, if it is remembered. The earlier attempt cannot read on.
    pub(in crate::http) fn again(&self) -> Option<Resendable> {
        let mut content = lock(&self.0);
        content.remembered.as_ref()?;
        content.given = 0;
        content.sending += 1;
        Some(Resendable {
            content: Arc::clone(&self.0),
            sending: content.sending,
        })
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        let mut content = lock(&self.0);
        content.is_wanted = false;
        if content.pending().is_empty() {
            content.remembered = None;
        }
    }
}

impl RememberedContent {
    /// The remembered parts that the present attempt has not read.
    fn pending(&self) -> &[Part] {
        self.remembered
            .as_ref()
            .map_or(&[], |parts| &parts[self.given..])
    }

    fn remember(&mut self, part: impl FnOnce() -> Part, length: usize) {
        self.length += length.max(MIN_PART);
        match &mut self.remembered {
            Some(parts) if self.is_wanted && self.length <= MAX_REMEMBERED => {
                parts.push(part());
                self.given += 1;
            }
            remembered => *remembered = None,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(part) = self.pending().first().cloned() {
            self.given += 1;
            return Poll::Ready(Some(Ok(part.into())));
        }
        let frame = ready!(Pin::new(&mut *self.rest).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    // A copy: a reference into h2's read buffer would keep the whole buffer.
                    let copy = || Part::Data(Bytes::copy_from_slice(data));
                    self.remember(copy, data.len());
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.remember(|| Part::Trailers(trailers.clone()), 0);
                }
            }
            Some(Err(_)) => self.remembered = None,
            None => {}
        }
        Poll::Ready(frame)
    }
}

impl From<Part> for Frame<Bytes> {
    fn from(part: Part) -> Self {
        match part {
            Part::Data(data) => Self::data(data),
            Part::Trailers(trailers) => Self::trailers(trailers),
        }
    }
}

impl Body for Resendable {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some(mut content) = self.content() else {
            return Poll::Ready(Some(Err("the content was taken back".into())));
        };
        content.poll(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.content()
            .is_some_and(|content| content.pending().is_empty() && content.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let Some(content) = self.content() else {
            return SizeHint::default();
        };
        let pending: usize = content.pending().iter().map(Part::len).sum();
        match (content.rest.size_hint().exact(), u64::try_from(pending)) {
            (Some(rest), Ok(pending)) => SizeHint::with_exact(rest + pending),
            _ => SizeHint::default(),
        }
    }
}

impl Part {
    fn len(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }
}

fn lock(content: &Mutex<RememberedContent>) -> MutexGuard<'_, RememberedContent> {
    content.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Many tiny frames cannot make the proxy hold more memory than the limit.
    #[test]
    fn m6_parts_count_for_what_they_cost() {
        for (size, wanted) in [(1, 63), (1024, 63), (16_384, 3)] {
            let (body, original) = Resendable::new(RequestBody::empty());
            let mut content = lock(&body.content);
            let remembered = (0..1000).take_while(|_| {
                content.remember(|| Part::Data(Bytes::from_static(b"x")), size);
                content.remembered.is_some()
            });
            assert_eq!(remembered.count(), wanted, "{size}");
            drop(content);
            assert!(original.again().is_none(), "{size}");
        }
    }
}
