//! Accepts clients: for each listener of the proxy, one loop on each runtime that serves it, and one loop for all
//! listeners of a session, which costs less memory than a task for each. A loop ends only with its listeners.
//! [`placement`] chooses the runtime that serves the connection.
//!
//! A shortage of descriptors or memory is not fatal. The listener rests ([`rotation`]). The loops of a listener log
//! the shortage once, and log again when it is over. At `max_connections`, clients are accepted into the waiting
//! room of [`admission`](crate::admission). When that is full, they wait in the kernel's queue.

mod log;
mod placement;
mod rotation;
mod socket;
mod turn;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll};

use nix::libc;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub(crate) use self::log::AcceptLog;
pub(crate) use self::placement::{PlacedConnection, ServingRuntime};
use self::rotation::Rotation;
pub(crate) use self::socket::AcceptSocket;
pub(crate) use self::turn::AcceptTurn;
use crate::admission::{Admission, AdmissionResult, BoundsInForce, ConnectionSlot};
use crate::descriptors;
use crate::drain::Drain;
use crate::new_clients;
use crate::own::OwnListener;
use crate::owner::ConnectionHandle;
use crate::session::{Session, SessionConnection};

/// The kinds of errors of `accept`, by the reaction of the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptFailure {
    /// The client is gone. The loop takes the next one (`accept(2)`, "Error handling").
    Client,
    /// This process or machine lacks descriptors or memory. The loop waits.
    Exhausted,
    /// Anything else. The loop waits too, since a proxy without listeners is useless.
    Other,
}

/// The session has as many connections as it may.
struct AtLimit;

/// The place of a door in its loop, from 0. A session has few doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DoorNumber(u8);

/// One listener, as one loop accepts from it.
#[derive(Debug)]
pub(crate) struct AcceptDoor {
    pub(crate) listener: AcceptSocket,
    /// The listener's name in messages.
    pub(crate) name: &'static str,
    /// The listener's address.
    pub(crate) address: SocketAddr,
    pub(crate) no_delay: NoDelay,
}

/// One loop of a listener or of the listeners of a session, and the limits for its connections.
pub(crate) struct Accept {
    /// At least one.
    pub(crate) doors: Arc<[AcceptDoor]>,
    /// Ends the loop. The drain cancels it when it begins.
    pub(crate) stop: CancellationToken,
    pub(crate) drain: Drain,
    pub(crate) admission: Arc<Admission>,
    pub(crate) bounds: BoundsInForce,
    /// Marks the addresses as our own (SPEC P6) while a connection that was accepted is open. `None`: they are
    /// in a network that no request reaches.
    pub(crate) own: Option<Arc<OwnListener>>,
    pub(crate) log: Arc<AcceptLog>,
    /// The session that the doors belong to, which has limits of its own.
    pub(crate) session: Option<Arc<Session>>,
    /// The thread that accepts for all sessions, if this loop is on it.
    pub(crate) turn: Option<Arc<AcceptTurn>>,
    /// The runtime of the loop, and all that serve the listeners.
    pub(crate) here: Arc<ServingRuntime>,
    pub(crate) runtimes: Arc<[Arc<ServingRuntime>]>,
}

/// How Nagle's algorithm is switched off for the connections of a listener. It would only delay small
/// pieces that the peer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoDelay {
    /// They inherit the option of the listener.
    Inherited,
    /// The option is set for each of them.
    PerConnection,
}

impl NoDelay {
    /// Sets the option of a listener where connections inherit it.
    pub(crate) fn of(listener: &impl AsFd) -> Self {
        // Linux copies the options of the listener (`sk_clone_lock`).
        let inherits =
            cfg!(target_os = "linux") && SockRef::from(listener).set_tcp_nodelay(true).is_ok();
        if inherits {
            Self::Inherited
        } else {
            Self::PerConnection
        }
    }
}

