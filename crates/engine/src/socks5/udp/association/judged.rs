//! A single datagram of the client: judged, then sent, kept until its name is looked up, or dropped.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use codex_network_policy::{Authority, ProxyListeners as _, Reason, Transport};
use futures_util::future::BoxFuture;

use super::Association;
use crate::enforce::{Authorization, Flow, Permit, VettedAddrs};
use crate::live_policy::{Generation, GenerationNumber};
use crate::socks5::DOOR;
use crate::socks5::udp::destinations::{DatagramTarget, KnownDestination};
use crate::upstream::{self, UpstreamError};

/// Most lookups and decisions of a decider that are pending at once. A datagram that needs another one is
/// dropped without a decision.
const MAX_LOOKUPS: usize = 16;

/// The result of a lookup: the destination, the generation of the settings, and the addresses.
pub(super) type PendingLookup = BoxFuture<
    'static,
    (
        DatagramTarget,
        GenerationNumber,
        Result<PermittedTarget, UpstreamError>,
    ),
>;

/// The addresses of a permitted destination, and its flow.
pub(super) type PermittedTarget = (VettedAddrs, Flow);

impl Association<'_> {
    /// Sends a datagram, or keeps it until its name is looked up, or drops it.
    pub(super) async fn take(&mut self, target: DatagramTarget, data: &[u8]) {
        let generation = self.shared.live().current();
        let known = self
            .destinations
            .look(&target, generation.number(), Instant::now());
        let own = self.shared.enforcer.own();
        let is_own = |to: &SocketAddr| own.reached_by(Transport::Udp, to.ip(), to.port()).is_some();
        let before = match known {
            // One of our own sockets was opened there since. It is judged again and refused.
            KnownDestination::Permitted(addresses) if addresses.as_slice().iter().any(is_own) => {
                Some(addresses.ips())
            }
            KnownDestination::Permitted(addresses) => {
                let sent = self.outbound.send(addresses, data).await;
                return self.sent(&target, data.len(), sent);
            }
            KnownDestination::Refused => {
                self.counts.refused += 1;
                return;
            }
            KnownDestination::Resolving => {
                if !self.destinations.wait(&target, data) {
                    self.counts.lost += 1;
                }
                return;
            }
            KnownDestination::Outdated(addresses) => Some(addresses.ips()),
            KnownDestination::Unknown => None,
        };
        let known_addresses = before.or_else(|| Some(vec![target.host.as_ref().ok()?.ip()?]));
        if known_addresses.is_none() && self.lookups.len() >= MAX_LOOKUPS && target.host.is_ok() {
            self.counts.lost += 1;
            return;
        }
        let number = generation.number();
        let permit = match self.judge(generation, &target) {
            Authorization::Permitted(permit) => permit,
            Authorization::Refused(refusal) => {
                return self.refuse(target, number, refusal.decision.reason());
            }
            Authorization::Pending(pending) if self.lookups.len() < MAX_LOOKUPS => {
                let shared = Arc::clone(self.shared);
                let outcome = async move {
                    let permit = pending.await_decider(shared.live()).await?;
                    match known_addresses {
                        Some(addresses) => Ok((permit.vet(&addresses)?, permit.flow().clone())),
                        None => vetted(&permit).await,
                    }
                };
                return self.await_outcome(target, number, data, outcome);
            }
            Authorization::Pending(_) => {
                self.counts.lost += 1;
                return;
            }
        };
        let Some(addresses) = known_addresses else {
            let outcome = async move { vetted(&permit).await };
            return self.await_outcome(target, number, data, outcome);
        };
        match permit.vet(&addresses) {
            Ok(vetted) => {
                let sent = self.outbound.send(&vetted, data).await;
                self.permit(target.clone(), number, (vetted, permit.flow().clone()));
                self.sent(&target, data.len(), sent);
            }
            Err(refusal) => self.refuse(target, number, refusal.decision.reason()),
        }
    }

    /// Keeps the first datagram for a destination until the outcome is known. Later datagrams wait with
    /// it.
    fn await_outcome(
        &mut self,
        target: DatagramTarget,
        number: GenerationNumber,
        data: &[u8],
        outcome: impl Future<Output = Result<PermittedTarget, UpstreamError>> + Send + 'static,
    ) {
        let now = Instant::now();
        let forgotten = self.destinations.resolving(target.clone(), number, now);
        self.log_dropped(&forgotten);
        self.destinations.wait(&target, data);
        self.lookups
            .push(Box::pin(async move { (target, number, outcome.await) }));
    }

    /// Has the enforcement point decide, which records the decision.
    fn judge(&self, generation: Arc<Generation>, target: &DatagramTarget) -> Authorization {
        let enforcer = &self.shared.enforcer;
        let host = match &target.host {
            Ok(host) => host.clone(),
            Err(text) => {
                let attempt = &self.attempt;
                let port = target.port;
                let refusal = enforcer.refuse_invalid_host(&generation, attempt, text, port);
                return Authorization::Refused(refusal);
            }
        };
        let port = target.port;
        let authority = Authority { host, port };
        enforcer.judge(generation, self.attempt.clone(), authority)
    }

    /// Handles the end of a lookup: sends the waiting datagrams, by the settings in force now.
    pub(super) async fn resolved(
        &mut self,
        target: DatagramTarget,
        number: GenerationNumber,
        outcome: Result<PermittedTarget, UpstreamError>,
    ) {
        // The destination may have been replaced by another one.
        let Some(waiting) = self.destinations.take_waiting(&target) else {
            return;
        };
        // The refusal was recorded for the first datagram.
        let judged = match outcome {
            Ok(allowed) => {
                self.permit(target.clone(), number, allowed);
                0
            }
            Err(failure) => {
                let reason = match failure {
                    UpstreamError::Refused(refusal) => refusal.decision.reason(),
                    _ => Reason::DnsFailure,
                };
                self.refuse(target.clone(), number, reason);
                1
            }
        };
        for data in waiting.into_iter().skip(judged) {
            self.take(target.clone(), &data).await;
        }
    }

    fn permit(
        &mut self,
        target: DatagramTarget,
        number: GenerationNumber,
        allowed: PermittedTarget,
    ) {
        let now = Instant::now();
        let forgotten = self.destinations.permit(target, number, allowed, now);
        self.log_dropped(&forgotten);
    }

    fn refuse(&mut self, target: DatagramTarget, number: GenerationNumber, reason: Reason) {
        self.counts.refused += 1;
        let now = Instant::now();
        let forgotten = self.destinations.refuse(target, number, reason, now);
        self.log_dropped(&forgotten);
    }

    fn sent(&mut self, target: &DatagramTarget, bytes: usize, outcome: io::Result<SocketAddr>) {
        match outcome {
            Ok(to) => {
                self.counts.sent += 1;
                self.destinations.sent(target, to, bytes);
            }
            Err(error) => {
                if self.counts.lost == 0 && self.may_log() {
                    tracing::info!(client = %self.attempt.client.address, authority = %target, door = DOOR, %error, "a permitted datagram was not sent; further ones are counted");
                }
                self.counts.lost += 1;
            }
        }
    }
}

/// Looks up a permitted destination. A failure ends the attempt.
async fn vetted(permit: &Permit) -> Result<PermittedTarget, UpstreamError> {
    let vetted = upstream::vetted(permit).await;
    let vetted = vetted.inspect_err(|failure| permit.flow().end(failure.ending()))?;
    Ok((vetted, permit.flow().clone()))
}
