//! The part of a permitted attempt that is kept while it is under way: just enough to judge it
//! again when the settings change (SPEC P11).

use std::sync::Arc;

use codex_network_policy::{Authority, Decision};

use super::unix_socket::WatchedSocket;
use super::{AllowedBy, LeadsTo, Permit, still_permitted};
use crate::approvals::Grant;
use crate::attempt::Attempt;
use crate::live_policy::{Generation, GenerationNumber, LivePolicy};

/// A permitted attempt, to be judged again.
#[derive(Clone, Debug)]
pub(crate) enum WatchedAttempt {
    Host {
        attempt: Attempt,
        authority: Authority,
        leads_to: LeadsTo,
        /// The source of the permission.
        allowed: AllowedBy,
    },
    UnixSocket(WatchedSocket),
}

impl WatchedAttempt {
    /// Watches an attempt over a connection that leads to these addresses.
    pub(crate) fn of(permit: &Permit, leads_to: &LeadsTo) -> Self {
        Self::Host {
            attempt: permit.attempt().clone(),
            authority: permit.authority.clone(),
            leads_to: leads_to.clone(),
            allowed: permit.allowed(),
        }
    }

    /// The decision of the policy in force now. Records nothing.
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
                allowed,
            ),
            Self::UnixSocket(socket) => socket.judge(generation),
        }
    }

    /// The grant that permits it.
    pub(crate) fn grant(&self) -> Option<&Arc<Grant>> {
        match self {
            Self::Host { allowed, .. } => allowed.grant(),
            Self::UnixSocket(_) => None,
        }
    }

    /// Whether a grant permitted it that has ended.
    pub(crate) fn has_lapsed(&self) -> bool {
        match self {
            Self::Host { allowed, .. } => allowed.has_lapsed(),
            Self::UnixSocket(_) => false,
        }
    }
}

/// Judges a permitted attempt again at every change of the settings, and when the grant that permits it ends,
/// until `end` derives from the decision that it must end (SPEC P11, Q3).
pub(crate) fn rejudged<T: Send>(
    live: &LivePolicy,
    permit: &Permit,
    leads_to: &LeadsTo,
    end: impl Fn(Decision) -> Option<T> + Send + Sync,
) -> impl Future<Output = T> + Send {
    let look = move |generation: &Generation| {
        let attempt = Attempt {
            client: permit.attempt().client.clone(),
            kind: permit.kind_under(generation),
        };
        let (authority, addresses) = (&permit.authority, leads_to.addresses());
        end(still_permitted(
            generation,
            &attempt,
            authority,
            addresses,
            &permit.allowed(),
        ))
    };
    async move {
        if let Some(grant) = &permit.grant {
            // Boxed, since most attempts have no grant.
            return Box::pin(async {
                let ended = async {
                    grant.ended().await;
                    look(&live.current())
                };
                tokio::select! {
                    Some(found) = ended => found,
                    found = on_change(live, permit.generation.number(), &look) => found,
                }
            })
            .await;
        }
        on_change(live, permit.generation.number(), look).await
    }
}

/// Calls `look` each time that a generation other than this number comes into force, until it
/// returns something.
pub(super) async fn on_change<T>(
    live: &LivePolicy,
    number: GenerationNumber,
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
