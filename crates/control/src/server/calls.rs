//! The calls of one connection: reads them, and writes their answers.
//!
//! The server of tarpc holds 28 KiB for a connection at rest: a timer wheel, and channels with room for many
//! answers. A connection with a session rests for as long as its program runs, so here it holds next to
//! nothing.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream as _;
use futures_sink::Sink as _;
use tarpc::{ClientMessage, Request, Response};

use crate::carrier::Carrier;
use crate::service::{ControlRequest, ControlResponse};
use crate::transport::{CallerMessage, Transport};

/// Frames of one connection, on the daemon's side.
type DaemonSide<S> =
    Transport<S, CallerMessage, ClientMessage<ControlRequest>, Response<ControlResponse>>;

/// A connection with its unanswered calls. `F` answers a call.
pub(super) struct CallerConnection<S, F> {
    transport: DaemonSide<S>,
    /// They are few: [`MAX_CALLS`](super::MAX_CALLS).
    calls: Vec<Call<F>>,
    /// Answers that are not written yet.
    answers: VecDeque<Response<ControlResponse>>,
    is_flushed: bool,
}

/// A call that is being answered.
struct Call<F> {
    id: u64,
    answer: Pin<Box<F>>,
}

/// Something that happened on a connection.
pub(super) enum Event {
    /// A call arrived.
    Request(Box<Request<ControlRequest>>),
    /// At least one call was answered. The answer may not be written yet.
    Answered,
}

impl<S, F> CallerConnection<S, F>
where
    S: Carrier,
    F: Future<Output = Option<Response<ControlResponse>>>,
{
    pub(super) fn new(transport: DaemonSide<S>) -> Self {
        Self {
            transport,
            calls: Vec::new(),
            answers: VecDeque::new(),
            is_flushed: true,
        }
    }

    /// Whether no call is being answered.
    pub(super) fn is_at_rest(&self) -> bool {
        self.calls.is_empty()
    }

    /// The calls whose answers have not been written.
    pub(super) fn unanswered(&self) -> usize {
        self.calls.len() + self.answers.len()
    }

    /// Begins to answer a call. A second call with the number of one that is being answered is ignored.
    pub(super) fn begin(&mut self, id: u64, answer: F) {
        if self.calls.iter().any(|call| call.id == id) {
            return;
        }
        let answer = Box::pin(answer);
        self.calls.push(Call { id, answer });
    }

    /// Works on the calls, writes answers, and reads the next call.
    ///
    /// # Errors
    ///
    /// Returns an error if the caller has disconnected, or if a message was malformed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
        let has_answered = self.poll_calls(cx);
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(Err(error));
        }
        if has_answered {
            return Poll::Ready(Ok(Event::Answered));
        }
        loop {
            match ready!(Pin::new(&mut self.transport).poll_next(cx)?) {
                Some(ClientMessage::Request(request)) => {
                    return Poll::Ready(Ok(Event::Request(Box::new(request))));
                }
                Some(ClientMessage::Cancel { request_id, .. }) => {
                    self.calls.retain(|call| call.id != request_id);
                }
                // Other messages of tarpc do not pass the transport.
                Some(_) => {}
                None => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            }
        }
    }

    /// Whether a call has been answered, or needs no answer any more.
    fn poll_calls(&mut self, cx: &mut Context<'_>) -> bool {
        let (before, answers) = (self.calls.len(), &mut self.answers);
        self.calls.retain_mut(|call| {
            let answer = call.answer.as_mut().poll(cx);
            answer.map(|answer| answers.extend(answer)).is_pending()
        });
        let is_less = self.calls.len() < before;
        if is_less && self.calls.is_empty() {
            self.calls = Vec::new();
        }
        is_less
    }

    /// Writes the answers.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut transport = Pin::new(&mut self.transport);
        while !self.answers.is_empty() {
            ready!(transport.as_mut().poll_ready(cx))?;
            if let Some(answer) = self.answers.pop_front() {
                transport.as_mut().start_send(answer)?;
                self.is_flushed = false;
            }
        }
        self.answers = VecDeque::new();
        if !self.is_flushed {
            ready!(transport.poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }
}
