//! The name servers in `status` (SPEC L14).

use serde::{Deserialize, Serialize};

/// The name servers in use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Names {
    /// The source of the list: `settings` or `system`.
    pub from: String,
    /// The servers in the order in which they are asked, at most 16.
    pub servers: Vec<NameServer>,
    /// Why no server is known; `None` when one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One name server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NameServer {
    /// `ip:port`.
    pub address: String,
    /// When it last answered, "no such name" included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_success: Option<i64>,
    /// How many lookups in a row got no answer from it, or a failure.
    pub failures: u32,
    /// Since when it fails: it answers nothing, or fails for names of many domains. `None` if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<i64>,
    /// The last of these failures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Names {
    /// [`from`](Self::from) where the settings name the servers.
    pub const SETTINGS: &str = "settings";
    /// [`from`](Self::from) where the system's `/etc/resolv.conf` names them.
    pub const SYSTEM: &str = "system";
}
