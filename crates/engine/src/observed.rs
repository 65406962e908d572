//! A stream with an observer, which sees every byte and may end the stream, but changes nothing.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Sees the bytes that pass through a stream.
pub(crate) trait Observer: Send + Unpin + 'static {
    /// These bytes were read. At the end of the stream there are none.
    ///
    /// # Errors
    ///
    /// The reader gets this error instead.
    fn read(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// A read has failed.
    fn read_failed(&mut self, _error: &io::Error) {}

    /// These bytes were written.
    fn written(&mut self, _bytes: &[u8]) {}

    /// A write has failed.
    fn write_failed(&mut self, _error: &io::Error) {}
}

/// A stream with an observer.
#[derive(Debug)]
pub(crate) struct Observed<S, O> {
    stream: S,
    observer: O,
}

impl<S, O> Observed<S, O> {
    pub(crate) fn new(stream: S, observer: O) -> Self {
        Self { stream, observer }
    }

    /// The stream itself.
    pub(crate) fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream itself, without its observer.
    pub(crate) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S, O: Observer> Observed<S, O> {
    fn note_written(
        &mut self,
        outcome: io::Result<usize>,
        slices: &[io::IoSlice<'_>],
    ) -> io::Result<usize> {
        match &outcome {
            Ok(written) => {
                let mut left = *written;
                for slice in slices {
                    let part = left.min(slice.len());
                    self.observer.written(&slice[..part]);
                    left -= part;
                }
            }
            Err(error) => self.observer.write_failed(error),
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin, O: Observer> AsyncRead for Observed<S, O> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { stream, observer } = self.get_mut();
        let before = buf.filled().len();
        let has_room = buf.remaining() > 0;
        Poll::Ready(match ready!(Pin::new(stream).poll_read(cx, buf)) {
            Ok(()) if has_room => observer.read(&buf.filled()[before..]),
            Ok(()) => Ok(()),
            Err(error) => {
                observer.read_failed(&error);
                Err(error)
            }
        })
    }
}

impl<S: AsyncWrite + Unpin, O: Observer> AsyncWrite for Observed<S, O> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        Poll::Ready(self.note_written(outcome, &[io::IoSlice::new(bytes)]))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices));
        Poll::Ready(self.note_written(outcome, slices))
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
