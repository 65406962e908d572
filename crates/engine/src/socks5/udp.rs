//! UDP associations (RFC 1928 sections 6 and 7, SPEC S3): datagrams of a client, each judged by
//! itself, and the answers to them.
//!
//! An association runs in the task of its control connection, and ends with that connection. It also
//! ends when it is idle for `idle_timeout`, when a change of the policy refuses every datagram (SPEC
//! P11), and with the drain, as tunnels do.
//!
//! Every datagram is judged by the settings in force when it arrives. The same destination under the
//! same settings has the same decision, so the enforcement point decides once for each destination and
//! generation of the settings, and `destinations` remembers the decision. It is recorded once, allowed
//! or refused, and later datagrams follow it. Datagrams that a refusal drops are counted; the count is
//! logged when the refusal is forgotten. A name is looked up once. When the settings change, its vetted
//! addresses are judged again without another lookup.
//!
//! Some datagrams are not requests: malformed ones, those from other senders than the client, and those
//! from addresses that this association never sent to. They are dropped, and each kind is logged once in
//! an association.
//!
//! With `enable_socks5_udp = false` the command is not supported (0x07). Where the policy refuses
//! all datagrams, in limited mode or when the proxy is disabled, the association is refused (0x02)
//! and recorded. So the client does not send datagrams that would all be dropped.

mod destinations;
mod header;
mod relay;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use codex_network_config::duration_text;
use codex_network_policy::{Authority, ProxyListeners as _, Reason, RequestKind, Transport};
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};

use self::destinations::{DatagramTarget, Destinations, ForgottenRefusal, KnownDestination};
use self::relay::Relay;
use super::handshake::SocksRequest;
use super::{DOOR, answer, handshake};
use crate::activity::Activity;
use crate::address_family::AddressFamily;
use crate::attempt::Attempt;
use crate::client::Client;
use crate::enforce::{self, Authorization, Flow, Permit, VettedAddrs};
use crate::http::Shared;
use crate::linger::linger;
use crate::live_policy::{Generation, GenerationNumber};
use crate::outcome::{Ending, Fault, FlowOutcome};
use crate::respond::Reply;
use crate::upstream::datagram::OutboundSockets;
use crate::upstream::{self, UpstreamError};

/// Size of a buffer for any datagram, whose length has 16 bits (RFC 768).
const BUFFER: usize = 64 * 1024;
/// Most datagrams that are moved in one direction before the other direction is served.
const BATCH: usize = 64;
/// Most lookups and decisions of a decider that are pending at once. A datagram that needs another one is
/// dropped without a decision.
const MAX_LOOKUPS: usize = 16;
/// How often unused destinations are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// The result of a lookup: the destination, the generation of the settings, and the addresses.
type PendingLookup = BoxFuture<
    'static,
    (
        DatagramTarget,
        GenerationNumber,
        Result<PermittedTarget, UpstreamError>,
    ),
>;

/// The addresses of a permitted destination, and its flow.
type PermittedTarget = (VettedAddrs, Flow);

/// Why an association ended.
#[derive(Debug)]
enum AssociationEnd {
    /// The control connection ended.
    Control,
    /// Nothing flowed for too long.
    Idle(Duration),
    /// The policy refuses all datagrams.
    Forbidden(Reason),
    /// UDP associations were switched off.
    SwitchedOff,
    /// The socket broke.
    Broken(io::Error),
}

/// A client's association.
struct Association<'a> {
    shared: &'a Arc<Shared>,
    attempt: Attempt,
    relay: Relay,
    outbound: OutboundSockets,
    destinations: Destinations,
    lookups: FuturesUnordered<PendingLookup>,
    activity: &'a Activity,
    counts: Counts,
}

/// Counts of datagrams, by outcome.
#[derive(Debug, Default)]
struct Counts {
    sent: u64,
    answered: u64,
    /// Refused, recorded or repeated.
    refused: u64,
    /// From another sender than the client.
    foreign: u64,
    /// From the client, but malformed.
    malformed: u64,
    /// From an address that this association has not sent to.
    unasked: u64,
    /// Lost, since there was no room or no route.
    lost: u64,
}

/// Serves a request for an association to its end.
pub(super) async fn associate(
    shared: &Arc<Shared>,
    mut control: TcpStream,
    client: Client,
    request: SocksRequest,
) {
    let connection = client.connection.clone();
    let activity = connection.activity();
    activity.note();
    let mut association = match open(shared, &control, client, request, activity).await {
        Ok(association) => association,
        Err(reply) => {
            let _ = answer(&mut control, reply).await;
            return linger(control).await;
        }
    };
    let _counted = shared.associations.enter();
    let bound = handshake::reply(Reply::Succeeded, association.relay.address());
    if control.write_all(&bound).await.is_err() {
        return;
    }
    let end = association.run(&mut control).await;
    let client = association.attempt.client.address;
    connection.end(end.ending());
    match end {
        AssociationEnd::Control => {}
        AssociationEnd::Idle(limit) => {
            tracing::debug!(%client, limit = duration_text(limit), "ended an idle UDP association");
        }
        AssociationEnd::Forbidden(reason) => {
            tracing::info!(%client, %reason, "ended a UDP association that the policy no longer permits");
        }
        AssociationEnd::SwitchedOff => {
            tracing::info!(%client, reason = "enable_socks5_udp is off", "ended a UDP association that the policy no longer permits");
        }
        AssociationEnd::Broken(error) => {
            tracing::debug!(%client, %error, "a UDP association broke");
        }
    }
}

