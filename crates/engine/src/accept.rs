//! Accepting: one loop per listener. Nothing but the end of its listener stops a loop.
//!
//! A shortage of descriptors or memory is not fatal. The loop backs off, logs the shortage once,
//! and logs again when it is over. At `max_connections`, clients are accepted into the waiting room
//! of [`admission`](crate::admission). When that is full, they wait in the kernel's queue.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::admission::{Admission, BoundsInForce, ConnectionSlot, Entry};
use crate::descriptors;
use crate::drain::Drain;
use crate::own::OwnListener;
use crate::owner::ConnectionHandle;

/// How long the loop waits after the first failure in a row, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Shortest time between two log lines that say that all places are taken.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// How the loop reacts to an error of `accept`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptFailure {
    /// The client is gone: take the next one (`accept(2)`, "Error handling").
    Client,
    /// This process or machine is short of something: wait.
    Exhausted,
    /// Anything else: wait too. A proxy without listeners is useless.
    Other,
}

/// A listener and what bounds it.
pub(crate) struct Accept {
    pub(crate) listener: TcpListener,
    /// The listener's name in messages.
    pub(crate) door: &'static str,
    pub(crate) stop: CancellationToken,
    pub(crate) drain: Drain,
    /// The listener's address.
    pub(crate) address: SocketAddr,
    pub(crate) admission: Arc<Admission>,
    pub(crate) bounds: BoundsInForce,
    /// Marks the address as our own (SPEC P6) while any connection that came in by it is open.
    pub(crate) own: Arc<OwnListener>,
}

impl Accept {
    /// Accepts until it is stopped or the drain begins. Each connection that gets a place is served
    /// in a task of its own.
    pub(crate) async fn run<S, F>(self, serve: S)
    where
        S: Fn(TcpStream, SocketAddr, ConnectionHandle) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let serve = Arc::new(serve);
        let mut backing_off: Option<(Duration, u64)> = None;
        let mut told = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.drain.begun() => return,
                accepted = self.next(&mut told) => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    if let Some((_, failures)) = backing_off.take() {
                        tracing::info!(door = self.door, failures, "accepting again");
                    }
                    // Nagle's delay gains nothing here: the other end waits for small pieces.
                    let _ = stream.set_nodelay(true);
                    let connection = self.connection(&stream, address);
                    let entry = self.admission.enter(&connection, &self.bounds);
                    let (admission, drain) = (Arc::clone(&self.admission), self.drain.clone());
                    let (serve, own) = (Arc::clone(&serve), Arc::clone(&self.own));
                    // Boxed: it would be copied into each layer of the task.
                    self.drain.spawn(Box::pin(async move {
                        let slot = match entry {
                            Entry::Admitted(slot) => slot,
                            Entry::Waits(slot) => {
                                let Some(slot) = wait(slot, &drain).await else {
                                    // Turned away; an orderly close would look like an answer.
                                    let _ = stream.set_zero_linger();
                                    return;
                                };
                                slot
                            }
                        };
                        admission.owners().ask_in_shortage(&connection).await;
                        tokio::select! {
                            // Polled first: it decides how the connection ends.
                            biased;
                            () = serve(stream, address, connection.clone()) => {}
                            () = connection.gives_way() => {}
                        }
                        drop((slot, own));
                    }));
                }
                Err(error) => {
                    let trouble = classify(&error);
                    if trouble == AcceptFailure::Client {
                        continue;
                    }
                    let (wait, failures) = backing_off.unwrap_or((BACK_OFF.0, 0));
                    if failures == 0 {
                        tracing::error!(door = self.door, %error, ?trouble, "cannot accept clients; trying again until it works");
                    }
                    backing_off = Some(((wait * 2).min(BACK_OFF.1), failures + 1));
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    /// Waits for a client, unless too many already wait for a place.
    async fn next(&self, told: &mut Option<Instant>) -> io::Result<(TcpStream, SocketAddr)> {
        let limit = (self.bounds)().places;
        if self.admission.open() >= limit {
            let quiet = told.is_some_and(|told| told.elapsed() < LOG_INTERVAL);
            if !quiet {
                *told = Some(Instant::now());
                tracing::warn!(
                    door = self.door,
                    limit,
                    "at the limit of connections: further clients wait"
                );
            }
            self.admission.may_accept().await;
        }
        self.listener.accept().await
    }

    /// The connection as the limits see it.
    fn connection(&self, stream: &TcpStream, client: SocketAddr) -> ConnectionHandle {
        let local = if self.address.ip().is_unspecified() {
            stream.local_addr().unwrap_or(self.address)
        } else {
            self.address
        };
        ConnectionHandle::new(client, local)
    }
}

/// Waits for a place. `None`: the client is turned away.
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

    #[test]
    fn accept_errors_are_told_apart() {
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
