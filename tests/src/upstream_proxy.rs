//! A small HTTP proxy to act as an upstream proxy: it remembers every head, and forwards every
//! request to one address.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use crate::wait::{TIMEOUT, Watched};
use crate::wire;

/// A running proxy.
pub struct UpstreamProxy {
    addr: SocketAddr,
    heads: Arc<Watched<Vec<String>>>,
}

impl UpstreamProxy {
    /// Listens on a free port; every connection ends at `to`.
    pub fn start(to: SocketAddr) -> Self {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on 127.0.0.1");
        let addr = listener
            .local_addr()
            .expect("a bound listener has an address");
        let heads = Arc::<Watched<Vec<String>>>::default();
        let seen = Arc::clone(&heads);
        // It ends with the test's process.
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let seen = Arc::clone(&seen);
                // A client that closes early is not an error of the proxy; its bytes are recorded.
                thread::spawn(move || serve(client, to, &seen));
            }
        });
        Self { addr, heads }
    }

    /// Its address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The head of every connection's first request, oldest first.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().clone()
    }
}

fn serve(mut client: TcpStream, to: SocketAddr, heads: &Watched<Vec<String>>) -> io::Result<()> {
    wire::prepare(&client, TIMEOUT)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        io::Read::read_exact(&mut client, &mut byte)?;
        head.extend_from_slice(&byte);
    }
    let text = wire::latin1(&head);
    let tunnels = text.starts_with("CONNECT ");
    heads.update(|heads| heads.push(text));
    let mut upstream = TcpStream::connect(to)?;
    if tunnels {
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    } else {
        upstream.write_all(&head)?;
    }
    let (mut from_client, mut to_upstream) = (client.try_clone()?, upstream.try_clone()?);
    thread::spawn(move || {
        let _copied = io::copy(&mut from_client, &mut to_upstream);
        let _closed: io::Result<()> = to_upstream.shutdown(Shutdown::Write);
    });
    io::copy(&mut upstream, &mut client)?;
    client.shutdown(Shutdown::Write)
}
