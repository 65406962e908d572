//! The one decision function, in the order of SPEC P3.

use core::net::IpAddr;

use crate::address::embedded_v4;
use crate::decision::{Decision, Reach, Reason, Source};
use crate::domain_set::{DomainSet, Listed};
use crate::host::Host;
use crate::local_addresses::{LocalAddresses, is_local_address};
use crate::method::{Mode, has_undefined_content, is_read_only};
use crate::policy::{Interception, Policy};
use crate::request::{Hooked, Protocol, Request};
use crate::rule::RuleRef;

impl Policy {
    /// Judges a request by what it names, before anything is resolved.
    ///
    /// The order is that of SPEC P3: a proxy that is off refuses; the deny list wins over
    /// everything; a local host needs local binding or an entry that spells it out; then the allow
    /// list decides. A host that passed all of it still needs the permission of its hooks and of
    /// the mode.
    pub fn decide(&self, request: &Request<'_>) -> Decision {
        self.settle(request, self.look_up(request))
    }

    /// Judges a request that a decider allows (SPEC P8). The decider counts only where the allow
    /// list says nothing: then the host is treated as if it were on the list, but not spelled out.
    /// Everything else is as in [`decide`](Self::decide): the deny list, local hosts, hooks and the
    /// mode.
    pub fn decide_overruled(&self, request: &Request<'_>) -> Decision {
        match self.look_up(request) {
            Err(refused) if refused.reason() == Reason::NotAllowed => {
                let reach = self.reach(request.host, None);
                self.conditioned(request, Decision::overrule(reach))
            }
            listed => self.settle(request, listed),
        }
    }

    fn settle(
        &self,
        request: &Request<'_>,
        listed: Result<(RuleRef, Reach), Decision>,
    ) -> Decision {
        match listed {
            Ok((rule, reach)) => {
                let allow = Decision::allow(Source::BaselinePolicy, Some(rule), reach);
                self.conditioned(request, allow)
            }
            Err(refused) => refused,
        }
    }

    /// The entry that allows the host, and which addresses it permits; or the refusal.
    fn look_up(&self, request: &Request<'_>) -> Result<(RuleRef, Reach), Decision> {
        if let Some(refused) = self.refuses_everything() {
            return Err(refused);
        }
        let refuse = |reason, rule| Err(Decision::deny(Source::BaselinePolicy, reason, rule));
        let host = request.host;
        let lists = [&self.lists.denied, &self.lists.allowed];
        let [denied, allowed] = DomainSet::find_in(lists, host);
        if let Some(listed) = denied.or_else(|| self.find_denied_inside(host)) {
            let rule = RuleRef::Denied(listed.rule);
            return refuse(Reason::Denied, Some(rule));
        }
        let spelled_out = allowed.is_some_and(|listed| self.lifts_local(host, listed));
        if !self.allow_local_binding && !spelled_out && is_local(host, request.machine) {
            return refuse(Reason::NotAllowedLocal, None);
        }
        let Some(listed) = allowed else {
            return refuse(Reason::NotAllowed, None);
        };
        let rule = RuleRef::Allowed(listed.rule);
        Ok((rule, self.reach(host, Some(listed))))
    }

    /// Applies hooks and the mode to a request to an allowed host.
    fn conditioned(&self, request: &Request<'_>, allow: Decision) -> Decision {
        match self.condition(request) {
            Condition::None => allow,
            Condition::Interception if self.interception == Interception::Automatic => {
                allow.through_interception()
            }
            Condition::Interception => {
                Decision::deny(Source::ModeGuard, Reason::MitmRequired, None)
            }
            Condition::Unmet(reason) => Decision::deny(Source::ModeGuard, reason, None),
        }
    }

