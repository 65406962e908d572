//! The access of a caller of the control socket (SPEC K3).
//!
//! The daemon decides which caller has which access: it knows the caller from the kernel. `service`
//! has the table of the access that each call needs.

use serde::{Deserialize, Serialize};

/// The access of a caller. Each includes those before it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Ask about the policy. Those who may open sessions have at least this (SPEC J2).
    Use,
    /// See everything, change nothing.
    #[default]
    Observe,
    /// Change things too.
    Administer,
}

impl Access {
    /// Whether this access includes the needed one.
    pub fn covers(self, needed: Self) -> bool {
        self >= needed
    }

    /// The word in messages and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Use => "use",
            Self::Observe => "observe",
            Self::Administer => "administer",
        }
    }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k3_access_to_administer_includes_access_to_observe_and_that_access_to_use() {
        assert!(Access::Observe.covers(Access::Use));
        assert!(!Access::Use.covers(Access::Observe));
        assert!(Access::Administer.covers(Access::Observe));
        assert!(Access::Observe.covers(Access::Observe));
        assert!(!Access::Observe.covers(Access::Administer));
    }
}
