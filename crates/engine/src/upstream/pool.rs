//! Upstream HTTP connections between two requests.
//!
//! The key of a kept connection is the authority that it was vetted for, or the file of its unix socket,
//! together with the runtime that serves it and with the generation of the settings, name servers and roots
//! that vetted it. After a change the pool gives out no older connection, so none carries a request to a
//! destination that the new policy would refuse to dial. [`Lease`](super::Lease) decides whether an HTTP/1
//! connection is kept after its request, and [`Http2Origin`] whether an HTTP/2 one is.
//!
//! A task closes the connections whose time is over. It runs only while connections are kept.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use codex_network_config::kept_connections;
use codex_network_policy::Authority;
use hyper::client::conn::http1::SendRequest;
use parking_lot::Mutex;
use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Outgoing;
use super::far_end::FarEnd;
use super::http2::{Http2Origin, Http2Use, KeptHttp2};
use crate::attempt::UNIX_SOCKET;
use crate::descriptors;
use crate::drain::Drain;
use crate::enforce::Permit;
use crate::enforce::unix_socket::SocketPermit;
use crate::owner::ConnectionHandle;
use crate::session::SessionNumber;
use crate::socket_file::SocketIdentity;
use crate::tls::Wire;

/// Most kept connections per authority or unix socket; further ones are closed after use.
const MAX_PER_PEER: usize = 1024;
/// Time between two closings, so that connections with slightly different times are closed together.
const CLOSE_INTERVAL: Duration = Duration::from_millis(100);

/// The purpose that a kept connection was vetted for.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    key: Key,
    generation: u64,
    secrets: Secrets,
}

/// Whether the proxy may add a secret to requests to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Secrets {
    Injected,
    Never,
}

/// The peer of a connection, the protocol on it, and where it is served.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    peer: Peer,
    /// The session whose policy vetted the connection: another session has another one.
    session: Option<SessionNumber>,
    wire: Wire,
    /// The runtime that serves the connection. On another one, each of its bytes would wake two threads.
    runtime: Id,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Peer {
    Host(Authority),
    UnixSocket(SocketIdentity),
}

/// The kept connections.
pub(crate) struct Pool<B> {
    kept: Mutex<Kept<B>>,
    /// Most kept connections in total.
    limit: usize,
    /// Wakes the task that closes connections: one was kept that must be closed before all others.
    sooner: Notify,
}

struct Kept<B> {
    generation: u64,
    idle: HashMap<Key, Vec<Idle<B>>>,
    count: usize,
    /// When the next connections are closed; `None` while no task waits for that.
    closes_at: Option<Instant>,
    closed: bool,
}

/// A connection that waits for a request.
pub(super) struct Idle<B> {
    sender: IdleSender<B>,
    far: FarEnd,
    since: Instant,
}

enum IdleSender<B> {
    Http1(SendRequest<B>),
    Http2(KeptHttp2),
}

impl Checkout {
    pub(crate) fn of(permit: &Permit, wire: Wire) -> Self {
        let (authority, generation) = (permit.authority(), permit.generation());
        let hooks = &generation.settings().mitm.hooks;
        let adds_secrets =
            hooks.has(&authority.host) || generation.is_reached(wire.scheme(), authority);
        Self {
            key: Key {
                peer: Peer::Host(authority.clone()),
                session: permit.attempt().client.session_number(),
                wire,
                runtime: Handle::current().id(),
            },
            generation: generation.connections(),
            secrets: if adds_secrets {
                Secrets::Injected
            } else {
                Secrets::Never
            },
        }
    }

    /// Whether the proxy may add a secret to requests to the peer.
    pub(super) fn injects_secrets(&self) -> bool {
        self.secrets == Secrets::Injected
    }

