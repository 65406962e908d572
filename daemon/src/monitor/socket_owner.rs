//! Finds the user of a client on this machine: the owner of the other end of a connection, from the
//! kernel's socket tables (`sock_diag(7)`).
//!
//! The worker is confined and cannot ask the kernel. It learns only the users of connections to our
//! own listeners, and asks only when places, certificates or log lines run short, and for the log
//! line of a change through the admin API. One lookup finds
//! one connection by both addresses, for any number of sockets on the machine. Nothing is
//! cached: the worker requests it once for each connection.

use std::net::SocketAddr;

use crate::privsep::message::ConnectionEnds;

/// The connection to the socket tables.
#[derive(Debug)]
pub(super) struct SocketOwners {
    tables: Option<tables::Tables>,
    last: u32,
}

impl SocketOwners {
    /// Opens the connection. If that fails, no owner is known.
    pub(super) fn open() -> Self {
        Self {
            tables: tables::Tables::open(),
            last: 0,
        }
    }

    /// The user of each connection, in order; `None` for one that is not to `ours` or not known.
    pub(super) fn users(
        &mut self,
        connections: &[ConnectionEnds],
        ours: &[SocketAddr],
    ) -> Vec<Option<u32>> {
        let is_ours = |local: SocketAddr| {
            ours.iter().any(|listener| {
                let same = listener.ip().to_canonical() == local.ip().to_canonical();
                listener.port() == local.port() && (same || listener.ip().is_unspecified())
            })
        };
        connections
            .iter()
            .map(|ends| {
                let tables = self.tables.as_ref().filter(|_| is_ours(ends.local))?;
                self.last = self.last.wrapping_add(1);
                tables.user(ends.client, ends.local, self.last)
            })
            .collect()
    }
}

#[cfg(target_os = "linux")]
mod tables {
    //! Netlink messages of a fixed layout (`linux/netlink.h`, `linux/inet_diag.h`).

    use std::net::{IpAddr, SocketAddr};
    use std::os::fd::{AsRawFd as _, OwnedFd};

    use nix::libc;
    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
    };

    /// `SOCK_DIAG_BY_FAMILY`, the one operation that is used.
    const BY_FAMILY: u16 = 20;
    /// `NLM_F_REQUEST`.
    const REQUEST: u16 = 1;
    /// Bytes of `struct nlmsghdr`.
    const HEADER: usize = 16;
    /// Where `struct inet_diag_sockid` is in an answer, and its length up to the interface.
    const ID: std::ops::Range<usize> = HEADER + 4..HEADER + 40;
    /// The positions of the user and the inode in an answer.
    const USER: usize = HEADER + 64;
    const INODE: usize = HEADER + 68;

    #[derive(Debug)]
    pub(super) struct Tables(OwnedFd);

    impl Tables {
        pub(super) fn open() -> Option<Self> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let (family, protocol) = (AddressFamily::Netlink, SockProtocol::NetlinkSockDiag);
            match socket(family, SockType::Datagram, flags, protocol) {
                Ok(socket) => Some(Self(socket)),
                Err(error) => {
                    tracing::info!(%error, "the kernel's socket tables cannot be read; when connections run short, clients on this machine share by address and not by user");
                    None
                }
            }
        }

        /// The user whose socket is bound to `client` and connected to `local`.
        pub(super) fn user(
            &self,
            client: SocketAddr,
            local: SocketAddr,
            number: u32,
        ) -> Option<u32> {
            let id = id(client, local)?;
            let family = match client.ip().to_canonical() {
                IpAddr::V4(_) => libc::AF_INET,
                IpAddr::V6(_) => libc::AF_INET6,
            };
            let mut request = Vec::with_capacity(HEADER + 56);
            request.extend(72_u32.to_ne_bytes());
            request.extend(BY_FAMILY.to_ne_bytes());
            request.extend(REQUEST.to_ne_bytes());
            request.extend(number.to_ne_bytes());
            request.extend(0_u32.to_ne_bytes());
            request.push(u8::try_from(family).ok()?);
            request.push(u8::try_from(libc::IPPROTO_TCP).ok()?);
            request.extend([0; 2]);
            // Every state.
            request.extend(u32::MAX.to_ne_bytes());
            request.extend(id);
            // Any interface, and no cookie (`INET_DIAG_NOCOOKIE`).
            request.extend([0; 4]);
            request.extend([0xff; 8]);
            send(self.0.as_raw_fd(), &request, MsgFlags::empty()).ok()?;
            let mut answer = [0; 1024];
            // The kernel has answered when `send` returns. An older answer may still be in the
            // queue.
            loop {
                let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty()).ok()?;
                let answer = answer.get(..length)?;
                if word(answer, 8)? == number {
                    return read(answer, &id);
                }
            }
        }
    }

    /// `struct inet_diag_sockid` up to the interface: ports and addresses in network order.
    fn id(client: SocketAddr, local: SocketAddr) -> Option<[u8; 36]> {
        let mut id = [0; 36];
        id[..2].copy_from_slice(&client.port().to_be_bytes());
        id[2..4].copy_from_slice(&local.port().to_be_bytes());
        match (client.ip().to_canonical(), local.ip().to_canonical()) {
            (IpAddr::V4(client), IpAddr::V4(local)) => {
                id[4..8].copy_from_slice(&client.octets());
                id[20..24].copy_from_slice(&local.octets());
            }
            (IpAddr::V6(client), IpAddr::V6(local)) => {
                id[4..20].copy_from_slice(&client.octets());
                id[20..36].copy_from_slice(&local.octets());
            }
            _ => return None,
        }
        Some(id)
    }

    /// The user in an answer. `None` for two answers that name no owner: the
    /// kernel answers with a listener if there is no such connection, and with root for a socket
    /// that its process has closed.
    pub(super) fn read(answer: &[u8], id: &[u8; 36]) -> Option<u32> {
        let operation = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
        let inode = word(answer, INODE)?;
        let told = answer.get(ID)?;
        let is_it = operation == BY_FAMILY && (told == id || told == mapped(id)) && inode != 0;
        is_it.then(|| word(answer, USER)).flatten()
    }

    /// The same connection in the kernel's form for a client's IPv6 socket.
    fn mapped(id: &[u8; 36]) -> [u8; 36] {
        let mut mapped = *id;
        for address in [4, 20] {
            mapped[address..address + 10].fill(0);
            mapped[address + 10..address + 12].fill(0xff);
            mapped[address + 12..address + 16].copy_from_slice(&id[address..address + 4]);
        }
        mapped
    }

    fn word(bytes: &[u8], at: usize) -> Option<u32> {
        let word = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(word.try_into().ok()?))
    }
}

#[cfg(not(target_os = "linux"))]
mod tables {
    //! Other systems do not report it.

    use std::net::SocketAddr;

    #[derive(Debug)]
    pub(super) struct Tables;

    impl Tables {
        pub(super) fn open() -> Option<Self> {
            None
        }

        pub(super) fn user(&self, _: SocketAddr, _: SocketAddr, _: u32) -> Option<u32> {
            None
        }
    }
}

#[cfg(test)]
mod tests;
