//! Frames: four bytes of length (big-endian), then one message in JSON. `frame_buffer` has their memory, which is
//! overwritten after use: a frame may hold credentials.
//!
//! Everything that arrives is checked against limits before other code sees it: the length before
//! the content is read, the deadline before tarpc computes with it. tarpc adds a caller's deadline to
//! the clock, formats it as a date and puts it in a timer wheel. Each of these panics on a deadline
//! in the far future, so requests are first read into a type of our own and clamped.

mod frame_buffer;

use std::future::Future as _;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{BufMut as _, BytesMut};
use futures_core::Stream;
use futures_sink::Sink;
use serde::{Deserialize, Serialize};
use tarpc::{ClientMessage, Request, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_util::codec::{Decoder, Encoder, Framed};
use zeroize::Zeroize as _;

use self::frame_buffer::{FrameWriter, ReadFrame, wipe, with_room};
use crate::carrier::Carrier;
use crate::message::Sockets;
use crate::service::{ControlRequest, ControlResponse};

/// The longest message of a caller, in bytes.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// The longest message of the daemon, in bytes. Both lists and the settings may be long.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// The latest deadline of a call, from now. A later one is reduced to it.
pub(crate) const MAX_DEADLINE: Duration = Duration::from_secs(5 * 60);
/// The bytes of a frame's length.
const LENGTH_BYTES: usize = 4;
/// How long a write may wait for the other side to read.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The daemon's side of a connection.
pub(crate) fn daemon_side<S>(
    stream: S,
) -> Transport<S, CallerMessage, ClientMessage<ControlRequest>, Response<ControlResponse>>
where
    S: Carrier,
{
    Transport::new(stream, MAX_REQUEST_BYTES, MAX_ANSWER_BYTES)
}

/// The caller's side of a connection.
pub(crate) fn caller_side<S>(
    stream: S,
) -> Transport<S, Response<ControlResponse>, Response<ControlResponse>, ClientMessage<ControlRequest>>
where
    S: Carrier,
{
    Transport::new(stream, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES)
}

/// Whether an error only means that the other side has disconnected.
pub(crate) fn is_disconnection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

/// Messages over a byte stream. A `Wire` is received and, with the descriptors beside it,
/// becomes an `In`; an `Out` is sent.
pub(crate) struct Transport<S, Wire, In, Out> {
    frames: Framed<WriteLimited<S>, JsonFrames<Wire, Out>>,
    meaning: PhantomData<fn() -> In>,
}

/// A message that was received, with the descriptors beside it.
pub(crate) trait Received<In> {
    /// # Errors
    ///
    /// Returns an error if descriptors came with a message that takes none. They are closed.
    fn with(self, sockets: Sockets) -> io::Result<In>;
}

/// A message to send.
pub(crate) trait Sent {
    /// The descriptors to send beside it.
    fn take_sockets(&mut self) -> Vec<OwnedFd>;
}

impl<S, Wire, In, Out> Transport<S, Wire, In, Out>
where
    S: Carrier,
{
    fn new(stream: S, max_in: usize, max_out: usize) -> Self {
        let stream = WriteLimited {
            stream,
            stalled: None,
        };
        let json = JsonFrames {
            max_in,
            max_out,
            consumed: 0,
            messages: PhantomData,
        };
        let mut transport = Self {
            frames: Framed::new(stream, json),
            meaning: PhantomData,
        };
        transport.free_written();
        transport.free_read();
        transport
    }
}

impl<S, Wire, In, Out> Transport<S, Wire, In, Out> {
    /// Frees the buffer for reading, unless it holds a part of a frame. A connection at rest has none: one
    /// with a session may rest for days.
    fn free_read(&mut self) {
        let buffer = self.frames.read_buffer_mut();
        if buffer.is_empty() {
            wipe(buffer);
        }
    }

    /// Frees the buffer for writing, if all of it was written.
    fn free_written(&mut self) {
        let buffer = self.frames.write_buffer_mut();
        if buffer.is_empty() {
            wipe(buffer);
        }
    }
}

impl<S, Wire, In, Out> Drop for Transport<S, Wire, In, Out> {
    /// The connection may end within a frame.
    fn drop(&mut self) {
        wipe(self.frames.read_buffer_mut());
        wipe(self.frames.write_buffer_mut());
    }
}

impl<S, Wire, In, Out> Stream for Transport<S, Wire, In, Out>
where
    S: Carrier,
    Wire: for<'de> Deserialize<'de> + Received<In>,
    Out: Serialize,
{
    type Item = io::Result<In>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(Pin::new(&mut self.frames).poll_next(cx)) {
            Some(Ok((message, through))) => {
                self.free_read();
                let sockets = self.frames.get_mut().stream.arrived(through);
                Some(message.with(sockets))
            }
            Some(Err(error)) => Some(Err(error)),
            // An error ends the calls of a caller that has disconnected: it needs no answers.
            None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        })
    }
}

impl<S, Wire, In, Out> Sink<Out> for Transport<S, Wire, In, Out>
where
    S: Carrier,
    Out: Serialize + Sent,
{
    type Error = io::Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.frames).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, mut message: Out) -> io::Result<()> {
        let sockets = message.take_sockets();
        let before = self.frames.write_buffer().len();
        Pin::new(&mut self.frames).start_send(message)?;
        if sockets.is_empty() {
            return Ok(());
        }
        let length = self.frames.write_buffer().len() - before;
        let stream = &mut self.frames.get_mut().stream;
        let start = stream.written() + before as u64;
        stream.send_beside(start, length as u64, sockets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.frames).poll_flush(cx));
        self.free_written();
        Poll::Ready(flushed)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.frames).poll_close(cx)
    }
}

