//! `blocked`: what was refused, lately or from now on (SPEC R1).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a `blocked` call may wait for something to be refused.
pub const MOST_WAIT: Duration = Duration::from_secs(30);

/// Which entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockedQuery {
    /// Only entries with a larger sequence number.
    pub since: u64,
    /// How many seconds to wait for an entry when there is none; cut down to [`MOST_WAIT`].
    pub wait: u64,
}

/// The entries, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blocked {
    /// The entries.
    pub blocked: Vec<BlockedEntry>,
    /// What to ask for as `since` to get what comes after these.
    pub next: u64,
    /// How many entries after `since` are no longer kept, of those of the worker that answers: what
    /// one before it kept went with it.
    pub dropped: u64,
    /// Whether the proxy is stopping: nothing comes after these.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ending: bool,
}

/// One refused attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockedEntry {
    /// The host that was asked for, in canonical form; unprintable bytes are escaped.
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
    /// `deny` or `ask`.
    pub decision: String,
    /// What decided.
    pub source: String,
    /// The port that was asked for; absent where none could be read.
    pub port: Option<u16>,
    /// When.
    pub timestamp: i64,
    /// The attempt that the client belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt_id: Option<String>,
    /// The rule that decided, with the file and line it is written in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// How many refusals it stands for, where that is more than one; 0 or absent otherwise.
    #[serde(skip_serializing_if = "is_zero")]
    pub count: u64,
    /// Rises with every entry, and never goes back, whichever worker answers; a worker counts on by
    /// 1 from a number of its own.
    pub sequence: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
