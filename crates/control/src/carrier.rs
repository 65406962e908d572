//! The byte stream of a connection, and the descriptors beside it (SPEC J2, unix(7) `SCM_RIGHTS`).
//!
//! The kernel delivers descriptors with the first byte that they were sent with, and no read goes past the
//! piece of the stream that they came with. So they belong to the frame that contains the last byte of
//! that read. The sender writes no other frame in the same call.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, Interest, ReadBuf};
use tokio::net::UnixStream;

use crate::message::{CloseDescriptor, MAX_DOORS, Sockets};

/// Most descriptors that are kept until their frame is whole: one more than a call may have.
const MAX_KEPT: usize = MAX_DOORS + 1;
/// Descriptors that one read has room for: as many as the kernel sends with one message (`SCM_MAX_FD`). It would
/// close further ones within the read.
const ROOM: usize = 253;

/// A byte stream that may carry descriptors.
pub trait Carrier: AsyncRead + AsyncWrite + Unpin {
    /// The descriptors that arrived with the bytes up to this one, counted from the start of the connection.
    fn arrived(&mut self, _through: u64) -> Sockets {
        Sockets::default()
    }

    /// Sends descriptors with the next `length` bytes after the first `start`.
    ///
    /// # Errors
    ///
    /// Returns an error if the stream carries no descriptors.
    fn send_beside(&mut self, _start: u64, _length: u64, _sockets: Vec<OwnedFd>) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// How many bytes were written since the start of the connection.
    fn written(&self) -> u64 {
        0
    }
}

/// A stream in memory. It carries no descriptors.
impl Carrier for DuplexStream {}

/// A connected unix socket.
#[derive(Debug)]
pub struct ControlStream {
    /// Set until it is dropped.
    socket: Option<UnixStream>,
    /// Closes the socket and what arrived; `None`: that happens where they are dropped.
    close: Option<CloseDescriptor>,
    /// Whether the peer has ended its side, and so nothing is left unread.
    is_at_end: bool,
    read: u64,
    written: u64,
    /// Each with the number of the last byte of its read.
    arrived: VecDeque<(u64, Sockets)>,
    outgoing: VecDeque<Outgoing>,
}

/// Descriptors to send with these bytes.
#[derive(Debug)]
struct Outgoing {
    start: u64,
    length: u64,
    sockets: Vec<OwnedFd>,
}

impl From<UnixStream> for ControlStream {
    fn from(socket: UnixStream) -> Self {
        Self {
            socket: Some(socket),
            close: None,
            is_at_end: false,
            read: 0,
            written: 0,
            arrived: VecDeque::new(),
            outgoing: VecDeque::new(),
        }
    }
}

impl ControlStream {
    /// A connection with a peer that is not trusted: `close` closes it, and the descriptors that arrive.
    pub fn closed_by(socket: UnixStream, close: CloseDescriptor) -> Self {
        let mut stream = Self::from(socket);
        stream.close = Some(close);
        stream
    }

    /// Keeps what arrived until its frame is whole. A peer that goes on after the kept ones were too many gets
    /// an error, so that it cannot fill the memory.
    fn keep(&mut self, mut sockets: Sockets) -> io::Result<()> {
        if sockets.arrived.is_empty() && !sockets.is_incomplete {
            return Ok(());
        }
        if self
            .arrived
            .back()
            .is_some_and(|(_, last)| last.is_incomplete)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "too many descriptors",
            ));
        }
        let kept = self.arrived.iter().map(|(_, kept)| kept.arrived.len());
        let room = MAX_KEPT.saturating_sub(kept.sum());
        if sockets.arrived.len() > room {
            let further = sockets.arrived.split_off(room);
            drop(Sockets {
                arrived: further,
                is_incomplete: true,
                close: self.close.clone(),
            });
            sockets.is_incomplete = true;
        }
        self.arrived.push_back((self.read, sockets));
        Ok(())
    }
}

