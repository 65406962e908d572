//! The access of a caller of the control socket (SPEC K3).
//!
//! The daemon decides which caller has which access: it knows the caller from the kernel. `service`
//! has the table of the access that each call needs.

use serde::{Deserialize, Serialize};

/// The access of a caller. Access to administer includes all others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Open sessions, and see and end those of the same user (SPEC J2).
    UseSessions,
    /// See everything, change nothing.
    #[default]
    Observe,
    /// See everything, and open sessions.
    ObserveAndUseSessions,
    /// Change things too.
    Administer,
}

impl Access {
    /// Whether this access includes the needed one.
    pub fn covers(self, needed: Self) -> bool {
        let includes = |right| match self {
            Self::Administer => true,
            Self::ObserveAndUseSessions => right != Self::Administer,
            Self::Observe | Self::UseSessions => right == self,
        };
        match needed {
            Self::ObserveAndUseSessions => includes(Self::Observe) && includes(Self::UseSessions),
            right => includes(right),
        }
    }

    /// The word in messages and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UseSessions => "use_sessions",
            Self::Observe => "observe",
            Self::ObserveAndUseSessions => "observe_and_use_sessions",
            Self::Administer => "administer",
        }
    }
}

/// For sentences: "the right to ...".
impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::UseSessions => "use sessions",
            Self::Observe => "observe",
            Self::ObserveAndUseSessions => "observe and use sessions",
            Self::Administer => "administer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k3_access_to_administer_includes_access_to_observe() {
        assert!(Access::Administer.covers(Access::Observe));
        assert!(Access::Observe.covers(Access::Observe));
        assert!(!Access::Observe.covers(Access::Administer));
    }

    #[test]
    fn j2_access_to_use_sessions_is_apart_from_access_to_observe() {
        assert!(!Access::UseSessions.covers(Access::Observe));
        assert!(!Access::Observe.covers(Access::UseSessions));
        for both in [Access::ObserveAndUseSessions, Access::Administer] {
            assert!(both.covers(Access::UseSessions) && both.covers(Access::Observe));
        }
        assert!(!Access::ObserveAndUseSessions.covers(Access::Administer));
        assert!(!Access::UseSessions.covers(Access::ObserveAndUseSessions));
    }
}
