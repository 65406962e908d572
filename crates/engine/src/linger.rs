//! Closes a connection so that the other end can read what was sent.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// Closes so that the client can read what was sent: closing a socket with unread input resets it,
/// and a reset throws away what the client has not read yet (RFC 9112 section 9.6).
pub(crate) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    const MAX_TIME: Duration = Duration::from_secs(2);
    const MAX_BYTES: u64 = 256 * 1024;
    if stream.shutdown().await.is_err() {
        return;
    }
    let (mut rest, mut nowhere) = (stream.take(MAX_BYTES), tokio::io::sink());
    let _ = timeout(MAX_TIME, tokio::io::copy(&mut rest, &mut nowhere)).await;
}