/// One JSON message per frame, with a length limit for each direction.
struct JsonFrames<Wire, Out> {
    max_in: usize,
    max_out: usize,
    /// Bytes of frames that were read since the start of the connection.
    consumed: u64,
    messages: PhantomData<fn(Out) -> Wire>,
}

impl<Wire, Out> Decoder for JsonFrames<Wire, Out>
where
    Wire: for<'de> Deserialize<'de>,
{
    /// The message, and the number of its last byte since the start of the connection.
    type Item = (Wire, u64);
    type Error = io::Error;

    fn decode(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        let max = self.max_in;
        let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        if length > max {
            let why = format!("a frame is longer than {max} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let whole = LENGTH_BYTES + length;
        if bytes.len() < whole {
            with_room(bytes, whole - bytes.len());
            return Ok(None);
        }
        let frame = ReadFrame(bytes.split_to(whole));
        self.consumed += whole as u64;
        let message = serde_json::from_slice(&frame.0[LENGTH_BYTES..]).map_err(|error| {
            let why = format!("a frame holds no message of this protocol: {error}");
            io::Error::new(io::ErrorKind::InvalidData, why)
        })?;
        Ok(Some((message, self.consumed)))
    }

    fn decode_eof(&mut self, bytes: &mut BytesMut) -> io::Result<Option<Self::Item>> {
        match self.decode(bytes)? {
            None if !bytes.is_empty() => {
                let why = "the connection ended inside a frame";
                Err(io::Error::new(io::ErrorKind::InvalidData, why))
            }
            message => Ok(message),
        }
    }
}

impl<Wire, Out: Serialize> Encoder<Out> for JsonFrames<Wire, Out> {
    type Error = io::Error;

    fn encode(&mut self, message: Out, bytes: &mut BytesMut) -> io::Result<()> {
        let start = bytes.len();
        with_room(bytes, LENGTH_BYTES);
        bytes.put_bytes(0, LENGTH_BYTES);
        let written = serde_json::to_writer(FrameWriter(bytes), &message);
        let max = self.max_out;
        let length = bytes.len() - start - LENGTH_BYTES;
        let length = u32::try_from(length).ok().filter(|_| length <= max);
        let (Ok(()), Some(length)) = (&written, length) else {
            // Nothing of the message is sent.
            bytes[start..].zeroize();
            bytes.truncate(start);
            written?;
            let why = format!("an answer is longer than {max} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        };
        bytes[start..start + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }
}

/// A caller's message, before its deadline is clamped.
#[derive(Deserialize)]
pub(crate) enum CallerMessage {
    Request {
        context: CallerContext,
        id: u64,
        message: Box<ControlRequest>,
    },
    Cancel {
        request_id: u64,
    },
}

/// The part of a caller's context that the daemon uses. The daemon ignores the caller's trace.
#[derive(Deserialize)]
pub(crate) struct CallerContext {
    /// Relative to now.
    deadline: Duration,
}

impl Received<ClientMessage<ControlRequest>> for CallerMessage {
    fn with(self, sockets: Sockets) -> io::Result<ClientMessage<ControlRequest>> {
        match self {
            Self::Request {
                context: caller,
                id,
                mut message,
            } => {
                match &mut *message {
                    ControlRequest::OpenSession { request } => request.sockets = sockets,
                    _ => without(&sockets)?,
                }
                let mut context = tarpc::context::current();
                context.deadline = Instant::now() + caller.deadline.min(MAX_DEADLINE);
                Ok(ClientMessage::Request(Request {
                    context,
                    id,
                    message: *message,
                }))
            }
            Self::Cancel { request_id } => {
                without(&sockets)?;
                Ok(ClientMessage::Cancel {
                    trace_context: tarpc::trace::Context::default(),
                    request_id,
                })
            }
        }
    }
}

impl Received<Self> for Response<ControlResponse> {
    fn with(self, sockets: Sockets) -> io::Result<Self> {
        without(&sockets)?;
        Ok(self)
    }
}

impl Sent for ClientMessage<ControlRequest> {
    fn take_sockets(&mut self) -> Vec<OwnedFd> {
        match self {
            Self::Request(Request {
                message: ControlRequest::OpenSession { request },
                ..
            }) => std::mem::take(&mut request.sockets.arrived),
            _ => Vec::new(),
        }
    }
}

impl Sent for Response<ControlResponse> {
    fn take_sockets(&mut self) -> Vec<OwnedFd> {
        Vec::new()
    }
}

/// Fails if there are descriptors.
fn without(sockets: &Sockets) -> io::Result<()> {
    if sockets.arrived.is_empty() && !sockets.is_incomplete {
        return Ok(());
    }
    let why = "descriptors came with a message that takes none";
    Err(io::Error::new(io::ErrorKind::InvalidData, why))
}

/// A stream whose writes fail when the other side does not read within [`WRITE_TIMEOUT`].
struct WriteLimited<S> {
    stream: S,
    /// The time limit of the write that waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> WriteLimited<S> {
    /// Passes a write's result on. Starts the timer while the write waits, and removes it on
    /// progress.
    fn limited<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self
            .stalled
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        ready!(stalled.as_mut().poll(cx));
        let why = format!(
            "it took no byte of its answers for {}s",
            WRITE_TIMEOUT.as_secs()
        );
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteLimited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteLimited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.limited(written, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.limited(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
