//! The rules in force: two lists and a few switches, compiled once and never changed.

use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::HashSet;

use crate::domain_set::{DomainSet, TooLarge};
use crate::enforcement::Enforcement;
use crate::host::Host;
use crate::method::Mode;
use crate::pattern::Pattern;
use crate::rule::{ConfigLine, Rule, RuleRef};
use crate::session_rules::SessionRules;

/// The source of a policy. The default refuses everything.
#[derive(Clone, Debug)]
pub struct PolicySpec {
    /// Whether the proxy is switched on.
    pub enabled: bool,
    /// Limited or full.
    pub mode: Mode,
    /// Whether hosts on the allow list may be, or resolve to, addresses that are not public.
    pub allow_local_binding: bool,
    /// Patterns of the allow list, in the order in which they were written.
    pub allowed: Vec<(Pattern, Option<ConfigLine>)>,
    /// The entries of the allow list that may name a non-public host and so lift the rule against
    /// it; `None` when all may.
    pub local_exceptions: Option<Vec<(Pattern, Option<ConfigLine>)>>,
    /// Patterns of the deny list, in the order in which they were written.
    pub denied: Vec<(Pattern, Option<ConfigLine>)>,
    /// Hosts with hooks: their requests are judged one by one inside TLS interception.
    pub intercepted: Vec<Host>,
    /// Whether TLS may be intercepted where a request needs it.
    pub interception: Interception,
    /// Whether a decider may allow hosts that are on neither list.
    pub unlisted: Unlisted,
    /// Whether such hosts are refused, or only reported.
    pub enforcement: Enforcement,
    /// Whether sessions must enforce too, whatever their rules say: requirements forbid `"report"`.
    pub must_enforce: bool,
}

/// Hosts that are on neither list (SPEC P8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Unlisted {
    /// They are refused, unless a decider allows them.
    #[default]
    LeftToDecider,
    /// They are always refused (`managed_allowed_domains_only`, SPEC C6).
    Refused,
}

/// Whether TLS may be intercepted (SPEC M1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Interception {
    /// Where limited mode or hooks need it, and nowhere else.
    #[default]
    Automatic,
    /// Never (`mitm = false`): requests that need it are refused.
    Forbidden,
}

/// Whether the policy lets anything through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PolicyState {
    On,
    /// The configuration switches the proxy off (SPEC L6).
    Off,
    /// There is no usable configuration (SPEC L16).
    Unusable,
}

/// A compiled policy. Cloning it is cheap, and so is changing its mode.
#[derive(Clone, Debug)]
pub struct Policy {
    pub(crate) state: PolicyState,
    pub(crate) mode: Mode,
    pub(crate) allow_local_binding: bool,
    pub(crate) interception: Interception,
    pub(crate) unlisted: Unlisted,
    pub(crate) enforcement: Enforcement,
    pub(crate) must_enforce: bool,
    pub(crate) lists: Arc<Lists>,
    /// The rules of the session that the policy is for.
    pub(crate) session: Option<Arc<SessionRules>>,
}

#[derive(Debug)]
pub(crate) struct Lists {
    pub(crate) allowed: DomainSet,
    pub(crate) local_exceptions: Option<DomainSet>,
    pub(crate) denied: DomainSet,
    pub(crate) intercepted: HashSet<Host>,
}

/// A list that is too large to index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct PolicyError(#[from] TooLarge);

impl Default for PolicySpec {
    fn default() -> Self {
        Self {
            enabled: true,
            mode: Mode::Full,
            allow_local_binding: false,
            allowed: Vec::new(),
            local_exceptions: None,
            denied: Vec::new(),
            intercepted: Vec::new(),
            interception: Interception::Automatic,
            unlisted: Unlisted::LeftToDecider,
            enforcement: Enforcement::Enforce,
            must_enforce: false,
        }
    }
}

impl Policy {
    /// Compiles a policy.
    ///
    /// # Errors
    ///
    /// Returns an error if a list's names take more than 4 GiB.
    pub fn compile(spec: &PolicySpec) -> Result<Self, PolicyError> {
        let exceptions = spec.local_exceptions.as_deref();
        let lists = Lists {
            allowed: DomainSet::compile(&spec.allowed)?,
            local_exceptions: exceptions.map(DomainSet::compile).transpose()?,
            denied: DomainSet::compile(&spec.denied)?,
            intercepted: spec.intercepted.iter().cloned().collect(),
        };
        Ok(Self {
            state: if spec.enabled {
                PolicyState::On
            } else {
                PolicyState::Off
            },
            mode: spec.mode,
            allow_local_binding: spec.allow_local_binding,
            interception: spec.interception,
            unlisted: spec.unlisted,
            enforcement: spec.enforcement,
            must_enforce: spec.must_enforce,
            lists: Arc::new(lists),
            session: None,
        })
    }

    /// The same rules in another mode. The lists are shared, not copied.
    #[must_use]
    pub fn with_mode(&self, mode: Mode) -> Self {
        Self {
            mode,
            ..self.clone()
        }
    }

    /// The policy of a proxy that is switched off: it refuses everything.
    #[must_use]
    pub fn switched_off(&self) -> Self {
        Self {
            state: PolicyState::Off,
            ..self.clone()
        }
    }

    /// The policy of a proxy without a usable configuration: it refuses everything.
    #[must_use]
    pub fn closed(&self) -> Self {
        Self {
            state: PolicyState::Unusable,
            ..self.clone()
        }
    }

    /// Whether it is [closed](Self::closed).
    pub fn is_unusable(&self) -> bool {
        self.state == PolicyState::Unusable
    }

    /// Whether the proxy is switched on.
    pub fn is_enabled(&self) -> bool {
        self.state == PolicyState::On
    }

    /// Limited or full.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether hosts on the allow list may have addresses that are not public.
    pub fn allows_local_binding(&self) -> bool {
        self.allow_local_binding
    }

    /// Whether a host has hooks, which judge its requests one by one.
    pub(crate) fn is_hooked(&self, host: &Host) -> bool {
        self.lists.intercepted.contains(host)
    }

    /// Whether TLS may be intercepted where a request needs it.
    pub fn interception(&self) -> Interception {
        self.interception
    }

    /// Whether deciders, people and sessions may allow hosts that are on neither list.
    pub fn unlisted(&self) -> Unlisted {
        self.unlisted
    }

    /// Whether neither the allow list nor the session that the policy is for allows a host.
    pub fn allows_no_host(&self) -> bool {
        let of_session = self.session.as_ref();
        self.lists.allowed.is_empty() && of_session.is_none_or(|rules| rules.allowed.is_empty())
    }

    /// The allow list.
    pub fn allowed(&self) -> &DomainSet {
        &self.lists.allowed
    }

    /// The deny list.
    pub fn denied(&self) -> &DomainSet {
        &self.lists.denied
    }

    /// Returns the rule that a decision of this policy refers to.
    pub fn rule(&self, rule: RuleRef) -> Option<Rule> {
        match rule {
            RuleRef::Allowed(id) => self.lists.allowed.rule(id),
            RuleRef::Denied(id) => self.lists.denied.rule(id),
            RuleRef::AllowedBySession(id) => self.session.as_ref()?.allowed.rule(id),
            RuleRef::DeniedBySession(id) => self.session.as_ref()?.denied.rule(id),
        }
    }
}