impl AssociationEnd {
    /// The end of the flows of permitted destinations.
    fn ending(&self) -> Ending {
        match self {
            Self::Control => Ending::plain(FlowOutcome::Completed),
            Self::Idle(limit) => Ending::idle(*limit),
            Self::Forbidden(reason) => Ending::forbidden(*reason),
            Self::SwitchedOff => {
                let cause = "the policy no longer permits it (enable_socks5_udp is off)";
                Ending::because(FlowOutcome::Forbidden, cause)
            }
            Self::Broken(error) => Ending {
                fault: Some(Fault::Proxy),
                detail: Some(error.to_string()),
                ..Ending::because(
                    FlowOutcome::UpstreamFailed,
                    "the socket of the UDP association broke",
                )
            },
        }
    }
}

/// Looks up a permitted destination. A failure ends the attempt.
async fn vetted(permit: &Permit) -> Result<PermittedTarget, UpstreamError> {
    let vetted = upstream::vetted(permit).await;
    let vetted = vetted.inspect_err(|failure| permit.flow().end(failure.ending()))?;
    Ok((vetted, permit.flow().clone()))
}

/// Judges the request for an association and binds its socket.
async fn open<'a>(
    shared: &'a Arc<Shared>,
    control: &TcpStream,
    client: Client,
    request: SocksRequest,
    activity: &'a Activity,
) -> Result<Association<'a>, Reply> {
    let generation = shared.live().current();
    let attempt = Attempt {
        client,
        kind: RequestKind::Socks5Udp,
    };
    let peer = attempt.client.address;
    let switched_off = !generation.settings().socks5_udp;
    if switched_off && generation.policy().is_enabled() {
        let connection = &attempt.client.connection;
        if shared.recorder().may_log(connection, "refused commands") {
            tracing::info!(client = %peer, door = DOOR, command = ?request.command, "refused a command");
        }
        return Err(Reply::CommandNotSupported);
    }
    let named = match &request.host {
        Ok(host) => host.to_string().into_bytes(),
        Err(invalid) => invalid.text.clone(),
    };
    let (enforcer, port) = (&shared.enforcer, request.port);
    let refusal = enforcer.refuse_association(&generation, &attempt, &named, port);
    if refusal.is_some() {
        return Err(Reply::NotAllowed);
    }
    let own = enforcer.own().datagrams.clone();
    let bound = match control.local_addr() {
        Ok(local) => Relay::bind(local, peer, request.port, &own).await,
        Err(error) => Err(error),
    };
    let relay = bound.map_err(|error| {
        tracing::warn!(client = %peer, %error, "cannot open a socket for a UDP association; is max_connections too high for the limit of open files?");
        Reply::GeneralFailure
    })?;
    Ok(Association {
        shared,
        attempt,
        relay,
        outbound: OutboundSockets::new(own),
        destinations: Destinations::default(),
        lookups: FuturesUnordered::new(),
        activity,
        counts: Counts::default(),
    })
}

/// Resolves when the control connection ends. Its bytes are ignored.
async fn ended(control: &mut TcpStream) {
    let mut nothing = [0; 64];
    while let Ok(1..) = control.read(&mut nothing).await {}
}

