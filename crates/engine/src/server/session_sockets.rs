//! The sockets that the opener of a session gives for its doors: which of them are accepted (SPEC J2).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Protocol, SockRef, Type};

use super::session_parts::{SessionDoor, SessionError};
use crate::closing::GivenDescriptor;

/// Most doors of a session (SPEC J13).
const MAX_DOORS: usize = 16;

/// A door with its socket: a bound UDP socket for [`SessionDoor::DnsUdp`], else a listening TCP socket. A thread of
/// its giver closes it.
#[derive(Debug)]
pub(super) struct CheckedDoor {
    pub(super) door: SessionDoor,
    pub(super) socket: GivenDescriptor,
    /// The address of its socket.
    pub(super) address: SocketAddr,
}

impl AsFd for CheckedDoor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Pairs doors and sockets, and makes the sockets non-blocking.
pub(super) fn checked(
    doors: Vec<SessionDoor>,
    sockets: Vec<GivenDescriptor>,
) -> Result<Vec<CheckedDoor>, SessionError> {
    let addresses = check(&doors, &sockets)?;
    let doors = doors.into_iter().zip(sockets).zip(addresses);
    let checked = doors.map(|((door, socket), address)| CheckedDoor {
        door,
        socket,
        address,
    });
    Ok(checked.collect())
}

/// Checks each socket, and makes it non-blocking. Returns the addresses.
fn check(
    doors: &[SessionDoor],
    sockets: &[GivenDescriptor],
) -> Result<Vec<SocketAddr>, SessionError> {
    if doors.len() > MAX_DOORS || sockets.len() > MAX_DOORS {
        return Err(SessionError::TooManyDoors(MAX_DOORS));
    }
    if doors.len() != sockets.len() {
        return Err(SessionError::Count {
            doors: doors.len(),
            sockets: sockets.len(),
        });
    }
    if doors.is_empty() {
        return Err(SessionError::NoDoors);
    }
    for door in [SessionDoor::DnsUdp, SessionDoor::DnsTcp] {
        let kind = door.as_str();
        if doors.iter().filter(|door| door.as_str() == kind).count() > 1 {
            return Err(SessionError::OneDoor(kind));
        }
    }
    let mut seen = Vec::with_capacity(doors.len());
    let mut addresses = Vec::with_capacity(doors.len());
    for (at, (door, socket)) in doors.iter().zip(sockets).enumerate() {
        let kind = door.as_str();
        let refused = |why: String| SessionError::Socket {
            number: at + 1,
            kind,
            why,
        };
        // A question for sockets only: no file system is asked about other files.
        let identity = identity(socket).map_err(|error| refused(unusable(&error)))?;
        if let Some(first) = seen.iter().position(|other| *other == identity) {
            let why = format!("is the same socket as descriptor {}", first + 1);
            return Err(refused(why));
        }
        seen.push(identity);
        addresses.push(check_one(door, socket).map_err(refused)?);
    }
    Ok(addresses)
}

fn check_one(door: &SessionDoor, socket: &impl AsFd) -> Result<SocketAddr, String> {
    let is_udp = matches!(door, SessionDoor::DnsUdp);
    let given = SockRef::from(socket);
    let failed = |error: io::Error| unusable(&error);
    let kind = given.r#type().map_err(failed)?;
    let address = given.local_addr().map_err(failed)?.as_socket();
    let fits = match address {
        None => false,
        Some(_) if is_udp => kind == Type::DGRAM && protocol(&given)? == Protocol::UDP,
        Some(_) => {
            kind == Type::STREAM
                && protocol(&given)? == Protocol::TCP
                && is_listener(&given).map_err(failed)?
        }
    };
    let Some(address) = address.filter(|address| fits && address.port() != 0) else {
        let wanted = if is_udp { "bound UDP" } else { "listening TCP" };
        return Err(format!("is not a {wanted} socket"));
    };
    if !address.ip().to_canonical().is_loopback() {
        return Err(format!(
            "is bound to {address}, which is not a loopback address"
        ));
    }
    given.set_nonblocking(true).map_err(failed)?;
    if is_udp && given.peer_addr().is_ok() {
        return Err("is a connected UDP socket".to_owned());
    }
    Ok(address)
}

