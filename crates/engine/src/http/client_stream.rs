//! The client's end of a connection as hyper sees it: strictly framed, with time limits.
//!
//! Bytes are checked as they pass ([`Framing`]). At the first malformed byte the stream ends for hyper, so
//! hyper never sees a complete malformed head. This stream knows whether a head is under way, so it
//! also enforces the time limits. It knows when hyper has nothing left to write, so it also writes
//! interim answers, which hyper's server cannot send.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::framing::{Framing, FramingError, Position};
use super::interim::InterimQueue;
use super::request_state::{ConnectState, RequestState, UpgradeState};
use crate::arrived;
use crate::gather::poll_write_slices;
use crate::outcome::Ending;
use crate::owner::ConnectionHandle;
use crate::prefixed::Prefixed;

/// The time limits for a client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeouts {
    /// For a whole head, from its first byte; for the first head, from the accept.
    pub(super) header: Duration,
    /// Without a byte, outside of heads.
    pub(super) idle: Duration,
}

/// The reason why hyper was shown the end of the stream before the client ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopCause {
    Malformed(FramingError),
    /// In the content of a request. That request is answered like any whose content breaks off.
    BrokenContent(FramingError),
    /// A head was begun and not finished in time.
    SlowHead,
    /// Nothing came for too long.
    Idle,
    /// The client has closed its sending side behind a whole request.
    Finished,
    /// Bytes for the tunnel arrived behind a CONNECT that was refused.
    TunnelBytes,
}

/// The client's end of a connection: a socket, or TLS over one.
pub(crate) trait ClientEnd: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The socket underneath.
    fn socket(&self) -> &TcpStream;

    /// The stream as a socket, if it is nothing more than one.
    ///
    /// # Errors
    ///
    /// Returns the stream if it is more than a socket.
    fn into_socket(self) -> Result<TcpStream, Self>
    where
        Self: Sized,
    {
        Err(self)
    }
}

impl ClientEnd for TcpStream {
    fn socket(&self) -> &TcpStream {
        self
    }

    fn into_socket(self) -> Result<TcpStream, Self> {
        Ok(self)
    }
}

impl ClientEnd for Prefixed<TcpStream> {
    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}

/// How often a half-closed client is checked for a reset.
const RESET_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// TCP keep-alive on the connection of a half-closed client: the idle time before the first probe,
/// and the interval of further ones. A client that has closed both directions looks half-closed
/// until its host forgets the connection (Linux: after a minute, `tcp_fin_timeout`) and answers
/// with a reset.
const KEEPALIVE_TIME: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct ClientStream<S> {
    stream: S,
    framing: Framing,
    timeouts: Timeouts,
    deadline: Pin<Box<Sleep>>,
    /// The event that `deadline` limits.
    waiting: Waiting,
    stop: Option<StopCause>,
    /// Whether everything that hyper has written has gone out.
    flushed: bool,
    /// When a half-closed client is checked next.
    reset_check: Option<Pin<Box<Sleep>>>,
    request_state: RequestState,
    interim: InterimQueue,
    connection: ConnectionHandle,
    /// The interim answer that is partly written.
    partial: Bytes,
    /// Whether the last head was that of a CONNECT that was refused.
    behind_refused_connect: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// The first head. Empty lines and a partial head do not count as one.
    FirstHead,
    Head,
    /// The next request of a connection that is kept alive.
    NextRequest,
    Else,
}

impl<S: ClientEnd> ClientStream<S> {
    /// The scanner is new, or has just passed a refused CONNECT, the first request of the connection. A new
    /// scanner must have a whole head at `first_head_until`.
    pub(super) fn new(
        stream: S,
        framing: Framing,
        first_head_until: Instant,
        timeouts: Timeouts,
        request_state: RequestState,
        interim: InterimQueue,
        connection: ConnectionHandle,
    ) -> Self {
        let behind_refused_connect = framing.has_had_head();
        let (waiting, deadline) = if behind_refused_connect {
            (Waiting::NextRequest, Instant::now() + timeouts.idle)
        } else {
            (Waiting::FirstHead, first_head_until)
        };
        Self {
            stream,
            framing,
            timeouts,
            deadline: Box::pin(sleep_until(deadline)),
            waiting,
            stop: None,
            flushed: true,
            reset_check: None,
            request_state,
            interim,
            connection,
            partial: Bytes::new(),
            behind_refused_connect,
        }
    }

    /// The client's end, and why reading from it was stopped, if it was.
    pub(super) fn into_parts(self) -> (S, Option<StopCause>) {
        (self.stream, self.stop)
    }

