//! The means of TLS interception, made from the settings: leaf certificates, and the log of clients
//! that do not accept them. `mitm` uses it to serve connections.

mod distrust;
mod issuer;
mod leaf_budget;
mod leaf_cache;

use std::fmt;
use std::sync::Arc;

use codex_network_config::{Settings, SystemFiles};
use codex_network_policy::Interception;
use distrust::Distrust;
pub use issuer::{IssueError, IssuedLeaf, LeafIssuer};
pub(crate) use leaf_budget::LeafBudget;
pub use leaf_cache::KeyError;
use leaf_cache::LeafCache;
pub(crate) use leaf_cache::{LeafError, LeafSource, OfferedAlpn};

use crate::cryptography;

/// Intercepts TLS with certificates for clients.
pub(crate) struct Interceptor {
    pub(crate) leaves: LeafCache,
    pub(crate) distrust: Distrust,
    /// The CA that it was made for. Another CA needs new leaves.
    ca: Option<Arc<[u8]>>,
}

/// Why TLS cannot be intercepted at all.
#[derive(Debug, thiserror::Error)]
pub enum InterceptionError {
    /// There is no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Interceptor {
    /// Makes the interceptor that the settings need, or keeps the old one if it fits, so that
    /// certificates survive a reload. `None` where TLS may not be intercepted.
    pub(crate) fn renewed(
        old: Option<&Arc<Self>>,
        source: Option<&LeafSource>,
        settings: &Settings,
        files: &SystemFiles,
    ) -> Option<Arc<Self>> {
        let source = source?;
        if settings.policy.interception() == Interception::Forbidden {
            return None;
        }
        let ca = files.ca.as_ref().map(|ca| Arc::clone(&ca.der));
        if let Some(old) = old
            && old.ca == ca
        {
            return Some(Arc::clone(old));
        }
        Some(Arc::new(Self {
            leaves: LeafCache::new(source.clone(), cryptography::provider()),
            distrust: Distrust::default(),
            ca,
        }))
    }
}

impl fmt::Debug for Interceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interceptor")
            .field("leaves", &self.leaves)
            .finish_non_exhaustive()
    }
}
