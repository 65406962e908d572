//! The proxy's own listeners, which it must never be talked into reaching (SPEC P6).

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use codex_network_policy::UnixSocketPath;

use crate::upstream::unix_socket::{Node, Socket, path_of};

/// The addresses that this process listens on, doors and admin alike.
#[derive(Clone, Debug, Default)]
pub struct OwnListeners(Arc<RwLock<Vec<SocketAddr>>>);

/// One address of the set; dropping it takes the address out.
#[derive(Debug)]
pub struct OwnListener {
    set: OwnListeners,
    address: SocketAddr,
}

/// The unix sockets that this process listens on. To whoever listens there we would be ourselves, the
/// daemon's own user, and not the client.
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
    /// `None` where this process may not look.
    node: Option<Node>,
}

impl OwnListeners {
    /// Adds a bound listener's address.
    pub fn add(&self, address: SocketAddr) -> OwnListener {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .push(address);
        OwnListener {
            set: self.clone(),
            address,
        }
    }

    /// Whether connecting to this address and port would reach one of the listeners.
    pub(crate) fn covers(&self, address: IpAddr, port: u16) -> bool {
        let address = address.to_canonical();
        let own = self.0.read().unwrap_or_else(PoisonError::into_inner);
        own.iter()
            .filter(|listener| listener.port() == port)
            .any(|listener| {
                let ip = listener.ip().to_canonical();
                // The unspecified address connects to loopback; an unspecified listener takes every
                // address of this machine, and whether one is ours only the kernel can tell.
                ip == address
                    || (address.is_unspecified() && ip.is_loopback())
                    || (ip.is_unspecified() && is_of_this_machine(address))
            })
    }
}

impl OwnUnixSockets {
    /// Adds a bound listener's path.
    pub fn add(&self, path: &Path) -> OwnUnixSocket {
        let canonical = std::fs::canonicalize(path);
        let file = Arc::new(OwnFile {
            path: path_of(canonical.as_deref().unwrap_or(path)),
            node: std::fs::metadata(path).ok().as_ref().map(Node::of),
        });
        let mut own = self.0.write().unwrap_or_else(PoisonError::into_inner);
        own.push(Arc::clone(&file));
        drop(own);
        OwnUnixSocket {
            set: self.clone(),
            file,
        }
    }

    /// Whether this is one of them, under whatever name.
    pub(crate) fn has(&self, socket: &Socket) -> bool {
        let own = self.0.read().unwrap_or_else(PoisonError::into_inner);
        own.iter().any(|file| {
            file.path.as_ref() == Some(socket.path()) || file.node == Some(socket.node())
        })
    }
}

impl Drop for OwnUnixSocket {
    fn drop(&mut self) {
        let mut own = self.set.0.write().unwrap_or_else(PoisonError::into_inner);
        own.retain(|file| !Arc::ptr_eq(file, &self.file));
    }
}

impl Drop for OwnListener {
    fn drop(&mut self) {
        let mut own = self.set.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = own.iter().position(|address| *address == self.address) {
            own.swap_remove(index);
        }
    }
}

fn is_of_this_machine(address: IpAddr) -> bool {
    if address.is_loopback() || address.is_unspecified() {
        return true;
    }
    // Only an address of this machine can be bound. Not knowing is no reason to dial ourselves: then
    // every address is suspect.
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::AddrNotAvailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(listener: &str, target: &str) -> bool {
        let own = OwnListeners::default();
        let _listener = own.add(listener.parse().expect("listener"));
        let target: SocketAddr = target.parse().expect("target");
        own.covers(target.ip(), target.port())
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
        let own = OwnListeners::default();
        let address: SocketAddr = "127.0.0.1:80".parse().expect("address");
        drop(own.add(address));
        assert!(!own.covers(address.ip(), 80));
    }
}
