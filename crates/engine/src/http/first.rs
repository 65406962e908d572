//! The connection to the origin that the requests of one intercepted client share. It is opened before
//! the client is answered.
//!
//! Over HTTP/1 the first request takes it, and what is kept between requests is the pool's. Over HTTP/2
//! it is this client's alone, since one of many clients could use it up. It carries a bounded number of
//! requests at once: so many that their answers fit into its window, even if the client reads none of
//! them. A client with more requests in hand gets a further connection, which takes the place of the
//! one before. That one ends with its last request.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::timeout;

use super::passage::Passage;
use crate::error::Failure;
use crate::upstream::tls::Wire;
use crate::upstream::{ConnectionId, Lease, Upstream};

/// A connection that was opened before there was a request for it, or why it could not be opened.
pub(crate) struct First {
    opened: Mutex<Option<Result<Lease, Failure>>>,
    /// Held while a further connection is opened: the requests that wait meanwhile share it.
    opening: tokio::sync::Mutex<()>,
}

impl First {
    pub(crate) fn new(opened: Result<Lease, Failure>) -> Self {
        Self {
            opened: Mutex::new(Some(opened.map(Lease::without_place))),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// The connection, if the settings that vetted it are still in force and it has room for another
    /// request.
    pub(super) fn take(&self, passage: &Passage) -> Result<Option<Lease>, Failure> {
        let Passage::Host(permit) = passage else {
            return Ok(None);
        };
        let taken = {
            let mut opened = self.lock();
            match opened.as_ref() {
                Some(Ok(lease)) if lease.is_multiplexed() => lease.shared().map(Ok),
                _ => opened.take(),
            }
        };
        match taken {
            Some(Ok(lease)) if lease.is_of(permit.generation()) => {
                permit.admit_pooled();
                Ok(Some(lease))
            }
            Some(Err(failure)) => {
                permit.admit_pooled();
                Err(failure)
            }
            Some(Ok(_)) | None => Ok(None),
        }
    }

    /// A further connection, which is kept for the client's next requests if it carries many at once.
    /// `tried` is one that this request has failed on.
    pub(super) async fn open(
        &self,
        passage: &Passage,
        upstream: &Upstream,
        wire: Wire,
        tried: Option<&ConnectionId>,
    ) -> Result<Lease, Failure> {
        if wire != Wire::TlsHttp2 {
            return passage.open(upstream, wire).await;
        }
        let limits = &passage.generation().settings().daemon.limits;
        // An origin that keeps the first one waiting does not keep the last one waiting as many times.
        let turn = timeout(limits.connect_timeout, self.opening.lock()).await;
        let is_new = |lease: &Lease| tried.is_none_or(|tried| lease.id() != *tried);
        if let Some(lease) = self.take(passage)?.filter(is_new) {
            return Ok(lease);
        }
        let lease = passage.open(upstream, wire).await?;
        *self.lock() = lease.keeper().map(Ok);
        drop(turn);
        Ok(lease)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<Lease, Failure>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
