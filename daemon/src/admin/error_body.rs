//! Adds a text to the answers that hyper writes itself.
//!
//! A request that hyper cannot read never gets to the API: hyper answers with a bare status line
//! and closes. Every answer of the API has a `Content-Type`, so an answer without one is hyper's
//! and gets a body.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::body::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The beginning of an answer. The status code follows.
const START: &[u8] = b"HTTP/1.1 ";
/// The length of a status code.
const CODE_LENGTH: usize = 3;

/// The server's end of a connection, which adds a text to every answer.
pub(super) struct WithErrorBody<S> {
    stream: S,
    /// The part of a text that is not written yet.
    rest: Bytes,
}

impl<S: AsyncWrite + Unpin> WithErrorBody<S> {
    pub(super) fn new(stream: S) -> Self {
        Self {
            stream,
            rest: Bytes::new(),
        }
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

/// Adds a body to an answer that hyper made itself. `None` for any other answer.
fn with_body(bytes: &[u8]) -> Option<Bytes> {
    let code = bytes.strip_prefix(START)?.get(..CODE_LENGTH)?;
    let (reason, why) = match code {
        b"400" => ("Bad Request", "the request is malformed"),
        b"414" => ("URI Too Long", "the request-target is too long"),
        b"431" => (
            "Request Header Fields Too Large",
            "the header section is too large or has too many fields",
        ),
        _ => return None,
    };
    let head = std::str::from_utf8(bytes).ok()?.strip_suffix("\r\n\r\n")?;
    let has = |name: &str| {
        head.lines().any(|line| {
            line.get(..name.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(name))
        })
    };
    if has("content-type:") || !has("content-length:") {
        return None;
    }
    let code = String::from_utf8_lossy(code);
    Some(Bytes::from(format!(
        "HTTP/1.1 {code} {reason}\r\ncontent-type: text/plain; charset=utf-8\r\ncache-control: no-store\r\n\
         x-content-type-options: nosniff\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{why}",
        why.len()
    )))
}

impl<S: AsyncRead + Unpin> AsyncRead for WithErrorBody<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WithErrorBody<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_rest(cx))?;
        match with_body(bytes) {
            Some(words) => {
                self.rest = words;
                // The flush writes what cannot be written now.
                let _ = self.poll_rest(cx)?;
                Poll::Ready(Ok(bytes.len()))
            }
            None => Pin::new(&mut self.stream).poll_write(cx, bytes),
        }
    }

    /// hyper's own answers are one part. Larger ones go out as they are, without a copy.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [one] = parts {
            return self.poll_write(cx, one);
        }
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_rest(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_only_answers_that_hyper_writes_itself_get_a_body() {
        let own = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let malformed = Some("the request is malformed");
        for (bytes, expected, because) in [
            (own, malformed, "hyper's own have no type"),
            (
                "HTTP/1.1 414 URI Too Long\r\nContent-Length: 0\r\n\r\n",
                Some("the request-target is too long"),
                "the status names the cause",
            ),
            (
                "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n",
                Some("the header section is too large or has too many fields"),
                "the status names the cause",
            ),
            (
                "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\ncontent-length: 2\r\n\r\n",
                None,
                "the API's own have a type, and their body comes apart from the head",
            ),
            (
                "HTTP/1.1 400 Bad Request\r\n\r\n",
                None,
                "hyper's own have a length",
            ),
            (
                "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
                None,
                "hyper itself sends no 500",
            ),
            (
                &own[..own.len() - 2],
                None,
                "hyper writes the whole head at once",
            ),
            ("HTTP/1.1 40", None, "a body may begin so"),
            ("", None, "nothing was written"),
        ] {
            let words = with_body(bytes.as_bytes()).map(|words| {
                let words = String::from_utf8(words.to_vec()).expect("text");
                let (head, text) = words.split_once("\r\n\r\n").expect("a head");
                assert!(head.contains(&format!("content-length: {}", text.len())));
                text.to_owned()
            });
            assert_eq!(words.as_deref(), expected, "{because}: {bytes}");
        }
    }
}