    /// The generation that vetted the connection (`Generation::connections` in `live_policy.rs`).
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn of_unix_socket(permit: &SocketPermit) -> Self {
        Self {
            key: Key {
                peer: Peer::UnixSocket(permit.socket().identity().clone()),
                session: permit.session(),
                wire: Wire::Plain,
                runtime: Handle::current().id(),
            },
            generation: permit.generation().connections(),
            secrets: Secrets::Never,
        }
    }
}

/// For logs. A unix socket appears without its path.
impl fmt::Display for Checkout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key.peer {
            Peer::Host(authority) => write!(f, "origin {authority}"),
            Peer::UnixSocket(_) => f.write_str(UNIX_SOCKET),
        }
    }
}

impl<B> Default for Kept<B> {
    fn default() -> Self {
        Self {
            generation: 0,
            idle: HashMap::new(),
            count: 0,
            closes_at: None,
            closed: false,
        }
    }
}

impl<B: Outgoing> Pool<B> {
    pub(crate) fn new() -> Self {
        Self {
            kept: Mutex::default(),
            limit: usize::try_from(kept_connections(descriptors::limit())).unwrap_or_default(),
            sooner: Notify::new(),
        }
    }

    /// How many connections are kept.
    pub(crate) fn idle(&self) -> usize {
        self.lock().count
    }

    /// Takes a kept HTTP/1 connection that is still open and ready, the youngest first.
    pub(super) async fn take(&self, key: &Checkout) -> Option<(SendRequest<B>, FarEnd)> {
        loop {
            let idle = self.lock().take(key)?;
            if let IdleSender::Http1(mut sender) = idle.sender
                && idle.since.elapsed() < idle.far.keep()
                && sender.ready().await.is_ok()
            {
                return Some((sender, idle.far));
            }
        }
    }

    /// Takes a kept HTTP/2 connection that is still open for this client, the youngest first.
    pub(super) fn take_http2(&self, key: &Checkout, client: &ConnectionHandle) -> Option<Http2Use> {
        loop {
            let idle = self.lock().take(key)?;
            let Idle {
                sender: IdleSender::Http2(kept),
                far,
                since,
            } = idle
            else {
                continue;
            };
            if since.elapsed() >= far.keep() || !kept.is_open() {
                continue;
            }
            match kept.pass_to(client) {
                Ok(taken) => return Some(taken),
                Err(kept) => {
                    let idle = Idle {
                        sender: IdleSender::Http2(kept),
                        far,
                        since,
                    };
                    // If the pool is full again, the connection ends.
                    let _ = self.lock().put(key, idle, self.limit);
                    return None;
                }
            }
        }
    }

    /// The far end of a kept connection that is still open. The connection stays in the pool.
    pub(super) fn find(&self, key: &Checkout) -> Option<FarEnd> {
        self.lock().find(key, Instant::now())
    }

    /// Closes all kept connections, and keeps none from now on.
    pub(crate) fn close(&self) {
        *self.lock() = Kept {
            closed: true,
            ..Kept::default()
        };
    }

    /// Keeps a connection until its time is over. Returns whether there is room for it. Without room, an
    /// HTTP/1 connection ends.
    pub(super) fn put(self: &Arc<Self>, key: &Checkout, idle: Idle<B>, drain: &Drain) -> bool {
        let until = idle.until();
        let mut kept = self.lock();
        if let Err(idle) = kept.put(key, idle, self.limit) {
            drop(kept);
            idle.leave();
            return false;
        }
        match kept.closes_at {
            Some(at) if at <= until => {}
            Some(_) => {
                kept.closes_at = Some(until);
                self.sooner.notify_one();
            }
            None => {
                kept.closes_at = Some(until);
                drop(kept);
                let pool = Arc::clone(self);
                // A drain closes the pool.
                drain.spawn_until_begun(async move { pool.close_in_time().await });
            }
        }
        true
    }

    /// Forgets a connection that its other end has closed.
    pub(super) fn forget(&self, key: &Checkout, far: &FarEnd) {
        self.lock().forget(&key.key, far);
    }

