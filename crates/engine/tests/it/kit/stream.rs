//! Reads from a stream within the time limit.

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::timeout;

use super::TIMEOUT;

/// Fails the test when the future takes too long.
pub(crate) async fn in_time<F: Future>(future: F) -> F::Output {
    timeout(TIMEOUT, future).await.expect("in time")
}

/// Reads up to the end of a head; `None` when the stream ends before that.
pub(crate) async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    in_time(next_head(stream)).await
}

/// Like [`read_head`], without a time limit, for a server, whose client may be idle.
pub(crate) async fn next_head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Reads up to this text.
pub(crate) async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        text.push(in_time(stream.read_u8()).await.expect("bytes"));
    }
    String::from_utf8(text).expect("text")
}

/// Reads until the stream ends in order.
pub(crate) async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = in_time(stream.read_to_end(&mut bytes)).await;
    read.expect("an orderly end");
    String::from_utf8_lossy(&bytes).into_owned()
}
