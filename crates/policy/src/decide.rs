//! The decision on a request to a host, in the order of SPEC P3.
//!
//! Doors and `explain` call the same functions, with the same [`Facts`](crate::Facts).

use core::net::{IpAddr, SocketAddr};

use crate::address::embedded_v4;
use crate::decision::{Decision, Reach, Reason, Source};
use crate::domain_set::{DomainSet, Listed};
use crate::hook::HookMatch;
use crate::host::Host;
use crate::local_addresses::{LocalAddresses, is_local_address};
use crate::method::Mode;
use crate::policy::{Interception, Policy, Unlisted};
use crate::proxy_listeners::reached_by_host;
use crate::request::{HostCredentials, InterceptionSupport, Request, RequestKind};
use crate::rule::RuleRef;

/// A decider's answer about a host that is on neither list (SPEC P8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeciderAnswer {
    /// The decider permits the request.
    Allow,
    /// The decider refuses it, for this reason.
    Deny(DeciderReason),
    /// The user must confirm it first.
    Ask,
}

/// The reason of a decider, as the policy names it. The decider's own text is not part of a
/// decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeciderReason {
    /// [`Reason::Denied`].
    Denied,
    /// [`Reason::NotAllowed`].
    NotAllowed,
    /// Another reason or no reason; the decision has [`Reason::PolicyDenied`].
    Other,
}

