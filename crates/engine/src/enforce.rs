//! The enforcement point: the only place that turns a request into a [`Permit`], and resolved
//! addresses into [`VettedAddrs`] (`ARCHITECTURE.md`, "Invariants").
//!
//! Every door passes an [`Attempt`] to this module and gets a permit or a [`Refusal`]. Both are
//! recorded here, once each, so no door can forget to. Code that dials needs vetted addresses, and
//! only a permit yields those: a connection without a decision, or a second lookup between the
//! check and the dial, does not compile.

mod addresses;
mod asking;
mod collector;
mod credential;
mod detail;
pub(crate) mod flow;
mod pending;
mod predicted;
mod refused_unjudged;
pub(crate) mod unix_socket;
mod watched;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use addresses::AllowedBy;
pub(crate) use addresses::{LeadsTo, VettedAddrs};
use asking::is_granting;
use codex_network_config::CredentialId;
use codex_network_policy::{
    Authority, DeciderAnswer, Decision, Facts, Handling, HookMatch, Host, InterceptionSupport,
    NoProxyListeners, ProxyListeners, Reach, Request, RequestKind, Source, TunnelContent,
    UnixSocketSupport, is_local_address,
};
pub(crate) use collector::LoopingCollector;
pub(crate) use credential::CredentialRefuser;
pub(crate) use detail::{AUTHORITY_MISMATCH, COLLECTOR, CONTENT, LOOPING_PROXY, MANAGED_LIST};
pub(crate) use flow::{Flow, WeakFlow};
pub(crate) use pending::PendingDecision;
pub(crate) use predicted::Prediction;
pub use predicted::{AddressKind, EvaluatedAddress};
use watched::{Rejudged, on_change};
pub(crate) use watched::{WatchedAttempt, rejudged};

use crate::approvals::{Approvals, Grant};
use crate::attempt::{Approval, Attempt, Destination, DestinationKind, Refusal};
use crate::decider::Decider;
use crate::live_policy::{Generation, LivePolicy};
use crate::own::OwnSockets;
use crate::record::Recorder;
use crate::session::Session;
use crate::synthetic_names::SyntheticNames;

/// The enforcement point of one engine.
pub(crate) struct Enforcer {
    live: LivePolicy,
    recorder: Arc<Recorder>,
    /// Evaluates hosts that are on neither list.
    decider: Option<Decider>,
    /// The questions about such hosts, and the answers.
    approvals: Arc<Approvals>,
    /// Whether requests to unix sockets are served.
    unix_sockets: UnixSocketSupport,
    own: Arc<OwnSockets>,
    /// The names that the program of a session has looked up.
    names: Option<Arc<SyntheticNames>>,
    /// The session whose clients it judges.
    session: Option<Arc<Session>>,
}

/// Permission for this attempt to reach this authority, under this generation of the settings. It
/// does not cover any address yet.
#[derive(Debug)]
pub(crate) struct Permit {
    authority: Authority,
    decision: Decision,
    generation: Arc<Generation>,
    own: Arc<OwnSockets>,
    /// The attempt and its course.
    flow: Flow,
}

/// The result of judging an attempt without waiting.
#[derive(Debug)]
pub(crate) enum Authorization {
    Permitted(Permit),
    Refused(Refusal),
    /// The decider, or a person, must evaluate it.
    Pending(Box<PendingDecision>),
}

impl Enforcer {
    pub(crate) fn new(
        live: LivePolicy,
        recorder: Arc<Recorder>,
        decider: Option<Decider>,
        approvals: Arc<Approvals>,
        own: OwnSockets,
        unix_sockets: UnixSocketSupport,
    ) -> Self {
        Self {
            live,
            recorder,
            decider,
            approvals,
            unix_sockets,
            own: Arc::new(own),
            names: None,
            session: None,
        }
    }

    /// The enforcement point for the clients of a session, whose program has looked up these names.
    pub(crate) fn for_session(
        &self,
        session: Arc<Session>,
        live: LivePolicy,
        listeners: Arc<[SocketAddr]>,
        names: Arc<SyntheticNames>,
    ) -> Self {
        Self {
            live,
            recorder: Arc::clone(&self.recorder),
            decider: self.decider.clone(),
            approvals: Arc::clone(&self.approvals),
            unix_sockets: self.unix_sockets,
            own: Arc::new(self.own.with_session(listeners)),
            names: Some(names),
            session: Some(session),
        }
    }

