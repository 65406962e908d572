//! The control socket: `proxyctl`'s way in (SPEC L4, section 9).
//!
//! Life of a caller: accepted here, identified by `peer` from the kernel, disconnected or given an
//! access, served by `codex-network-control` in a task of its own, answered by `service`. The
//! monitor makes the socket.

mod explain;
mod peer;
mod refusals;
mod service;

use std::collections::HashMap;
use std::os::unix::net::UnixListener as StdListener;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use codex_network_control::{Access, serve};
use codex_network_engine::{Engine, OwnUnixSocket};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use self::peer::Peer;
use self::refusals::{Further, Refusals};
use self::service::Service;
use super::reload::Reloader;
use super::witness::Witness;

/// The listener's name in logs and in systemd's `LISTEN_FDNAMES`.
const NAME: &str = "control";

/// Connections of one user at once. Permitted users are few, so this bounds their total too, and
/// none can keep another out.
const MOST_OF_ONE_USER: usize = 16;
/// Further connections of one user that get a refusal. The rest are closed at once.
const TOLD_OF_ONE_USER: usize = 4;
/// How long a refused caller may take to read it.
const TURNING_AWAY: Duration = Duration::from_secs(2);
/// How long to wait when accepting fails: the process is short of a resource.
const BACK_OFF: Duration = Duration::from_millis(200);
/// How long pending answers may take when the proxy stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The open control socket. Dropping it closes our copy.
#[derive(Debug)]
pub(super) struct ControlSocket {
    accepting: tokio::task::JoinHandle<()>,
    /// No request may reach it through the doors: it would come from this same user (SPEC P6, K3).
    _own: OwnUnixSocket,
}

/// Serves the control socket until the engine's drain begins.
pub(super) fn open(
    engine: &Engine,
    reloader: &Arc<Reloader>,
    witness: Witness,
    listener: StdListener,
    path: &str,
    origin: &'static str,
) -> std::io::Result<ControlSocket> {
    listener.set_nonblocking(true)?;
    let accept = Accept {
        listener: UnixListener::from_std(listener)?,
        callers: Arc::default(),
        service: Service::new(
            engine.clone(),
            Arc::clone(reloader),
            witness,
            Path::new(path),
            origin,
        ),
        engine: engine.clone(),
        reloader: Arc::clone(reloader),
    };
    tracing::info!(listener = NAME, address = path, "listening");
    Ok(ControlSocket {
        _own: engine.own_unix_sockets().add(Path::new(path)),
        accepting: tokio::spawn(accept.run()),
    })
}

impl ControlSocket {
    /// Waits a moment for pending answers, then closes. Call it when the engine has drained.
    pub(super) async fn close(mut self) {
        if tokio::time::timeout(LAST_WORDS, &mut self.accepting)
            .await
            .is_err()
        {
            self.accepting.abort();
        }
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The accept loop.
struct Accept {
    listener: UnixListener,
    callers: Arc<Callers>,
    service: Service,
    engine: Engine,
    reloader: Arc<Reloader>,
}

impl Accept {
    async fn run(self) {
        let drain = self.engine.drain().clone();
        let mut connections = JoinSet::new();
        let mut refusals = Refusals::default();
        let mut tell = tokio::time::interval(refusals::INTERVAL);
        loop {
            tokio::select! {
                () = drain.begun() => break,
                _ = tell.tick(), if !refusals.is_empty() => tell_further(refusals.drain()),
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream, &mut connections, &mut refusals),
                    Err(error) => {
                        tracing::error!(%error, "cannot accept on the control socket; trying again");
                        tokio::time::sleep(BACK_OFF).await;
                    }
                },
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    report_panic(ended);
                }
            }
        }
        tell_further(refusals.drain());
        drop(self);
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    }

    /// Serves a caller that the kernel has identified, or disconnects it before a byte is read.
    fn admit(&self, stream: UnixStream, connections: &mut JoinSet<()>, refusals: &mut Refusals) {
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "disconnected a caller of the control socket: the system does not say which user it is");
                return;
            }
        };
        let groups = peer.groups(&stream);
        let Some(access) = self.reloader.admitted().access(peer.user, &groups) else {
            if refusals.note(peer.user.as_raw()) {
                tracing::warn!(
                    uid = peer.user.as_raw(),
                    pid = peer.pid,
                    "disconnected a caller of the control socket who is neither administrator nor observer"
                );
            }
            return;
        };
        let place = Callers::enter(&self.callers, peer);
        if !matches!(
            place,
            Some(Place {
                room: Room::Served,
                ..
            })
        ) && refusals.note(peer.user.as_raw())
        {
            tracing::warn!(
                uid = peer.user.as_raw(),
                pid = peer.pid,
                "turned a caller of the control socket away: this user has {MOST_OF_ONE_USER} connections"
            );
        }
        let Some(place) = place else {
            return;
        };
        let room = place.room;
        let service = self.service.of(peer, access, room);
        let drain = self.engine.drain().clone();
        connections.spawn(async move {
            let served = serve(stream, access, service, async move { drain.begun().await });
            match room {
                Room::Served => tell_end(peer, access, &served.await),
                // The refusal was sent after its hello, or it never said hello.
                Room::TurnedAway => drop(tokio::time::timeout(TURNING_AWAY, served).await),
            }
            drop(place);
        });
    }
}

fn tell_further(further: Vec<Further>) {
    for Further { user, count } in further {
        tracing::warn!(
            uid = user,
            count,
            "disconnected further callers of the control socket"
        );
    }
}

fn tell_end(peer: Peer, access: Access, ended: &codex_network_control::Ended) {
    let (uid, pid) = (peer.user.as_raw(), peer.pid);
    if ended.is_the_callers_fault() {
        tracing::warn!(
            uid,
            pid,
            "disconnected a caller of the control socket: {ended}"
        );
    } else {
        tracing::debug!(uid, pid, %access, "a control connection ended: {ended}");
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a control connection ended in a panic; this is a bug");
    }
}

/// How many connections each user has.
#[derive(Debug, Default)]
struct Callers(Mutex<HashMap<u32, usize>>);

/// One of the connections; dropping it frees its place.
struct Place {
    callers: Arc<Callers>,
    user: u32,
    room: Room,
}

/// Whether there is room for a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Served,
    /// Its hello gets a refusal.
    TurnedAway,
}

impl Callers {
    fn enter(callers: &Arc<Self>, peer: Peer) -> Option<Place> {
        let user = peer.user.as_raw();
        let mut counts = callers.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(user).or_default();
        let room = match *count {
            0..MOST_OF_ONE_USER => Room::Served,
            count if count < MOST_OF_ONE_USER + TOLD_OF_ONE_USER => Room::TurnedAway,
            _ => return None,
        };
        *count += 1;
        drop(counts);
        Some(Place {
            callers: Arc::clone(callers),
            user,
            room,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self
            .callers
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}
