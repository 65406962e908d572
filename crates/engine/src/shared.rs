//! The parts that the doors of one engine share. Only they see them: `doors`, `http`, `socks5`, `mitm` and
//! `server`. Everything below them takes the parts that it needs.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::admission::{Admission, Shortages};
use crate::broker::{DummyRegistry, Renewals, SessionCredentials};
use crate::drain::Drain;
use crate::enforce::Enforcer;
use crate::interceptor::{LeafBudget, LeafSource};
use crate::limits::ConnectionCount;
use crate::live_policy::{LivePolicy, SessionRules, SessionRulesError};
use crate::owner::Owners;
use crate::pipes::PipePool;
use crate::record::Recorder;
use crate::resolve::Resolve;
use crate::session::Session;
use crate::synthetic_names::SyntheticNames;
use crate::upstream::Upstream;

/// The parts of a running engine. `http` chooses the type of the content that is sent.
pub(crate) struct SharedParts<B> {
    pub(crate) enforcer: Enforcer,
    pub(crate) upstream: Arc<Upstream<B>>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) shortages: Arc<Shortages>,
    pub(crate) owners: Arc<Owners>,
    /// How many certificates each client may have issued.
    pub(crate) leaf_budget: Arc<LeafBudget>,
    /// The connections that have a UDP association.
    pub(crate) associations: Arc<ConnectionCount>,
    pub(crate) drain: Drain,
    /// The pipes through which the kernel moves the bytes of tunnels.
    pub(crate) pipes: Arc<PipePool>,
    /// A resolver that the owner provided. It outlives the settings.
    pub(crate) fixed_resolver: Option<Arc<dyn Resolve>>,
    /// Issues certificates for intercepted hosts.
    pub(crate) leaves: Option<LeafSource>,
    /// The dummies of all sessions.
    pub(crate) dummies: Arc<DummyRegistry>,
    /// Has values of credentials read again.
    pub(crate) renewals: Arc<Renewals>,
}

impl<B> SharedParts<B> {
    /// The parts for the doors of a session. They share everything but the settings, the set of own
    /// listeners, and the drain. The doors have no others, so the session's clients are judged by its settings.
    ///
    /// # Errors
    ///
    /// Returns an error if its rules cannot be applied to the settings in force.
    pub(crate) fn for_session(
        &self,
        session: Arc<Session>,
        rules: SessionRules,
        credentials: Option<Arc<SessionCredentials>>,
        listeners: Arc<[SocketAddr]>,
        drain: Drain,
        names: Arc<SyntheticNames>,
    ) -> Result<Self, SessionRulesError> {
        let live = self
            .live()
            .for_session(rules, self.leaves.as_ref(), credentials)?;
        Ok(Self {
            enforcer: self.enforcer.for_session(session, live, listeners, names),
            upstream: Arc::clone(&self.upstream),
            admission: Arc::clone(&self.admission),
            shortages: Arc::clone(&self.shortages),
            owners: Arc::clone(&self.owners),
            leaf_budget: Arc::clone(&self.leaf_budget),
            associations: Arc::clone(&self.associations),
            drain,
            pipes: Arc::clone(&self.pipes),
            fixed_resolver: self.fixed_resolver.clone(),
            leaves: self.leaves.clone(),
            dummies: Arc::clone(&self.dummies),
            renewals: Arc::clone(&self.renewals),
        })
    }

    /// The settings in force.
    pub(crate) fn live(&self) -> &LivePolicy {
        self.enforcer.live()
    }

    /// Records decisions, and limits the log lines that a client causes.
    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        self.enforcer.recorder()
    }
}
