//! A decision in words: what happened, by which rule, and how to change it.
//!
//! It describes decisions and makes none: [`Policy::decide`] and the other functions of this crate
//! make them.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::net::SocketAddr;

use crate::address::AddressClass;
use crate::decision::{Decision, Handling, Reason, Source};
use crate::hook::HookMatch;
use crate::host::Host;
use crate::method::is_read_only;
use crate::policy::{Interception, Policy};
use crate::request::{HttpHead, Request, RequestKind};
use crate::rule::Rule;

/// The policy's decision on a request, for people. `Display` writes sentences.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The decision itself.
    pub decision: Decision,
    /// The rule that decided, if there is one.
    pub rule: Option<Rule>,
    /// The proxy's own listener that the request itself names, for [`Reason::LoopDetected`].
    pub listener: Option<SocketAddr>,
    /// The facts behind the decision.
    pub because: String,
    /// How to get the other decision; empty where there is no sensible way.
    pub remedy: String,
}

impl Policy {
    /// Explains the result of [`decide`](Self::decide). A name that is allowed here can still be
    /// refused for the addresses that it resolves to.
    pub fn explain(&self, request: &Request<'_>) -> Explanation {
        self.explain_decision(request, self.decide(request))
    }

    /// Explains a decision on a request, which may be about the addresses that its host resolves to.
    pub fn explain_decision(&self, request: &Request<'_>, decision: Decision) -> Explanation {
        let rule = decision.rule().and_then(|rule| self.rule(rule));
        let listener = match decision.reason() {
            Reason::LoopDetected => request.own_listener(),
            _ => None,
        };
        Explanation {
            decision,
            listener,
            because: self.because(request, &decision, rule.as_ref()),
            remedy: self.remedy(request, &decision),
            rule,
        }
    }

    fn because(&self, request: &Request<'_>, decision: &Decision, rule: Option<&Rule>) -> String {
        let host = request.host;
        let is_literal = host.ip().is_some();
        let list = match decision.source() {
            Source::Session => "list of the session",
            _ => "list",
        };
        match (decision.reason(), rule) {
            (Reason::Allow, Some(rule)) if decision.handling() == Handling::Intercept => format!(
                "the allow {list} has {rule}; TLS is intercepted and every request inside is judged by itself"
            ),
            (Reason::Allow, Some(rule)) => format!("the allow {list} has {rule}"),
            (Reason::Denied, Some(rule)) => match self.decide(request).reason() {
                Reason::Denied => format!("the deny {list} has {rule}"),
                _ => format!("{host} resolves to an address that the deny {list} has: {rule}"),
            },
            (Reason::NotAllowedLocal, _) if is_public(host) => {
                format!("{host} is an address of this machine")
            }
            (Reason::NotAllowedLocal, _) if is_literal || host.is_localhost() => {
                format!("{host} is a local or private address")
            }
            (Reason::NotAllowedLocal, _) => format!(
                "{host} resolves to an address that is local or private, or of this machine"
            ),
            (Reason::NotAllowed, _) if decision.would_deny() => {
                let by = match decision.source() {
                    Source::Session => "hosts like it are only reported in this session",
                    _ => "enforcement = \"report\" lets it through",
                };
                format!("{}, but {by}", self.not_listed(host))
            }
            (Reason::NotAllowed, _) if decision.source() == Source::Session => {
                format!("the session is limited to hosts that do not include {host}")
            }
            (Reason::NotAllowed, _) => self.not_listed(host),
            (Reason::MethodNotAllowed, _) => method_not_allowed(request),
            (Reason::MitmRequired, _) => self.mitm_required(request),
            (Reason::MitmHookDenied, _) => match request.kind.hooks() {
                HookMatch::Ambiguous(ambiguity) => format!(
                    "{host} has hooks, and servers could read the request in different ways: {ambiguity}"
                ),
                HookMatch::Matched => {
                    "a hook matches the request, but its method does not define content".to_string()
                }
                _ => format!("{host} has hooks, and none matches the request"),
            },
            (Reason::LoopDetected, _)
                if request.facts.listeners.is_collector(host, request.port) =>
            {
                "the destination is the collector of the proxy's audit events".to_string()
            }
            (Reason::LoopDetected, _) => "the destination is the proxy itself".to_string(),
            (reason, _) => match without_host(reason) {
                Some((because, _)) => because.to_string(),
                None => format!("the reason is {reason}"),
            },
        }
    }

    /// Why the allow list does not cover the host.
    fn not_listed(&self, host: &Host) -> String {
        if self.allowed().is_empty() {
            return "the allow list is empty".to_string();
        }
        match self.near_miss(host) {
            Some(rule) => {
                format!("the allow list has only {rule}, which does not cover {host} itself")
            }
            None => format!("no entry of the allow list covers {host}"),
        }
    }

    fn mitm_required(&self, request: &Request<'_>) -> String {
        let host = request.host;
        let why = if self.is_hooked(host) {
            format!("{host} has hooks")
        } else if self.is_limited_by_session() {
            "the mode of the session is limited".to_string()
        } else {
            "the mode is limited".to_string()
        };
        let how = match request.kind {
            RequestKind::Http(_) => "and plain HTTP cannot be judged by them",
            RequestKind::Socks5Udp => "and datagrams cannot be judged",
            RequestKind::Socks5Tcp if request.port != 443 => {
                "and SOCKS5 connections are intercepted only on port 443"
            }
            _ if self.interception() == Interception::Forbidden => {
                "so each request must be judged, and mitm = false forbids to intercept TLS"
            }
            _ => "so each request must be judged, and the proxy has no CA to intercept TLS with",
        };
        format!("{why}, {how}")
    }

