//! Which attempts people may answer for (SPEC Q1).

use std::sync::Arc;

use codex_network_policy::{Authority, Decision, Request, RequestKind};

use super::{Enforcer, Permit, facts};
use crate::approvals::Approvals;
use crate::live_policy::Generation;

impl Enforcer {
    /// Whether requests to hosts that are on neither list may wait for a decision.
    pub(crate) fn may_wait(&self) -> bool {
        self.decider.is_some() || self.live.current().settings().daemon.approvals.enabled
    }

    /// The questions about hosts that are on neither list.
    pub(crate) fn approvals(&self) -> &Arc<Approvals> {
        &self.approvals
    }

    /// Whether people may answer for requests to this authority: the settings in force permit questions, and
    /// the policy merely does not allow it (SPEC Q1).
    pub(crate) fn is_askable(&self, authority: &Authority) -> bool {
        let generation = self.live.current();
        let decision = self.by_lists(authority);
        generation.settings().daemon.approvals.enabled
            && generation.policy().leaves_to_decider(decision)
    }

    /// The decision of the policy in force about this authority, without people.
    pub(crate) fn by_lists(&self, authority: &Authority) -> Decision {
        let generation = self.live.current();
        generation.policy().decide(&Request {
            host: &authority.host,
            port: authority.port,
            kind: &RequestKind::HttpConnect,
            facts: facts(&generation, &*self.own, None),
        })
    }

    /// The questions, if this attempt may become one.
    pub(super) fn asked(&self, permit: &Permit) -> Option<Arc<Approvals>> {
        let is_enabled = permit.generation.settings().daemon.approvals.enabled;
        // Datagrams do not wait, and a refused destination is remembered.
        let may_wait = !matches!(permit.attempt().kind, RequestKind::Socks5Udp);
        let asks = is_enabled && may_wait && !self.approvals.is_idle();
        asks.then(|| Arc::clone(&self.approvals))
    }
}

/// Whether grants count under these settings.
pub(super) fn is_granting(generation: &Generation) -> bool {
    generation.settings().daemon.approvals.enabled
}
