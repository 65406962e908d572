//! What stands of a permitted attempt for as long as it is under way: enough to judge it again when
//! the settings change (SPEC P11), and no more.

use std::fmt;

use codex_network_policy::{Authority, Decision};

use super::unix_socket::{SocketStanding, UNIX_SOCKET};
use super::{Allowed, Attempt, LeadsTo, Permit, still_permitted};
use crate::live_policy::Generation;

/// A permitted attempt, to be judged again.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    Host {
        attempt: Attempt,
        authority: Authority,
        leads_to: LeadsTo,
        /// By whom it was permitted.
        allowed: Allowed,
    },
    UnixSocket(SocketStanding),
}

impl Standing {
    /// Of an attempt that goes over a connection that leads there.
    pub(crate) fn of(permit: &Permit, leads_to: &LeadsTo) -> Self {
        Self::Host {
            attempt: permit.attempt.clone(),
            authority: permit.authority.clone(),
            leads_to: leads_to.clone(),
            allowed: permit.allowed(),
        }
    }

    /// What the policy in force now says. Nothing is recorded.
    pub(crate) fn judge(&self, generation: &Generation) -> Decision {
        match self {
            Self::Host {
                attempt,
                authority,
                leads_to,
                allowed,
            } => still_permitted(
                generation,
                attempt,
                authority,
                leads_to.addresses(),
                *allowed,
            ),
            Self::UnixSocket(standing) => standing.judge(generation),
        }
    }
}

/// For the log: an authority, or that it is a unix socket.
impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { authority, .. } => authority.fmt(f),
            Self::UnixSocket(_) => f.write_str(UNIX_SOCKET),
        }
    }
}
