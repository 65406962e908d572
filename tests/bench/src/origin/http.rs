//! The origin's HTTP/1.1, over a plain or a secure connection. The path is the number of bytes of the body.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Serves requests without a body until the client leaves.
pub(super) async fn serve<S>(mut stream: S) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut pending = Vec::with_capacity(4096);
    let mut response = Vec::new();
    loop {
        while let Some(end) = pending
            .windows(4)
            .position(|four: &[u8]| four == b"\r\n\r\n")
        {
            let length = body_length(&pending[..end]);
            pending.drain(..end + 4);
            response.clear();
            write_response(length, &mut response)?;
            stream.write_all(&response).await?;
            stream.flush().await?;
        }
        if stream.read_buf(&mut pending).await? == 0 {
            return Ok(());
        }
    }
}

fn write_response(length: usize, response: &mut Vec<u8>) -> io::Result<()> {
    use std::io::Write as _;
    write!(
        response,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"
    )?;
    response.resize(response.len() + length, b'x');
    Ok(())
}

/// The number after the last slash of the target, which may be a whole URL.
fn body_length(head: &[u8]) -> usize {
    let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let digits = target
        .rsplit(|byte| *byte == b'/')
        .next()
        .unwrap_or_default();
    str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_says_how_long_the_body_is() {
        assert_eq!(body_length(b"GET /65536 HTTP/1.1\r\nHost: a"), 65536);
        assert_eq!(body_length(b"GET http://a:80/2 HTTP/1.1"), 2);
        assert_eq!(body_length(b"GET / HTTP/1.1"), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn two_requests_get_two_responses() {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client
            .write_all(b"GET /2 HTTP/1.1\r\n\r\nGET /0 HTTP/1.1\r\n\r\n")
            .await
            .expect("room");
        client.shutdown().await.expect("open");
        serve(server).await.expect("a client that ends");
        let mut text = String::new();
        client.read_to_string(&mut text).await.expect("text");
        assert!(
            text.contains("\r\n\r\nxxHTTP/1.1 200 OK\r\nContent-Length: 0\r\n"),
            "{text}"
        );
    }
}
