//! The bodies of requests on their way upstream. The proxy never holds a whole body.

mod resendable;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use codex_network_config::Action;
use codex_network_policy::Scrutiny;
use futures_util::FutureExt as _;
use http_body_util::Empty;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

pub(super) use self::resendable::{Original, Resendable};
use super::brokering::SearchInHand;
use super::inspect::Inspection;
use super::watched_requests::WatchGuard;
use super::{frame, headers};
use crate::activity::Activity;
use crate::enforce::Flow;
use crate::incoming::{BodyError, Incoming};

/// How long we hold back the body of a client that sent `Expect: 100-continue` if the origin sends
/// nothing. An origin that does not know the expectation waits for the body (RFC 9110 section 10.1.1).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// A request's body on its way upstream. It is small, since each request is moved several times and most
/// have no content.
pub(crate) enum RequestBody {
    /// No content: the request can be sent again.
    Empty(Empty<Bytes>),
    /// The content as the client sends it.
    Streamed(Box<Streamed>),
    /// Held back until the origin wants it.
    Expected(Box<Expected>),
    /// One of the kinds above, remembered so that it can be sent again.
    Resendable(Resendable),
}

/// How much of a request's content has passed.
#[derive(Debug)]
pub(super) struct UploadProgress {
    /// Notes every part: while content passes, the exchange is not idle.
    pub(super) activity: Activity,
    /// Whether some of the content has not arrived yet.
    is_partial: AtomicBool,
}

/// The content as the client sends it.
pub(crate) struct Streamed {
    pub(super) body: Incoming,
    pub(super) progress: Arc<UploadProgress>,
    pub(super) scrutiny: Scrutiny,
    /// A hook that strips a header field strips it from the trailer fields too.
    pub(super) actions: Vec<Action>,
    pub(super) inspection: Option<Box<Inspection>>,
    pub(super) flow: Flow,
    /// Looks for dummies of credentials (SPEC B11).
    pub(super) search: Option<Box<SearchInHand>>,
    pub(super) _watch: WatchGuard,
}

/// A body that waits for `100 (Continue)`.
pub(crate) struct Expected {
    body: Box<Streamed>,
    wait: Option<(oneshot::Receiver<()>, Pin<Box<Sleep>>)>,
}

impl UploadProgress {
    pub(super) fn new() -> Self {
        Self {
            activity: Activity::new(),
            is_partial: AtomicBool::new(false),
        }
    }

    pub(super) fn set_partial(&self, is_partial: bool) {
        self.is_partial.store(is_partial, Ordering::Relaxed);
    }

    pub(super) fn is_partial(&self) -> bool {
        self.is_partial.load(Ordering::Relaxed)
    }
}

impl RequestBody {
    pub(crate) fn empty() -> Self {
        Self::Empty(Empty::new())
    }

    /// Holds the body back until the sender is used, for at most a second. A sender that is dropped
    /// unused means that the origin does not want the body: the request is broken off.
    pub(crate) fn expected(body: Box<Streamed>) -> (Self, oneshot::Sender<()>) {
        let (sender, receiver) = oneshot::channel();
        let wait = Some((receiver, Box::pin(sleep(CONTINUE_TIMEOUT))));
        (Self::Expected(Box::new(Expected { body, wait })), sender)
    }
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.progress.activity.note();
        if frame.is_none() || self.body.is_end_stream() {
            self.progress.set_partial(false);
        }
        frame::inspect(&mut self.inspection, frame.as_ref());
        if let (Some(search), Some(Ok(frame))) = (&mut self.search, &frame) {
            let is_found = match (frame.data_ref(), frame.trailers_ref()) {
                (Some(data), _) => search.finds_in(data),
                (None, Some(trailers)) => search.finds_in_trailers(trailers),
                (None, None) => false,
            };
            if is_found {
                let why = "it has the dummy of a credential that may not go there";
                return Poll::Ready(Some(Err(why.into())));
            }
        }
        self.flow.sent(frame::length(frame.as_ref()));
        let frame = frame.map(|frame| {
            frame.map(|frame| {
                frame::with_trailers(frame, |trailers| {
                    headers::trailers_to_upstream(trailers, self.scrutiny);
                    for action in &self.actions {
                        headers::strip(trailers, action);
                    }
                })
            })
        });
        Poll::Ready(frame)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty(_) => Poll::Ready(None),
            Self::Streamed(body) => body.poll(cx),
            Self::Expected(expected) => {
                if let Some((wanted, give_up)) = &mut expected.wait {
                    match wanted.poll_unpin(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => {
                            return Poll::Ready(Some(Err("the body is not wanted".into())));
                        }
                        Poll::Pending => ready!(give_up.as_mut().poll(cx)),
                    }
                    expected.wait = None;
                }
                expected.body.poll(cx)
            }
            Self::Resendable(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty(_) => true,
            Self::Streamed(streamed) => streamed.body.is_end_stream(),
            Self::Expected(expected) => expected.body.body.is_end_stream(),
            Self::Resendable(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty(body) => body.size_hint(),
            Self::Streamed(streamed) => streamed.body.size_hint(),
            Self::Expected(expected) => expected.body.body.size_hint(),
            Self::Resendable(body) => body.size_hint(),
        }
    }
}
