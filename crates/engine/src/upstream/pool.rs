//! Upstream HTTP/1.1 connections between two requests.
//!
//! A connection is kept under the authority that it was vetted for and the generation of the
//! settings that vetted it: after a change nothing old is handed out, so a kept connection can
//! never carry what the new policy would refuse to dial.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use codex_network_policy::Authority;
use hyper::client::conn::http1::SendRequest;

use crate::drain::Drain;
use crate::enforce::Permit;
use crate::http::RequestBody;

/// Kept connections per authority; more are closed after use.
const PER_AUTHORITY: usize = 256;
/// Kept connections in all.
const IN_ALL: usize = 1024;
/// How long a connection is kept without a request. Most origins close theirs after 60 seconds or
/// more; being first avoids sending a request into a connection that is just being closed.
const KEEP: Duration = Duration::from_secs(50);

/// What a kept connection was vetted for.
#[derive(Clone, Debug)]
pub(crate) struct Checkout {
    authority: Authority,
    generation: u64,
}

/// The kept connections.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    generation: u64,
    by_authority: HashMap<Authority, Vec<Idle>>,
    count: usize,
    swept: Option<Instant>,
    closed: bool,
}

#[derive(Debug)]
struct Idle {
    sender: SendRequest<RequestBody>,
    since: Instant,
}

/// A connection in use. [`release`](Self::release) keeps it for the next request; dropping it
/// closes it.
#[derive(Debug)]
pub(crate) struct Lease {
    pool: Arc<Pool>,
    key: Checkout,
    drain: Drain,
    /// The connection, for sending.
    pub(crate) sender: SendRequest<RequestBody>,
}

impl Checkout {
    pub(crate) fn of(permit: &Permit) -> Self {
        Self {
            authority: permit.authority().clone(),
            generation: permit.generation().number(),
        }
    }
}

impl Pool {
    pub(crate) fn idle(&self) -> usize {
        self.lock().count
    }

    /// Takes a kept connection that is still open and ready, the youngest first.
    pub(crate) async fn checkout(self: &Arc<Self>, key: Checkout, drain: &Drain) -> Option<Lease> {
        loop {
            let mut idle = self.lock().take(&key)?;
            if idle.since.elapsed() < KEEP && idle.sender.ready().await.is_ok() {
                return Some(Lease {
                    pool: Arc::clone(self),
                    key,
                    drain: drain.clone(),
                    sender: idle.sender,
                });
            }
        }
    }

    /// Keeps nothing any more, from now on.
    pub(crate) fn close(&self) {
        *self.lock() = Kept {
            closed: true,
            ..Kept::default()
        };
    }

    fn put(&self, key: Checkout, sender: SendRequest<RequestBody>) {
        self.lock().put(key, sender);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn take(&mut self, key: &Checkout) -> Option<Idle> {
        self.sweep(key.generation);
        if key.generation != self.generation {
            return None;
        }
        let idle = self.by_authority.get_mut(&key.authority)?.pop()?;
        self.count -= 1;
        Some(idle)
    }

    fn put(&mut self, key: Checkout, sender: SendRequest<RequestBody>) {
        self.sweep(key.generation);
        if self.closed || key.generation != self.generation || self.count >= IN_ALL {
            return;
        }
        let idle = self.by_authority.entry(key.authority).or_default();
        if idle.len() < PER_AUTHORITY {
            idle.push(Idle {
                sender,
                since: Instant::now(),
            });
            self.count += 1;
        }
    }

    /// Forgets what belongs to an older generation, at once, and what is closed or has waited too
    /// long, now and then.
    fn sweep(&mut self, generation: u64) {
        if generation > self.generation {
            *self = Self {
                generation,
                closed: self.closed,
                ..Self::default()
            };
        }
        let now = Instant::now();
        if self.swept.is_some_and(|swept| now - swept < KEEP / 10) {
            return;
        }
        self.swept = Some(now);
        self.by_authority.retain(|_, idle| {
            idle.retain(|idle| now - idle.since < KEEP && !idle.sender.is_closed());
            !idle.is_empty()
        });
        self.count = self.by_authority.values().map(Vec::len).sum();
    }
}

impl Lease {
    pub(crate) fn new(
        pool: Arc<Pool>,
        key: Checkout,
        sender: SendRequest<RequestBody>,
        drain: Drain,
    ) -> Self {
        Self {
            pool,
            key,
            drain,
            sender,
        }
    }

    /// Gives the connection back once its answer has been read to the end.
    pub(crate) fn release(mut self) {
        if self.sender.is_closed() || self.drain.has_begun() {
            return;
        }
        if self.sender.is_ready() {
            self.pool.put(self.key, self.sender);
            return;
        }
        // The connection's task has not seen the end yet; that it will is a matter of one poll.
        self.drain.clone().spawn(async move {
            if self.sender.ready().await.is_ok() {
                self.pool.put(self.key, self.sender);
            }
        });
    }
}