impl Carrier for ControlStream {
    fn arrived(&mut self, through: u64) -> Sockets {
        let mut all = Sockets {
            arrived: Vec::new(),
            is_incomplete: false,
            close: self.close.clone(),
        };
        while self
            .arrived
            .front()
            .is_some_and(|(last, _)| *last <= through)
        {
            let Some((_, mut sockets)) = self.arrived.pop_front() else {
                break;
            };
            all.arrived.append(&mut sockets.arrived);
            all.is_incomplete |= sockets.is_incomplete;
        }
        if self.arrived.is_empty() {
            self.arrived = VecDeque::new();
        }
        all
    }

    fn send_beside(&mut self, start: u64, length: u64, sockets: Vec<OwnedFd>) -> io::Result<()> {
        self.outgoing.push_back(Outgoing {
            start,
            length,
            sockets,
        });
        Ok(())
    }

    fn written(&self) -> u64 {
        self.written
    }
}

impl AsyncRead for ControlStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
            ready!(socket.poll_read_ready(cx))?;
            let room = buffer.initialize_unfilled();
            let received = socket.try_io(Interest::READABLE, || {
                receive(socket, room, self.close.as_ref())
            });
            match received {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok((bytes, sockets)) => {
                    buffer.advance(bytes);
                    self.read += bytes as u64;
                    self.is_at_end = bytes == 0;
                    return Poll::Ready(self.keep(sockets));
                }
            }
        }
    }
}

impl AsyncWrite for ControlStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.written;
        let until = match self.outgoing.front() {
            Some(next) if next.start > written => next.start - written,
            Some(next) => next.length,
            None => u64::MAX,
        };
        let until = usize::try_from(until).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(until)];
        let is_beside = |next: &&Outgoing| next.start == written;
        let this = &mut *self;
        let socket = this.socket.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        let sent = loop {
            let Some(next) = this.outgoing.front().filter(is_beside) else {
                break ready!(Pin::new(&mut *socket).poll_write(cx, bytes))?;
            };
            ready!(socket.poll_write_ready(cx))?;
            let sent = socket.try_io(Interest::WRITABLE, || send(socket, bytes, &next.sockets));
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(sent) => {
                    // They have arrived with the first byte.
                    this.outgoing.pop_front();
                    break sent;
                }
            }
        };
        this.written += sent as u64;
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Some(socket) => Pin::new(socket).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Some(socket) => Pin::new(socket).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for ControlStream {
    fn drop(&mut self) {
        // Unread frames may hold descriptors, which the kernel closes with the socket.
        if let (false, Some(close), Some(socket)) =
            (self.is_at_end, &self.close, self.socket.take())
            && let Ok(socket) = socket.into_std()
        {
            close.call(socket.into());
        }
    }
}

fn receive(
    socket: &UnixStream,
    room: &mut [u8],
    close: Option<&CloseDescriptor>,
) -> io::Result<(usize, Sockets)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(ROOM))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(room)];
    let received = rustix::net::recvmsg(socket.as_fd(), &mut buffers, &mut control, flags())?;
    let mut sockets = Sockets {
        arrived: Vec::new(),
        is_incomplete: received.flags.contains(ReturnFlags::CTRUNC),
        close: close.cloned(),
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sockets.arrived.extend(descriptors);
        }
    }
    #[cfg(not(target_os = "linux"))]
    for descriptor in &sockets.arrived {
        rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::CLOEXEC)?;
    }
    Ok((received.bytes, sockets))
}

/// Received descriptors must not be inherited by other programs.
fn flags() -> RecvFlags {
    #[cfg(target_os = "linux")]
    return RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    return RecvFlags::empty();
}

fn send(socket: &UnixStream, bytes: &[u8], sockets: &[OwnedFd]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_KEPT))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<_> = sockets.iter().map(OwnedFd::as_fd).collect();
    if !control.push(SendAncillaryMessage::ScmRights(&borrowed)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let buffers = [IoSlice::new(bytes)];
    let sent = rustix::net::sendmsg(socket.as_fd(), &buffers, &mut control, send_flags())?;
    Ok(sent)
}

/// Writing to a connection that has ended is an error and not a signal.
fn send_flags() -> SendFlags {
    #[cfg(target_os = "linux")]
    return SendFlags::NOSIGNAL;
    #[cfg(not(target_os = "linux"))]
    return SendFlags::empty();
}
