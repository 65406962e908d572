//! The proxy's own sockets, which no request may reach (SPEC P6).

mod collector;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use codex_network_policy::{
    Host, LocalAddresses, ProxyListeners, Transport, UnixSocketPath, listener_receives,
};
use parking_lot::RwLock;
use socket2::{Domain, Type};

pub(crate) use self::collector::OwnCollector;
use crate::drain::Drain;
use crate::socket_file::{FileId, SocketFile, path_of};

/// How many clients may wait in the kernel to be accepted. The kernel reduces it to its own limit.
const BACKLOG: i32 = 4096;

/// All addresses sort between these.
const FIRST_IP: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const LAST_IP: IpAddr = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));

/// The addresses that this process listens on, doors and admin alike.
#[derive(Clone, Debug)]
pub struct OwnListeners(Arc<Set>);

#[derive(Debug)]
struct Set {
    /// How many listeners have each address. Sorted by port: a lookup per request and per datagram must be
    /// fast.
    addresses: RwLock<BTreeMap<(u16, IpAddr), u32>>,
    /// Knows the addresses that an unspecified listener accepts on.
    machine: Arc<dyn LocalAddresses>,
    /// After the drain has begun, no address leaves the set.
    drain: Option<Drain>,
}

/// One address of the set, or those of one session; dropping it takes them out.
#[derive(Debug)]
pub struct OwnListener {
    set: OwnListeners,
    address: SocketAddr,
    further: Box<[SocketAddr]>,
}

/// Every socket of this process that no request may reach (SPEC P6).
#[derive(Clone, Debug)]
pub(crate) struct OwnSockets {
    pub(crate) listeners: OwnListeners,
    /// The sockets of our own UDP associations, which only datagrams can reach.
    pub(crate) datagrams: OwnListeners,
    pub(crate) unix: OwnUnixSockets,
    /// The collector of audit events.
    pub(crate) collector: OwnCollector,
    /// The listeners of the client's session. Those in a network of the session's own are in no other set,
    /// since their addresses mean nothing to others.
    pub(crate) session: Arc<[SocketAddr]>,
}

/// The unix sockets that this process listens on. To their listeners, a connection of the proxy comes
/// from the daemon's own user, not from the client.
#[derive(Clone, Debug, Default)]
pub struct OwnUnixSockets(Arc<RwLock<Vec<Arc<OwnFile>>>>);

/// One unix socket of the set; dropping it takes the socket out.
#[derive(Debug)]
pub struct OwnUnixSocket {
    set: OwnUnixSockets,
    file: Arc<OwnFile>,
}

#[derive(Debug)]
struct OwnFile {
    path: Option<UnixSocketPath>,
    /// `None` where this process may not look at the file.
    id: Option<FileId>,
}

impl OwnSockets {
    /// These sockets, and the listeners of one session.
    pub(crate) fn with_session(&self, session: Arc<[SocketAddr]>) -> Self {
        Self {
            session,
            ..self.clone()
        }
    }

    /// Whether only the collector of audit events makes this port one that requests may not reach.
    pub(crate) fn is_port_of_collector(&self, port: u16) -> bool {
        let of_session = self.session.iter().any(|own| own.port() == port);
        self.collector.port() == Some(port) && !of_session && !self.listeners.have_port(port)
    }
}

impl OwnListeners {
    /// An empty set. Listeners leave it when they close.
    pub(crate) fn new(machine: Arc<dyn LocalAddresses>) -> Self {
        Self(Arc::new(Set {
            addresses: RwLock::default(),
            machine,
            drain: None,
        }))
    }

    /// An empty set that keeps its addresses once the drain has begun. While this process drains,
    /// its successor may serve on the same sockets, and requests that are under way here must not
    /// reach it.
    pub(crate) fn kept_while_draining(machine: Arc<dyn LocalAddresses>, drain: Drain) -> Self {
        Self(Arc::new(Set {
            addresses: RwLock::default(),
            machine,
            drain: Some(drain),
        }))
    }

