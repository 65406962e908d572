//! How a client of the load reaches the origin: through a fixed forwarder, CONNECT or SOCKS5.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::{TcpSocket, TcpStream};

/// The name of the origin in requests. The hosts file of the machine has it.
pub(crate) const HOST: &str = "localhost";
/// A name of the origin that only our proxy knows, from a hosts file of its own. In a jail `localhost` is the
/// jail's own.
pub(crate) const NAME: &str = "origin.test";
/// A name that every program refuses. It is not looked up (RFC 6761, section 6.4).
pub(crate) const DENIED: &str = "denied.invalid";

const MAX_HEAD_BYTES: usize = 64 << 10;

/// The way through a program, with the port that it listens on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route {
    /// It forwards every connection to one port of the origin.
    Fixed(u16),
    Connect(u16),
    Socks5(u16),
    /// The jail redirects connections to this address, which stands for a name.
    Transparent(IpAddr),
}

/// Connects to a port of loopback from the `client`-th address, 127.0.0.1 being the first.
pub(crate) async fn connect(port: u16, client: u8) -> io::Result<TcpStream> {
    connect_to((Ipv4Addr::LOCALHOST, port).into(), client).await
}

async fn connect_to(address: SocketAddr, client: u8) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // The port is chosen when the socket connects, so that one port can serve several destinations.
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    socket.bind((Ipv4Addr::new(127, 0, 0, client.saturating_add(1)), 0).into())?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection to a port of the origin.
pub(crate) async fn tunnel(route: Route, port: u16, client: u8) -> io::Result<TcpStream> {
    let address = match route {
        Route::Fixed(door) | Route::Connect(door) | Route::Socks5(door) => {
            (Ipv4Addr::LOCALHOST, door).into()
        }
        Route::Transparent(address) => (address, port).into(),
    };
    let mut stream = connect_to(address, client).await?;
    match route {
        Route::Fixed(_) | Route::Transparent(_) => {}
        Route::Connect(_) => {
            let request = format!("CONNECT {HOST}:{port} HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let head = head(&mut stream, &mut Vec::new()).await?;
            if head.status != 200 {
                return Err(io::Error::other(format!("status {}", head.status)));
            }
        }
        Route::Socks5(_) => socks5(&mut stream, port).await?,
    }
    Ok(stream)
}

/// Asks for the origin by its name (RFC 1928).
async fn socks5(stream: &mut TcpStream, port: u16) -> io::Result<()> {
    stream.write_all(&[5, 1, 0]).await?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).await?;
    let length = u8::try_from(HOST.len()).map_err(io::Error::other)?;
    let request = [&[5, 1, 0, 3, length], HOST.as_bytes(), &port.to_be_bytes()].concat();
    stream.write_all(&request).await?;
    let mut reply = [0; 4];
    stream.read_exact(&mut reply).await?;
    let address = if reply[3] == 4 { 16 } else { 4 };
    stream.read_exact(&mut [0; 18][..address + 2]).await?;
    if reply[1] == 0 {
        Ok(())
    } else {
        Err(io::Error::other(format!("SOCKS5 reply {}", reply[1])))
    }
}

/// The parts of a response's head that a client needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) content_length: usize,
    /// Whether the server closes the connection after this response.
    pub(crate) closes: bool,
}

/// Reads a response's head. Bytes after it stay in `buffer`, which a kept connection passes again.
pub(crate) async fn head<S>(stream: &mut S, buffer: &mut Vec<u8>) -> io::Result<Head>
where
    S: tokio::io::AsyncRead + Unpin,
{
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = parse(&buffer[..end]).ok_or_else(|| io::Error::other("not a response"));
            buffer.drain(..end + 4);
            return head;
        }
        if buffer.len() > MAX_HEAD_BYTES {
            return Err(io::Error::other("the response's head is too long"));
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn parse(head: &[u8]) -> Option<Head> {
    let text = str::from_utf8(head).ok()?;
    let (first, fields) = text.split_once("\r\n").unwrap_or((text, ""));
    let (version, rest) = first.split_once(' ')?;
    let mut parsed = Head {
        status: rest.get(..3)?.parse().ok()?,
        content_length: 0,
        closes: version == "HTTP/1.0",
    };
    for field in fields.split("\r\n") {
        let (name, value) = field.split_once(':').unwrap_or((field, ""));
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            parsed.content_length = value.parse().ok()?;
        } else if name.eq_ignore_ascii_case("connection")
            || name.eq_ignore_ascii_case("proxy-connection")
        {
            parsed.closes = value.eq_ignore_ascii_case("close");
        }
    }
    Some(parsed)
}

/// Takes up to `length` bytes from a connection and lets the kernel throw them away (tcp(7), `MSG_TRUNC`),
/// so that a client that reads costs little. 0 at the end of the stream.
pub(crate) async fn discard(stream: &TcpStream, length: usize) -> io::Result<usize> {
    thread_local! {
        /// The kernel writes nothing to it: its size alone counts.
        static UNUSED: RefCell<Vec<u8>> = RefCell::new(vec![0; 256 << 10]);
    }
    stream
        .async_io(Interest::READABLE, || {
            UNUSED.with_borrow_mut(|unused| {
                let length = length.min(unused.len());
                let (_, taken) =
                    rustix::net::recv(stream, &mut unused[..length], RecvFlags::TRUNC)?;
                Ok(taken)
            })
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_says_how_it_ends() {
        let parse = |text: &str| parse(text.as_bytes());
        let head = |status, content_length, closes| {
            Some(Head {
                status,
                content_length,
                closes,
            })
        };
        assert_eq!(parse("HTTP/1.1 200 OK"), head(200, 0, false));
        assert_eq!(
            parse("HTTP/1.1 403 No\r\ncontent-length: 12"),
            head(403, 12, false)
        );
        assert_eq!(
            parse("HTTP/1.1 403 No\r\nConnection: close"),
            head(403, 0, true)
        );
        assert_eq!(
            parse("HTTP/1.0 200 OK\r\nContent-Length: 2"),
            head(200, 2, true)
        );
        assert_eq!(parse("nonsense"), None);
    }
}
