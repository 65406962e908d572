//! What stands of a permitted attempt for as long as it is under way: enough to judge it again when
//! the settings change (SPEC P11), and no more.

use std::fmt;

use codex_network_policy::{Authority, Decision};

use super::unix_socket::{SocketStanding, UNIX_SOCKET};
use super::{Allowed, Attempt, LeadsTo, Permit, still_permitted};
use crate::live_policy::{Generation, LivePolicy};

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

/// Judges a permitted attempt again at every change of the settings, until `end` finds in the
/// decision that it has to end (SPEC P11).
pub(crate) async fn rejudged<T>(
    live: &LivePolicy,
    permit: &Permit,
    leads_to: &LeadsTo,
    end: impl Fn(Decision) -> Option<T>,
) -> T {
    on_change(live, permit.generation.number(), |generation| {
        let attempt = Attempt {
            hooked: permit.hooked_under(generation),
            ..permit.attempt.clone()
        };
        let allowed = Allowed::of(permit.decision);
        let (authority, addresses) = (&permit.authority, &leads_to.0);
        end(still_permitted(
            generation, &attempt, authority, addresses, allowed,
        ))
    })
    .await
}

/// Looks at the settings each time that others than those of this number come into force, until `look`
/// finds something.
pub(super) async fn on_change<T>(
    live: &LivePolicy,
    number: u64,
    look: impl Fn(&Generation) -> Option<T>,
) -> T {
    let mut changes = live.watch();
    // The change may have come between the permit and now.
    changes.mark_changed();
    loop {
        if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let generation = live.current();
        if generation.number() == number {
            continue;
        }
        if let Some(found) = look(&generation) {
            return found;
        }
    }
}