impl Association<'_> {
    async fn run(&mut self, control: &mut TcpStream) -> AssociationEnd {
        let settings = Arc::clone(self.shared.live().current().settings());
        let limit = settings.daemon.limits.idle_timeout;
        let activity = self.activity;
        let (ended, silence) = (ended(control), activity.silence(limit));
        tokio::pin!(ended, silence);
        let mut changes = self.shared.live().watch();
        // The settings may have changed since the request was judged.
        changes.mark_changed();
        let mut sweep = interval(SWEEP_INTERVAL);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut ended => return AssociationEnd::Control,
                () = &mut silence => return AssociationEnd::Idle(limit),
                Ok(()) = changes.changed() => if let Some(end) = self.rejudge() {
                    return end;
                },
                Some((target, number, outcome)) = self.lookups.next(), if !self.lookups.is_empty() => {
                    self.resolved(target, number, outcome).await;
                }
                ready = self.relay.readable() => if let Err(error) = self.take_from_client(ready).await {
                    return AssociationEnd::Broken(error);
                },
                family = self.outbound.readable() => self.take_from_upstream(family),
                _ = sweep.tick(), if !self.destinations.is_empty() => {
                    let forgotten = self.destinations.expire(Instant::now());
                    self.log_dropped(&forgotten);
                }
            }
        }
    }

    /// Judges and forwards the datagrams of the client. The buffer is freed afterwards: an idle
    /// association has no buffer.
    async fn take_from_client(&mut self, ready: io::Result<()>) -> io::Result<()> {
        ready?;
        let mut buffer = Vec::with_capacity(BUFFER);
        for _ in 0..BATCH {
            buffer.clear();
            let Some(from) = self.relay.receive(&mut buffer)? else {
                break;
            };
            if !self.relay.is_client(from) {
                if self.counts.foreign == 0 && self.may_log() {
                    tracing::info!(client = %self.attempt.client.address, %from, door = DOOR, "dropped a datagram that is not from the client of the UDP association; further ones are dropped without logging");
                }
                self.counts.foreign += 1;
                continue;
            }
            match header::read(&buffer) {
                Ok(datagram) => {
                    self.relay.pin(from);
                    self.activity.note();
                    let target = DatagramTarget {
                        host: datagram.host.map_err(|invalid| invalid.text),
                        port: datagram.port,
                    };
                    self.take(target, datagram.data).await;
                }
                Err(error) => {
                    if self.counts.malformed == 0 && self.may_log() {
                        tracing::info!(client = %self.attempt.client.address, door = DOOR, "dropped a malformed datagram: {error}; further ones are dropped without logging");
                    }
                    self.counts.malformed += 1;
                }
            }
        }
        Ok(())
    }

    /// Sends a datagram, or keeps it until its name is looked up, or drops it.
    async fn take(&mut self, target: DatagramTarget, data: &[u8]) {
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
    async fn resolved(
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

    /// Passes datagrams to the client, only from addresses that it has sent to. Without this check, any
    /// host could reach the client through the proxy.
    fn take_from_upstream(&mut self, family: AddressFamily) {
        let mut buffer = Vec::with_capacity(header::MAX_WRITTEN + BUFFER);
        for _ in 0..BATCH {
            buffer.clear();
            buffer.resize(header::MAX_WRITTEN, 0);
            let Some(from) = self.outbound.receive(family, &mut buffer) else {
                return;
            };
            let bytes = buffer.len() - header::MAX_WRITTEN;
            let Some(flow) = self.destinations.may_answer(from) else {
                if self.counts.unasked == 0 && self.may_log() {
                    tracing::info!(client = %self.attempt.client.address, %from, door = DOOR, "dropped a datagram from an address that nothing was sent to; further ones are dropped without logging");
                }
                self.counts.unasked += 1;
                continue;
            };
            // With its header, an answer may be too long for a datagram. Then it is lost.
            match self.relay.answer(header::write_before(&mut buffer, from)) {
                Ok(()) => {
                    flow.received(bytes);
                    self.counts.answered += 1;
                    self.activity.note();
                }
                Err(_) => self.counts.lost += 1,
            }
        }
    }

    /// Applies changed settings: ends everything that they forbid (SPEC P11). A destination that stays
    /// permitted is judged and recorded with its next datagram.
    fn rejudge(&mut self) -> Option<AssociationEnd> {
        let generation = self.shared.live().current();
        if let Some(decision) = generation.policy().refuses_datagrams() {
            return Some(AssociationEnd::Forbidden(decision.reason()));
        }
        if !generation.settings().socks5_udp {
            return Some(AssociationEnd::SwitchedOff);
        }
        let attempt = &self.attempt;
        self.destinations.rejudge(|authority, addresses| {
            let ips = addresses.ips();
            let decision = enforce::still_permitted(
                &generation,
                attempt,
                authority,
                &ips,
                addresses.allowed(),
            );
            (!decision.is_allow()).then(|| decision.reason())
        });
        let forgotten = self.destinations.forget_old_refusals(generation.number());
        self.log_dropped(&forgotten);
        None
    }

    /// Whether the client may cause another log line.
    fn may_log(&self) -> bool {
        let connection = &self.attempt.client.connection;
        let recorder = self.shared.recorder();
        recorder.may_log(connection, "dropped datagrams")
    }

    /// Logs how many datagrams the forgotten refusals have dropped, without the recorded ones.
    fn log_dropped(&self, forgotten: &[ForgottenRefusal]) {
        for ForgottenRefusal {
            target,
            reason,
            further,
        } in forgotten
        {
            if !self.may_log() {
                continue;
            }
            let client = self.attempt.client.address;
            if *reason == Reason::DnsFailure {
                tracing::info!(%client, authority = %target, count = further, "further datagrams to a name that does not resolve were dropped");
            } else {
                tracing::info!(%client, authority = %target, %reason, count = further, "further datagrams to a refused destination were dropped");
            }
        }
    }
}

impl Drop for Association<'_> {
    /// Writes the counts. This also runs if the drain cancels the task.
    fn drop(&mut self) {
        let forgotten = self.destinations.forget_refusals();
        self.log_dropped(&forgotten);
        tracing::debug!(client = %self.attempt.client.address, counts = ?self.counts, "a UDP association ended");
    }
}

impl fmt::Debug for Association<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Association")
            .field("client", &self.attempt.client)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}
