//! The enforcement point: the only place that turns a request into a [`Permit`], and resolved
//! addresses into [`VettedAddrs`] (`ARCHITECTURE.md`, "Invariants").
//!
//! Every door passes an [`Attempt`] to this module and gets a permit or a [`Refusal`]. Both are
//! recorded here, once each, so no door can forget to. Code that dials needs vetted addresses, and
//! only a permit yields those: a connection without a decision, or a second lookup between the
//! check and the dial, does not compile.

mod addresses;
mod detail;
pub(crate) mod flow;
mod foreseen;
mod question;
mod standing;
pub(crate) mod unix_socket;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use codex_network_policy::{
    Authority, Decision, Handling, Hooked, Mode, Reason, Request, Source, UnixSocketSupport,
};

use addresses::AllowedBy;
pub(crate) use addresses::{LeadsTo, VettedAddrs};
use detail::AUTHORITY_MISMATCH;
pub(crate) use detail::{CONTENT, LOOPING_PROXY, MANAGED_LIST};
pub(crate) use flow::{Flow, WeakFlow};
pub(crate) use foreseen::Foreseen;
pub use foreseen::{AddressStanding, JudgedAddress};
pub(crate) use question::Question;
use standing::on_change;
pub(crate) use standing::{Standing, rejudged};

use crate::attempt::{Attempt, Destination, DestinationKind, Refusal};
use crate::decider::Decider;
use crate::live_policy::{Generation, LivePolicy};
use crate::own::OwnSockets;
use crate::record::Recorder;

/// The enforcement point of one engine.
pub(crate) struct Enforcer {
    live: LivePolicy,
    recorder: Arc<Recorder>,
    /// Evaluates hosts that are on neither list.
    decider: Option<Decider>,
    /// Whether requests to unix sockets are served.
    unix_sockets: UnixSocketSupport,
    own: Arc<OwnSockets>,
}

/// Permission for this attempt to reach this authority, under this generation of the settings. It
/// says nothing about addresses yet.
#[derive(Debug)]
pub(crate) struct Permit {
    authority: Authority,
    decision: Decision,
    generation: Arc<Generation>,
    own: Arc<OwnSockets>,
    /// The attempt, and what becomes of it.
    flow: Flow,
}

/// The immediate verdict on an attempt.
#[derive(Debug)]
pub(crate) enum Judged {
    Permitted(Permit),
    Refused(Refusal),
    /// The decider must be asked.
    Open(Box<Question>),
}

impl Enforcer {
    pub(crate) fn new(
        live: LivePolicy,
        recorder: Arc<Recorder>,
        decider: Option<Decider>,
        own: OwnSockets,
        unix_sockets: UnixSocketSupport,
    ) -> Self {
        Self {
            live,
            recorder,
            decider,
            unix_sockets,
            own: Arc::new(own),
        }
    }

