//! The rules of one session: they narrow a policy, and may allow hosts that it merely does not
//! list (SPEC J4), or only report them (SPEC W1).

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::decision::{Decision, Reason, Source};
use crate::domain_set::TooLarge;
use crate::enforcement::Enforcement;
use crate::host::Host;
use crate::method::Mode;
use crate::pattern::Pattern;
use crate::policy::{Policy, Unlisted};
use crate::rule::RuleRef;
use crate::session_rules::{SessionRules, compile};

/// The rules of one session. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Narrowing {
    /// Whether the session is in limited mode, whatever the policy's mode is.
    pub limited: bool,
    /// Hosts that are refused besides those of the policy's deny list.
    pub denied: Vec<Pattern>,
    /// Unless it is empty, a host must match one of these as well as be allowed.
    pub only: Vec<Pattern>,
    /// Hosts that are allowed although they are on neither list of the policy.
    pub allowed: Vec<Pattern>,
    /// Whether hosts that are on neither list are only reported, for this session.
    pub enforcement: Enforcement,
}

/// Why a policy cannot be narrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NarrowingError {
    /// A list of the session's own is too large to index.
    #[error("a list of the session is too large")]
    TooLarge,
    /// The policy has the rules of a session already.
    #[error("the policy belongs to a session already")]
    Narrowed,
}

impl Policy {
    /// This policy with the rules of a session. The lists are shared, not copied.
    ///
    /// Everything that this policy refuses for another reason than [`Reason::NotAllowed`] stays
    /// refused: its deny list, local hosts, the mode and hooks stand above the session's rules. So
    /// does a policy that reserves unlisted hosts to its lists (SPEC C6).
    ///
    /// # Errors
    ///
    /// Returns an error if a list of the session is too large, or if the policy was narrowed before.
    pub fn narrowed(&self, narrowing: &Narrowing) -> Result<Self, NarrowingError> {
        if self.session.is_some() {
            return Err(NarrowingError::Narrowed);
        }
        let only = (!narrowing.only.is_empty()).then(|| compile(&narrowing.only));
        let rules = SessionRules {
            limited: narrowing.limited,
            denied: compile(&narrowing.denied)?,
            only: only.transpose()?,
            allowed: compile(&narrowing.allowed)?,
            enforcement: narrowing.enforcement,
        };
        Ok(Self {
            mode: if narrowing.limited {
                Mode::Limited
            } else {
                self.mode
            },
            session: Some(Arc::new(rules)),
            ..self.clone()
        })
    }

    /// The entry of the policy's deny list that covers the host itself.
    pub(crate) fn find_denied_by_policy(&self, host: &Host) -> Option<RuleRef> {
        let denied = self.lists.denied.find(host);
        denied.map(|listed| RuleRef::Denied(listed.rule))
    }

    /// The entry of the session's deny list that covers the host itself.
    pub(crate) fn find_denied_by_session(&self, host: &Host) -> Option<RuleRef> {
        let denied = &self.session.as_ref()?.denied;
        let listed = denied.find(host)?;
        Some(RuleRef::DeniedBySession(listed.rule))
    }

    /// The refusal of a host that is not among those that the session is limited to. A decider does
    /// not lift it.
    pub(crate) fn refuses_outside_session(&self, host: &Host) -> Option<Decision> {
        let only = self.session.as_ref()?.only.as_ref()?;
        let is_outside = only.find(host).is_none();
        is_outside.then(|| Decision::deny(Source::Session, Reason::NotAllowed, None))
    }

    /// The refusal of unix sockets in a session that is limited to some hosts.
    pub(crate) fn refuses_unix_sockets(&self) -> Option<Decision> {
        let only = self.session.as_ref()?.only.as_ref();
        only.map(|_| Decision::deny(Source::Session, Reason::NotAllowed, None))
    }

    /// The session's entry that allows a host which is on neither list.
    pub(crate) fn find_allowed_by_session(&self, host: &Host) -> Option<RuleRef> {
        let allowed = &self.session.as_ref()?.allowed;
        if self.unlisted == Unlisted::Refused {
            return None;
        }
        let listed = allowed.find(host)?;
        Some(RuleRef::AllowedBySession(listed.rule))
    }

    /// The treatment of hosts on neither list, with the rules of the session. A policy that reserves such hosts to
    /// its lists (SPEC C6) always enforces, and so does one whose requirements forbid to report.
    pub fn enforcement(&self) -> Enforcement {
        match self.reported_by() {
            Some(_) => Enforcement::Report,
            None => Enforcement::Enforce,
        }
    }

    /// The part of the policy because of which hosts on neither list are only reported.
    pub(crate) fn reported_by(&self) -> Option<Source> {
        if self.unlisted == Unlisted::Refused || self.must_enforce {
            return None;
        }
        let session = self.session.as_ref();
        let session = session.map_or(Enforcement::Enforce, |rules| rules.enforcement);
        match (self.enforcement, session) {
            (Enforcement::Report, _) => Some(Source::BaselinePolicy),
            (Enforcement::Enforce, Enforcement::Report) => Some(Source::Session),
            (Enforcement::Enforce, Enforcement::Enforce) => None,
        }
    }

    /// Whether the policy is in limited mode because of its session.
    pub(crate) fn is_limited_by_session(&self) -> bool {
        self.session.as_ref().is_some_and(|rules| rules.limited)
    }
}

impl From<TooLarge> for NarrowingError {
    fn from(TooLarge: TooLarge) -> Self {
        Self::TooLarge
    }
}
