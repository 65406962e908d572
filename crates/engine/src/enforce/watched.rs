//! The part of a permitted attempt that is kept while it is under way: just enough to judge it
//! again when the settings change (SPEC P11).

use std::sync::Arc;

use codex_network_policy::{Authority, Decision};
use tokio::sync::watch::Receiver;

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

/// Something that is judged again when the settings change.
pub(super) trait Rejudged<T> {
    /// The generation by which it was judged.
    fn number(&self) -> GenerationNumber;

    /// The grant that permits it.
    fn grant(&self) -> Option<&Grant>;

    /// Judges it by other settings, or after the end of its grant. Returns something if it must end.
    fn judge(&self, generation: &Generation) -> Option<T>;
}

struct RejudgedPermit<'p, 'l, E> {
    permit: &'p Permit,
    leads_to: &'l LeadsTo,
    end: E,
}

/// Judges a permitted attempt again at every change of the settings, and when the grant that permits it ends,
/// until `end` derives from the decision that it must end (SPEC P11, Q3).
pub(crate) fn rejudged<T: Send>(
    live: &LivePolicy,
    permit: &Permit,
    leads_to: &LeadsTo,
    end: impl Fn(Decision) -> Option<T> + Send,
) -> impl Future<Output = T> + Send {
    let rejudged = RejudgedPermit {
        permit,
        leads_to,
        end,
    };
    on_change(live, rejudged)
}

impl<T, E: Fn(Decision) -> Option<T>> Rejudged<T> for RejudgedPermit<'_, '_, E> {
    fn number(&self) -> GenerationNumber {
        self.permit.generation.number()
    }

    fn grant(&self) -> Option<&Grant> {
        self.permit.grant().map(|grant| &**grant)
    }

    fn judge(&self, generation: &Generation) -> Option<T> {
        let permit = self.permit;
        let attempt = Attempt {
            client: permit.attempt().client.clone(),
            kind: permit.kind_under(generation),
        };
        let allowed = permit.allowed();
        let (authority, addresses) = (&permit.authority, self.leads_to.addresses());
        (self.end)(still_permitted(
            generation, &attempt, authority, addresses, &allowed,
        ))
    }
}

/// Judges again each time that a generation other than the first comes into force, and when the grant ends, until
/// that returns something.
pub(super) async fn on_change<T>(live: &LivePolicy, rejudged: impl Rejudged<T>) -> T {
    let mut changes = live.watch();
    // The change may have come between the permit and now.
    changes.mark_changed();
    let mut is_grant_over = false;
    loop {
        let has_grant = !is_grant_over && rejudged.grant().is_some();
        if has_grant {
            // Boxed, since most attempts have no grant.
            is_grant_over = Box::pin(ends_before(rejudged.grant(), &mut changes)).await;
        } else if changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let generation = live.current();
        let has_lapsed = has_grant && is_grant_over;
        if generation.number() == rejudged.number() && !has_lapsed {
            continue;
        }
        if let Some(found) = rejudged.judge(&generation) {
            return found;
        }
    }
}

/// Waits until a grant ends (true), or another generation comes into force.
async fn ends_before(grant: Option<&Grant>, changes: &mut Receiver<GenerationNumber>) -> bool {
    let ended = async {
        match grant {
            Some(grant) => grant.ended().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = ended => true,
        Ok(()) = changes.changed() => false,
    }
}
