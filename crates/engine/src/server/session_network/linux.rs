//! Linux has many networks, and a cookie for each (`SO_NETNS_COOKIE`, from Linux 5.14 on).

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::getsockopt;
use nix::{getsockopt_impl, libc, sockopt_impl};
use socket2::{Domain, Socket, Type};

sockopt_impl!(
    /// The cookie of a socket's network, which is in use once until the machine stops.
    NetworkCookie,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_NETNS_COOKIE,
    u64
);

/// Whether a socket is in the network of this process. `None`: this kernel does not tell.
pub(in super::super) fn is_here(socket: &impl AsFd) -> io::Result<Option<bool>> {
    let theirs = match getsockopt(socket, NetworkCookie) {
        Err(Errno::ENOPROTOOPT) => return Ok(None),
        cookie => cookie?,
    };
    let own = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    Ok(Some(theirs == getsockopt(&own, NetworkCookie)?))
}
