//! A stream of HTTP/2 whose peer is held to its credit.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::scanner::Scanner;
use super::{Credit, Flood, carries_message};
use crate::activity::Activity;

/// Bytes of the preface that a client sends first (RFC 9113 section 3.4).
const PREFACE_LENGTH: usize = 24;

/// Which side of HTTP/2 this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// A stream of HTTP/2. Reading fails when the peer has used its credit up.
#[derive(Debug)]
pub(crate) struct Metered<S> {
    stream: S,
    read: Scanner,
    written: Scanner,
    credit: Credit,
    /// The peer, for the log.
    peer: String,
    /// Told of every part of a message, in either direction.
    messages: Arc<Activity>,
}

impl<S> Metered<S> {
    pub(crate) fn new(stream: S, side: Side, peer: String, messages: Arc<Activity>) -> Self {
        let (read, written) = match side {
            Side::Client => (0, PREFACE_LENGTH),
            Side::Server => (PREFACE_LENGTH, 0),
        };
        Self {
            stream,
            read: Scanner::after(read),
            written: Scanner::after(written),
            credit: Credit::new(Instant::now()),
            peer,
            messages,
        }
    }

    fn has_read(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        let mut carried = false;
        while let Some(frame) = self.read.next(&mut bytes) {
            self.credit.read(frame, Instant::now)?;
            carried |= carries_message(frame);
        }
        if carried {
            self.messages.note();
        }
        Ok(())
    }

    fn has_written(&mut self, mut bytes: &[u8]) {
        let mut carried = false;
        while let Some(frame) = self.written.next(&mut bytes) {
            self.credit.written(frame);
            carried |= carries_message(frame);
        }
        if carried {
            self.messages.note();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = self.has_read(&buf.filled()[before..]);
        Poll::Ready(read.map_err(|flood| {
            tracing::info!(peer = %self.peer, "closed an HTTP/2 connection: {flood}");
            io::Error::other(flood)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.has_written(&bytes[..written.min(bytes.len())]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        let mut left = written;
        for slice in slices {
            let part = left.min(slice.len());
            self.has_written(&slice[..part]);
            left -= part;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