    fn remedy(&self, request: &Request<'_>, decision: &Decision) -> String {
        let host = request.host;
        let hooked = self.is_hooked(host);
        let (reason, hooks) = (decision.reason(), request.kind.hooks());
        let by_session = decision.source() == Source::Session;
        let limited_by_session = self.is_limited_by_session();
        match reason {
            Reason::Denied if by_session => {
                "To allow it, start the session without that entry".to_string()
            }
            Reason::NotAllowed if decision.would_deny() => format!(
                "To allow it for good, add \"{host}\" to allowed_domains and reload"
            ),
            Reason::NotAllowed if by_session => {
                "To allow it, start the session with an `only` entry that covers it".to_string()
            }
            Reason::MethodNotAllowed if limited_by_session => {
                "To allow it, start the session without limited mode".to_string()
            }
            Reason::MitmRequired if limited_by_session && !hooked => {
                "To allow it, start the session without limited mode, or let the proxy intercept TLS"
                    .to_string()
            }
            Reason::MitmHookDenied if matches!(hooks, HookMatch::Ambiguous(_)) => {
                "No hook matches such a request: ask in a way that has one reading".to_string()
            }
            Reason::MitmHookDenied if hooks == HookMatch::Matched => {
                "Send it without content: no Content-Length, no Transfer-Encoding".to_string()
            }
            Reason::Denied => {
                "To allow it, remove that entry: no allow entry can lift it".to_string()
            }
            Reason::NotAllowed => {
                format!("To allow it, add \"{host}\" to allowed_domains and reload")
            }
            Reason::NotAllowedLocal if host.ip().is_some() || host.is_localhost() => format!(
                "To allow it, add \"{host}\" itself to allowed_domains, or set allow_local_binding = true"
            ),
            Reason::NotAllowedLocal => {
                "To allow it, set allow_local_binding = true, or allow the address itself and use it in place of the name"
                    .to_string()
            }
            Reason::MethodNotAllowed => "To allow it, set mode = \"full\"".to_string(),
            Reason::MitmRequired if hooked && self.interception() == Interception::Automatic => {
                format!("Use https on port 443 through the proxy, or remove the hooks of {host}")
            }
            Reason::MitmRequired if hooked => {
                format!("To allow it, remove mitm = false, or the hooks of {host}")
            }
            Reason::MitmRequired => {
                "To allow it, set mode = \"full\", or let the proxy intercept TLS".to_string()
            }
            Reason::MitmHookDenied => {
                "To allow it, add a hook that matches it, or remove the host's hooks".to_string()
            }
            Reason::LoopDetected => {
                "Check the URL, and the proxy settings of the client".to_string()
            }
            _ => without_host(reason).map_or_else(String::new, |(_, remedy)| remedy.to_string()),
        }
    }

    /// The wildcard of the allow list that covers only names below the host, if there is one.
    fn near_miss(&self, host: &Host) -> Option<Rule> {
        let Host::Name(_) = host else { return None };
        let below = Host::parse(&format!("x.{host}")).ok()?;
        self.allowed().rule(self.allowed().find(&below)?.rule)
    }
}

impl Explanation {
    /// Explains a decision that does not depend on a host.
    pub fn without_host(decision: Decision) -> Self {
        let (because, remedy) = without_host(decision.reason()).unwrap_or_default();
        Self {
            decision,
            rule: None,
            listener: None,
            because: because.to_string(),
            remedy: remedy.to_string(),
        }
    }
}

/// Why a request is refused whatever its host is, and what to do about it.
fn without_host(reason: Reason) -> Option<(&'static str, &'static str)> {
    Some(match reason {
        Reason::InvalidHost => (
            "the host is neither a valid name nor an address",
            "Check the URL",
        ),
        Reason::ProxyDisabled => (
            "the proxy is switched off",
            "To use it, set enabled = true and reload",
        ),
        Reason::CredentialUnbound => (
            "the request has the dummy of a credential that may not go there",
            "Send it only to the destinations of the credential",
        ),
        Reason::ConfigurationUnusable => (
            "the configuration cannot be used, and the proxy has no earlier one",
            "Run `codex-network-proxy check` and fix the problems that it prints",
        ),
        _ => return None,
    })
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decision = &self.decision;
        write!(
            f,
            "{} ({}): {}.",
            decision.verdict(),
            decision.reason(),
            self.because
        )?;
        if self.remedy.is_empty() {
            return Ok(());
        }
        write!(f, " {}.", self.remedy)
    }
}

/// Whether the address of the host, taken by itself, is public.
fn is_public(host: &Host) -> bool {
    host.ip()
        .is_some_and(|address| AddressClass::of(address).is_public())
}

/// Why limited mode refuses a request.
fn method_not_allowed(request: &Request<'_>) -> String {
    match request.kind.head() {
        Some(head) if head.upgrade.is_some() => {
            "limited mode lets no protocol upgrade through".to_string()
        }
        Some(HttpHead { method, .. }) if is_read_only(method) => {
            format!("limited mode lets {method} through only without content")
        }
        Some(HttpHead { method, .. }) => {
            format!("limited mode lets only GET, HEAD and OPTIONS through, not {method}")
        }
        None => "limited mode lets only requests through whose method can be seen".to_string(),
    }
}
