//! A running association: the datagrams of its client and the answers to them, until it ends.
//!
//! `judged` sends, keeps or refuses a single datagram.

mod judged;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fmt, io};

use codex_network_policy::Reason;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};

use self::judged::PendingLookup;
use super::destinations::{DatagramTarget, Destinations, ForgottenRefusal};
use super::header;
use super::relay::Relay;
use crate::activity::Activity;
use crate::address_family::AddressFamily;
use crate::attempt::Attempt;
use crate::enforce;
use crate::http::Shared;
use crate::outcome::{Ending, Fault, FlowOutcome};
use crate::socks5::DOOR;
use crate::upstream::datagram::OutboundSockets;

/// Size of a buffer for any datagram, whose length has 16 bits (RFC 768).
const BUFFER: usize = 64 * 1024;
/// Most datagrams that are moved in one direction before the other direction is served.
const BATCH: usize = 64;
/// How often unused destinations are removed.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);

/// Why an association ended.
#[derive(Debug)]
pub(super) enum AssociationEnd {
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
pub(super) struct Association<'a> {
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

impl AssociationEnd {
    /// The end of the flows of permitted destinations.
    pub(super) fn ending(&self) -> Ending {
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

impl<'a> Association<'a> {
    pub(super) fn new(
        shared: &'a Arc<Shared>,
        attempt: Attempt,
        relay: Relay,
        activity: &'a Activity,
    ) -> Self {
        Self {
            shared,
            attempt,
            relay,
            outbound: OutboundSockets::new(shared.enforcer.own().datagrams.clone()),
            destinations: Destinations::default(),
            lookups: FuturesUnordered::new(),
            activity,
            counts: Counts::default(),
        }
    }

    /// The address that the client sends its datagrams to.
    pub(super) fn address(&self) -> SocketAddr {
        self.relay.address()
    }

    /// The address of the client's control connection.
    pub(super) fn client(&self) -> SocketAddr {
        self.attempt.client.address
    }
}

impl Association<'_> {
    pub(super) async fn run(&mut self, control: &mut TcpStream) -> AssociationEnd {
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
                    let host = datagram.host.map(|host| self.shared.enforcer.meant(host));
                    let target = DatagramTarget {
                        host: host.map_err(|invalid| invalid.text),
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

/// Resolves when the control connection ends. Its bytes are ignored.
async fn ended(control: &mut TcpStream) {
    let mut nothing = [0; 64];
    while let Ok(1..) = control.read(&mut nothing).await {}
}