    /// Adds a listener's address.
    pub fn add(&self, address: SocketAddr) -> OwnListener {
        self.add_all(address, Box::default())
    }

    /// Adds the addresses of listeners that close together.
    pub(crate) fn add_all(&self, address: SocketAddr, further: Box<[SocketAddr]>) -> OwnListener {
        let listener = OwnListener {
            set: self.clone(),
            address,
            further,
        };
        let mut own = self.0.addresses.write();
        for address in listener.addresses() {
            *own.entry((address.port(), address.ip())).or_default() += 1;
        }
        drop(own);
        listener
    }

    /// Binds an address, adds it to the set, and only then listens there, so that no request under
    /// way can reach the queue of the new listener.
    ///
    /// # Errors
    ///
    /// The same as [`TcpListener::bind`].
    pub fn listen(&self, address: SocketAddr) -> io::Result<(TcpListener, OwnListener)> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        // The standard library sets this too: connections of an earlier listener do not block the
        // address.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        let bound = socket.local_addr()?.as_socket();
        let own = self.add(bound.unwrap_or(address));
        socket.listen(BACKLOG)?;
        Ok((socket.into(), own))
    }

    /// The listener that a connection to this address and port would reach.
    fn reached_by(&self, address: IpAddr, port: u16) -> Option<SocketAddr> {
        let own = self.0.addresses.read();
        let mut listeners = own.range((port, FIRST_IP)..=(port, LAST_IP));
        let reached = listeners.find(|((_, ip), _)| self.receives(*ip, address));
        reached.map(|((port, ip), _)| SocketAddr::new(*ip, *port))
    }

    /// Whether a connection to this address and port would reach one of them.
    pub(crate) fn are_reached_by(&self, address: IpAddr, port: u16) -> bool {
        self.reached_by(address, port).is_some()
    }

    fn have_port(&self, port: u16) -> bool {
        let own = self.0.addresses.read();
        own.range((port, FIRST_IP)..=(port, LAST_IP))
            .next()
            .is_some()
    }

    /// Whether a listener at `ip` receives connections to this address.
    fn receives(&self, ip: IpAddr, address: IpAddr) -> bool {
        listener_receives(ip, address, self.0.machine.as_ref())
    }
}

impl OwnListener {
    fn addresses(&self) -> impl Iterator<Item = &SocketAddr> {
        std::iter::once(&self.address).chain(&self.further)
    }
}

impl ProxyListeners for OwnSockets {
    fn reached_by(&self, transport: Transport, address: IpAddr, port: u16) -> Option<SocketAddr> {
        let of_session = || {
            let mut listeners = self.session.iter().filter(|own| own.port() == port);
            listeners.find(|own| self.listeners.receives(own.ip(), address))
        };
        let listener = self.listeners.reached_by(address, port);
        let listener = listener.or_else(|| of_session().copied());
        let listener = listener.or_else(|| self.collector.reached_by(address, port));
        match transport {
            Transport::Tcp => listener,
            Transport::Udp => listener.or_else(|| self.datagrams.reached_by(address, port)),
        }
    }

    fn is_collector(&self, host: &Host, port: u16) -> bool {
        let reached = |address| self.collector.reached_by(address, port).is_some();
        let is_loopback = || [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        match host.ip() {
            Some(address) => reached(address),
            None if host.is_localhost() => is_loopback().into_iter().any(reached),
            None => self.collector.is_named(host, port),
        }
    }
}

impl OwnUnixSockets {
    /// Adds a bound listener's path.
    pub fn add(&self, path: &Path) -> OwnUnixSocket {
        let canonical = std::fs::canonicalize(path);
        let file = Arc::new(OwnFile {
            path: path_of(canonical.as_deref().unwrap_or(path)),
            id: std::fs::metadata(path).ok().as_ref().map(FileId::of),
        });
        let mut own = self.0.write();
        own.push(Arc::clone(&file));
        drop(own);
        OwnUnixSocket {
            set: self.clone(),
            file,
        }
    }

