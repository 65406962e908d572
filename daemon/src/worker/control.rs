//! The control socket: `proxyctl`'s way in (SPEC L4, section 9).
//!
//! Life of a caller: accepted here, identified by `peer` from the kernel, disconnected or given an
//! access, served by `codex-network-control` in a task of its own, answered by `service`. The
//! monitor makes the socket.

mod approvals;
mod decisions;
mod explain;
mod peer;
mod refusals;
mod reload;
mod service;
mod sessions;
mod telemetry;

use std::collections::HashMap;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use codex_network_control::message::CloseDescriptor;
use codex_network_control::{Access, ControlStream, serve};
use codex_network_engine::{Engine, OwnUnixSocket};
use nix::unistd::Gid;
use parking_lot::{Mutex, MutexGuard};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use self::peer::Peer;
use self::refusals::{Further, Refusals};
use self::service::Service;
use self::sessions::HeldSession;
use super::reload::Reloader;
use super::role_status::RoleStatus;

/// The listener's name in logs and in systemd's `LISTEN_FDNAMES`.
const NAME: &str = "control";

/// Connections of one user that are served at once, besides those with a session. Permitted users are
/// few, so this bounds their total too, and none can keep another out.
const MAX_SERVED_OF_ONE_USER: usize = 16;
/// Further connections of one user that wait to be served.
const MAX_WAITING_OF_ONE_USER: usize = 112;
/// How long such a connection waits before it gets a refusal.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);
/// Further connections of one user that get a refusal at once. The rest are closed.
const MAX_REFUSED_OF_ONE_USER: usize = 4;
/// How long a refused caller may take to read the refusal.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long to wait when accepting fails: the process is short of a resource.
const ACCEPT_RETRY_INTERVAL: Duration = Duration::from_millis(200);
/// How long pending answers may take when the proxy stops.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The open control socket. Dropping it closes our copy.
#[derive(Debug)]
pub(super) struct ControlServer {
    accepting: tokio::task::JoinHandle<()>,
    /// No request may reach it through the doors: it would come from this same user (SPEC P6, K3).
    _own: OwnUnixSocket,
}

/// Serves the control socket until the engine's drain begins.
pub(super) fn open(
    engine: &Engine,
    reloader: &Arc<Reloader>,
    role_status: RoleStatus,
    listener: StdListener,
    path: &str,
    socket_source: &'static str,
) -> std::io::Result<ControlServer> {
    listener.set_nonblocking(true)?;
    let accept = Accept {
        listener: UnixListener::from_std(listener)?,
        callers: Arc::default(),
        service: Arc::new(Service::new(
            engine.clone(),
            Arc::clone(reloader),
            role_status,
            Path::new(path),
            socket_source,
        )),
        engine: engine.clone(),
        reloader: Arc::clone(reloader),
    };
    tracing::info!(listener = NAME, address = path, "listening");
    Ok(ControlServer {
        _own: engine.own_unix_sockets().add(Path::new(path)),
        accepting: tokio::spawn(accept.run()),
    })
}

impl ControlServer {
    /// Waits a moment for pending answers, then closes. Call it when the engine has drained.
    pub(super) async fn close(mut self) {
        if tokio::time::timeout(CLOSE_TIMEOUT, &mut self.accepting)
            .await
            .is_err()
        {
            self.accepting.abort();
        }
    }
}

impl Drop for ControlServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The accept loop.
struct Accept {
    listener: UnixListener,
    callers: Arc<UserConnections>,
    service: Arc<Service>,
    engine: Engine,
    reloader: Arc<Reloader>,
}

impl Accept {
    async fn run(self) {
        let drain = self.engine.drain().clone();
        let mut connections = JoinSet::new();
        let mut refusals = Refusals::default();
        let mut report = tokio::time::interval(refusals::INTERVAL);
        loop {
            let accepted = async {
                // Callers whose connections cannot be closed make all callers wait, and no client.
                self.engine.descriptor_closer().room().await;
                self.listener.accept().await
            };
            tokio::select! {
                () = drain.begun() => break,
                _ = report.tick(), if !refusals.is_empty() => log_further(refusals.drain()),
                accepted = accepted => match accepted {
                    Ok((stream, _)) => self.admit(stream, &mut connections, &mut refusals),
                    Err(error) => {
                        tracing::error!(%error, "cannot accept on the control socket; trying again");
                        tokio::time::sleep(ACCEPT_RETRY_INTERVAL).await;
                    }
                },
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    if let Some(ConnectionEnd::TurnedAway(peer)) = ending(ended) {
                        log_turned_away(&mut refusals, peer);
                    }
                }
            }
        }
        log_further(refusals.drain());
        drop(self);
        while let Some(ended) = connections.join_next().await {
            ending(ended);
        }
    }

    /// Serves a caller that the kernel has identified, or disconnects it before a byte is read.
    fn admit(
        &self,
        stream: UnixStream,
        connections: &mut JoinSet<ConnectionEnd>,
        refusals: &mut Refusals,
    ) {
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "disconnected a caller of the control socket: the system does not report its user");
                return;
            }
        };
        let (closer, user) = (self.engine.descriptor_closer().clone(), peer.user.as_raw());
        let close = CloseDescriptor::with(move |descriptor| closer.close(user, descriptor));
        let groups = peer.groups(&stream);
        let stream = ControlStream::closed_by(stream, close);
        let Some(access) = self.reloader.admitted().access(peer.user, &groups) else {
            if refusals.note(peer.user.as_raw()) {
                tracing::warn!(
                    uid = peer.user.as_raw(),
                    pid = peer.pid,
                    "disconnected a caller of the control socket who is neither administrator nor observer nor user"
                );
            }
            return;
        };
        let entry = UserConnections::enter(&self.callers, peer);
        let Some(entry) = entry else {
            log_turned_away(refusals, peer);
            return;
        };
        let parts = Arc::clone(&self.service);
        // Boxed, so that only the part that goes on keeps memory for the life of a session.
        let begins = Box::pin(begin(parts, stream, peer, groups, access, entry));
        connections.spawn(async move {
            let Some((room, served)) = begins.await else {
                return ConnectionEnd::Served;
            };
            match room {
                Admission::Served => {
                    log_end(peer, access, &served.await);
                    ConnectionEnd::Served
                }
                // The refusal was sent after its hello, or it sent no hello.
                Admission::TurnedAway => {
                    let refused = tokio::time::timeout(REFUSAL_TIMEOUT, served);
                    let _ = Box::pin(refused).await;
                    ConnectionEnd::TurnedAway(peer)
                }
            }
        });
    }
}

