//! Accepts clients: for each listener, one loop on each runtime that serves it. A loop ends only with
//! its listener. [`placement`] chooses the runtime that serves the connection.
//!
//! A shortage of descriptors or memory is not fatal. The loop backs off. The loops of a listener log the
//! shortage once, and log again when it is over. At `max_connections`, clients are accepted into the waiting
//! room of [`admission`](crate::admission). When that is full, they wait in the kernel's queue.

mod placement;
mod socket;
mod turn;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use nix::libc;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

pub(crate) use self::placement::{PlacedConnection, ServingRuntime};
pub(crate) use self::socket::AcceptSocket;
pub(crate) use self::turn::AcceptTurn;
use crate::admission::{Admission, AdmissionResult, BoundsInForce, ConnectionSlot};
use crate::descriptors;
use crate::drain::Drain;
use crate::new_clients;
use crate::own::OwnListener;
use crate::owner::ConnectionHandle;
use crate::record::Recorder;
use crate::session::{Session, SessionConnection};

/// The loop waits this long after a first failure, and twice as long after each further one.
const MIN_BACK_OFF: Duration = Duration::from_millis(20);
const MAX_BACK_OFF: Duration = Duration::from_secs(1);

/// Shortest time between two log lines about the limit of connections.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

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

/// The log lines about a listener, which all its loops share.
#[derive(Default)]
pub(crate) struct AcceptLog {
    /// When the limit of connections was last logged.
    limit_logged_at: Mutex<Option<Instant>>,
    /// The failures since a loop last accepted.
    failures: AtomicU64,
    /// The budget of lines of the user who gave the listener, and can cause failures of it.
    giver: Option<(Arc<Recorder>, ConnectionHandle)>,
}

/// One loop of a listener, and the limits for its connections.
pub(crate) struct Accept {
    pub(crate) listener: Arc<AcceptSocket>,
    /// The listener's name in messages.
    pub(crate) door: &'static str,
    /// Ends the loop. The drain cancels it when it begins.
    pub(crate) stop: CancellationToken,
    pub(crate) drain: Drain,
    /// The listener's address.
    pub(crate) address: SocketAddr,
    pub(crate) admission: Arc<Admission>,
    pub(crate) bounds: BoundsInForce,
    /// Marks the address as our own (SPEC P6) while a connection that it accepted is open.
    pub(crate) own: Arc<OwnListener>,
    pub(crate) log: Arc<AcceptLog>,
    pub(crate) no_delay: NoDelay,
    /// The session that the door belongs to, which has limits of its own.
    pub(crate) session: Option<Arc<Session>>,
    /// The thread that accepts for all sessions, if this loop is on it.
    pub(crate) turn: Option<Arc<AcceptTurn>>,
    /// The runtime of the loop, and all that serve the listener.
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
    pub(crate) fn of(listener: &std::net::TcpListener) -> Self {
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

impl Accept {
    /// Accepts until it is stopped or the drain begins. Serves each admitted connection in a task of
    /// its own. `serve` ends a connection that must give way.
    ///
    /// It borrows: an `async fn` would hold its arguments twice for the life of the listener.
    pub(crate) async fn run<S, F>(&self, serve: &Arc<S>)
    where
        S: Fn(TcpStream, SocketAddr, ConnectionHandle) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut backing_off: Option<Duration> = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = self.next() => accepted,
            };
            let counted = accepted.map(|(stream, address)| {
                if self.session.is_some() {
                    // Inherited from the opener's socket, it would make a close wait on this thread.
                    let _ = SockRef::from(&stream).set_linger(None);
                }
                (stream, address, self.count())
            });
            // A connection beyond the limit has no place: no runtime would begin to serve it.
            let placed = counted.and_then(|(stream, address, counted)| {
                let Ok(counted) = counted else {
                    let _ = stream.set_zero_linger();
                    return Ok(None);
                };
                let placed = PlacedConnection::place(stream, &self.here, &self.runtimes)?;
                Ok(Some((placed, address, counted)))
            });
            match placed {
                Ok(None) => {
                    backing_off = None;
                    self.log.accepted(self.door);
                }
                Ok(Some(((stream, placed), address, counted))) => {
                    backing_off = None;
                    self.log.accepted(self.door);
                    if self.no_delay == NoDelay::PerConnection {
                        let _ = stream.set_nodelay(true);
                    }
                    let runtime = placed.runtime().clone();
                    // Boxed: it would be copied into each layer of the task.
                    let task = self.task(stream, address, placed, Arc::clone(serve), counted);
                    let task = Box::pin(task);
                    let _entered = runtime.enter();
                    self.drain.spawn(task);
                }
                Err(error) => {
                    let failure = classify(&error);
                    // After the drain has begun, the loop ends, whatever the state of its listener.
                    if failure == AcceptFailure::Client || self.drain.has_begun() {
                        continue;
                    }
                    self.log.failed(self.door, &error, failure);
                    let wait = backing_off.unwrap_or(MIN_BACK_OFF);
                    backing_off = Some((wait * 2).min(MAX_BACK_OFF));
                    tokio::time::sleep(wait).await;
                }
            }
        }
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
        stream: TcpStream,
        address: SocketAddr,
        placed: PlacedConnection,
        serve: Arc<S>,
        counted: Option<SessionConnection>,
    ) -> impl Future<Output = ()> + use<S, F>
    where
        S: Fn(TcpStream, SocketAddr, ConnectionHandle) -> F,
        F: Future<Output = ()>,
    {
        let connection = self.connection(&stream, address);
        let entry = self.admission.enter(&connection, &self.bounds);
        let (admission, drain) = (Arc::clone(&self.admission), self.drain.clone());
        let own = Arc::clone(&self.own);
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
            serve(stream, address, connection).await;
            drop((slot, own, placed, counted));
        }
    }

    /// Accepts the next client, as soon as the waiting room has room.
    async fn next(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let limit = (self.bounds)().slots;
        if self.admission.open() >= limit {
            self.log.at_limit(self.door, limit);
            self.admission.may_accept().await;
        }
        poll_fn(|cx| match (&self.turn, &self.session) {
            (Some(turn), Some(session)) if self.listener.is_blocking() => {
                turn.note_blocking(session.number());
                // The session ends in a moment, and this loop with it.
                Poll::Pending
            }
            (Some(turn), Some(session)) => turn.take(session, || self.listener.poll_accept(cx)),
            _ => self.listener.poll_accept(cx),
        })
        .await
    }

    /// The handle of a connection, for the limits on users and clients.
    fn connection(&self, stream: &TcpStream, client: SocketAddr) -> ConnectionHandle {
        let local = if self.address.ip().is_unspecified() {
            stream.local_addr().unwrap_or(self.address)
        } else {
            self.address
        };
        ConnectionHandle::at_door(client, local, self.session.as_ref())
    }
}

