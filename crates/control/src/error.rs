//! Why a call failed, for both sides.

use serde::{Deserialize, Serialize};

use crate::access::Access;
use crate::version::VersionMismatch;

/// A refusal or failure that the daemon reports to the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ControlError {
    /// The two sides have no version in common.
    #[error(transparent)]
    VersionMismatch(VersionMismatch),
    /// A call came before `hello`.
    #[error("the first call must be hello")]
    HelloFirst,
    /// The caller may not make this call.
    #[error("{call} needs the right to {needed}, and this user may only {has}")]
    NotPermitted {
        /// The call's name.
        call: String,
        /// The access that it needs.
        needed: Access,
        /// The access that the caller has.
        has: Access,
    },
    /// A reload changed nothing; the old settings stay in force.
    #[error("the reload failed; the old settings stay in force")]
    ReloadFailed {
        /// Every problem, in the order in which it was found.
        problems: Vec<ReloadProblem>,
    },
    /// A reload for one change would have had others too. The old settings stay in force.
    #[error("the configuration has other changes that are not in force: {}", .changes.join("; "))]
    OtherChanges {
        /// The others, a line each, and a line that says how many more there are.
        changes: Vec<String>,
    },
    /// The change would violate a managed constraint (SPEC C6).
    #[error("{message}")]
    ConstraintViolation {
        /// The permitted values.
        message: String,
    },
    /// An argument that is not valid.
    #[error("{message}")]
    Invalid {
        /// Why it is not valid.
        message: String,
    },
    /// The call failed in the daemon.
    #[error("{message}")]
    Failed {
        /// The cause.
        message: String,
    },
    /// An error that this version does not know.
    #[error("the proxy gave a reason that this version does not know")]
    #[serde(other)]
    Unknown,
}

/// One problem of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadProblem {
    /// `error`, `warning` or `note`.
    pub severity: String,
    /// The file, or a word for another source; empty for a problem that is in no file.
    pub file: String,
    /// The number of the line, from 1; 0 if the problem has no line.
    pub line: u32,
    /// The number of the column, from 1; 0 if the problem has no column.
    pub column: u32,
    /// The problem, in a sentence.
    pub message: String,
    /// The full text for people: file and line, excerpt and suggested fix, over several lines.
    pub text: String,
}

impl ReloadProblem {
    /// An error that is in no file.
    pub fn placeless(message: &str) -> Self {
        Self {
            severity: "error".to_owned(),
            message: message.to_owned(),
            text: format!("error: {message}"),
            ..Self::default()
        }
    }
}

impl From<VersionMismatch> for ControlError {
    fn from(mismatch: VersionMismatch) -> Self {
        Self::VersionMismatch(mismatch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k4_kinds_of_later_versions_can_be_read() {
        let later = r#"{"kind":"moon_phase","message":"waning"}"#;
        let error: ControlError = serde_json::from_str(later).expect("an error");
        assert_eq!(error, ControlError::Unknown);
        let known = serde_json::to_string(&ControlError::HelloFirst).expect("JSON");
        assert_eq!(known, r#"{"kind":"hello_first"}"#);
    }
}
