//! The course of a permitted attempt. It has one event when it ends, for any cause (SPEC R5).
//!
//! The enforcement point makes a [`Flow`] with each permit, so no door can forget to. Everything that
//! moves a part of the attempt holds a handle. When the last handle is dropped, the event is written.
//! It has the end that was set first. If none was set, it is the one of the client's connection, if
//! the proxy itself ended that; then the drain's; else the client has gone away.
//!
//! An attempt that was never allowed has no event: its refusal is its record.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use codex_network_config::LogFlows;
use codex_network_policy::Decision;
use parking_lot::{Mutex, MutexGuard};

use crate::approvals::Grant;
use crate::attempt::{Attempt, Destination, DestinationKind};
use crate::audit::ServerAddress;
use crate::audit::flow::FlowLevel;
use crate::audit::rule::WeakRule;
use crate::live_policy::Generation;
use crate::measurements::Meters;
use crate::outcome::{Ending, FlowOutcome};
use crate::record::{EndedFlow, Recorder};
use crate::session::MovesBytes;

/// A handle of a permitted attempt.
#[derive(Clone, Debug)]
pub(crate) struct Flow(Arc<FlowState>);

/// A handle that does not keep the attempt from ending.
#[derive(Clone, Debug)]
pub(crate) struct WeakFlow(Weak<FlowState>);

#[derive(Debug)]
struct FlowState {
    attempt: Attempt,
    destination: Destination,
    recorder: Arc<Recorder>,
    log: LogFlows,
    begun: Instant,
    /// Set once the attempt is allowed.
    decision: OnceLock<(Decision, Option<WeakRule>)>,
    /// The names of the credentials that the request carries, separated by commas.
    credential: OnceLock<Arc<str>>,
    /// The grant that permits it.
    grant: OnceLock<Arc<Grant>>,
    sent: AtomicU64,
    received: AtomicU64,
    progress: Mutex<FlowProgress>,
}

#[derive(Debug, Default)]
struct FlowProgress {
    peer: Option<SocketAddr>,
    /// Boxed, since it is unset until the end.
    ending: Option<Box<Ending>>,
}

impl Flow {
    /// The flow of an attempt that is being judged. Only `enforce` makes one.
    pub(super) fn new(
        recorder: &Arc<Recorder>,
        generation: &Generation,
        attempt: Attempt,
        destination: Destination,
    ) -> Self {
        Self(Arc::new(FlowState {
            attempt,
            destination,
            recorder: Arc::clone(recorder),
            log: generation.settings().daemon.log_flows,
            begun: Instant::now(),
            decision: OnceLock::new(),
            credential: OnceLock::new(),
            grant: OnceLock::new(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            progress: Mutex::default(),
        }))
    }

    pub(super) fn attempt(&self) -> &Attempt {
        &self.0.attempt
    }

    /// The grant that permits the attempt.
    pub(super) fn grant(&self) -> Option<&Arc<Grant>> {
        self.0.grant.get()
    }

    /// A grant permits the attempt.
    pub(super) fn set_grant(&self, grant: Arc<Grant>) {
        // An attempt is asked about once.
        let _ = self.0.grant.set(grant);
    }

    pub(super) fn recorder(&self) -> &Arc<Recorder> {
        &self.0.recorder
    }

    /// The measurements of the engine.
    pub(crate) fn meters(&self) -> &Meters {
        &self.0.recorder.meters
    }

    /// The request carries the real values of these credentials: their names, separated by commas. Call it before the
    /// attempt is allowed.
    pub(crate) fn carries(&self, credentials: Arc<str>) {
        let _ = self.0.credential.set(credentials);
    }

    /// The attempt is allowed. This is recorded once, even if the request is sent again.
    pub(super) fn allow(&self, generation: &Generation, decision: Decision) {
        let rule = WeakRule::of(&generation.settings().policy, decision);
        if self.0.decision.set((decision, rule)).is_err() {
            return;
        }
        let grant = self.grant();
        if let Some(grant) = grant {
            grant.count();
        }
        let rule = grant.map(|grant| grant.rule());
        let (recorder, attempt) = (&self.0.recorder, &self.0.attempt);
        if let Some(session) = attempt.client.session() {
            let this: Weak<FlowState> = Arc::downgrade(&self.0);
            session.watch_bytes(this);
        }
        match &self.0.destination {
            Destination::Host(authority) => {
                let credential = self.0.credential.get();
                let carried = (rule, credential);
                recorder.allowed(generation, attempt, authority, decision, carried);
            }
            Destination::UnixSocket => {
                let policy = &generation.settings().policy;
                recorder.allowed_unix_socket(policy, attempt, decision);
            }
        }
    }

    /// This many bytes went from the client to the upstream.
    pub(crate) fn sent(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.meters().sent(bytes);
    }

    /// This many bytes went from the upstream to the client.
    pub(crate) fn received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
        self.meters().received(bytes);
    }

