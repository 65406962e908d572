//! `SO_ORIGINAL_DST`. The kernel looks the connection up in the namespace that the socket was made in,
//! so this works from outside of the jail.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

pub(super) fn of(stream: &TcpStream) -> io::Result<SocketAddr> {
    let socket = SockRef::from(stream);
    let found = if stream.local_addr()?.is_ipv4() {
        socket.original_dst_v4()
    } else {
        socket.original_dst_v6()
    }?;
    found
        .as_socket()
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}
