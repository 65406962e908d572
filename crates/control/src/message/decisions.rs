//! `decisions`: decisions as they are made, allowed ones too (SPEC W4).

use serde::{Deserialize, Serialize};

/// Which decisions to return: those since the last call over the same connection. The first call begins to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DecisionsQuery {
    /// If there are none, how many seconds to wait for the next one; at most [`MAX_WAIT`](super::MAX_WAIT).
    pub wait: u64,
}

/// The decisions that the caller may see. The counts are of these decisions since the caller began to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Decisions {
    /// The oldest first.
    pub decisions: Vec<DecisionEntry>,
    /// How many allowed.
    pub allowed: u64,
    /// How many refused.
    pub refused: u64,
    /// How many wait for the answer of a person.
    pub asked: u64,
    /// How many are in no answer, because the caller was too slow. The other counts include them.
    pub lost: u64,
    /// Whether the proxy is stopping: there are no more decisions.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

/// One decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DecisionEntry {
    /// The time.
    pub timestamp: i64,
    /// `allow`, `deny` or `ask`.
    pub decision: String,
    /// Why.
    pub reason: String,
    /// The part of the policy that decided.
    pub source: String,
    /// The protocol, as in [`BlockedEntry`](super::BlockedEntry).
    pub protocol: String,
    /// The requested host, in canonical form; unprintable bytes are escaped.
    pub host: String,
    /// The requested port; absent if none could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The HTTP method.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The client's address, `ip:port`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The id of the client's session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The name of the user who opened the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The program of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The rule, grant or denial that decided, with the file and line it is written in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The names of the credentials that the request carries, or because of which it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The question that has no answer yet, or was denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<String>,
}
