//! Accepting: one loop per listener, which nothing but its end stops.
//!
//! Running out of descriptors or memory is a condition, not an error to die of: the loop backs
//! off, says so once, and says so again when it is over. At `max_connections` it stops accepting
//! and lets clients wait in the kernel's queue.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::libc;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::drain::Drain;
use crate::limits::ConnectionCount;
use crate::own::OwnListener;

/// How long the loop waits after the first failure in a row, and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// A proxy that stays full says so no more often than this.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What an error of `accept` asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// The client is gone: take the next one (`accept(2)`, "Error handling").
    Client,
    /// This process or machine is short of something: wait.
    Exhausted,
    /// Anything else: wait too, since a proxy without listeners is worth nothing.
    Other,
}

/// A listener and what bounds it.
pub(crate) struct Accept {
    pub(crate) listener: TcpListener,
    /// The listener's name in messages.
    pub(crate) door: &'static str,
    pub(crate) stop: CancellationToken,
    pub(crate) drain: Drain,
    pub(crate) connections: Arc<ConnectionCount>,
    /// That the address is our own (SPEC P6): as long as a connection is left that came in by it.
    pub(crate) own: Arc<OwnListener>,
}

impl Accept {
    /// Accepts until it is stopped or the drain begins, handing each connection to `serve` in a
    /// task of its own. `limit` is asked before each connection.
    pub(crate) async fn run<S, F>(self, limit: impl Fn() -> usize, serve: S)
    where
        S: Fn(TcpStream, SocketAddr) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let mut backing_off: Option<(Duration, u64)> = None;
        let mut told = None;
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.drain.begun() => return,
                accepted = self.next(&limit, &mut told) => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    if let Some((_, failures)) = backing_off.take() {
                        tracing::info!(door = self.door, failures, "accepting again");
                    }
                    // Nothing is gained by holding back small pieces that the other end waits for.
                    let _ = stream.set_nodelay(true);
                    let held = (self.connections.enter(), Arc::clone(&self.own));
                    // Boxed: it would be copied into each layer of the task.
                    let served = Box::pin(serve(stream, address));
                    self.drain.spawn(async move {
                        served.await;
                        drop(held);
                    });
                }
                Err(error) => {
                    let trouble = classify(&error);
                    if trouble == Trouble::Client {
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

    /// Waits for a place, then for a client. Doors share their places, so each of them may go over
    /// the limit by the one client that it was waiting for.
    async fn next(
        &self,
        limit: &impl Fn() -> usize,
        told: &mut Option<Instant>,
    ) -> io::Result<(TcpStream, SocketAddr)> {
        if !self.connections.has_room(limit()) {
            let quiet = told.is_some_and(|told| told.elapsed() < TELL_AGAIN);
            if !quiet {
                *told = Some(Instant::now());
                tracing::warn!(
                    door = self.door,
                    limit = limit(),
                    "at the limit of connections: further clients wait"
                );
            }
            self.connections.room(limit).await;
        }
        self.listener.accept().await
    }
}

fn classify(error: &io::Error) -> Trouble {
    match error.raw_os_error() {
        Some(libc::ECONNABORTED | libc::EPROTO | libc::EINTR | libc::EPERM) => Trouble::Client,
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => Trouble::Exhausted,
        _ => Trouble::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_errors_are_told_apart() {
        for (code, wanted) in [
            (libc::ECONNABORTED, Trouble::Client),
            (libc::EMFILE, Trouble::Exhausted),
            (libc::ENFILE, Trouble::Exhausted),
            (libc::ENOMEM, Trouble::Exhausted),
            (libc::EINVAL, Trouble::Other),
        ] {
            assert_eq!(
                classify(&io::Error::from_raw_os_error(code)),
                wanted,
                "{code}"
            );
        }
    }
}
