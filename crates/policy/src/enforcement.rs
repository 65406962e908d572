//! Whether hosts that are merely not allowed are refused, or only reported (SPEC P12).

use core::fmt;

use crate::decision::Source;
use crate::policy::{Policy, Unlisted};

/// The treatment of hosts that are on neither list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Enforcement {
    /// They are refused.
    #[default]
    Enforce,
    /// They are let through, and recorded as hosts that would be refused. Everything else is enforced.
    Report,
}

impl Enforcement {
    /// The name in configurations and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Report => "report",
        }
    }
}

impl fmt::Display for Enforcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Policy {
    /// The treatment of hosts on neither list, with the rules of the session. A policy that reserves such hosts to
    /// its lists (SPEC C6) always enforces.
    pub fn enforcement(&self) -> Enforcement {
        match self.reported_by() {
            Some(_) => Enforcement::Report,
            None => Enforcement::Enforce,
        }
    }

    /// The part of the policy because of which hosts on neither list are only reported.
    pub(crate) fn reported_by(&self) -> Option<Source> {
        if self.unlisted == Unlisted::Refused {
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
}