    /// The host that a client means: a program that resolves a name itself gives the synthetic address, at any door
    /// of its session (SPEC T1).
    pub(crate) fn meant(&self, host: Host) -> Host {
        match (&self.names, &host) {
            (Some(names), Host::V4(address)) => names.host_at((*address).into()),
            _ => host,
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

    /// Whether an upstream proxy is this proxy itself. A name that leads here is found only by a lookup.
    pub(crate) fn is_looping_proxy(&self, generation: &Generation, proxy: &Authority) -> bool {
        let facts = facts(generation, &*self.own, None);
        let refused = generation
            .policy()
            .refuses_upstream_proxy(proxy, None, facts);
        refused.is_some()
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
            Authorization::Permitted(permit) => Ok(permit),
            Authorization::Refused(refusal) => Err(refusal),
            Authorization::Pending(pending) => Box::pin(pending.await_decider(&self.live)).await,
        }
    }

    /// Like [`authorize`](Self::authorize), for callers that cannot wait.
    pub(crate) fn judge(
        &self,
        generation: Arc<Generation>,
        attempt: Attempt,
        authority: Authority,
    ) -> Authorization {
        let authority = Authority {
            host: self.meant(authority.host),
            port: authority.port,
        };
        let recorder = &self.recorder;
        let request = attempt.request(&authority, facts(&generation, &*self.own, Some(&authority)));
        let decision = generation.policy().decide(&request);
        let destination = Destination::Host(authority.clone());
        let permit = Permit {
            flow: Flow::new(recorder, &generation, attempt, destination),
            authority,
            decision,
            generation,
            own: Arc::clone(&self.own),
        };
        if decision.is_allow() {
            return Authorization::Permitted(permit);
        }
        let decider = self.decider.clone();
        let approvals = self.asked(&permit);
        let is_left = permit.generation.policy().leaves_to_decider(decision);
        if !is_left || (decider.is_none() && approvals.is_none()) {
            return Authorization::Refused(permit.refuse(decision));
        }
        Authorization::Pending(Box::new(PendingDecision {
            decider,
            approvals,
            permit,
        }))
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
            decision: generation.policy().decide_invalid_host(),
            destination: DestinationKind::Host,
            protocol: attempt.kind.protocol(),
            host: escape(text),
            port,
            detail: None,
            decider_reason: None,
            credential: None,
            approval: None,
        };
        self.recorder.refused(generation, attempt, &refusal);
        refusal
    }

    /// Judges a name that a client looks up (SPEC T1), valid or not. A name that is left to the decider is
    /// not refused here: the decider evaluates the connection, whose port is known. A refusal is recorded
    /// if `is_new` says so of the name, since one lookup has several queries.
    pub(crate) fn judge_name(
        &self,
        generation: &Generation,
        attempt: &Attempt,
        name: Result<&Host, &[u8]>,
        is_new: impl FnOnce(&str) -> bool,
    ) -> Result<(), Refusal> {
        let policy = generation.policy();
        let decision = match name {
            Ok(host) => policy.decide(&Request {
                host,
                port: 0,
                kind: &attempt.kind,
                facts: facts(generation, &*self.own, None),
            }),
            Err(_) => policy.decide_invalid_host(),
        };
        let limits = &generation.settings().daemon.approvals;
        let may_permit = |host| {
            let approvals = &self.approvals;
            limits.enabled && approvals.may_permit(&attempt.client, host, limits)
        };
        let is_left = policy.leaves_to_decider(decision)
            && (self.decider.is_some() || name.is_ok_and(may_permit));
        if decision.is_allow() || is_left {
            return Ok(());
        }
        let refusal = Refusal {
            decision,
            destination: DestinationKind::Host,
            protocol: attempt.kind.protocol(),
            host: name.map_or_else(escape, Host::to_string),
            port: 0,
            detail: detail::of(generation, attempt, decision),
            decider_reason: None,
            credential: None,
            approval: None,
        };
        if is_new(&refusal.host) {
            self.recorder.refused(generation, attempt, &refusal);
        }
        Err(refusal)
    }
}