impl DoorNumber {
    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl Accept {
    /// Accepts until it is stopped or the drain begins. Serves each admitted connection in a task of
    /// its own. `serve` takes the number of its door, and ends a connection that must give way.
    ///
    /// It borrows: an `async fn` would hold its arguments twice for the life of the listeners.
    pub(crate) async fn run<S, F>(&self, serve: &Arc<S>)
    where
        S: Fn(DoorNumber, TcpStream, SocketAddr, ConnectionHandle) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut rotation = Rotation::default();
        loop {
            let (door, accepted) = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = self.next(&mut rotation) => accepted,
            };
            let name = self.doors[door].name;
            match accepted.and_then(|(stream, client)| self.begin(door, stream, client, serve)) {
                Ok(()) => {
                    let had_failed = rotation.accepted(door);
                    // The doors of a session share one count of failures, and others may still fail.
                    if had_failed || self.session.is_none() {
                        self.log.accepted(name);
                    }
                }
                Err(error) => {
                    let failure = classify(&error);
                    // After the drain has begun, the loop ends, whatever the state of its listeners.
                    if failure == AcceptFailure::Client || self.drain.has_begun() {
                        continue;
                    }
                    self.log.failed(name, &error, failure);
                    rotation.failed(door);
                }
            }
        }
    }

    /// Counts and places a connection, and begins its task. A connection beyond the limit of its session is reset.
    ///
    /// # Errors
    ///
    /// The system's error if the connection cannot be passed on. It is then closed.
    fn begin<S, F>(
        &self,
        door: usize,
        stream: TcpStream,
        client: SocketAddr,
        serve: &Arc<S>,
    ) -> io::Result<()>
    where
        S: Fn(DoorNumber, TcpStream, SocketAddr, ConnectionHandle) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        if self.session.is_some() {
            // Inherited from the opener's socket, it would make a close wait on this thread.
            let _ = SockRef::from(&stream).set_linger(None);
            // The opener may have bound the listener anew. The proxy knows its own sockets by the old address
            // (SPEC P6).
            if stream.local_addr().ok() != Some(self.doors[door].address) {
                let _ = stream.set_zero_linger();
                return Ok(());
            }
        }
        // A connection beyond the limit has no place: no runtime would begin to serve it.
        let Ok(counted) = self.count() else {
            let _ = stream.set_zero_linger();
            return Ok(());
        };
        let (stream, placed) = PlacedConnection::place(stream, &self.here, &self.runtimes)?;
        if self.doors[door].no_delay == NoDelay::PerConnection {
            let _ = stream.set_nodelay(true);
        }
        let runtime = placed.runtime().clone();
        // Boxed: it would be copied into each layer of the task.
        let task = self.task(door, stream, client, placed, Arc::clone(serve), counted);
        let task = Box::pin(task);
        let _entered = runtime.enter();
        self.drain.spawn(task);
        Ok(())
    }

    /// Counts a connection of a session.
    fn count(&self) -> Result<Option<SessionConnection>, AtLimit> {
        let Some(session) = &self.session else {
            return Ok(None);
        };
        let counted = session.enter((self.bounds)().per_session);
        if counted.is_none() && session.is_first_at_limit() && self.log.may_log() {
            session.log_limit();
        }
        counted.map(Some).ok_or(AtLimit)
    }

    /// Lets a connection in. The future serves it to its end.
    fn task<S, F>(
        &self,
        door: usize,
        stream: TcpStream,
        client: SocketAddr,
        placed: PlacedConnection,
        serve: Arc<S>,
        counted: Option<SessionConnection>,
    ) -> impl Future<Output = ()> + use<S, F>
    where
        S: Fn(DoorNumber, TcpStream, SocketAddr, ConnectionHandle) -> F,
        F: Future<Output = ()>,
    {
        let connection = self.connection(door, &stream, client);
        let entry = self.admission.enter(&connection, &self.bounds);
        let (admission, drain) = (Arc::clone(&self.admission), self.drain.clone());
        let own = self.own.clone();
        let door = DoorNumber(u8::try_from(door).unwrap_or(u8::MAX));
        async move {
            placed.begin();
            new_clients::note();
            let slot = match entry {
                AdmissionResult::Admitted(slot) => slot,
                AdmissionResult::Waits(slot) => {
                    let Some(slot) = wait(slot, &drain).await else {
                        // Turned away. An orderly close would look like an empty answer.
                        let _ = stream.set_zero_linger();
                        return;
                    };
                    slot
                }
            };
            admission.owners().look_up_in_shortage(&connection).await;
            serve(door, stream, client, connection).await;
            drop((slot, own, placed, counted));
        }
    }

    /// Accepts the next client, as soon as the waiting room has room. The number is that of its door.
    async fn next(&self, rotation: &mut Rotation) -> (usize, io::Result<(TcpStream, SocketAddr)>) {
        let limit = (self.bounds)().slots;
        if self.admission.open() >= limit {
            self.log.at_limit(self.doors[rotation.first()].name, limit);
            self.admission.may_accept().await;
        }
        poll_fn(|cx| rotation.poll(cx, self.doors.len(), |door, cx| self.attempt(door, cx))).await
    }

    fn attempt(
        &self,
        door: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<(TcpStream, SocketAddr)>> {
        let listener = &self.doors[door].listener;
        match (&self.turn, &self.session) {
            (Some(turn), Some(session)) if listener.is_blocking() => {
                turn.note_blocking(session.number());
                // The session ends in a moment, and this loop with it.
                Poll::Pending
            }
            (Some(turn), Some(session)) => turn.take(session, || listener.poll_accept(cx)),
            _ => listener.poll_accept(cx),
        }
    }

    /// The handle of a connection, for the limits on users and clients.
    fn connection(&self, door: usize, stream: &TcpStream, client: SocketAddr) -> ConnectionHandle {
        let address = self.doors[door].address;
        let local = if address.ip().is_unspecified() {
            stream.local_addr().unwrap_or(address)
        } else {
            address
        };
        ConnectionHandle::at_door(client, local, self.session.as_ref())
    }
}

