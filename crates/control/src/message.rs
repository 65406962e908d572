//! Arguments and results of calls. Every field has a default, so either side may be newer than the
//! other.
//!
//! The names are also those of `proxyctl --json`. Times are seconds since 1970 (UTC).

use codex_network_policy::Mode;
use serde::{Deserialize, Serialize};
use serde_json::Value;

mod approvals;
mod blocked;
mod ca;
mod credentials;
mod decisions;
mod explain;
mod names;
mod session;
mod status;

pub use approvals::{
    Approval, Approvals, ApprovalsQuery, Denied, Grant, Granted, Grants, Question, QuestionId,
    Scope, TemporaryGrant,
};
pub use blocked::{Blocked, BlockedEntry, BlockedQuery, MAX_WAIT};
pub use ca::{Ca, CaQuery};
pub use credentials::{
    CredentialEntry, CredentialValue, Credentials, CredentialsQuery, DummyVariable,
    GivenCredentials, MAX_CREDENTIALS, MAX_SOURCE_BYTES, MAX_TOOL_URLS, WantedCredential,
    WantedCredentials,
};
pub use decisions::{DecisionEntry, Decisions, DecisionsQuery};
pub use explain::{ExplainQuery, Explained, ExplainedAddress, HeaderField, MissedHook, Rule};
pub use names::{NameServer, Names};
pub use session::{
    CloseDescriptor, DoorKind, Isolation, MAX_COMMAND, MAX_DOORS, MAX_PATTERNS, Narrowing,
    SessionDestination, SessionEnd, SessionEnded, SessionEntry, SessionId, SessionOpened,
    SessionReport, SessionRequest, Sessions, Sockets,
};
pub use status::{
    Counters, Degradation, Fingerprints, GenerationInForce, LastReload, Listener, OpenQuestions,
    ReloadOutcome, Role, Status, TelemetryExport,
};

/// The argument of calls that take none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NoArguments {}

/// A mode to change to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModeChange {
    /// `full` or `limited`.
    pub mode: String,
}

/// The mode in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModeInForce {
    /// `full` or `limited`.
    pub mode: String,
    /// The generation of the settings with this mode.
    pub generation: u64,
    /// The previous mode, if the call changed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
}

/// A reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReloadRequest {
    /// The only change that the reload may have. Without it, it may have every one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only: Option<ExpectedChange>,
}

/// The change of one entry of the lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum ExpectedChange {
    /// No change.
    Nothing,
    /// An entry of the allow list is added.
    Allow {
        /// The entry.
        pattern: String,
    },
    /// An entry of the deny list is added. It may take the place of one of the allow list.
    Deny {
        /// The entry.
        pattern: String,
    },
    /// The entry is removed.
    Unset {
        /// The entry.
        pattern: String,
    },
}

/// A successful reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloaded {
    /// The generation of the settings that are in force now.
    pub generation: u64,
    /// Their mode.
    pub mode: String,
    /// Patterns of the allow list.
    pub allow_rules: usize,
    /// Patterns of the deny list.
    pub deny_rules: usize,
    /// Settings that have another effect than they seem to, a line each.
    pub warnings: Vec<String>,
}

/// The patterns of the allow list and the deny list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Patterns {
    /// The allow list.
    pub allowed: Vec<Rule>,
    /// The deny list.
    pub denied: Vec<Rule>,
}

/// The settings in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The settings, under the names that the files use; without secrets.
    pub settings: Value,
    /// The files that they were read from, the weakest layer first.
    pub files: Vec<String>,
}

impl ModeChange {
    /// A change to this mode.
    pub fn to(mode: Mode) -> Self {
        Self {
            mode: mode.as_str().to_owned(),
        }
    }
}