/// Judges an attempt that an earlier policy permitted, and its vetted addresses, by the policy in
/// force now. It records nothing and does not use the decider again: its answer holds until the
/// settings refuse the attempt in a way that the decider could not overrule.
pub(crate) fn still_permitted(
    generation: &Generation,
    attempt: &Attempt,
    authority: &Authority,
    addresses: &[IpAddr],
    allowed: &AllowedBy,
) -> Decision {
    let policy = generation.policy();
    let facts = Facts {
        // The connection was checked when it was made.
        listeners: &NoProxyListeners,
        // An intercepted connection goes on without an issuer.
        interception: InterceptionSupport::Available,
        ..facts(generation, &NoProxyListeners, Some(authority))
    };
    let request = attempt.request(authority, facts);
    let decision = match allowed {
        AllowedBy::Lists => policy.decide(&request),
        AllowedBy::Grant(_) if !is_granting(generation) || allowed.has_lapsed() => {
            policy.decide(&request)
        }
        AllowedBy::Decider | AllowedBy::Grant(_) => {
            policy.decide_answered(&request, DeciderAnswer::Allow)
        }
    };
    if !decision.is_allow() {
        return decision;
    }
    policy.decide_addresses(&request, decision, addresses)
}

/// The state of the proxy and its machine under these settings, and whether the session has a credential for
/// the authority.
fn facts<'a>(
    generation: &'a Generation,
    listeners: &'a dyn ProxyListeners,
    authority: Option<&Authority>,
) -> Facts<'a> {
    Facts {
        machine: generation.machine(),
        listeners,
        interception: if generation.intercepts() {
            InterceptionSupport::Available
        } else {
            InterceptionSupport::Unavailable
        },
        credentials: authority
            .map(|authority| generation.credentials_for(authority))
            .unwrap_or_default(),
    }
}

impl Attempt {
    /// The attempt to reach an authority, as the policy judges it.
    fn request<'a>(&'a self, authority: &'a Authority, facts: Facts<'a>) -> Request<'a> {
        Request {
            host: &authority.host,
            port: authority.port,
            kind: &self.kind,
            facts,
        }
    }
}

impl Permit {
    pub(crate) fn attempt(&self) -> &Attempt {
        self.flow.attempt()
    }

    /// The course of the attempt, for its event.
    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// The grant that permits it.
    fn grant(&self) -> Option<&Arc<Grant>> {
        self.flow.grant()
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

    /// The request with the verdict of other settings' hooks. Its head is gone by now, so hooks that
    /// differ in any way, even in where they are written, do not match.
    fn kind_under(&self, generation: &Generation) -> RequestKind<'static> {
        let (before, now) = (
            &self.generation.settings().mitm.hooks,
            &generation.settings().mitm.hooks,
        );
        let kind = self.attempt().kind.clone();
        match kind {
            RequestKind::Https(head, HookMatch::Matched) if !now.has(&self.authority.host) => {
                RequestKind::Https(head, HookMatch::NotHooked)
            }
            RequestKind::Https(head, HookMatch::Matched) if before != now => {
                RequestKind::Https(head, HookMatch::Unmatched)
            }
            kind => kind,
        }
    }

    /// The source of the permission.
    pub(crate) fn allowed(&self) -> AllowedBy {
        AllowedBy::of(self.decision, self.grant())
    }

    /// The rules that permitted it.
    pub(crate) fn source(&self) -> Source {
        self.decision.source()
    }

    /// How the connection is handled: passed on, or intercepted.
    pub(crate) fn handling(&self) -> Handling {
        self.decision.handling()
    }

    /// Refuses a tunnel after it was permitted, because of its content. It is recorded like any
    /// refusal, with `detail`.
    pub(crate) fn withdraw(&self, content: TunnelContent, detail: &'static str) -> Refusal {
        let decision = self.generation.policy().decide_content(content);
        self.refuse_for(decision, Some(detail))
    }

    /// Refuses a request because of a credential (SPEC B8, B11). It is recorded like any refusal, with the
    /// credential, and with the part of the request as `detail`.
    pub(crate) fn refuse_credential(
        &self,
        credential: &CredentialId,
        detail: &'static str,
    ) -> Refusal {
        self.credential_refuser().refuse(credential, detail)
    }

    /// Refuses the request likewise, when the permit is gone.
    pub(crate) fn credential_refuser(&self) -> CredentialRefuser {
        CredentialRefuser::new(&self.generation, &self.authority, &self.flow)
    }

