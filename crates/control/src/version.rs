//! The version that both sides support (SPEC K4).
//!
//! `hello` carries the versions and is frozen: these structs may get new fields with defaults, and
//! must not change otherwise.

use serde::{Deserialize, Serialize};

use crate::access::Access;

/// The newest version of the protocol that this crate supports. It goes up by one when calls are
/// added, or arguments that an older daemon must not ignore.
pub const NEWEST: u32 = 9;

/// The first version with sessions.
pub const SESSIONS: u32 = 4;

/// The first version with credentials of sessions.
pub const CREDENTIALS: u32 = 5;

/// The first version with questions and grants.
pub const APPROVALS: u32 = 6;

/// The first version that shows decisions as they are made.
pub const DECISIONS: u32 = 7;

/// The first version with sessions that learn.
pub const LEARNING: u32 = 7;

/// The first version with permissions for a time without a question.
pub const TEMPORARY_GRANTS: u32 = 8;

/// The first version with reloads for one change.
pub const GUARDED_RELOADS: u32 = 9;

/// The oldest version that this crate supports.
pub const OLDEST: u32 = 1;

/// The first call of a caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hello {
    /// The oldest version that the caller supports.
    pub oldest: u32,
    /// The newest version that the caller supports.
    pub newest: u32,
    /// The caller's program and version, for the log.
    pub program: String,
}

/// The answer to `hello`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Welcome {
    /// The version that both sides use from now on.
    pub protocol: u32,
    /// The version of the daemon's program.
    pub version: String,
    /// The caller's access.
    pub access: Access,
    /// The files of the settings in force, the weakest layer first; empty from an older daemon.
    pub files: Vec<String>,
}

/// Two sides without a common version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(default)]
#[error("{}", self.text())]
pub struct VersionMismatch {
    /// The oldest version that the caller supports.
    pub caller_oldest: u32,
    /// The newest version that the caller supports.
    pub caller_newest: u32,
    /// The oldest version that the daemon supports.
    pub daemon_oldest: u32,
    /// The newest version that the daemon supports.
    pub daemon_newest: u32,
    /// The version of the daemon's program.
    pub daemon_version: String,
}

impl Hello {
    /// The first call of a caller that uses this crate.
    pub fn of(program: impl Into<String>) -> Self {
        Self {
            oldest: OLDEST,
            newest: NEWEST,
            program: program.into(),
        }
    }

    /// The version to use with this caller: the newest one that both sides support.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no common version. `daemon_version` is for the message.
    pub fn agree(&self, daemon_version: &str) -> Result<u32, VersionMismatch> {
        let newest = self.newest.min(NEWEST);
        if newest >= self.oldest.max(OLDEST) {
            return Ok(newest);
        }
        Err(VersionMismatch {
            caller_oldest: self.oldest,
            caller_newest: self.newest,
            daemon_oldest: OLDEST,
            daemon_newest: NEWEST,
            daemon_version: daemon_version.to_owned(),
        })
    }
}

impl Access {
    /// The nearest access that a version of the protocol has a word for. It is shown and has no other
    /// effect.
    #[must_use]
    pub fn known_to(self, protocol: u32) -> Self {
        match self {
            Self::UseSessions | Self::ObserveAndUseSessions if protocol < SESSIONS => Self::Observe,
            known => known,
        }
    }
}

impl VersionMismatch {
    fn text(&self) -> String {
        let older = if self.caller_newest < self.daemon_oldest {
            "update proxyctl"
        } else {
            "update and restart the proxy"
        };
        format!(
            "the caller speaks {} of the control protocol and the proxy (version {}) speaks {}; {older}",
            range(self.caller_oldest, self.caller_newest),
            self.daemon_version,
            range(self.daemon_oldest, self.daemon_newest),
        )
    }
}

fn range(oldest: u32, newest: u32) -> String {
    if oldest == newest {
        format!("version {newest}")
    } else {
        format!("versions {oldest} to {newest}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(oldest: u32, newest: u32) -> Hello {
        Hello {
            oldest,
            newest,
            program: String::new(),
        }
    }

    #[test]
    fn k4_the_newest_common_version_is_used() {
        assert_eq!(hello(OLDEST, NEWEST).agree("0"), Ok(NEWEST));
        assert_eq!(hello(0, NEWEST + 7).agree("0"), Ok(NEWEST));
    }

    #[test]
    fn k4_without_a_common_version_the_older_side_is_named() {
        let newer = hello(NEWEST + 1, NEWEST + 3).agree("0.1.0").unwrap_err();
        assert_eq!(
            newer.to_string(),
            format!(
                "the caller speaks versions {} to {} of the control protocol and the proxy (version 0.1.0) \
                 speaks {}; update and restart the proxy",
                NEWEST + 1,
                NEWEST + 3,
                range(OLDEST, NEWEST)
            )
        );
        // An empty hello names version 0, which never existed.
        let older = Hello::default().agree("0.1.0").unwrap_err();
        assert!(older.to_string().ends_with("update proxyctl"), "{older}");
    }
}
