//! A decision: the verdict, what decided, and why (SPEC P10).
//!
//! Only this crate makes decisions: outside of it they have no constructors.

use core::fmt;

use crate::rule::RuleRef;

/// Whether a request is permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is permitted.
    Allow,
    /// It is refused.
    Deny,
    /// The user must confirm the request first. Until then it is refused.
    Ask,
}

/// The part of the proxy that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The lists and the address rules.
    BaselinePolicy,
    /// Limited mode, or what the interception of a host requires.
    ModeGuard,
    /// The proxy's own state: disabled, its own listener, a name that does not resolve.
    ProxyState,
    /// The embedder's decider.
    Decider,
    /// The rules of the client's session.
    Session,
}

/// The reason of a decision. Its names are part of the interface: clients match on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing forbids it.
    Allow,
    /// The deny list names the host, or an address that it resolves to.
    Denied,
    /// The allow list does not name the host.
    NotAllowed,
    /// The host is, or resolves to, an address that is not public.
    NotAllowedLocal,
    /// Limited mode does not let the method through.
    MethodNotAllowed,
    /// The request can be judged only inside TLS interception, which is not possible here.
    MitmRequired,
    /// No hook of the host matches the request.
    MitmHookDenied,
    /// A decider refused without a reason.
    PolicyDenied,
    /// The proxy is switched off.
    ProxyDisabled,
    /// There is no usable configuration.
    ConfigurationUnusable,
    /// This platform does not proxy to unix sockets.
    UnixSocketUnsupported,
    /// Not a valid host name or address.
    InvalidHost,
    /// The name does not resolve.
    DnsFailure,
    /// The destination is one of the proxy's own listeners.
    LoopDetected,
    /// The request contains the dummy of a credential at a place where that credential may not go.
    CredentialUnbound,
}

/// Which addresses an allowed host may resolve to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Public ones.
    Public,
    /// Loopback: `localhost` was allowed by name.
    Loopback,
    /// Any: the address itself was allowed, or local binding is on.
    Any,
}

/// How an allowed connection is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Handling {
    /// It is carried without interception.
    Carry,
    /// Its TLS is intercepted and every request inside is judged by itself. Bytes that are not TLS
    /// are served as plain HTTP or refused (SPEC M1, M2).
    Intercept,
}

/// The result of judging a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a decision protects only if the caller acts on it"]
pub struct Decision {
    verdict: Verdict,
    source: Source,
    reason: Reason,
    rule: Option<RuleRef>,
    reach: Reach,
    handling: Handling,
}

impl Decision {
    /// Permits a request, by a rule of the allow list if there is one.
    pub(crate) fn allow(source: Source, rule: Option<RuleRef>, reach: Reach) -> Self {
        Self {
            verdict: Verdict::Allow,
            source,
            reason: Reason::Allow,
            rule,
            reach,
            handling: Handling::Carry,
        }
    }

    /// Permits a request that is not on the allow list, because a decider allows it. The reason
    /// stays that of the list (SPEC R3).
    pub(crate) fn overrule(reach: Reach) -> Self {
        Self {
            reason: Reason::NotAllowed,
            ..Self::allow(Source::Decider, None, reach)
        }
    }

    /// Permits a request that is on neither list, since such requests are only reported (SPEC P12).
    /// The reason stays that of the list.
    pub(crate) fn report(source: Source, reach: Reach) -> Self {
        Self {
            reason: Reason::NotAllowed,
            ..Self::allow(source, None, reach)
        }
    }

    /// The decider wants the user to confirm the request first.
    pub(crate) fn ask() -> Self {
        Self {
            verdict: Verdict::Ask,
            ..Self::deny(Source::Decider, Reason::NotAllowed, None)
        }
    }

    /// The same, on the condition that the connection's TLS is intercepted.
    pub(crate) fn through_interception(self) -> Self {
        Self {
            handling: Handling::Intercept,
            ..self
        }
    }

    /// Refuses a request.
    pub(crate) fn deny(source: Source, reason: Reason, rule: Option<RuleRef>) -> Self {
        Self {
            verdict: Verdict::Deny,
            source,
            reason,
            rule,
            reach: Reach::Public,
            handling: Handling::Carry,
        }
    }

    /// Refuses a request by a rule of a deny list.
    pub(crate) fn denied(rule: RuleRef) -> Self {
        Self::deny(rule.source(), Reason::Denied, Some(rule))
    }

    /// Refuses a request that would reach one of the proxy's own listeners (SPEC P6).
    pub(crate) fn loop_detected() -> Self {
        Self::deny(Source::ProxyState, Reason::LoopDetected, None)
    }

    /// Whether the request is permitted.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The part of the proxy that decided.
    pub fn source(&self) -> Source {
        self.source
    }

    /// The reason.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The rule that decided, if there is one. [`Policy::rule`](crate::Policy::rule) returns its
    /// text.
    pub fn rule(&self) -> Option<RuleRef> {
        self.rule
    }

    /// Which addresses the host may resolve to. Meaningful only for a permitted request.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// How the connection is handled. Meaningful only for a permitted request.
    pub fn handling(&self) -> Handling {
        self.handling
    }

    /// Whether a decider permitted what the lists did not.
    pub fn is_overruled(&self) -> bool {
        self.is_allow() && self.source == Source::Decider
    }

    /// Whether the request is let through only because hosts on neither list are not refused at
    /// present (SPEC P12).
    pub fn would_deny(&self) -> bool {
        self.is_allow() && self.reason == Reason::NotAllowed && !self.is_overruled()
    }

    /// Whether the verdict is [`Verdict::Allow`].
    pub fn is_allow(&self) -> bool {
        self.verdict == Verdict::Allow
    }
}

impl RuleRef {
    /// The part of the proxy that decides by the rule.
    pub(crate) fn source(self) -> Source {
        match self {
            Self::Allowed(_) | Self::Denied(_) => Source::BaselinePolicy,
            Self::AllowedBySession(_) | Self::DeniedBySession(_) => Source::Session,
        }
    }
}

impl Verdict {
    /// The name in records and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
        }
    }
}

impl Source {
    /// The name in records and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BaselinePolicy => "baseline_policy",
            Self::ModeGuard => "mode_guard",
            Self::ProxyState => "proxy_state",
            Self::Decider => "decider",
            Self::Session => "session",
        }
    }
}

impl Reason {
    /// Every reason, in the order of the enumeration.
    pub const ALL: [Self; 15] = [
        Self::Allow,
        Self::Denied,
        Self::NotAllowed,
        Self::NotAllowedLocal,
        Self::MethodNotAllowed,
        Self::MitmRequired,
        Self::MitmHookDenied,
        Self::PolicyDenied,
        Self::ProxyDisabled,
        Self::ConfigurationUnusable,
        Self::UnixSocketUnsupported,
        Self::InvalidHost,
        Self::DnsFailure,
        Self::LoopDetected,
        Self::CredentialUnbound,
    ];

    /// The name in records and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Denied => "denied",
            Self::NotAllowed => "not_allowed",
            Self::NotAllowedLocal => "not_allowed_local",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::MitmRequired => "mitm_required",
            Self::MitmHookDenied => "mitm_hook_denied",
            Self::PolicyDenied => "policy_denied",
            Self::ProxyDisabled => "proxy_disabled",
            Self::ConfigurationUnusable => "configuration_unusable",
            Self::UnixSocketUnsupported => "unix_socket_unsupported",
            Self::InvalidHost => "invalid_host",
            Self::DnsFailure => "dns_failure",
            Self::LoopDetected => "loop_detected",
            Self::CredentialUnbound => "credential_unbound",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