    /// The address that the attempt is connected to: of the host, or of the upstream proxy.
    pub(crate) fn connected(&self, peer: Option<SocketAddr>) {
        if peer.is_some() {
            self.progress().peer = peer;
        }
    }

    /// Sets the end, unless one is set.
    pub(crate) fn end(&self, ending: Ending) {
        // The drain cuts a client and its upstream in any order, which would look like a failure of
        // one of them.
        let ending = if ending.outcome != FlowOutcome::Completed && self.0.recorder.is_cut() {
            Ending::plain(FlowOutcome::Drained)
        } else {
            ending
        };
        self.progress()
            .ending
            .get_or_insert_with(|| Box::new(ending));
    }

    /// The attempt has come to its own end.
    pub(crate) fn complete(&self) {
        self.end(Ending::plain(FlowOutcome::Completed));
    }

    /// The client's connection has ended: because the proxy ended it, or as it should.
    pub(crate) fn complete_with_connection(&self) {
        match self.0.attempt.client.connection.ending() {
            Some(ending) => self.end(ending.clone()),
            None => self.complete(),
        }
    }

    pub(crate) fn downgrade(&self) -> WeakFlow {
        WeakFlow(Arc::downgrade(&self.0))
    }

    fn progress(&self) -> MutexGuard<'_, FlowProgress> {
        self.0.progress.lock()
    }
}

#[cfg(test)]
impl Flow {
    /// The bytes so far: sent, and received.
    pub(crate) fn moved(&self) -> (u64, u64) {
        self.0.moved()
    }

    /// A flow for tests of tables that hold flows. It has no attempt.
    pub(crate) fn for_tests() -> Self {
        use codex_network_policy::RequestKind;

        let address = SocketAddr::from(([192, 0, 2, 1], 5));
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        Self(Arc::new(FlowState {
            attempt: Attempt {
                client: crate::client::Client {
                    address,
                    attempt: None,
                    connection: crate::owner::ConnectionHandle::new(address, local),
                },
                kind: RequestKind::Socks5Udp,
            },
            destination: Destination::UnixSocket,
            recorder: Recorder::for_tests(),
            log: LogFlows::Failures,
            begun: Instant::now(),
            decision: OnceLock::new(),
            credential: OnceLock::new(),
            grant: OnceLock::new(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            progress: Mutex::default(),
        }))
    }
}

impl WeakFlow {
    /// Like [`Flow::received`], if the attempt has not ended.
    pub(crate) fn received(&self, bytes: usize) {
        if let Some(state) = self.0.upgrade() {
            Flow(state).received(bytes);
        }
    }
}

impl MovesBytes for FlowState {
    fn moved(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (load(&self.sent), load(&self.received))
    }
}

impl Drop for FlowState {
    fn drop(&mut self) {
        let Some((decision, rule)) = self.decision.get() else {
            return;
        };
        if let Some(session) = self.attempt.client.session() {
            session.moved(*self.sent.get_mut(), *self.received.get_mut());
        }
        let FlowProgress { peer, ending } = std::mem::take(self.progress.get_mut());
        let ending = ending
            .map(|ending| *ending)
            .or_else(|| self.attempt.client.connection.ending().cloned())
            .unwrap_or_else(|| {
                Ending::plain(if self.recorder.is_cut() {
                    FlowOutcome::Drained
                } else {
                    FlowOutcome::ClientGone
                })
            });
        // Most completed attempts are not logged, and cost no more than this.
        let level = FlowLevel::of(&ending, self.log);
        if !level.is_enabled() {
            return;
        }
        let (destination, address, port) = match &self.destination {
            Destination::Host(authority) => (
                DestinationKind::Host,
                ServerAddress::Host(authority.host.clone()),
                authority.port,
            ),
            Destination::UnixSocket => (DestinationKind::UnixSocket, ServerAddress::UnixSocket, 0),
        };
        self.recorder.flowed(EndedFlow {
            attempt: &self.attempt,
            destination,
            address,
            port,
            decision: *decision,
            credential: self.credential.get(),
            grant: self.grant.get().map(|grant| grant.rule()),
            rule: rule.as_ref().and_then(WeakRule::upgrade),
            ending: &ending,
            level,
            sent: *self.sent.get_mut(),
            received: *self.received.get_mut(),
            duration: self.begun.elapsed(),
            peer,
        });
    }
}
