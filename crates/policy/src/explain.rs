//! A decision in words: what happened, by which rule, and how to change it.
//!
//! It calls [`Policy::decide`] and describes the result, so it always agrees with the doors.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

use crate::address::AddressClass;
use crate::decision::{Decision, Handling, Reason};
use crate::host::Host;
use crate::policy::{Policy, Rule};
use crate::request::{Hooked, Request};

/// The policy's decision on a request, for people. `Display` writes sentences.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The decision itself.
    pub decision: Decision,
    /// The rule that decided, if there is one.
    pub rule: Option<Rule>,
    /// The facts behind the decision.
    pub because: String,
    /// How to get the other decision; empty where there is no sensible way.
    pub remedy: String,
}

impl Policy {
    /// Explains the result of [`decide`](Self::decide). It does not look at addresses: a name that
    /// is allowed here can still be refused for the addresses it resolves to.
    pub fn explain(&self, request: &Request<'_>) -> Explanation {
        let decision = self.decide(request);
        let rule = decision.rule().and_then(|rule| self.rule(rule));
        let host = request.host;
        let because = match (decision.reason(), &rule) {
            (Reason::Allow, Some(rule)) if decision.handling() == Handling::Intercept => format!(
                "the allow list has {rule}; TLS is intercepted and every request inside is judged by itself"
            ),
            (Reason::Allow, Some(rule)) => format!("the allow list has {rule}"),
            (Reason::Denied, Some(rule)) => format!("the deny list has {rule}"),
            (Reason::NotAllowedLocal, _) if is_public(host) => {
                format!("{host} is an address of this machine")
            }
            (Reason::NotAllowedLocal, _) => format!("{host} is a local or private address"),
            (Reason::NotAllowed, _) if self.allowed().is_empty() => {
                "the allow list is empty".to_string()
            }
            (Reason::NotAllowed, _) => match self.near_miss(host) {
                Some(rule) => {
                    format!("the allow list has only {rule}, which does not cover {host} itself")
                }
                None => format!("no entry of the allow list covers {host}"),
            },
            (Reason::MethodNotAllowed, _) if request.upgrade.is_some() => {
                "limited mode lets no protocol upgrade through".to_string()
            }
            (Reason::MethodNotAllowed, _) => match request.method {
                Some(method) => {
                    format!("limited mode lets only GET, HEAD and OPTIONS through, not {method}")
                }
                None => {
                    "limited mode lets only requests through whose method can be seen".to_string()
                }
            },
            (Reason::MitmRequired, _) => {
                "requests to it can be judged only inside TLS interception, which is not possible here"
                    .to_string()
            }
            (Reason::MitmHookDenied, _) => match request.hooked {
                Hooked::Ambiguous(ambiguity) => format!(
                    "{host} has hooks, and servers could read the request in different ways: {ambiguity}"
                ),
                _ => format!("{host} has hooks, and none matches the request"),
            },
            (Reason::ProxyDisabled, _) => "the proxy is switched off".to_string(),
            (reason, _) => format!("the reason is {reason}"),
        };
        Explanation {
            decision,
            rule,
            because,
            remedy: remedy(decision.reason(), request),
        }
    }

    /// The wildcard of the allow list that covers only names below the host, if there is one.
    fn near_miss(&self, host: &Host) -> Option<Rule> {
        let Host::Name(_) = host else { return None };
        let below = Host::parse(&format!("x.{host}")).ok()?;
        self.allowed().rule(self.allowed().find(&below)?.rule)
    }
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

fn remedy(reason: Reason, request: &Request<'_>) -> String {
    let host = request.host;
    match reason {
        Reason::MitmHookDenied if matches!(request.hooked, Hooked::Ambiguous(_)) => {
            "No hook matches such a request: ask in a way that has one reading".to_string()
        }
        Reason::Denied => "To allow it, remove that entry: no allow entry can lift it".to_string(),
        Reason::NotAllowed => format!("To allow it, add \"{host}\" to allowed_domains and reload"),
        Reason::NotAllowedLocal => format!(
            "To allow it, add \"{host}\" itself to allowed_domains, or set allow_local_binding = true"
        ),
        Reason::MethodNotAllowed | Reason::MitmRequired => {
            "To allow it, set mode = \"full\"".to_string()
        }
        Reason::MitmHookDenied => {
            "To allow it, add a hook that matches it, or remove the host's hooks".to_string()
        }
        Reason::ProxyDisabled => "To use it, set enabled = true and reload".to_string(),
        _ => String::new(),
    }
}
