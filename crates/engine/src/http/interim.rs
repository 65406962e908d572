//! Interim answers (1xx) on their way from an origin to the client (RFC 9110 section 15.2). Over HTTP/1
//! this module writes them, since hyper's server cannot.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version};
use parking_lot::{Mutex, MutexGuard};
use tokio::time::timeout;

use super::Session;
use super::response_stream::ResponseStream;
use crate::respond;

/// Interim answers kept for a slow client. Further ones are dropped, which RFC 9110 section 15.2
/// allows.
const MAX_INTERIM: usize = 16;

/// The queue or stream that takes the interim answers to one request.
#[derive(Clone)]
pub(super) enum InterimTarget {
    /// HTTP/1.0 has no interim answers.
    Nowhere,
    /// To the queue of the connection.
    Connection(InterimQueue),
    /// Over HTTP/2: to the stream of the request.
    Stream(ResponseStream),
}

impl InterimTarget {
    /// Makes the target for a client that speaks this version. Over HTTP/2 the caller must set the
    /// stream.
    pub(super) fn of(version: Version, session: &Session) -> Self {
        if version == Version::HTTP_11 {
            Self::Connection(session.interim.clone())
        } else {
            Self::Nowhere
        }
    }

    /// Passes an interim answer on.
    pub(super) fn pass(&self, status: StatusCode, fields: &HeaderMap) {
        match self {
            Self::Nowhere => {}
            // hyper sends it when it reads the content.
            Self::Connection(_) if status == StatusCode::CONTINUE => {}
            Self::Connection(queue) => queue.push(respond::interim(status, fields)),
            Self::Stream(stream) => stream.interim(status, fields),
        }
    }
}

/// Interim answers on their way out.
#[derive(Clone, Debug, Default)]
pub(super) struct InterimQueue(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    answers: VecDeque<Bytes>,
    /// Whether the last one taken is still being written.
    writing: bool,
    waker: Option<Waker>,
}

impl InterimQueue {
    /// Queues an interim answer.
    pub(super) fn push(&self, answer: Bytes) {
        let mut queue = self.lock();
        if queue.answers.len() < MAX_INTERIM {
            queue.answers.push_back(answer);
        }
    }

    /// Resolves when all queued answers have been written: only then may the final answer follow.
    /// Answers that the client does not take within `limit` are dropped.
    pub(super) async fn written(&self, limit: Duration) {
        if self.lock().is_written() {
            return;
        }
        let written = poll_fn(|cx| {
            let mut queue = self.lock();
            if queue.is_written() {
                return Poll::Ready(());
            }
            queue.waker = Some(cx.waker().clone());
            Poll::Pending
        });
        if timeout(limit, written).await.is_err() {
            self.lock().answers.clear();
        }
    }

    /// The next one to write. The previous one has been written.
    pub(super) fn pop(&self) -> Option<Bytes> {
        let mut queue = self.lock();
        let next = queue.answers.pop_front();
        queue.writing = next.is_some();
        if next.is_none()
            && let Some(waker) = queue.waker.take()
        {
            waker.wake();
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock()
    }
}

impl Queue {
    fn is_written(&self) -> bool {
        self.answers.is_empty() && !self.writing
    }
}
