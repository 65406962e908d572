//! A scripted network: names lead to public addresses, and every dial ends on loopback. No packet
//! leaves the machine.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use codex_network_engine::{Dial, Resolve, ResolveError};
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;

type NameScript = dyn Fn(&str) -> Vec<IpAddr> + Send + Sync;
type DialScript = dyn Fn(SocketAddr) -> Option<SocketAddr> + Send + Sync;

/// Resolves names by a script, and counts the lookups.
pub(crate) struct Names {
    script: Box<NameScript>,
    lookups: AtomicUsize,
}

/// Dials by a script, and remembers the addresses that it was given.
pub(crate) struct Redirect {
    script: Box<DialScript>,
    dialled: Mutex<Vec<SocketAddr>>,
}

impl Names {
    /// A name for which `script` has no address does not exist.
    pub(crate) fn new(script: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static) -> Arc<Self> {
        let script = Box::new(script);
        let lookups = AtomicUsize::new(0);
        Arc::new(Self { script, lookups })
    }

    pub(crate) fn lookups(&self) -> usize {
        self.lookups.load(Ordering::Relaxed)
    }
}

impl Redirect {
    /// Connects to the address that `script` returns. `None` refuses the connection.
    pub(crate) fn new(
        script: impl Fn(SocketAddr) -> Option<SocketAddr> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let script = Box::new(script);
        let dialled = Mutex::default();
        Arc::new(Self { script, dialled })
    }

    /// The addresses dialled since the last call.
    pub(crate) fn dialled(&self) -> Vec<String> {
        let dialled = std::mem::take(&mut *self.dialled.lock().expect("not poisoned"));
        dialled.iter().map(ToString::to_string).collect()
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Vec<IpAddr>, ResolveError>> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let addresses = (self.script)(name);
        let found = if addresses.is_empty() {
            Err(ResolveError::NotFound)
        } else {
            Ok(addresses)
        };
        Box::pin(async move { found })
    }
}

impl Dial for Redirect {
    #[expect(
        clippy::disallowed_methods,
        reason = "the scripted dialler ends at the test's own listeners"
    )]
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        self.dialled.lock().expect("not poisoned").push(address);
        let target = (self.script)(address);
        Box::pin(async move {
            match target {
                Some(target) => TcpStream::connect(target).await,
                None => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
    }
}
