//! An engine with both doors open on loopback, and clients of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use codex_network_config::Settings;
use codex_network_engine::{Door, Engine, EngineParts, Listening};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::stream::{in_time, read_head, read_to_end};

/// An engine and its doors. Dropping it closes the doors.
pub(crate) struct Doors {
    pub(crate) engine: Engine,
    http: Listening,
    socks5: Listening,
}

impl Doors {
    pub(crate) fn open(settings: Settings, parts: EngineParts) -> Self {
        let engine = Engine::new(Arc::new(settings), parts).expect("an engine");
        let open = |door| engine.open(door, listener()).expect("a door");
        let (http, socks5) = (open(Door::Http), open(Door::Socks5));
        Self {
            engine,
            http,
            socks5,
        }
    }

    /// The address of the HTTP door.
    pub(crate) fn http(&self) -> SocketAddr {
        self.http.address()
    }

    /// The address of the SOCKS5 door.
    pub(crate) fn socks5(&self) -> SocketAddr {
        self.socks5.address()
    }

    /// A connection to the HTTP door.
    pub(crate) async fn client(&self) -> TcpStream {
        connect(self.http()).await
    }

    /// Sends bytes to the HTTP door on a connection of its own, and reads the answer until the
    /// connection ends.
    pub(crate) async fn exchange(&self, request: &[u8]) -> String {
        let mut client = self.client().await;
        client.write_all(request).await.expect("an open connection");
        read_to_end(&mut client).await
    }

    /// The tunnel of a CONNECT request, or the whole answer that refuses it.
    pub(crate) async fn tunnel(&self, authority: &str) -> Result<TcpStream, String> {
        let mut client = self.client().await;
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        let sent = client.write_all(request.as_bytes()).await;
        sent.expect("an open connection");
        let head = read_head(&mut client).await.expect("an answer");
        if head.starts_with("HTTP/1.1 200") {
            return Ok(client);
        }
        // A refused CONNECT leaves the connection to the next request.
        client.shutdown().await.expect("an open connection");
        Err(head + &read_to_end(&mut client).await)
    }

    /// A SOCKS5 CONNECT to a name: the connection, and the code of the reply.
    pub(crate) async fn socks5_tunnel(&self, name: &str, port: u16) -> (TcpStream, u8) {
        let mut client = connect(self.socks5()).await;
        let length = u8::try_from(name.len()).expect("a short name");
        let mut message = vec![5, 1, 0, 5, 1, 0, 3, length];
        message.extend_from_slice(name.as_bytes());
        message.extend_from_slice(&port.to_be_bytes());
        client
            .write_all(&message)
            .await
            .expect("an open connection");
        let mut reply = [0; 2 + 10];
        let read = in_time(client.read_exact(&mut reply)).await;
        read.expect("a reply");
        assert_eq!(reply[..3], [5, 0, 5], "{reply:?}");
        (client, reply[3])
    }
}

/// A listener on a free port of loopback.
pub(crate) fn listener() -> std::net::TcpListener {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test's own client, to loopback"
)]
pub(crate) async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.expect("an open port")
}

/// The status of an answer.
pub(crate) fn status(answer: &str) -> u16 {
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    status.expect("a status line")
}