    /// Judges all addresses that an allowed host resolved to (SPEC P4), since any of them may be
    /// dialled. Takes the decision that allowed the host, and returns that decision or the refusal.
    /// No addresses at all means a name that does not resolve. `machine` is asked where local
    /// addresses are refused.
    pub fn decide_addresses(
        &self,
        allowed: Decision,
        addresses: &[IpAddr],
        machine: &dyn LocalAddresses,
    ) -> Decision {
        if addresses.is_empty() {
            return Decision::deny(Source::ProxyState, Reason::DnsFailure, None);
        }
        // A deny entry for an address also refuses names that resolve to it.
        for address in addresses {
            let host = Host::from(*address);
            let denied = self.lists.denied.find(&host);
            if let Some(listed) = denied.or_else(|| self.find_denied_inside(&host)) {
                let rule = RuleRef::Denied(listed.rule);
                return Decision::deny(Source::BaselinePolicy, Reason::Denied, Some(rule));
            }
        }
        let within_reach = |address: &IpAddr| match allowed.reach() {
            Reach::Any => true,
            // A loopback address inside a translated one belongs to another machine.
            Reach::Loopback if address.to_canonical().is_loopback() => true,
            Reach::Loopback | Reach::Public => !is_local_address(*address, machine),
        };
        if addresses.iter().all(within_reach) {
            allowed
        } else {
            Decision::deny(Source::BaselinePolicy, Reason::NotAllowedLocal, None)
        }
    }

    /// Looks up the IPv4 addresses that an IPv6 literal carries in the deny list.
    fn find_denied_inside(&self, host: &Host) -> Option<Listed> {
        let Host::V6(v6) = host else { return None };
        embedded_v4(v6.address()).find_map(|v4| self.lists.denied.find(&Host::V4(v4)))
    }

    /// What hooks, and then the mode, require of a request to a permitted host (SPEC P7, M7, M10).
    fn condition(&self, request: &Request<'_>) -> Condition {
        let has_hooks = self.is_hooked(request.host);
        let limited = self.mode == Mode::Limited;
        let undefined_content = has_undefined_content(request.method, request.content);
        match request.protocol {
            Protocol::Http if has_hooks => Condition::Unmet(Reason::MitmRequired),
            Protocol::Https if has_hooks && request.hooked != Hooked::Matched => {
                Condition::Unmet(Reason::MitmHookDenied)
            }
            // The origin could take the content for another request, which was not judged.
            Protocol::Https if has_hooks && undefined_content => {
                Condition::Unmet(Reason::MitmHookDenied)
            }
            Protocol::Http | Protocol::Https => {
                // Bytes after an upgrade have no method to judge. Nor has content that the origin
                // takes for a request.
                let reads = request.upgrade.is_none()
                    && !undefined_content
                    && request.method.is_some_and(is_read_only);
                if limited && !reads {
                    Condition::Unmet(Reason::MethodNotAllowed)
                } else {
                    Condition::None
                }
            }
            Protocol::HttpConnect if has_hooks || limited => Condition::Interception,
            Protocol::Socks5Tcp if request.port == 443 && (has_hooks || limited) => {
                Condition::Interception
            }
            Protocol::Socks5Tcp | Protocol::Socks5Udp if has_hooks => {
                Condition::Unmet(Reason::MitmRequired)
            }
            Protocol::Socks5Tcp | Protocol::Socks5Udp if limited => {
                Condition::Unmet(Reason::MethodNotAllowed)
            }
            Protocol::HttpConnect | Protocol::Socks5Tcp | Protocol::Socks5Udp => Condition::None,
        }
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

/// What a request to a permitted host still needs.
enum Condition {
    None,
    /// Its TLS must be intercepted.
    Interception,
    /// It is refused.
    Unmet(Reason),
}

/// Whether the host is this machine or one of a site's own addresses, without a lookup.
fn is_local(host: &Host, machine: &dyn LocalAddresses) -> bool {
    match host.ip() {
        Some(address) => is_local_address(address, machine),
        None => host.is_localhost(),
    }
}
