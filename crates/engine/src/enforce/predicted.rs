//! The decision that a request would get, for `explain` (SPEC K5).
//!
//! It uses the functions that the doors use, so it cannot disagree with them. It makes no permit and
//! records nothing: no client has sent the request.

use std::net::IpAddr;
use std::sync::Arc;

use codex_network_policy::{
    AddressClass, Authority, DeciderAnswer, Decision, Explanation, Facts, HttpHead, Reason,
    Request, RequestKind, Rule, UnixSocketPath, is_local_address,
};

use super::detail::{self, AUTHORITY_MISMATCH, LOOPING_PROXY};
use super::{Enforcer, asking, facts, unix_socket};
use crate::approvals::Grant;
use crate::attempt::Attempt;
use crate::live_policy::Generation;

/// A hypothetical request, with the settings that judge it.
#[derive(Clone, Copy)]
pub(crate) struct Prediction<'a> {
    pub(crate) enforcer: &'a Enforcer,
    pub(crate) generation: &'a Generation,
    pub(crate) attempt: &'a Attempt,
    pub(crate) authority: &'a Authority,
}

/// An address that the host of a request resolves to, with its own verdict.
#[derive(Clone, Debug)]
pub struct EvaluatedAddress {
    /// The address.
    pub address: IpAddr,
    /// Its kind.
    pub kind: AddressKind,
    /// The decision if the host had this address alone.
    pub decision: Decision,
}

/// The kinds of address that the policy distinguishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressKind {
    /// An address of the internet.
    Public,
    /// An address that is not public, of this class.
    Local(AddressClass),
    /// An address of this machine.
    ThisMachine,
    /// One of the proxy's own listeners.
    OwnListener,
    /// On the deny list.
    Denied(Option<Rule>),
}

/// A decision, and the detail that its record would have.
pub(crate) type Detailed = (Decision, Option<&'static str>);

impl Prediction<'_> {
    /// The decision before anything is resolved.
    pub(crate) fn decision(&self) -> Detailed {
        let policy = self.generation.policy();
        if matches!(self.attempt.kind, RequestKind::Socks5Udp)
            && let Some(refused) = policy.refuses_datagrams()
        {
            return (refused, None);
        }
        let mut decision = policy.decide(&self.request());
        if self.grant(decision).is_some() {
            decision = policy.decide_answered(&self.request(), DeciderAnswer::Allow);
        }
        let detail = detail::of(self.generation, self.attempt, decision);
        (decision, detail.or_else(|| self.detail_of_loop(decision)))
    }

    /// The detail of a refusal because the destination is the proxy's own.
    pub(crate) fn detail_of_loop(&self, decision: Decision) -> Option<&'static str> {
        detail::of_loop(&self.enforcer.own, self.authority.port, decision)
    }

    /// The grant that lifts this refusal by the lists, for the session of the enforcement point, or for everyone (SPEC Q3).
    fn grant(&self, decision: Decision) -> Option<Arc<Grant>> {
        let policy = self.generation.policy();
        let is_left = policy.leaves_to_decider(decision) && asking::is_granting(self.generation);
        let session = self.enforcer.session.as_ref();
        is_left.then(|| self.enforcer.approvals.granted(session, self.authority))?
    }

    /// The decision when an allowed host has these addresses.
    pub(crate) fn on_addresses(&self, allowed: Decision, addresses: &[IpAddr]) -> Decision {
        let policy = self.generation.policy();
        policy.decide_addresses(&self.request(), allowed, addresses)
    }

    /// Judges one address by itself.
    pub(crate) fn judge_address(&self, allowed: Decision, address: IpAddr) -> EvaluatedAddress {
        let decision = self.on_addresses(allowed, &[address]);
        let class = AddressClass::of(address);
        let kind = match decision.reason() {
            Reason::LoopDetected => AddressKind::OwnListener,
            Reason::Denied => {
                let rule = decision.rule();
                let policy = self.generation.policy();
                AddressKind::Denied(rule.and_then(|rule| policy.rule(rule)))
            }
            _ if !class.is_public() => AddressKind::Local(class),
            _ if is_local_address(address, self.generation.machine()) => AddressKind::ThisMachine,
            _ => AddressKind::Public,
        };
        EvaluatedAddress {
            address,
            kind,
            decision,
        }
    }

    /// The refusal because the upstream proxy that would carry the request is this proxy, if it has one
    /// of these addresses. `None` stands for addresses that are not known.
    pub(crate) fn looping_proxy(
        &self,
        proxy: &Authority,
        addresses: Option<&[IpAddr]>,
    ) -> Option<Detailed> {
        let policy = self.generation.policy();
        let refused = policy.refuses_upstream_proxy(proxy, addresses, self.facts())?;
        Some((refused, Some(LOOPING_PROXY)))
    }

    /// The refusal of a request inside TLS that is for another authority.
    pub(crate) fn misdirected(&self) -> Detailed {
        let policy = self.generation.policy();
        (policy.decide_misdirected(), Some(AUTHORITY_MISMATCH))
    }

    /// The decision on a request to the unix socket of this path, before the file is inspected.
    pub(crate) fn on_unix_socket(&self, head: &HttpHead<'_>, path: &[u8]) -> Detailed {
        let path = UnixSocketPath::parse(path).ok();
        let support = self.enforcer.unix_sockets;
        unix_socket::decide_path(self.generation, head, support, path.as_ref())
    }

    /// Explains a decision in words.
    pub(crate) fn explain(&self, decision: Decision) -> Explanation {
        let policy = self.generation.policy();
        let mut explanation = policy.explain_decision(&self.request(), decision);
        if decision.is_overruled()
            && let Some(grant) = self.grant(policy.decide(&self.request()))
        {
            explanation.because = format!("a user approved it: {}", grant.rule());
            explanation.remedy.clear();
        }
        explanation
    }

    fn request(&self) -> Request<'_> {
        self.attempt.request(self.authority, self.facts())
    }

    fn facts(&self) -> Facts<'_> {
        facts(self.generation, &*self.enforcer.own, Some(self.authority))
    }
}
