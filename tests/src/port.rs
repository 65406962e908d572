//! Ports that are reserved, refuse or stall, for as long as the value lives.
//!
//! The kernel gives such a port to no other socket meanwhile, so parallel tests never reach each
//! other's listeners. A test that needs a closed port uses one of these, and never frees a port and
//! expects it to stay closed.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A port that answers every connection attempt with a reset: bound, so that no other socket gets
/// it, but not listening.
#[derive(Debug)]
pub struct RefusingPort(Socket);

impl RefusingPort {
    /// Takes a free port on 127.0.0.1.
    pub fn open() -> Self {
        Self(bound())
    }

    /// Takes this port; `None` if it is not free.
    pub fn at(address: SocketAddr) -> Option<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).ok()?;
        socket.bind(&address.into()).ok()?;
        Some(Self(socket))
    }

    /// The address to connect to.
    pub fn addr(&self) -> SocketAddr {
        local_addr(&self.0)
    }
}

/// Whether a process accepts connections at this address.
pub fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

/// A port for a daemon that refuses connections before the daemon listens and after it has stopped.
/// The kernel never gives it to a socket that asks for any free port.
#[derive(Debug)]
pub struct Reserved(Socket);

impl Reserved {
    /// Takes a free port on 127.0.0.1.
    pub fn open() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a TCP socket");
        // Bound and not listening: another socket with this option may listen there, as the daemon's does.
        socket.set_reuse_address(true).expect("a fresh socket");
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).expect("a free port on 127.0.0.1");
        Self(socket)
    }

    /// The address to listen on and to connect to.
    pub fn address(&self) -> SocketAddr {
        local_addr(&self.0)
    }

    /// The address as a value of `proxy_url` and its like, quoted for TOML.
    pub fn url(&self) -> String {
        format!("\"http://{}\"", self.address())
    }
}

/// A port where connecting neither succeeds nor fails: its accept queue is full,
/// so the kernel drops further SYNs. Linux only behaviour.
#[derive(Debug)]
pub struct StalledPort {
    socket: Socket,
    _fillers: Vec<TcpStream>,
}

impl StalledPort {
    /// Takes a free port on 127.0.0.1 and fills its accept queue.
    pub fn open() -> Self {
        let socket = bound();
        socket.listen(0).expect("a bound socket can listen");
        let addr = local_addr(&socket);
        let mut fillers = Vec::new();
        // A queue of length 0 still accepts one or two connections, depending on the kernel.
        while let Ok(filler) = TcpStream::connect_timeout(&addr, Duration::from_millis(300)) {
            fillers.push(filler);
            assert!(fillers.len() < 64, "the accept queue never fills up");
        }
        Self {
            socket,
            _fillers: fillers,
        }
    }

    /// The address to connect to.
    pub fn addr(&self) -> SocketAddr {
        local_addr(&self.socket)
    }
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a TCP socket");
    socket
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .expect("a free port on 127.0.0.1");
    socket
}

fn local_addr(socket: &Socket) -> SocketAddr {
    socket
        .local_addr()
        .expect("a bound socket has an address")
        .as_socket()
        .expect("an IPv4 socket has an IP address")
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn a_refusing_port_refuses_at_once() {
        let port = RefusingPort::open();
        let error = TcpStream::connect(port.addr()).expect_err("the port refuses");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_reserved_port_refuses_before_and_after_another_socket_listens_there() {
        let port = Reserved::open();
        let connect = || TcpStream::connect(port.address()).map_err(|error| error.kind());
        assert_eq!(connect().err(), Some(ErrorKind::ConnectionRefused));
        // The standard library sets SO_REUSEADDR.
        let listener = std::net::TcpListener::bind(port.address()).expect("it is ours");
        connect().expect("it listens");
        drop(listener);
        assert_eq!(connect().err(), Some(ErrorKind::ConnectionRefused));
    }

    #[test]
    fn a_stalled_port_lets_the_connect_time_out() {
        let port = StalledPort::open();
        let error = TcpStream::connect_timeout(&port.addr(), Duration::from_millis(200))
            .expect_err("the accept queue is full");
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }
}