    /// Closes connections when their time is over, until none is kept.
    async fn close_in_time(&self) {
        loop {
            let Some(at) = self.lock().closes_at else {
                return;
            };
            tokio::select! {
                () = sleep_until(at) => {}
                () = self.sooner.notified() => continue,
            }
            let now = Instant::now();
            let mut kept = self.lock();
            kept.close_stale(now);
            kept.closes_at = kept.earliest().map(|at| at.max(now + CLOSE_INTERVAL));
        }
    }

    fn lock(&self) -> parking_lot::MutexGuard<'_, Kept<B>> {
        self.kept.lock()
    }
}

impl<B> Kept<B> {
    fn take(&mut self, key: &Checkout) -> Option<Idle<B>> {
        self.begin(key.generation);
        if key.generation != self.generation {
            return None;
        }
        let idle = self.idle.get_mut(&key.key)?.pop()?;
        self.count -= 1;
        Some(idle)
    }

    fn find(&mut self, key: &Checkout, now: Instant) -> Option<FarEnd> {
        self.begin(key.generation);
        if key.generation != self.generation {
            return None;
        }
        let mut idle = self.idle.get(&key.key)?.iter().rev();
        let open = idle.find(|idle| idle.is_fresh(now) && !idle.is_closed())?;
        Some(open.far.clone())
    }

    /// Keeps a connection, or returns it.
    fn put(&mut self, key: &Checkout, new: Idle<B>, limit: usize) -> Result<(), Idle<B>> {
        self.begin(key.generation);
        if self.closed || key.generation != self.generation || self.count >= limit {
            return Err(new);
        }
        // One that has ended was forgotten already, or will be.
        if new.is_closed() {
            return Err(new);
        }
        let idle = match self.idle.get_mut(&key.key) {
            Some(idle) => idle,
            None => self.idle.entry(key.key.clone()).or_default(),
        };
        if idle.len() >= MAX_PER_PEER {
            return Err(new);
        }
        idle.push(new);
        self.count += 1;
        Ok(())
    }

    /// Drops connections of an older generation.
    fn begin(&mut self, generation: u64) {
        if generation > self.generation {
            *self = Self {
                generation,
                closed: self.closed,
                closes_at: self.closes_at,
                ..Self::default()
            };
        }
    }

    fn forget(&mut self, key: &Key, far: &FarEnd) {
        let Some(idle) = self.idle.get_mut(key) else {
            return;
        };
        let before = idle.len();
        idle.retain(|idle| !idle.far.is(far));
        self.count -= before - idle.len();
        if idle.is_empty() {
            self.idle.remove(key);
        }
    }

    fn close_stale(&mut self, now: Instant) {
        self.idle.retain(|_, idle| {
            idle.retain(|idle| idle.is_fresh(now));
            !idle.is_empty()
        });
        self.count = self.idle.values().map(Vec::len).sum();
    }

    /// The earliest time at which a kept connection is closed.
    fn earliest(&self) -> Option<Instant> {
        self.idle.values().flatten().map(Idle::until).min()
    }
}

impl<B> Idle<B> {
    pub(super) fn http1(sender: SendRequest<B>, far: FarEnd) -> Self {
        Self {
            sender: IdleSender::Http1(sender),
            far,
            since: Instant::now(),
        }
    }

    pub(super) fn http2(origin: &Arc<Http2Origin>) -> Self {
        Self {
            far: origin.far().clone(),
            sender: IdleSender::Http2(KeptHttp2::new(origin)),
            since: Instant::now(),
        }
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            IdleSender::Http1(sender) => sender.is_closed(),
            IdleSender::Http2(kept) => !kept.is_open(),
        }
    }

    /// Leaves an HTTP/2 connection to its client. An HTTP/1 connection ends.
    fn leave(self) {
        if let IdleSender::Http2(kept) = self.sender {
            kept.leave_open();
        }
    }

    /// The time at which the pool closes this connection.
    fn until(&self) -> Instant {
        self.since + self.far.keep()
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now < self.until()
    }
}
