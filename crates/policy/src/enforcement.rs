//! Whether hosts that are merely not allowed are refused, or only reported (SPEC P12).

use core::fmt;

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
