//! Spreads the connections of an engine over its runtimes.
//!
//! The runtime that wakes first accepts all connections that have arrived together. Tunnels among them would
//! share one core, while the others are free. So a runtime that has more connections than another one passes
//! new connections on to it, before it reads from them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// A runtime that serves connections.
#[derive(Debug)]
pub(crate) struct ServingRuntime {
    handle: Handle,
    /// How many connections it has.
    open: AtomicUsize,
    /// Whether a connection was passed on to it that it has not begun to serve. It may be busy, or have ended.
    has_unserved: AtomicBool,
    /// Whether it passes every connection on.
    only_accepts: bool,
}

/// A connection of a runtime, which counts it until this is dropped.
#[derive(Debug)]
pub(crate) struct PlacedConnection(Arc<ServingRuntime>);

impl ServingRuntime {
    /// A runtime without connections.
    pub(crate) fn new(handle: Handle) -> Arc<Self> {
        Self::with(handle, false)
    }

    /// A runtime that accepts connections for others.
    pub(crate) fn only_accepting(handle: Handle) -> Arc<Self> {
        Self::with(handle, true)
    }

    fn with(handle: Handle, only_accepts: bool) -> Arc<Self> {
        Arc::new(Self {
            handle,
            open: AtomicUsize::new(0),
            has_unserved: AtomicBool::new(false),
            only_accepts,
        })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Whether new connections go to the other runtime, which must have clearly fewer: a few more or less are
    /// not worth the turn of another thread.
    fn passes_on_to(&self, other: &Self) -> bool {
        let [mine, others] = [self, other].map(|runtime| runtime.open.load(Ordering::Relaxed));
        let is_worth_it = mine > others + others / 4 && !other.has_unserved.load(Ordering::Relaxed);
        self.only_accepts || is_worth_it
    }
}

impl PlacedConnection {
    /// Places a connection that the runtime `here` has accepted, on it or on another one.
    ///
    /// # Errors
    ///
    /// The system's error if the connection cannot be passed on. It is then closed.
    pub(crate) fn place(
        stream: TcpStream,
        here: &Arc<ServingRuntime>,
        runtimes: &[Arc<ServingRuntime>],
    ) -> io::Result<(TcpStream, Self)> {
        let idlest = runtimes
            .iter()
            .min_by_key(|runtime| runtime.open.load(Ordering::Relaxed));
        let Some(other) = idlest.filter(|other| here.passes_on_to(other)) else {
            return Ok((stream, Self::on(here)));
        };
        let stream = stream.into_std()?;
        let _entered = other.handle.enter();
        let stream = TcpStream::from_std(stream)?;
        other.has_unserved.store(true, Ordering::Relaxed);
        Ok((stream, Self::on(other)))
    }

    fn on(runtime: &Arc<ServingRuntime>) -> Self {
        runtime.open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(runtime))
    }

    /// The runtime that serves the connection.
    pub(crate) fn runtime(&self) -> &Handle {
        &self.0.handle
    }

    /// Notes that the runtime serves the connection from now on.
    pub(crate) fn begin(&self) {
        if self.0.has_unserved.load(Ordering::Relaxed) {
            self.0.has_unserved.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for PlacedConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
