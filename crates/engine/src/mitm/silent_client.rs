//! Notices a client that hangs up without sending anything.
//!
//! Some programs (`GnuTLS` as curl and git use it, node) finish the handshake before they verify
//! the certificate, and hang up when they do not trust it. The handshake has succeeded then, so
//! only the first read from the client shows it.

use std::io;

use crate::observed::Observer;

/// Called when the client ends the connection without having sent anything.
type OnSilence = Box<dyn FnOnce() + Send>;

/// Observes the first read of a stream.
pub(super) struct SilentClient(Option<OnSilence>);

impl SilentClient {
    pub(super) fn new(on_silence: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(on_silence)))
    }
}

impl Observer for SilentClient {
    fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(on_silence) = self.0.take()
            && bytes.is_empty()
        {
            on_silence();
        }
        Ok(())
    }

    fn read_failed(&mut self, _error: &io::Error) {
        if let Some(on_silence) = self.0.take() {
            on_silence();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::observed::Observed;

    /// The number of times that a client is counted as silent if it sends these bytes and hangs up.
    async fn silences(sent: &[u8]) -> usize {
        let (mut client, end) = tokio::io::duplex(64);
        let said = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&said);
        let observer = SilentClient::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let mut end = Observed::new(end, observer);
        client.write_all(sent).await.expect("room for it");
        drop(client);
        let mut read = Vec::new();
        end.read_to_end(&mut read).await.expect("an end");
        assert_eq!(read, sent);
        // A further read returns the end again and calls nothing.
        assert_eq!(end.read(&mut [0]).await.expect("an end"), 0);
        said.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn only_a_client_that_sends_nothing_is_silent() {
        assert_eq!(silences(b"").await, 1);
        assert_eq!(silences(b"G").await, 0);
    }
}
