//! SOCKS5, byte by byte (SPEC section 5).

mod carrying;
mod handshake;
mod judging;
mod replies;
mod udp;

use std::net::{Ipv4Addr, SocketAddr};

use e2e::client::{Connection, Socks5Target};
use e2e::daemon::Daemon;

/// A new connection to the SOCKS5 listener.
fn client(daemon: &Daemon) -> Connection {
    Connection::open(daemon.socks_addr())
}

/// The reply to CONNECT, on a connection of its own.
fn reply(daemon: &Daemon, target: &Socks5Target) -> u8 {
    let mut client = client(daemon);
    let bound = client.socks5_connect(target);
    if bound.reply != 0 {
        assert_eq!(
            bound.addr,
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            "there is no bound address without a connection"
        );
        client.expect_closed();
    }
    bound.reply
}

/// A request by name, with any bytes as the name.
fn request_by_bytes(name: &[u8], port: u16) -> Vec<u8> {
    let length = u8::try_from(name.len()).expect("a name of at most 255 bytes");
    [&[5, 1, 0, 3, length], name, &port.to_be_bytes()].concat()
}