impl Policy {
    /// Judges a request by its host and port, before a name is resolved.
    ///
    /// The order is that of SPEC P3: a proxy that is off refuses; the proxy's own listeners are
    /// never reached; the deny list wins over everything after it; a local host needs local binding
    /// or an entry that spells it out; then the allow list decides. A session's rules stand beside
    /// the lists (SPEC J4). A host on neither list is let through where it is only reported (SPEC
    /// P12). Hooks and the mode judge the requests to a host that is let through.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        match self.look_up(request) {
            Ok(allow) => self.apply_conditions(request, allow),
            Err(refused) => refused,
        }
    }

    /// Whether a refusal by [`decide`](Self::decide) is a decider's to lift (SPEC P8): the host is
    /// on neither list, and neither the policy (SPEC C6) nor the session reserves such hosts to its
    /// lists.
    pub fn leaves_to_decider(&self, decision: Decision) -> bool {
        !decision.is_allow()
            && decision.reason() == Reason::NotAllowed
            && decision.source() != Source::Session
            && self.unlisted == Unlisted::LeftToDecider
    }

    /// Decides like [`decide`](Self::decide), with the answer of a decider (SPEC P8).
    ///
    /// The answer counts only where the policy [leaves the request to a
    /// decider](Self::leaves_to_decider). A host that the decider allows is treated as if it were on
    /// the allow list, but not spelled out. Everything else is judged as without a decider: the
    /// deny list, local hosts, hooks and the mode.
    pub fn decide_answered(&self, request: &Request<'_>, answer: DeciderAnswer) -> Decision {
        let decision = self.decide(request);
        if !self.leaves_to_decider(decision) {
            return decision;
        }
        let deny = |reason| Decision::deny(Source::Decider, reason, None);
        match answer {
            DeciderAnswer::Allow => {
                let reach = self.reach(request.host, None);
                self.apply_conditions(request, Decision::overrule(reach))
            }
            DeciderAnswer::Ask => Decision::ask(),
            DeciderAnswer::Deny(DeciderReason::Denied) => deny(Reason::Denied),
            DeciderAnswer::Deny(DeciderReason::NotAllowed) => deny(Reason::NotAllowed),
            DeciderAnswer::Deny(DeciderReason::Other) => deny(Reason::PolicyDenied),
        }
    }

    /// Judges all addresses that an allowed host resolved to (SPEC P4), since any of them may be
    /// dialled. `allowed` is the decision that allowed the host. Returns it, or the refusal. A host
    /// without addresses is a name that does not resolve.
    pub fn decide_addresses(
        &self,
        request: &Request<'_>,
        allowed: Decision,
        addresses: &[IpAddr],
    ) -> Decision {
        let (facts, transport) = (request.facts, request.kind.transport());
        let reached = |address: &IpAddr| {
            let listener = facts
                .listeners
                .reached_by(transport, *address, request.port);
            listener.is_some()
        };
        if addresses.iter().any(reached) {
            return Decision::loop_detected();
        }
        if addresses.is_empty() {
            return Decision::deny(Source::ProxyState, Reason::DnsFailure, None);
        }
        // A deny entry for an address also refuses names that resolve to it.
        for address in addresses {
            let host = Host::from(*address);
            let denied = self.find_denied_by_policy(&host);
            if let Some(rule) = denied.or_else(|| self.find_denied_otherwise(&host)) {
                return Decision::denied(rule);
            }
        }
        let within_reach = |address: &IpAddr| match allowed.reach() {
            Reach::Any => true,
            // A loopback address inside a translated one belongs to another machine.
            Reach::Loopback if address.to_canonical().is_loopback() => true,
            Reach::Loopback | Reach::Public => !is_local_address(*address, facts.machine),
        };
        if addresses.iter().all(within_reach) {
            allowed
        } else {
            Decision::deny(Source::BaselinePolicy, Reason::NotAllowedLocal, None)
        }
    }

    /// The decision that lets the host through, before hooks and the mode, or the refusal.
    fn look_up(&self, request: &Request<'_>) -> Result<Decision, Decision> {
        if let Some(refused) = self.refuses_everything() {
            return Err(refused);
        }
        let names_collector = request
            .facts
            .listeners
            .is_collector(request.host, request.port);
        if request.own_listener().is_some() || names_collector {
            return Err(Decision::loop_detected());
        }
        let refuse = |reason| Err(Decision::deny(Source::BaselinePolicy, reason, None));
        let host = request.host;
        let lists = [&self.lists.denied, &self.lists.allowed];
        let [denied, allowed] = DomainSet::find_in(lists, host);
        let denied = denied.map(|listed| RuleRef::Denied(listed.rule));
        if let Some(rule) = denied.or_else(|| self.find_denied_otherwise(host)) {
            return Err(Decision::denied(rule));
        }
        let spelled_out = allowed.is_some_and(|listed| self.lifts_local(host, listed));
        if !self.allow_local_binding && !spelled_out && is_local(host, request.facts.machine) {
            return refuse(Reason::NotAllowedLocal);
        }
        if let Some(refused) = self.refuses_outside_session(host) {
            return Err(refused);
        }
        let rule = match allowed {
            Some(listed) => Some(RuleRef::Allowed(listed.rule)),
            None => self.find_allowed_by_session(host),
        };
        let reach = self.reach(host, allowed);
        match (rule, self.reported_by()) {
            (Some(rule), _) => Ok(Decision::allow(rule.source(), Some(rule), reach)),
            (None, Some(source)) => Ok(Decision::report(source, reach)),
            (None, None) => refuse(Reason::NotAllowed),
        }
    }

    /// Applies hooks and the mode to a request to an allowed host.
    fn apply_conditions(&self, request: &Request<'_>, allow: Decision) -> Decision {
        let can_intercept = self.interception == Interception::Automatic
            && request.facts.interception == InterceptionSupport::Available;
        match self.condition(request) {
            Condition::None => allow,
            // Without interception the dummy goes on as it is, and is worthless there.
            Condition::Injection if !can_intercept => allow,
            Condition::Injection => allow.through_interception(),
            Condition::Interception if can_intercept => allow.through_interception(),
            Condition::Interception => {
                Decision::deny(Source::ModeGuard, Reason::MitmRequired, None)
            }
            Condition::Unmet(reason) => Decision::deny(Source::ModeGuard, reason, None),
        }
    }

    /// The condition that hooks, and then the mode, set for a request to a permitted host (SPEC P7,
    /// M7, M10).
    fn condition(&self, request: &Request<'_>) -> Condition {
        let has_hooks = self.is_hooked(request.host);
        let limited = self.mode == Mode::Limited;
        let credentials = request.facts.credentials;
        match request.kind {
            RequestKind::Http(_) if has_hooks => Condition::Unmet(Reason::MitmRequired),
            // The origin could take undefined content for another request, which was not judged.
            RequestKind::Https(head, hooks)
                if has_hooks && (*hooks != HookMatch::Matched || head.has_undefined_content()) =>
            {
                Condition::Unmet(Reason::MitmHookDenied)
            }
            RequestKind::Http(head) | RequestKind::Https(head, _)
                if limited && !head.only_reads() =>
            {
                Condition::Unmet(Reason::MethodNotAllowed)
            }
            RequestKind::HttpConnect | RequestKind::Transparent if has_hooks || limited => {
                Condition::Interception
            }
            RequestKind::Socks5Tcp if request.port == 443 && (has_hooks || limited) => {
                Condition::Interception
            }
            RequestKind::Socks5Tcp | RequestKind::Socks5Udp if has_hooks => {
                Condition::Unmet(Reason::MitmRequired)
            }
            RequestKind::Socks5Tcp | RequestKind::Socks5Udp if limited => {
                Condition::Unmet(Reason::MethodNotAllowed)
            }
            RequestKind::HttpConnect | RequestKind::Socks5Tcp | RequestKind::Transparent
                if credentials == HostCredentials::Required =>
            {
                Condition::Interception
            }
            RequestKind::Socks5Udp if credentials == HostCredentials::Required => {
                Condition::Unmet(Reason::MitmRequired)
            }
            RequestKind::HttpConnect | RequestKind::Socks5Tcp | RequestKind::Transparent
                if credentials == HostCredentials::Usable =>
            {
                Condition::Injection
            }
            RequestKind::Http(_)
            | RequestKind::Https(..)
            | RequestKind::HttpConnect
            | RequestKind::Socks5Tcp
            | RequestKind::Socks5Udp
            | RequestKind::Transparent
            // The connection to the name is judged when it is made.
            | RequestKind::Dns => Condition::None,
        }
    }

    /// The entry of a deny list that refuses a host which the policy's own list does not name: one of
    /// that list for an IPv4 address inside the host, or one of the session's.
    fn find_denied_otherwise(&self, host: &Host) -> Option<RuleRef> {
        find_inside(host, |v4| self.find_denied_by_policy(v4))
            .or_else(|| self.find_denied_by_session(host))
            .or_else(|| find_inside(host, |v4| self.find_denied_by_session(v4)))
    }

    /// Whether an entry of the allow list spells out a host and may lift the rule against local
    /// ones.
    fn lifts_local(&self, host: &Host, listed: Listed) -> bool {
        let exceptions = self.lists.local_exceptions.as_ref();
        let excepted = |set: &DomainSet| set.find(host).is_some_and(|found| found.literal);
        listed.literal && exceptions.is_none_or(excepted)
    }

    fn reach(&self, host: &Host, listed: Option<Listed>) -> Reach {
        let spelled_out = listed.is_some_and(|listed| self.lifts_local(host, listed));
        match host {
            _ if self.allow_local_binding => Reach::Any,
            Host::V4(_) | Host::V6(_) if spelled_out => Reach::Any,
            Host::Name(_) if spelled_out && host.is_localhost() => Reach::Loopback,
            _ => Reach::Public,
        }
    }
}

impl Request<'_> {
    /// The proxy's own listener that the request would reach, found without a lookup.
    pub(crate) fn own_listener(&self) -> Option<SocketAddr> {
        let transport = self.kind.transport();
        reached_by_host(self.facts.listeners, transport, self.host, self.port)
    }
}

/// The condition for a request to a permitted host.
enum Condition {
    None,
    /// Its TLS must be intercepted.
    Interception,
    /// Its TLS is intercepted where that is possible, so that a credential can be put in.
    Injection,
    /// It is refused.
    Unmet(Reason),
}

/// Calls `find` for each IPv4 address that an IPv6 literal carries, until one has a rule.
fn find_inside(host: &Host, find: impl Fn(&Host) -> Option<RuleRef>) -> Option<RuleRef> {
    let Host::V6(v6) = host else { return None };
    embedded_v4(v6.address()).find_map(|v4| find(&Host::V4(v4)))
}

/// Whether the host is this machine or one of a site's own addresses, without a lookup.
fn is_local(host: &Host, machine: &dyn LocalAddresses) -> bool {
    match host.ip() {
        Some(address) => is_local_address(address, machine),
        None => host.is_localhost(),
    }
}
