//! The parts that the doors of one engine share. Only they see them: `doors`, `http`, `socks5`, `mitm` and
//! `server`. Everything below them takes the parts that it needs.

use std::sync::Arc;

use crate::admission::{Admission, Shortages};
use crate::drain::Drain;
use crate::enforce::Enforcer;
use crate::interceptor::{LeafBudget, LeafSource};
use crate::limits::ConnectionCount;
use crate::live_policy::LivePolicy;
use crate::owner::Owners;
use crate::pipes::PipePool;
use crate::record::Recorder;
use crate::resolve::Resolve;
use crate::upstream::Upstream;

/// The parts of a running engine. `http` chooses the type of the content that is sent.
pub(crate) struct SharedParts<B> {
    pub(crate) enforcer: Enforcer,
    pub(crate) upstream: Upstream<B>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) shortages: Arc<Shortages>,
    pub(crate) owners: Arc<Owners>,
    /// How many certificates each client may have issued.
    pub(crate) leaf_budget: LeafBudget,
    /// The connections that have a UDP association.
    pub(crate) associations: Arc<ConnectionCount>,
    pub(crate) drain: Drain,
    /// The pipes through which the kernel moves the bytes of tunnels.
    pub(crate) pipes: PipePool,
    /// A resolver that the owner provided. It outlives the settings.
    pub(crate) fixed_resolver: Option<Arc<dyn Resolve>>,
    /// Issues certificates for intercepted hosts.
    pub(crate) leaves: Option<LeafSource>,
}

impl<B> SharedParts<B> {
    /// The settings in force.
    pub(crate) fn live(&self) -> &LivePolicy {
        self.enforcer.live()
    }

    /// Records decisions, and limits the log lines that a client causes.
    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        self.enforcer.recorder()
    }
}