    /// Whether this is one of them, under any name.
    pub(crate) fn has(&self, socket: &SocketFile) -> bool {
        let own = self.0.read();
        own.iter()
            .any(|file| file.path.as_ref() == Some(socket.path()) || file.id == Some(socket.id()))
    }
}

impl Drop for OwnUnixSocket {
    fn drop(&mut self) {
        let mut own = self.set.0.write();
        own.retain(|file| !Arc::ptr_eq(file, &self.file));
    }
}

impl Drop for OwnListener {
    fn drop(&mut self) {
        let set = &self.set.0;
        if set.drain.as_ref().is_some_and(Drain::has_begun) {
            return;
        }
        let mut own = set.addresses.write();
        for address in self.addresses() {
            let Entry::Occupied(mut count) = own.entry((address.port(), address.ip())) else {
                continue;
            };
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local_addresses::KernelAddresses;

    fn empty() -> OwnListeners {
        OwnListeners::new(Arc::new(KernelAddresses))
    }

    fn covers(listener: &str, target: &str) -> bool {
        let own = empty();
        let _listener = own.add(listener.parse().expect("listener"));
        let target: SocketAddr = target.parse().expect("target");
        own.reached_by(target.ip(), target.port()).is_some()
    }

    #[test]
    fn p6_every_way_to_a_loopback_listener_is_covered() {
        for target in [
            "127.0.0.1:3128",
            "0.0.0.0:3128",
            "[::]:3128",
            "[::ffff:127.0.0.1]:3128",
        ] {
            assert!(covers("127.0.0.1:3128", target), "{target}");
        }
        for target in [
            "127.0.0.1:3129",
            "127.0.0.2:3128",
            "192.0.2.1:3128",
            "[::1]:3128",
        ] {
            assert!(!covers("127.0.0.1:3128", target), "{target}");
        }
    }

    #[test]
    fn p6_an_unspecified_listener_covers_this_machine() {
        assert!(covers("0.0.0.0:80", "127.0.0.9:80"));
        assert!(covers("0.0.0.0:80", "0.0.0.0:80"));
        assert!(!covers("0.0.0.0:80", "192.0.2.1:80"));
    }

    #[test]
    fn p6_a_closed_listener_is_forgotten() {
        let own = empty();
        let address: SocketAddr = "127.0.0.1:80".parse().expect("address");
        drop(own.add(address));
        assert_eq!(own.reached_by(address.ip(), 80), None);
    }

    #[test]
    fn p6_an_address_of_two_listeners_stays_our_own_until_both_are_closed() {
        let own = empty();
        let [dns, http]: [SocketAddr; 2] =
            ["127.0.0.1:53", "127.0.0.1:80"].map(|text| text.parse().expect("address"));
        let reached = |address: SocketAddr| own.reached_by(address.ip(), address.port());
        let udp = own.add(dns);
        let both = own.add_all(dns, [http].into());
        assert_eq!((reached(dns), reached(http)), (Some(dns), Some(http)));
        drop(both);
        assert_eq!((reached(dns), reached(http)), (Some(dns), None));
        drop(udp);
        assert_eq!(reached(dns), None);
    }

    /// A past bug: an address that closed while the process drained could be reached through it
    /// while the next process served there.
    #[test]
    fn p6_a_listener_that_closes_while_draining_stays_our_own() {
        let drain = Drain::new();
        let own = OwnListeners::kept_while_draining(Arc::new(KernelAddresses), drain.clone());
        let address: SocketAddr = "127.0.0.1:80".parse().expect("address");
        let listener = own.add(address);
        drain.begin();
        drop(listener);
        assert_eq!(own.reached_by(address.ip(), 80), Some(address));
    }
}
