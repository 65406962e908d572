//! The one table of calls and the access that each needs (SPEC K3).
//!
//! The daemon decides which caller has which access: it knows the caller from the kernel.

use serde::{Deserialize, Serialize};

use crate::service::ControlRequest;

/// What a caller may do. The larger contains the smaller.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Access {
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

/// A call's name and the access that it needs. A new call does not compile without a row here.
pub(crate) fn needed(request: &ControlRequest) -> (&'static str, Access) {
    match request {
        ControlRequest::Hello { .. } => ("hello", Access::Observe),
        ControlRequest::Status { .. } => ("status", Access::Observe),
        ControlRequest::Mode { .. } => ("mode", Access::Observe),
        ControlRequest::SetMode { .. } => ("set_mode", Access::Administer),
        ControlRequest::Reload { .. } => ("reload", Access::Administer),
        ControlRequest::Blocked { .. } => ("blocked", Access::Observe),
        ControlRequest::Patterns { .. } => ("patterns", Access::Observe),
        ControlRequest::Config { .. } => ("config", Access::Observe),
        ControlRequest::Explain { .. } => ("explain", Access::Observe),
        ControlRequest::Ca { .. } => ("ca", Access::Observe),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k3_administering_contains_observing_and_not_the_other_way() {
        assert!(Access::Administer.covers(Access::Observe));
        assert!(Access::Observe.covers(Access::Observe));
        assert!(!Access::Observe.covers(Access::Administer));
    }
}
