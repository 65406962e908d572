//! The client's end of a session, until the client has said its first word.
//!
//! Some programs (`GnuTLS` as curl and git use it, node) finish the handshake before they look at the
//! certificate, and hang up without a word when they do not trust it. TLS has then gone well as far
//! as it can tell, so this is the one place where it can be seen.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::http::ClientEnd;

/// Called when the client ends the connection without having sent anything.
type Silent = Box<dyn FnOnce() + Send>;

/// A stream whose first reading is looked at.
pub(super) struct FirstWord<S> {
    stream: S,
    silent: Option<Silent>,
}

impl<S> FirstWord<S> {
    pub(super) fn new(stream: S, silent: impl FnOnce() + Send + 'static) -> Self {
        Self {
            stream,
            silent: Some(Box::new(silent)),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for FirstWord<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        if let Some(silent) = self.silent.take()
            && (read.is_err() || buf.filled().len() == before)
        {
            silent();
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FirstWord<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
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

impl<S: ClientEnd> ClientEnd for FirstWord<S> {
    fn socket(&self) -> &TcpStream {
        self.stream.socket()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// How often a client that sends this and hangs up counts as silent.
    async fn silences(sent: &[u8]) -> usize {
        let (mut client, end) = tokio::io::duplex(64);
        let said = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&said);
        let mut end = FirstWord::new(end, move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        client.write_all(sent).await.expect("room for it");
        drop(client);
        let mut read = Vec::new();
        end.read_to_end(&mut read).await.expect("an end");
        assert_eq!(read, sent);
        // Whoever asks again hears of the end again.
        assert_eq!(end.read(&mut [0]).await.expect("an end"), 0);
        said.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn only_a_client_that_never_says_a_word_is_silent() {
        assert_eq!(silences(b"").await, 1);
        assert_eq!(silences(b"G").await, 0);
    }
}