    /// Sets the time limit for what comes next. A head keeps the limit that was set at its
    /// beginning.
    fn bytes_came(&mut self) {
        if !self.framing.has_had_head() {
            return;
        }
        let waiting = match self.framing.position() {
            Position::InHead if self.stop.is_none() => Waiting::Head,
            Position::InHead | Position::BetweenMessages | Position::InBody | Position::Opaque => {
                Waiting::Else
            }
        };
        if waiting == Waiting::Head && self.waiting == Waiting::Head {
            return;
        }
        self.waiting = waiting;
        let limit = if waiting == Waiting::Head {
            self.timeouts.header
        } else {
            self.timeouts.idle
        };
        self.deadline.as_mut().reset(Instant::now() + limit);
    }

    /// Ends the stream for hyper. A malformed byte or an end behind a request in hand waits until that
    /// request has been answered: hyper takes the end of the stream for a client that is gone.
    fn poll_end(&mut self, stop: StopCause, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !matches!(
            stop,
            StopCause::Malformed(_) | StopCause::Finished | StopCause::TunnelBytes
        ) {
            return Poll::Ready(Ok(()));
        }
        self.request_state.wake_when_inactive(cx);
        if self.flushed && !self.request_state.is_active() {
            return Poll::Ready(Ok(()));
        }
        self.poll_reset(cx)?;
        self.stop = Some(ready!(self.poll_patience(cx)));
        Poll::Ready(Ok(()))
    }

    /// The client has closed its sending side, as `nc -N` does behind its request, and waits for
    /// the answer.
    fn finish(&mut self) {
        self.stop = Some(StopCause::Finished);
        self.watch_for_reset();
    }

    /// Checks for a reset from now on, while nothing is read.
    fn watch_for_reset(&mut self) {
        if self.reset_check.is_some() {
            return;
        }
        self.reset_check = Some(Box::pin(sleep_until(Instant::now() + RESET_CHECK_INTERVAL)));
        let keepalive = TcpKeepalive::new()
            .with_time(KEEPALIVE_TIME)
            .with_interval(KEEPALIVE_INTERVAL);
        // If this fails, a client that is gone is noticed when the answer is written.
        let _ = SockRef::from(self.stream.socket()).set_tcp_keepalive(&keepalive);
    }

    /// Whether the end of the stream is a half-close by a client whose whole request is not
    /// answered yet.
    fn is_half_close(&self) -> bool {
        let whole = matches!(
            self.framing.position(),
            Position::BetweenMessages | Position::Opaque
        );
        whole && (self.request_state.is_active() || !self.flushed)
    }

    /// Fails when a half-closed client has reset the connection. No read would show that: there is
    /// nothing left to read.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(next) = &mut self.reset_check else {
            return Ok(());
        };
        while next.as_mut().poll(cx).is_ready() {
            if let Some(error) = self.stream.socket().take_error()? {
                return Err(error);
            }
            next.as_mut().reset(Instant::now() + RESET_CHECK_INTERVAL);
        }
        Ok(())
    }

    /// Checks, just before a refusal of a CONNECT is written, that the client has sent nothing behind the
    /// CONNECT. Bytes that it sent without waiting for the answer were meant for the tunnel, and another
    /// party may have chosen them, so they must not be read as a request (RFC 9931).
    fn check_refused_connect(&mut self) {
        if self.request_state.connect() != ConnectState::Refused {
            return;
        }
        self.request_state.set_connect(ConnectState::None);
        self.behind_refused_connect = true;
        if arrived::has_bytes(self.stream.socket()) || !self.framing.resume() {
            self.stop = Some(StopCause::TunnelBytes);
        }
    }

    /// A client that takes bytes is not idle.
    fn bytes_went(&mut self) {
        match self.waiting {
            Waiting::FirstHead | Waiting::Head => {}
            Waiting::NextRequest => self.wait_for_next_request(),
            Waiting::Else => {
                self.deadline
                    .as_mut()
                    .reset(Instant::now() + self.timeouts.idle);
            }
        }
    }

    fn wait_for_next_request(&mut self) {
        self.waiting = Waiting::NextRequest;
        self.deadline
            .as_mut()
            .reset(Instant::now() + self.timeouts.idle);
    }

    /// Resolves when the client has been silent for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<StopCause> {
        let between = self.framing.position() == Position::BetweenMessages;
        if self.waiting == Waiting::Else && between {
            // hyper wants bytes before it has sent the answer, and does not poll again after it.
            self.request_state.wake_when_inactive(cx);
            if !self.request_state.is_active() {
                self.wait_for_next_request();
            }
        }
        loop {
            ready!(self.deadline.as_mut().poll(cx));
            let now = Instant::now();
            let next = match self.waiting {
                // The origin is silent here, not the client. Its time limit is enforced elsewhere.
                Waiting::Else if self.request_state.awaits_answer() => now + self.timeouts.idle,
                // A pipelined request, which has already arrived.
                Waiting::NextRequest if self.request_state.is_active() => {
                    self.waiting = Waiting::Else;
                    now + self.timeouts.idle
                }
                _ => return Poll::Ready(self.time_is_up()),
            };
            self.deadline.as_mut().reset(next);
        }
    }

    fn time_is_up(&self) -> StopCause {
        let (stop, limit) = match self.waiting {
            Waiting::Head => (StopCause::SlowHead, self.timeouts.header),
            Waiting::FirstHead if self.framing.position() == Position::InHead => {
                (StopCause::SlowHead, self.timeouts.header)
            }
            Waiting::FirstHead => (StopCause::Idle, self.timeouts.header),
            Waiting::NextRequest | Waiting::Else => (StopCause::Idle, self.timeouts.idle),
        };
        self.connection.end(Ending::idle(limit));
        stop
    }

    /// Writes interim answers. Call it only when hyper has no answer partly written.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.partial.is_empty() {
                match self.interim.pop() {
                    Some(next) => self.partial = next,
                    None => return Poll::Ready(Ok(())),
                }
            }
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.partial))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.partial.advance(written);
        }
    }
}