    /// The settings in force.
    pub(crate) fn live(&self) -> &LivePolicy {
        &self.live
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// The sockets of this process, which no request may reach.
    pub(crate) fn own(&self) -> &OwnSockets {
        &self.own
    }

    /// Judges an attempt to reach an authority by these settings. Waits for the decider where it
    /// has the last word.
    pub(crate) async fn authorize(
        &self,
        generation: Arc<Generation>,
        attempt: Attempt,
        authority: Authority,
    ) -> Result<Permit, Refusal> {
        match self.judge(generation, attempt, authority) {
            Judged::Permitted(permit) => Ok(permit),
            Judged::Refused(refusal) => Err(refusal),
            Judged::Open(question) => Box::pin(question.ask(&self.live)).await,
        }
    }

    /// As [`authorize`](Self::authorize), for callers that cannot wait.
    pub(crate) fn judge(
        &self,
        generation: Arc<Generation>,
        attempt: Attempt,
        authority: Authority,
    ) -> Judged {
        let recorder = &self.recorder;
        let decision = decide(&self.own, &generation, &attempt, &authority);
        let destination = Destination::Host(authority.clone());
        let permit = Permit {
            flow: Flow::new(recorder, &generation, attempt, destination),
            authority,
            decision,
            generation,
            own: Arc::clone(&self.own),
        };
        match &self.decider {
            _ if decision.is_allow() => Judged::Permitted(permit),
            Some(decider) if may_overrule(permit.generation(), decision) => {
                let decider = decider.clone();
                Judged::Open(Box::new(Question { decider, permit }))
            }
            _ => Judged::Refused(permit.refuse(decision)),
        }
    }

    /// Refuses an attempt whose host is not valid, and records it like any refusal. There is
    /// nothing to judge. `text` is what the client gave as the host.
    pub(crate) fn refuse_invalid_host(
        &self,
        generation: &Generation,
        attempt: &Attempt,
        text: &[u8],
        port: u16,
    ) -> Refusal {
        let refusal = Refusal {
            decision: decide_invalid_host(generation),
            destination: DestinationKind::Host,
            protocol: attempt.protocol,
            host: escape(text),
            port,
            detail: None,
            decider_reason: None,
        };
        self.recorder.refused(generation, attempt, &refusal);
        refusal
    }

    /// Refuses a request inside intercepted TLS whose authority is not that of the connection. The
    /// record names the connection's authority: the client is not connected to the other one.
    pub(crate) fn refuse_misdirected(
        &self,
        generation: &Generation,
        attempt: &Attempt,
        authority: &Authority,
    ) -> Refusal {
        let refusal = Refusal {
            decision: misdirected(),
            destination: DestinationKind::Host,
            protocol: attempt.protocol,
            host: authority.host.to_string(),
            port: authority.port,
            detail: Some(AUTHORITY_MISMATCH),
            decider_reason: None,
        };
        self.recorder.refused(generation, attempt, &refusal);
        refusal
    }

    /// Refuses a UDP association of which every datagram would be refused, and records it. An
    /// association names no destination. `host` and `port` are the client's own end, which the
    /// request names instead (RFC 1928 section 6), and `detail` says so.
    pub(crate) fn refuse_association(
        &self,
        generation: &Generation,
        attempt: &Attempt,
        host: &[u8],
        port: u16,
    ) -> Option<Refusal> {
        let refusal = Refusal {
            decision: forbids_datagrams(generation)?,
            destination: DestinationKind::Host,
            protocol: attempt.protocol,
            host: escape(host),
            port,
            detail: Some("udp_associate"),
            decider_reason: None,
        };
        self.recorder.refused(generation, attempt, &refusal);
        Some(refusal)
    }
}

/// The decision on an attempt by what it names, before anything is resolved.
fn decide(
    own: &OwnSockets,
    generation: &Generation,
    attempt: &Attempt,
    authority: &Authority,
) -> Decision {
    let policy = generation.policy();
    if policy.is_enabled() && own.has_named(attempt.protocol, authority) {
        return Decision::deny(Source::ProxyState, Reason::LoopDetected, None);
    }
    where_possible(
        generation,
        policy.decide(&attempt.request(authority, generation)),
    )
}

/// The decision on an allowed attempt, once its host is resolved.
fn decide_addresses(
    own: &OwnSockets,
    generation: &Generation,
    attempt: &Attempt,
    (allowed, port): (Decision, u16),
    addresses: &[IpAddr],
) -> Decision {
    let is_own = |address: &IpAddr| own.has(attempt.protocol, *address, port);
    if addresses.iter().any(is_own) {
        return Decision::deny(Source::ProxyState, Reason::LoopDetected, None);
    }
    let policy = generation.policy();
    policy.decide_addresses(allowed, addresses, generation.machine())
}

/// Whether a decider may have the last word. It may for hosts on neither list, unless a requirement
/// reserves these to the lists (SPEC P8, C6).
fn may_overrule(generation: &Generation, decision: Decision) -> bool {
    decision.reason() == Reason::NotAllowed && !generation.settings().managed.allowed_domains_only
}

/// The policy's decision on an attempt that a decider allows.
fn overruled_by(generation: &Generation, request: &Request<'_>) -> Decision {
    let policy = generation.policy();
    let decision = policy.decide(request);
    if may_overrule(generation, decision) {
        policy.decide_overruled(request)
    } else {
        decision
    }
}

/// A decision to intercept becomes a refusal where TLS cannot be intercepted.
fn where_possible(generation: &Generation, decision: Decision) -> Decision {
    if decision.handling() == Handling::Intercept && !generation.intercepts() {
        return Decision::deny(Source::ModeGuard, Reason::MitmRequired, None);
    }
    decision
}

/// The decision on a host that is not valid.
pub(crate) fn decide_invalid_host(generation: &Generation) -> Decision {
    let invalid = || Decision::deny(Source::BaselinePolicy, Reason::InvalidHost, None);
    generation
        .policy()
        .refuses_everything()
        .unwrap_or_else(invalid)
}

fn misdirected() -> Decision {
    Decision::deny(Source::BaselinePolicy, Reason::PolicyDenied, None)
}

/// The refusal that holds for every datagram, whatever its destination, if there is one (SPEC P7,
/// L6).
pub(crate) fn forbids_datagrams(generation: &Generation) -> Option<Decision> {
    let policy = generation.policy();
    if let Some(refused) = policy.refuses_everything() {
        return Some(refused);
    }
    (policy.mode() == Mode::Limited)
        .then(|| Decision::deny(Source::ModeGuard, Reason::MethodNotAllowed, None))
}

/// Judges an attempt that an earlier policy permitted, and its vetted addresses, by the policy in
/// force now. It records nothing and does not ask the decider again: what the decider allowed stays
/// allowed until the settings refuse it in a way that the decider could not overrule.
pub(crate) fn still_permitted(
    generation: &Generation,
    attempt: &Attempt,
    authority: &Authority,
    addresses: &[IpAddr],
    allowed: AllowedBy,
) -> Decision {
    let policy = generation.policy();
    let request = attempt.request(authority, generation);
    let decision = match allowed {
        AllowedBy::Lists => policy.decide(&request),
        AllowedBy::Decider => overruled_by(generation, &request),
    };
    if !decision.is_allow() {
        return decision;
    }
    policy.decide_addresses(decision, addresses, generation.machine())
}

impl Attempt {
    fn request<'a>(&'a self, authority: &'a Authority, generation: &'a Generation) -> Request<'a> {
        Request {
            protocol: self.protocol,
            host: &authority.host,
            port: authority.port,
            method: self.method.as_deref(),
            upgrade: self.upgrade.as_deref(),
            content: self.content,
            hooked: self.hooked,
            machine: generation.machine(),
        }
    }
}

