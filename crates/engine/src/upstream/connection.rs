//! A connection to a destination: a socket, or a tunnel through an upstream proxy.
//!
//! It reads and writes like any stream. A caller that moves bytes in the kernel takes the socket
//! itself, which is possible unless the connection to the upstream proxy is TLS.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::enforce::LeadsTo;
use crate::prefixed::Prefixed;
use crate::tls::Wire;

/// A connection to a destination.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The prefix are the bytes behind the proxy's answer: the first bytes of the destination.
    stream: Prefixed<Stream>,
    leads_to: LeadsTo,
    peer: Option<SocketAddr>,
}

/// The stream underneath.
#[derive(Debug)]
pub(crate) enum Stream {
    /// TCP to the destination, or to a proxy that passes it on.
    Tcp(TcpStream),
    /// TLS with a proxy.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The way to the destination of a permitted connection.
#[derive(Debug)]
pub(crate) enum Reached {
    /// A connection that was opened for this client.
    Connection(Connection),
    /// A connection to the same authority that is kept for intercepted requests in this protocol. It leads
    /// to these addresses.
    Kept(LeadsTo, Wire),
}

impl Connection {
    /// To the destination itself, at this address.
    pub(super) fn direct(stream: TcpStream, peer: Option<SocketAddr>) -> Self {
        Self {
            stream: Prefixed::new(Bytes::new(), Stream::Tcp(stream)),
            leads_to: LeadsTo::peer(peer),
            peer,
        }
    }

    /// Through an upstream proxy.
    pub(super) fn new(stream: Stream, early: Bytes, leads_to: LeadsTo) -> Self {
        let peer = stream.socket().peer_addr().ok();
        Self {
            stream: Prefixed::new(early, stream),
            leads_to,
            peer,
        }
    }

    /// The address at the other end: of the destination, or of the proxy.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The addresses that it may lead to.
    pub(crate) fn leads_to(&self) -> &LeadsTo {
        &self.leads_to
    }

    /// Our end of the connection.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.stream.get_ref().socket().local_addr()
    }

    /// The bytes already read from the stream, and the stream.
    pub(crate) fn into_parts(self) -> (Bytes, Stream) {
        self.stream.into_parts()
    }
}

impl Stream {
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }
}

impl Reached {
    /// The addresses that requests of the client may lead to.
    pub(crate) fn leads_to(&self) -> &LeadsTo {
        match self {
            Self::Connection(connection) => connection.leads_to(),
            Self::Kept(leads_to, _) => leads_to,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