impl AcceptLog {
    /// The lines about a listener that this user gave.
    pub(crate) fn given_by(user: &ConnectionHandle, recorder: &Arc<Recorder>) -> Self {
        Self {
            giver: Some((Arc::clone(recorder), user.clone())),
            ..Self::default()
        }
    }

    fn may_log(&self) -> bool {
        let giver = self.giver.as_ref();
        giver.is_none_or(|(recorder, user)| recorder.may_log(user, "listeners of sessions"))
    }

    fn at_limit(&self, door: &'static str, limit: usize) {
        let mut logged_at = self.limit_logged_at.lock();
        if logged_at.is_some_and(|logged_at| logged_at.elapsed() < LOG_INTERVAL) {
            return;
        }
        *logged_at = Some(Instant::now());
        if self.may_log() {
            tracing::warn!(
                door,
                limit,
                "at the limit of connections: further clients wait"
            );
        }
    }

    fn failed(&self, door: &'static str, error: &io::Error, failure: AcceptFailure) {
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 && self.may_log() {
            tracing::error!(door, %error, trouble = ?failure, "cannot accept clients; trying again until it works");
        }
    }

    fn accepted(&self, door: &'static str) {
        // Zero is the common case.
        if self.failures.load(Ordering::Relaxed) == 0 {
            return;
        }
        let failures = self.failures.swap(0, Ordering::Relaxed);
        if failures > 0 && self.may_log() {
            tracing::info!(door, failures, "accepting again");
        }
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
            let address = accept.address;
            let serve = move |stream, address, connection| {
                doors::serve_http(Arc::clone(&shared), stream, address, connection)
            };
            accept.task(stream, address, placed, Arc::new(serve), None)
        });
        assert!(size <= MAX_TASK_BYTES, "{size} bytes");
    }

    #[test]
    fn j13_the_lines_about_the_listeners_of_one_user_have_a_budget() {
        let recorder = Recorder::for_tests();
        let logs =
            [1, 1, 2].map(|user| AcceptLog::given_by(&ConnectionHandle::of_user(user), &recorder));
        let written = |log: &AcceptLog| (0..10_000).filter(|_| log.may_log()).count();
        let first = written(&logs[0]) + written(&logs[1]);
        assert!((500..1500).contains(&first), "{first}");
        assert!(logs[2].may_log());
        assert_eq!(written(&AcceptLog::default()), 10_000);
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
