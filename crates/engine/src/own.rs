//! The proxy's own sockets, which no request may reach (SPEC P6).

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use codex_network_policy::{
    LocalAddresses, ProxyListeners, Transport, UnixSocketPath, listener_receives,
};
use parking_lot::RwLock;
use socket2::{Domain, Type};

use crate::drain::Drain;
use crate::socket_file::{FileId, SocketFile, path_of};

/// How many clients may wait in the kernel to be accepted. The kernel reduces it to its own limit.
const BACKLOG: i32 = 4096;

/// The addresses that this process listens on, doors and admin alike.
#[derive(Clone, Debug)]
pub struct OwnListeners(Arc<Set>);

#[derive(Debug)]
struct Set {
    /// The addresses by port: a lookup per request and per datagram must be fast.
    addresses: RwLock<HashMap<u16, Vec<IpAddr>>>,
    /// Knows the addresses that an unspecified listener accepts on.
    machine: Arc<dyn LocalAddresses>,
    /// After the drain has begun, no address leaves the set.
    drain: Option<Drain>,
}

/// One address of the set; dropping it takes the address out.
#[derive(Debug)]
pub struct OwnListener {
    set: OwnListeners,
    address: SocketAddr,
    /// The same address in another set.
    also: Option<Box<OwnListener>>,
}

/// Every socket of this process that no request may reach (SPEC P6).
#[derive(Clone, Debug)]
pub(crate) struct OwnSockets {
    pub(crate) listeners: OwnListeners,
    /// The sockets of our own UDP associations, which only datagrams can reach.
    pub(crate) datagrams: OwnListeners,
    pub(crate) unix: OwnUnixSockets,
    /// The listeners of the client's session. Those in a network of the session's own are in no other set,
    /// since their addresses mean nothing to others.
    pub(crate) session: Option<OwnListeners>,
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
    pub(crate) fn with_session(&self, listeners: OwnListeners) -> Self {
        Self {
            session: Some(listeners),
            ..self.clone()
        }
    }
}

impl OwnListeners {
    /// An empty set for the same machine. Listeners leave it when they close.
    pub(crate) fn empty_beside(&self) -> Self {
        Self::new(Arc::clone(&self.0.machine))
    }

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
        let mut own = self.0.addresses.write();
        let addresses = own.entry(address.port());
        // Few ports have more than one address.
        let addresses = addresses.or_insert_with(|| Vec::with_capacity(1));
        addresses.push(address.ip());
        OwnListener {
            set: self.clone(),
            address,
            also: None,
        }
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
        let receives = |ip: &&IpAddr| listener_receives(**ip, address, self.0.machine.as_ref());
        let ip = own.get(&port)?.iter().find(receives)?;
        Some(SocketAddr::new(*ip, port))
    }
}

impl OwnListener {
    /// Adds the address to another set too, for as long as it is in this one.
    pub(crate) fn also_in(mut self, set: &OwnListeners) -> Self {
        self.also = Some(Box::new(set.add(self.address)));
        self
    }
}

impl ProxyListeners for OwnSockets {
    fn reached_by(&self, transport: Transport, address: IpAddr, port: u16) -> Option<SocketAddr> {
        let of_session = || self.session.as_ref()?.reached_by(address, port);
        let listener = self.listeners.reached_by(address, port).or_else(of_session);
        match transport {
            Transport::Tcp => listener,
            Transport::Udp => listener.or_else(|| self.datagrams.reached_by(address, port)),
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
        let Entry::Occupied(mut there) = own.entry(self.address.port()) else {
            return;
        };
        let ip = self.address.ip();
        if let Some(index) = there.get().iter().position(|own| *own == ip) {
            there.get_mut().swap_remove(index);
        }
        if there.get().is_empty() {
            there.remove();
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
