//! Origins that a test plays itself, byte by byte: for behaviour that [`Origin`](crate::origin::Origin)
//! does not have.
//!
//! An error of the served function is ignored: the test sees its effect at the client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use crate::wait::TIMEOUT;
use crate::wire;

/// Listens on a free port of 127.0.0.1 and serves one connection.
pub fn serve_one(serve: impl FnOnce(TcpStream) -> io::Result<()> + Send + 'static) -> SocketAddr {
    serve_one_at(Ipv4Addr::LOCALHOST.into(), serve)
}

/// The same on another address of this machine.
pub fn serve_one_at(
    address: IpAddr,
    serve: impl FnOnce(TcpStream) -> io::Result<()> + Send + 'static,
) -> SocketAddr {
    let (listener, address) = listen(address);
    thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a connection");
        wire::prepare(&stream, TIMEOUT).expect("a fresh socket takes options");
        let _: io::Result<()> = serve(stream);
    });
    address
}

/// Listens on a free port of 127.0.0.1 and serves every connection in a thread of its own. The
/// connections count from 0.
pub fn serve_each(
    serve: impl Fn(usize, TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    let (listener, address) = listen(Ipv4Addr::LOCALHOST.into());
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.expect("a connection");
            wire::prepare(&stream, TIMEOUT).expect("a fresh socket takes options");
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(number, stream));
        }
    });
    address
}

fn listen(address: IpAddr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((address, 0)).expect("a free port on loopback");
    let address = listener.local_addr().expect("a bound listener");
    (listener, address)
}

/// Reads up to the end of a head, and nothing behind it.
///
/// # Errors
/// The peer closed or failed before.
pub fn read_head(stream: &mut impl Read) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(wire::latin1(&head))
}

/// Answers 200 with a short body.
///
/// # Errors
/// The peer is gone.
pub fn answer_ok(stream: &mut impl Write) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
}