/// Waits for a slot. `None`: the client is turned away.
async fn wait(slot: oneshot::Receiver<ConnectionSlot>, drain: &Drain) -> Option<ConnectionSlot> {
    tokio::select! {
        biased;
        slot = slot => slot.ok(),
        () = drain.begun() => None,
    }
}

fn classify(error: &io::Error) -> AcceptFailure {
    match error.raw_os_error() {
        Some(libc::ECONNABORTED | libc::EPROTO | libc::EINTR | libc::EPERM) => {
            AcceptFailure::Client
        }
        Some(libc::ENOBUFS | libc::ENOMEM) => AcceptFailure::Exhausted,
        _ if descriptors::are_exhausted(error) => AcceptFailure::Exhausted,
        _ => AcceptFailure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doors;
    use crate::http::Shared;

    /// The size that the future of a connection's task may have, in bytes.
    const MAX_TASK_BYTES: usize = 328;

    fn task_size<F>(
        _: impl FnOnce(&'static Accept, TcpStream, PlacedConnection, Arc<Shared>) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// An idle connection is one task with this future in it, so each byte counts once for each connection.
    #[test]
    fn c5_the_future_of_a_connections_task_stays_small() {
        let size = task_size(|accept, stream, placed, shared| {
            let address = accept.doors[0].address;
            let serve = move |_, stream, address, connection| {
                doors::serve_http(Arc::clone(&shared), stream, address, connection)
            };
            accept.task(0, stream, address, placed, Arc::new(serve), None)
        });
        assert!(size <= MAX_TASK_BYTES, "{size} bytes");
    }

    #[cfg(target_os = "linux")]
    #[test]
    #[expect(clippy::disallowed_methods, reason = "to a listener of this test")]
    fn connections_inherit_the_option_against_nagle() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
        assert_eq!(NoDelay::of(&listener), NoDelay::Inherited);
        let address = listener.local_addr().expect("an address");
        let _client = std::net::TcpStream::connect(address).expect("a connection");
        let (accepted, _) = listener.accept().expect("a client");
        assert!(accepted.nodelay().expect("a socket"));
    }

    #[test]
    fn c5_accept_errors_are_classified() {
        for (code, wanted) in [
            (libc::ECONNABORTED, AcceptFailure::Client),
            (libc::EMFILE, AcceptFailure::Exhausted),
            (libc::ENFILE, AcceptFailure::Exhausted),
            (libc::ENOMEM, AcceptFailure::Exhausted),
            (libc::EINVAL, AcceptFailure::Other),
        ] {
            assert_eq!(
                classify(&io::Error::from_raw_os_error(code)),
                wanted,
                "{code}"
            );
        }
    }
}