impl Permit {
    pub(crate) fn attempt(&self) -> &Attempt {
        self.flow.attempt()
    }

    /// What becomes of the attempt.
    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    fn recorder(&self) -> &Arc<Recorder> {
        self.flow.recorder()
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// The verdict of other settings' hooks on a request that these settings let through. The
    /// request itself is gone, so hooks that differ in any way, even in where they are written,
    /// refuse it.
    fn hooked_under(&self, generation: &Generation) -> Hooked {
        let (before, now) = (
            &self.generation.settings().mitm.hooks,
            &generation.settings().mitm.hooks,
        );
        match self.attempt().hooked {
            Hooked::Matched if !now.has(&self.authority.host) => Hooked::Unasked,
            Hooked::Matched if before != now => Hooked::Unmatched,
            hooked => hooked,
        }
    }

    /// What permitted it.
    pub(crate) fn allowed(&self) -> AllowedBy {
        AllowedBy::of(self.decision)
    }

    /// How the connection is handled: passed on, or intercepted.
    pub(crate) fn handling(&self) -> Handling {
        self.decision.handling()
    }

    /// Refuses an attempt after it was permitted, because of what it turned out to be inside;
    /// `detail` says what. It is recorded like any refusal.
    pub(crate) fn withdraw(&self, reason: Reason, detail: &'static str) -> Refusal {
        let decision = Decision::deny(Source::ModeGuard, reason, None);
        self.refuse_for(decision, Some(detail))
    }

    /// Admits the attempt to a connection that was vetted earlier for the same authority under the
    /// same generation. That is recorded once.
    pub(crate) fn admit_pooled(&self) {
        self.flow.allow(self.decision);
    }

    /// Judges the addresses that the host resolved to, and records the outcome. Only now is the
    /// decision complete.
    pub(crate) fn vet(&self, addresses: &[IpAddr]) -> Result<VettedAddrs, Refusal> {
        let allowed = (self.decision, self.authority.port);
        let decision = decide_addresses(
            &self.own,
            &self.generation,
            self.attempt(),
            allowed,
            addresses,
        );
        if !decision.is_allow() {
            return Err(self.refuse(decision));
        }
        self.flow.allow(decision);
        let allowed = AllowedBy::of(decision);
        Ok(VettedAddrs::of(&self.authority, addresses, allowed))
    }

    /// The addresses of the upstream proxy that will carry vetted traffic (SPEC H12). The operator
    /// chose it, so they may be private. They may not be this proxy's own.
    pub(crate) fn proxy_addresses(
        &self,
        _vetted: &VettedAddrs,
        proxy: &Authority,
        addresses: &[IpAddr],
    ) -> Result<VettedAddrs, Refusal> {
        let own = &self.own.listeners;
        if addresses
            .iter()
            .any(|address| own.covers(*address, proxy.port))
        {
            let decision = Decision::deny(Source::ProxyState, Reason::LoopDetected, None);
            return Err(self.refuse_for(decision, Some(LOOPING_PROXY)));
        }
        Ok(VettedAddrs::of(proxy, addresses, AllowedBy::Lists))
    }

    /// Refuses a connection that turned out to lead to one of our own listeners. Such a listener
    /// may have opened between the judgement and the dial. Its address was in the set before
    /// clients could connect to it.
    pub(crate) fn admit_peer(&self, peer: Option<SocketAddr>) -> Result<(), Refusal> {
        let own = &self.own.listeners;
        if peer.is_some_and(|peer| own.covers(peer.ip(), peer.port())) {
            let decision = Decision::deny(Source::ProxyState, Reason::LoopDetected, None);
            return Err(self.refuse(decision));
        }
        Ok(())
    }

    /// The permitted name does not resolve. That is no refusal: the attempt was allowed, and failed.
    pub(crate) fn unresolved(&self) {
        self.flow.allow(self.decision);
    }

    fn refuse(&self, decision: Decision) -> Refusal {
        let detail = detail::of(&self.generation, self.attempt(), decision);
        self.refuse_for(decision, detail)
    }

    fn refuse_for(&self, decision: Decision, detail: Option<&'static str>) -> Refusal {
        let refusal = self.refusal(decision, detail);
        self.recorder()
            .refused(&self.generation, self.attempt(), &refusal);
        refusal
    }

    fn refusal(&self, decision: Decision, detail: Option<&'static str>) -> Refusal {
        Refusal {
            decision,
            destination: DestinationKind::Host,
            protocol: self.attempt().protocol,
            host: self.authority.host.to_string(),
            port: self.authority.port,
            detail,
            decider_reason: None,
        }
    }
}

/// The escaped text of an invalid host, fit for a log line and a header: printable ASCII, of
/// bounded length.
fn escape(text: &[u8]) -> String {
    const MAX_LENGTH: usize = 255;
    let shown = &text[..text.len().min(MAX_LENGTH)];
    let mut escaped = shown.escape_ascii().to_string();
    if text.len() > MAX_LENGTH {
        escaped.push_str("...");
    }
    escaped
}
