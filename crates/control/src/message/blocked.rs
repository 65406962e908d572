//! `blocked`: the refused requests, past or future (SPEC R1).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest time that a `blocked` call may wait for a refusal.
pub const MAX_WAIT: Duration = Duration::from_secs(30);

/// Which entries to return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockedQuery {
    /// Only entries with a larger sequence number.
    pub since: u64,
    /// If no entry matches, how many seconds to wait for the next one; at most [`MAX_WAIT`].
    pub wait: u64,
}

/// The entries, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blocked {
    /// The entries.
    pub blocked: Vec<BlockedEntry>,
    /// The value of `since` that returns the entries after these.
    pub next: u64,
    /// How many entries after `since` are no longer kept. Counts those of the answering worker only:
    /// the entries of an earlier worker ended with it.
    pub dropped: u64,
    /// Whether the proxy is stopping: there are no more entries.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

/// One refused attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockedEntry {
    /// The requested host, in canonical form; unprintable bytes are escaped.
    pub host: String,
    /// Why it was refused.
    pub reason: String,
    /// The client's address, `ip:port`.
    pub client: Option<String>,
    /// The HTTP method, `CONNECT` included.
    pub method: Option<String>,
    /// The mode in force.
    pub mode: Option<String>,
    /// `http`, `http-connect`, `https`, `socks5` or `socks5-udp`.
    pub protocol: String,
    /// `deny` or `ask`; `allow` with `would_deny`.
    pub decision: String,
    /// The part of the policy that decided.
    pub source: String,
    /// The requested port; absent if none could be read.
    pub port: Option<u16>,
    /// The time.
    pub timestamp: i64,
    /// The id of the attempt that the client belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_id: Option<String>,
    /// The session of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The user who opened the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The rule that decided, with the file and line it is written in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The credential because of which it was refused, by its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The question that has no answer yet, or was denied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval_id: Option<String>,
    /// Whether it was let through, since hosts that are merely not allowed are only reported.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub would_deny: bool,
    /// How many refusals the entry counts, if more than one; 0 or absent otherwise.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: u64,
    /// Rises with every entry, also across workers. A worker counts up by 1 from a base of its own.
    pub sequence: u64,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