    /// Admits the attempt to a connection that was vetted earlier for the same authority under the
    /// same generation. That is recorded once.
    pub(crate) fn admit_pooled(&self) {
        self.flow.allow(&self.generation, self.decision);
    }

    /// Judges the addresses that the host resolved to, and records the outcome. Only now is the
    /// decision complete.
    pub(crate) fn vet(&self, addresses: &[IpAddr]) -> Result<VettedAddrs, Refusal> {
        let request = self.attempt().request(&self.authority, self.facts());
        let policy = self.generation.policy();
        let decision = policy.decide_addresses(&request, self.decision, addresses);
        if !decision.is_allow() {
            return Err(self.refuse(decision));
        }
        self.flow.allow(&self.generation, decision);
        self.note_local(decision, addresses);
        let allowed = AllowedBy::of(decision, self.grant());
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
        let policy = self.generation.policy();
        match policy.refuses_upstream_proxy(proxy, Some(addresses), self.facts()) {
            Some(decision) => Err(self.refuse_for(decision, Some(LOOPING_PROXY))),
            None => Ok(VettedAddrs::of(proxy, addresses, AllowedBy::Lists)),
        }
    }

    /// Refuses a connection that turned out to lead to one of our own listeners. Such a listener
    /// may have opened between the judgement and the dial. Its address was in the set before
    /// clients could connect to it.
    pub(crate) fn admit_peer(&self, peer: Option<SocketAddr>) -> Result<(), Refusal> {
        let policy = self.generation.policy();
        match peer.and_then(|peer| policy.refuses_peer(peer, self.facts())) {
            Some(decision) => Err(self.refuse(decision)),
            None => Ok(()),
        }
    }

    /// The permitted name does not resolve. The attempt was allowed and has failed; it is not refused.
    pub(crate) fn unresolved(&self) {
        self.flow.allow(&self.generation, self.decision);
    }

    /// Notes for the report of a session that a name needs local binding, so that a proposed policy has it too (SPEC
    /// W1).
    fn note_local(&self, decision: Decision, addresses: &[IpAddr]) {
        let is_name = self.authority.host.ip().is_none();
        if !is_name || decision.reach() != Reach::Any {
            return;
        }
        let machine = self.generation.machine();
        if let Some(session) = self.attempt().client.session()
            && addresses.iter().any(|one| is_local_address(*one, machine))
        {
            session.note_local(&self.authority.host.to_string(), self.authority.port);
        }
    }

    fn facts(&self) -> Facts<'_> {
        facts(&self.generation, &*self.own, Some(&self.authority))
    }

    fn refuse(&self, decision: Decision) -> Refusal {
        let detail = detail::of(&self.generation, self.attempt(), decision)
            .or_else(|| detail::of_loop(&self.own, self.authority.port, decision));
        self.refuse_for(decision, detail)
    }

    /// Refuses because of a question, which has no answer yet or was denied (SPEC Q2).
    fn refuse_asked(&self, decision: Decision, approval: Approval) -> Refusal {
        let mut refusal = self.refusal(decision, None);
        refusal.approval = Some(Box::new(approval));
        self.recorder()
            .refused(&self.generation, self.attempt(), &refusal);
        refusal
    }

    /// Refuses because the decider does, with the reason that it gave.
    fn refuse_as(&self, decision: Decision, reason: Arc<str>) -> Refusal {
        let mut refusal = self.refusal(decision, None);
        refusal.decider_reason = Some(reason);
        self.recorder()
            .refused(&self.generation, self.attempt(), &refusal);
        refusal
    }

    fn refuse_for(&self, decision: Decision, detail: Option<&'static str>) -> Refusal {
        let refusal = self.refusal(decision, detail);
        self.recorder()
            .refused(&self.generation, self.attempt(), &refusal);
        refusal
    }

    fn refusal(&self, decision: Decision, detail: Option<&'static str>) -> Refusal {
        refusal(self.attempt(), &self.authority, decision, detail)
    }
}

fn refusal(
    attempt: &Attempt,
    authority: &Authority,
    decision: Decision,
    detail: Option<&'static str>,
) -> Refusal {
    Refusal {
        decision,
        destination: DestinationKind::Host,
        protocol: attempt.kind.protocol(),
        host: authority.host.to_string(),
        port: authority.port,
        detail,
        decider_reason: None,
        credential: None,
        approval: None,
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
