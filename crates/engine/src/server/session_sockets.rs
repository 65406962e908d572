//! The sockets that the opener of a session gives for its doors: which of them are accepted (SPEC J2).

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Protocol, SockRef, Type};

use super::session_parts::{SessionDoor, SessionError};
use crate::closing::DescriptorCloser;

/// Most doors of a session (SPEC J13).
const MAX_DOORS: usize = 16;

/// A door with its socket.
#[derive(Debug)]
pub(super) enum CheckedDoor {
    Tcp(SessionDoor, TcpListener, SocketAddr),
    DnsUdp(UdpSocket, SocketAddr),
}

impl CheckedDoor {
    /// The address of its socket.
    pub(super) fn address(&self) -> SocketAddr {
        let (Self::Tcp(_, _, address) | Self::DnsUdp(_, address)) = self;
        *address
    }
}

impl AsFd for CheckedDoor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(_, listener, _) => listener.as_fd(),
            Self::DnsUdp(socket, _) => socket.as_fd(),
        }
    }
}

/// The descriptors that a user gave, until they are checked.
pub(super) struct GivenSockets {
    pub(super) user: u32,
    pub(super) sockets: Vec<OwnedFd>,
    pub(super) closer: DescriptorCloser,
}

impl Drop for GivenSockets {
    fn drop(&mut self) {
        for socket in self.sockets.drain(..) {
            self.closer.close(self.user, socket);
        }
    }
}

/// Pairs doors and sockets, and makes the sockets non-blocking.
pub(super) fn checked(
    doors: Vec<SessionDoor>,
    mut given: GivenSockets,
) -> Result<Vec<CheckedDoor>, SessionError> {
    let addresses = check(&doors, &given.sockets)?;
    let doors = doors.into_iter().zip(addresses);
    let doors = doors.zip(given.sockets.drain(..));
    let checked = doors.map(|((door, address), socket)| match door {
        SessionDoor::DnsUdp => CheckedDoor::DnsUdp(socket.into(), address),
        door => CheckedDoor::Tcp(door, socket.into(), address),
    });
    Ok(checked.collect())
}

/// Checks each socket, and makes it non-blocking. Returns the addresses.
fn check(doors: &[SessionDoor], sockets: &[OwnedFd]) -> Result<Vec<SocketAddr>, SessionError> {
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

fn check_one(door: &SessionDoor, socket: &OwnedFd) -> Result<SocketAddr, String> {
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
fn identity(socket: &OwnedFd) -> io::Result<u64> {
    SockRef::from(socket).cookie()
}

#[cfg(not(target_os = "linux"))]
fn identity(socket: &OwnedFd) -> io::Result<(file_status::Device, file_status::Inode)> {
    file_status::of(socket)
}

#[cfg(not(target_os = "linux"))]
mod file_status {
    use std::io;
    use std::os::fd::OwnedFd;

    pub(super) type Device = u64;
    pub(super) type Inode = u64;

    pub(super) fn of(socket: &OwnedFd) -> io::Result<(Device, Inode)> {
        use std::os::unix::fs::MetadataExt as _;
        let file = std::fs::File::from(socket.try_clone()?);
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
