//! Whose the clients on this machine are: the user at the other end of a connection, from the kernel's
//! socket tables (`sock_diag(7)`).
//!
//! The worker is confined and cannot ask. It learns the users of connections to our own listeners and
//! of no others, and asks only when places, certificates or log lines run short. One lookup finds one
//! connection by both addresses, whatever the number of sockets on the machine, and nothing is kept: the
//! worker asks once for each connection.

use std::net::SocketAddr;

use crate::privsep::message::Ends;

/// The way to the socket tables.
#[derive(Debug)]
pub(super) struct SocketOwners {
    tables: Option<tables::Tables>,
    last: u32,
}

impl SocketOwners {
    /// Opens the way. Where there is none, no owner is known.
    pub(super) fn open() -> Self {
        Self {
            tables: tables::Tables::open(),
            last: 0,
        }
    }

    /// The user of each connection, in their order, as far as it is one to `ours` and is known.
    pub(super) fn users(&mut self, connections: &[Ends], ours: &[SocketAddr]) -> Vec<Option<u32>> {
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
    /// Where the user and the inode are in an answer.
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
                    tracing::info!(%error, "the kernel's socket tables cannot be asked; when connections run short, clients on this machine share by address and not by user");
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
            // The kernel has answered when `send` returns. An older answer may be left over.
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

    /// The user in an answer. The kernel also answers with a listener where there is no such connection,
    /// and gives root for a socket that its process has closed: neither is an owner.
    pub(super) fn read(answer: &[u8], id: &[u8; 36]) -> Option<u32> {
        let operation = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
        let inode = word(answer, INODE)?;
        let is_it = operation == BY_FAMILY && answer.get(ID)? == id && inode != 0;
        is_it.then(|| word(answer, USER)).flatten()
    }

    fn word(bytes: &[u8], at: usize) -> Option<u32> {
        let word = bytes.get(at..at + 4)?;
        Some(u32::from_ne_bytes(word.try_into().ok()?))
    }
}

#[cfg(not(target_os = "linux"))]
mod tables {
    //! Nothing is asked of other systems.

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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};

    use nix::unistd::Uid;

    use super::*;

    /// A client's end, our end, and their addresses.
    fn connected(listener: &TcpListener) -> (TcpStream, TcpStream, Ends) {
        let address = listener.local_addr().expect("an address");
        #[expect(clippy::disallowed_methods, reason = "the test's own client")]
        let client = TcpStream::connect(address).expect("a connection");
        let (ours, _) = listener.accept().expect("a client");
        let ends = Ends {
            client: client.local_addr().expect("an address"),
            local: address,
        };
        (client, ours, ends)
    }

    fn listener(address: &str) -> Option<TcpListener> {
        TcpListener::bind(address).ok()
    }

    /// Ours, as the kernel tells it here; `None` where its tables are closed to us.
    fn tables() -> Option<SocketOwners> {
        let owners = SocketOwners::open();
        if owners.tables.is_none() {
            #[expect(clippy::print_stderr, reason = "for who runs the tests")]
            {
                eprintln!("not run: the kernel's socket tables cannot be asked here");
            }
            return None;
        }
        Some(owners)
    }

    #[test]
    fn c5_the_kernel_tells_whose_a_connection_to_us_is() {
        let Some(mut owners) = tables() else {
            return;
        };
        let us = Some(Uid::current().as_raw());
        for address in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
            let Some(listener) = listener(address) else {
                continue;
            };
            let (client, ours, ends) = connected(&listener);
            let here = [ends.local];
            assert_eq!(owners.users(&[ends, ends], &here), [us, us], "{address}");
            // A client that has shut its sending side down still has its socket.
            client.shutdown(Shutdown::Write).expect("a socket");
            assert_eq!(owners.users(&[ends], &here), [us]);
            // One whose process has closed it belongs to root, if one believes the number.
            drop(client);
            assert_eq!(owners.users(&[ends], &here), [None]);
            drop(ours);
        }
    }

    #[test]
    fn c5_nothing_is_told_of_connections_that_are_not_to_us() {
        let Some(mut owners) = tables() else {
            return;
        };
        let (Some(one), Some(other)) = (listener("127.0.0.1:0"), listener("127.0.0.1:0")) else {
            panic!("no loopback");
        };
        let (_client, _ours, ends) = connected(&one);
        let other = other.local_addr().expect("an address");
        assert_eq!(owners.users(&[ends], &[other]), [None]);
        let anywhere = SocketAddr::new([0, 0, 0, 0].into(), ends.local.port());
        assert_ne!(owners.users(&[ends], &[anywhere]), [None]);
        // Where there is no such connection the kernel would answer with the listener.
        let reversed = Ends {
            client: ends.local,
            local: other,
        };
        assert_eq!(owners.users(&[reversed], &[other]), [None]);
    }

    #[test]
    fn c5_an_answer_that_is_cut_or_for_another_connection_says_nothing() {
        let id = [7; 36];
        let mut answer = [0_u8; 88];
        answer[4..6].copy_from_slice(&20_u16.to_ne_bytes());
        answer[20..56].copy_from_slice(&id);
        answer[80..84].copy_from_slice(&1000_u32.to_ne_bytes());
        answer[84..88].copy_from_slice(&1_u32.to_ne_bytes());
        assert_eq!(tables::read(&answer, &id), Some(1000));
        assert_eq!(tables::read(&answer, &[8; 36]), None);
        for length in 0..answer.len() {
            assert_eq!(tables::read(&answer[..length], &id), None, "{length}");
        }
    }
}