/// The course of a connection to its end.
type Served = Pin<Box<dyn Future<Output = codex_network_control::ConnectionEnd> + Send>>;

/// Waits for a place, and begins to serve the caller. `None`: the proxy stops.
async fn begin(
    parts: Arc<Service>,
    stream: ControlStream,
    peer: Peer,
    groups: Vec<Gid>,
    access: Access,
    entry: UserConnection,
) -> Option<(Admission, Served)> {
    let place = tokio::select! {
        place = entry.place() => place,
        () = parts.engine().drain().begun() => return None,
    };
    let (room, place) = match place {
        Some(place) => (Admission::Served, Some((place, entry))),
        None => (Admission::TurnedAway, None),
    };
    let held = Arc::new(HeldSession::new(place));
    let stop = Arc::clone(&held);
    let service = parts.of(peer, groups, access, room, held);
    let served = serve(stream, access, service, async move {
        stop.over(parts.engine(), parts.reloader()).await;
    });
    Some((room, Box::pin(served)))
}

fn log_further(further: Vec<Further>) {
    for Further { user, count } in further {
        tracing::warn!(
            uid = user,
            count,
            "disconnected further callers of the control socket"
        );
    }
}

fn log_end(peer: Peer, access: Access, ended: &codex_network_control::ConnectionEnd) {
    let (uid, pid) = (peer.user.as_raw(), peer.pid);
    if ended.is_callers_fault() {
        tracing::warn!(
            uid,
            pid,
            "disconnected a caller of the control socket: {ended}"
        );
    } else {
        tracing::debug!(uid, pid, %access, "a control connection ended: {ended}");
    }
}

fn log_turned_away(refusals: &mut Refusals, peer: Peer) {
    if refusals.note(peer.user.as_raw()) {
        tracing::warn!(
            uid = peer.user.as_raw(),
            pid = peer.pid,
            "refused a caller of the control socket: {MAX_SERVED_OF_ONE_USER} calls of this user are open"
        );
    }
}

/// The way in which a connection ended; `None` after a panic.
fn ending(ended: Result<ConnectionEnd, tokio::task::JoinError>) -> Option<ConnectionEnd> {
    ended
        .inspect_err(|error| {
            if error.is_panic() {
                tracing::error!(%error, "a control connection ended in a panic; this is a bug");
            }
        })
        .ok()
}

/// The connections of each user.
#[derive(Debug, Default)]
struct UserConnections(Mutex<HashMap<u32, User>>);

/// The connections of one user.
#[derive(Debug)]
struct User {
    /// All of them, in any state.
    count: usize,
    /// A permit for each connection that is served.
    places: Arc<Semaphore>,
}

/// One of the connections. Dropping it ends its count.
struct UserConnection {
    callers: Arc<UserConnections>,
    user: u32,
    /// The permits to wait for; `None` when too many wait already.
    places: Option<Arc<Semaphore>>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug)]
enum ConnectionEnd {
    Served,
    TurnedAway(Peer),
}

/// Whether there is room for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Served,
    /// Its hello gets a refusal.
    TurnedAway,
}

impl UserConnections {
    fn enter(callers: &Arc<Self>, peer: Peer) -> Option<UserConnection> {
        const MAX_WAITING: usize = MAX_SERVED_OF_ONE_USER + MAX_WAITING_OF_ONE_USER;
        let mut users = callers.lock();
        let user = users.entry(peer.user.as_raw()).or_insert_with(|| User {
            count: 0,
            places: Arc::new(Semaphore::new(MAX_SERVED_OF_ONE_USER)),
        });
        let places = match user.count {
            0..MAX_WAITING => Some(Arc::clone(&user.places)),
            count if count < MAX_WAITING + MAX_REFUSED_OF_ONE_USER => None,
            _ => return None,
        };
        user.count += 1;
        drop(users);
        Some(UserConnection {
            callers: Arc::clone(callers),
            user: peer.user.as_raw(),
            places,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, User>> {
        self.0.lock()
    }
}

impl UserConnection {
    /// Waits for a permit. `None` if none becomes free in time, or if too many callers wait.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        let places = Arc::clone(self.places.as_ref()?);
        let place = tokio::time::timeout(PLACE_TIMEOUT, places.acquire_owned()).await;
        place.ok()?.ok()
    }
}

impl Drop for UserConnection {
    fn drop(&mut self) {
        let mut users = self.callers.lock();
        if let Some(user) = users.get_mut(&self.user) {
            user.count -= 1;
            if user.count == 0 {
                users.remove(&self.user);
            }
        }
    }
}