#[cfg(target_os = "linux")]
fn protocol(socket: &SockRef<'_>) -> Result<Protocol, String> {
    let protocol = socket.protocol().map_err(|error| unusable(&error))?;
    Ok(protocol.unwrap_or(Protocol::ICMPV4))
}

/// Other systems do not report it. Their stream and datagram sockets with internet addresses are TCP
/// and UDP.
#[cfg(not(target_os = "linux"))]
fn protocol(socket: &SockRef<'_>) -> Result<Protocol, String> {
    let kind = socket.r#type().map_err(|error| unusable(&error))?;
    Ok(if kind == Type::DGRAM {
        Protocol::UDP
    } else {
        Protocol::TCP
    })
}

/// Whether a TCP socket listens.
#[cfg(target_os = "linux")]
fn is_listener(socket: &SockRef<'_>) -> io::Result<bool> {
    socket.is_listener()
}

/// The libraries do not ask other systems. A socket that cannot be checked is refused.
#[cfg(not(target_os = "linux"))]
fn is_listener(_: &SockRef<'_>) -> io::Result<bool> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "sessions need Linux",
    ))
}

/// Tells sockets apart, also in different networks.
#[cfg(target_os = "linux")]
fn identity(socket: &impl AsFd) -> io::Result<u64> {
    SockRef::from(socket).cookie()
}

#[cfg(not(target_os = "linux"))]
fn identity(socket: &impl AsFd) -> io::Result<(file_status::Device, file_status::Inode)> {
    file_status::of(socket.as_fd())
}

#[cfg(not(target_os = "linux"))]
mod file_status {
    use std::io;
    use std::os::fd::BorrowedFd;

    pub(super) type Device = u64;
    pub(super) type Inode = u64;

    pub(super) fn of(socket: BorrowedFd<'_>) -> io::Result<(Device, Inode)> {
        use std::os::unix::fs::MetadataExt as _;
        let file = std::fs::File::from(socket.try_clone_to_owned()?);
        let metadata = file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }
}

fn unusable(error: &io::Error) -> String {
    if error.raw_os_error() == Some(nix::libc::ENOTSOCK) {
        return "is not a socket".to_owned();
    }
    format!("cannot be used: {error}")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::closing::DescriptorCloser;

    /// How long a drop may take on a slow machine.
    const TIMEOUT: Duration = Duration::from_secs(30);

    /// Turns a listener, through a copy of it, into a connection whose close waits until the other end, which it
    /// returns, is dropped.
    fn turn_into_lingering(copy: TcpListener) -> TcpStream {
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let address = other.local_addr().expect("bound");
        let socket = socket2::Socket::from(copy);
        socket.shutdown(Shutdown::Both).expect("it listens");
        socket.set_nonblocking(false).expect("a mode");
        socket.connect(&address.into()).expect("it listens");
        let (end, _) = other.accept().expect("a client");
        socket.set_nonblocking(true).expect("a mode");
        while (&socket).write(&[0; 1 << 14]).is_ok() {}
        let linger = socket.set_linger(Some(Duration::from_secs(3600)));
        linger.expect("an option");
        end
    }

    #[test]
    fn j13_a_checked_door_whose_socket_lingers_is_dropped_without_waiting() {
        let closer = DescriptorCloser::default();
        let [first, second] = [(); 2].map(|()| {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
            listener.expect("a listener")
        });
        let copy = first.try_clone().expect("a copy");
        let given = [first, second].map(|one| GivenDescriptor::new(1, one.into(), &closer));
        let doors = vec![SessionDoor::Http, SessionDoor::Socks5];
        let doors = checked(doors, given.into()).expect("two listeners");
        let end = turn_into_lingering(copy);
        let (dropped, is_dropped) = mpsc::channel();
        thread::spawn(move || {
            drop(doors);
            dropped.send(())
        });
        let returned = is_dropped.recv_timeout(TIMEOUT);
        returned.expect("the drop waits for the other end of the connection");
        drop(end);
    }
}
