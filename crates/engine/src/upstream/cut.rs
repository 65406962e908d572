//! The stream of an HTTP/1 connection to an origin, between the socket and hyper.
//!
//! hyper parses interim answers while there are bytes, and does not check in between whether the request
//! was dropped. An origin that sends endless interim answers would keep it busy. So a connection can be
//! cut at its next read.
//!
//! hyper drops a connection when a write fails. An origin that refuses a body early (`413`) answers
//! and closes while the body is still being written: the write fails, although the answer can still
//! be read. So a failed write is hidden from hyper. Later writes are discarded, and reading shows
//! how the connection ends. The connection carries no other request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::gather::poll_write_slices;

/// Controls the stream of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cut(Arc<CutFlags>);

#[derive(Debug, Default)]
struct CutFlags {
    /// The next read ends the connection.
    ended: AtomicBool,
    /// A write has failed.
    unwritable: AtomicBool,
    /// The bytes are no longer HTTP, so a failed write is reported.
    upgraded: AtomicBool,
}

/// A stream that a [`Cut`] controls.
#[derive(Debug)]
pub(super) struct Cuttable<S> {
    stream: S,
    cut: Cut,
}

impl Cut {
    /// Ends the connection.
    pub(crate) fn end(&self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }

    /// Notes that the connection has changed to another protocol.
    pub(crate) fn upgrade(&self) {
        self.0.upgraded.store(true, Ordering::Relaxed);
    }

    /// Whether the origin accepts no more bytes.
    pub(super) fn is_unwritable(&self) -> bool {
        self.0.unwritable.load(Ordering::Relaxed)
    }

    /// Whether writes are discarded.
    fn discards(&self) -> bool {
        self.is_unwritable() && !self.0.upgraded.load(Ordering::Relaxed)
    }
}

impl<S> Cuttable<S> {
    pub(super) fn new(stream: S, cut: Cut) -> Self {
        Self { stream, cut }
    }

    /// The stream itself.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Hides a failed write. The writer gets `discarded` instead.
    fn hide_failure<T>(&self, written: Poll<io::Result<T>>, discarded: T) -> Poll<io::Result<T>> {
        let Poll::Ready(Err(error)) = written else {
            return written;
        };
        self.cut.0.unwritable.store(true, Ordering::Relaxed);
        if !self.cut.discards() {
            return Poll::Ready(Err(error));
        }
        tracing::debug!(%error, "an origin takes no more of a request");
        Poll::Ready(Ok(discarded))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Cuttable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.0.ended.load(Ordering::Relaxed) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Cuttable<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.cut.discards() {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.hide_failure(written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        if self.cut.discards() {
            return Poll::Ready(Ok(length));
        }
        let written = poll_write_slices(&mut self.stream, cx, slices);
        self.hide_failure(written, length)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cut.discards() {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.hide_failure(flushed, ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::task::Waker;

    use bytes::Bytes;
    use http::{Request, StatusCode};
    use http_body_util::BodyExt as _;
    use hyper::body::{Body, Frame};
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;

    use super::*;

    /// An origin that reads a head and no body. Its answer can be read once a write has failed.
    struct Hasty {
        taken: bool,
        failed: bool,
        answer: &'static [u8],
        reader: Option<Waker>,
    }

    impl AsyncRead for Hasty {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if !self.failed {
                self.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            buf.put_slice(std::mem::take(&mut self.answer));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Hasty {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if !std::mem::replace(&mut self.taken, true) {
                return Poll::Ready(Ok(bytes.len()));
            }
            self.failed = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Content without end, each part of it later than the one before.
    struct Endless(bool);

    impl Body for Endless {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0 = !self.0;
            if self.0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 1024])))))
        }
    }

    async fn exchange(answer: &'static [u8]) -> (Cut, hyper::Result<(StatusCode, Bytes)>) {
        let origin = Hasty {
            taken: false,
            failed: false,
            answer,
            reader: None,
        };
        let cut = Cut::default();
        let stream = Cuttable::new(origin, cut.clone());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .expect("a connection");
        let connection = tokio::spawn(connection);
        let request = Request::post("/")
            .header("host", "origin.test")
            .body(Endless(false))
            .expect("a request");
        let answer = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok((status, answer.into_body().collect().await?.to_bytes()))
        }
        .await;
        // The end of the readable bytes ends the connection, even if more should be written.
        let _ = connection.await.expect("no panic");
        (cut, answer)
    }

    #[tokio::test]
    async fn h1_an_answer_is_read_though_a_write_has_failed() {
        for answer in [
            &b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nmuch"[..],
            b"HTTP/1.1 413 Too Much\r\n\r\nmuch",
        ] {
            let (cut, answer) = exchange(answer).await;
            let (status, content) = answer.expect("an answer");
            assert_eq!((status.as_u16(), &content[..]), (413, &b"much"[..]));
            assert!(cut.is_unwritable());
        }
    }

    #[tokio::test]
    async fn h1_without_an_answer_a_write_that_fails_is_a_failure() {
        let (_, answer) = exchange(b"").await;
        assert!(answer.expect_err("no answer").is_incomplete_message());
    }

    #[tokio::test]
    async fn p11_an_upgraded_connection_reports_failed_writes() {
        let origin = Hasty {
            taken: true,
            failed: false,
            answer: b"",
            reader: None,
        };
        let cut = Cut::default();
        let mut stream = Cuttable::new(origin, cut.clone());
        cut.upgrade();
        let written = tokio::io::AsyncWriteExt::write_all(&mut stream, b"x").await;
        assert!(written.is_err());
    }
}