impl<S: ClientEnd> AsyncRead for ClientStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.check_refused_connect();
        if let Some(stop) = this.stop {
            return this.poll_end(stop, cx);
        }
        match this.request_state.poll_upgrade(cx) {
            UpgradeState::None => {}
            // The content of the request that offers the upgrade comes first (RFC 9110 section
            // 7.8).
            UpgradeState::Requested if this.framing.position() == Position::InBody => {}
            // The outstanding answer decides whether the next bytes are HTTP.
            UpgradeState::Requested => {
                this.watch_for_reset();
                this.poll_reset(cx)?;
                return Poll::Pending;
            }
            UpgradeState::Done => return Pin::new(&mut this.stream).poll_read(cx, buf),
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {}
            // TLS ended without `close_notify`. The request is whole, so nothing of it can be
            // missing.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                if !this.is_half_close() {
                    return Poll::Ready(Err(error));
                }
            }
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {
                this.stop = Some(ready!(this.poll_patience(cx)));
                return Poll::Ready(Ok(()));
            }
        }
        if buf.filled().len() > before {
            if let Err(cut) = this.framing.scan(&buf.filled()[before..]) {
                this.stop = Some(match this.framing.position() {
                    Position::InBody => StopCause::BrokenContent(cut.error),
                    // The client did not wait for the answer to its CONNECT, and these bytes arrived
                    // after the refusal.
                    _ if this.behind_refused_connect && !this.framing.has_request_line() => {
                        StopCause::TunnelBytes
                    }
                    _ => StopCause::Malformed(cut.error),
                });
                buf.set_filled(before + cut.accepted);
            }
            this.behind_refused_connect = false;
            if this.framing.position() == Position::Opaque {
                this.request_state
                    .set_connect(if this.framing.is_at_connect_end() {
                        ConnectState::Last
                    } else {
                        ConnectState::None
                    });
            }
            this.request_state
                .note_pathless(this.framing.take_pathless());
            this.bytes_came();
        } else if buf.remaining() > 0 && this.is_half_close() {
            this.finish();
        }
        if let Some(stop) = this.stop
            && buf.filled().len() == before
        {
            return this.poll_end(stop, cx);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: ClientEnd> AsyncWrite for ClientStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.flushed = false;
        self.check_refused_connect();
        if !self.partial.is_empty() {
            ready!(self.poll_interim(cx))?;
        }
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.bytes_went();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.flushed = false;
        self.check_refused_connect();
        if !self.partial.is_empty() {
            ready!(self.poll_interim(cx))?;
        }
        let written = ready!(poll_write_slices(&mut self.stream, cx, bufs))?;
        self.bytes_went();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes the socket when its own buffer is empty: the moment for interim answers.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_interim(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if !self.flushed && self.stop.is_some() {
            // hyper does not read again by itself after a read that had to wait.
            cx.waker().wake_by_ref();
        }
        self.flushed = true;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
