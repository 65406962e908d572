//! Ends connections whose client reads nothing of its answer.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client may read nothing while something waits for it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// The server's end of a connection. A write fails when it has waited too long for the client.
pub(super) struct EndsWhenStalled<S> {
    stream: S,
    /// The end of the wait, while a write waits.
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S> EndsWhenStalled<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            waits: None,
        }
    }
}

impl<S: Unpin> EndsWhenStalled<S> {
    /// The outcome of an operation of the stream, or an error if it waits for too long.
    fn poll_in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        operation: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = operation(Pin::new(&mut self.stream), cx) {
            self.waits = None;
            return Poll::Ready(done);
        }
        let waits = self
            .waits
            .get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
        ready!(waits.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for EndsWhenStalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for EndsWhenStalled<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_in_time(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_in_time(cx, |stream, cx| stream.poll_write_vectored(cx, parts))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_in_time(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn o3_a_client_that_reads_nothing_is_disconnected() {
        let (ours, _theirs) = duplex(16);
        let mut stream = EndsWhenStalled::new(ours);
        stream.write_all(&[0; 16]).await.expect("there is room");
        // Nothing waits, for as long as it likes.
        sleep(STALL_TIMEOUT * 9).await;
        let begun = Instant::now();
        let outcome = stream.write_all(&[0; 16]).await;
        assert_eq!(
            outcome.map_err(|error| error.kind()),
            Err(io::ErrorKind::TimedOut)
        );
        assert_eq!(begun.elapsed().as_secs(), STALL_TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn o3_a_client_that_reads_slowly_is_served() {
        let (ours, mut theirs) = duplex(16);
        let mut stream = EndsWhenStalled::new(ours);
        let reads = tokio::spawn(async move {
            for _ in 0..64 {
                sleep(STALL_TIMEOUT / 2).await;
                theirs.read_exact(&mut [0]).await.expect("a byte");
            }
            theirs
        });
        stream.write_all(&[0; 64]).await.expect("it reads");
        reads.await.expect("no panic");
    }
}
