//! Limits the certificates that are issued for one client (SPEC M4): in a burst, per second, and at the
//! same time.
//!
//! The issuer has a limit for all clients together. A client that requests thousands of names uses up
//! only its own part, and does not delay other clients.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::issuer::IssueError;
use crate::budget::{Budgets, Rate};
use crate::owner::{ConnectionHandle, Owners};
use crate::shares::Holder;

/// A quarter of the rate that the service's issuer allows for all clients. A browser that opens a hundred
/// hosts at once stays far below it.
const RATE: Rate = Rate {
    burst: 250,
    per_second: 50,
};
/// Certificates that are being issued for one client; a quarter of those that the worker waits for.
const MAX_UNDER_WAY: usize = 32;
/// Beyond this number of holders, those without a certificate being issued are forgotten.
const MAX_HOLDERS: usize = 1024;

/// The budgets.
#[derive(Debug)]
pub(crate) struct LeafBudget {
    owners: Arc<Owners>,
    budgets: Mutex<Budgets>,
    under_way: Mutex<HashMap<Holder, Arc<Semaphore>>>,
}

/// Allows the issue of one certificate, until it is dropped.
#[derive(Debug)]
pub(crate) struct IssueSlot(
    #[expect(dead_code, reason = "held until it is dropped")] Option<OwnedSemaphorePermit>,
);

impl LeafBudget {
    pub(crate) fn new(owners: Arc<Owners>) -> Self {
        Self::with_rate(owners, RATE)
    }

    pub(crate) fn with_rate(owners: Arc<Owners>, rate: Rate) -> Self {
        Self {
            owners,
            budgets: Mutex::new(Budgets::new(rate)),
            under_way: Mutex::default(),
        }
    }

    /// Waits until a certificate may be issued for the client.
    ///
    /// # Errors
    ///
    /// [`IssueError::Busy`] when the client's rate is used up.
    pub(crate) async fn acquire(&self, client: &ConnectionHandle) -> Result<IssueSlot, IssueError> {
        if !self.take(client.holder()) {
            // If the kernel knows the client's user, the user has a budget of its own.
            let before = client.holder();
            self.find_owner(client).await;
            if client.holder() == before || !self.take(client.holder()) {
                return Err(IssueError::Busy);
            }
        }
        if let Ok(permit) = self.slots(client.holder()).try_acquire_owned() {
            return Ok(IssueSlot(Some(permit)));
        }
        self.find_owner(client).await;
        // The semaphore is never closed.
        let permit = self.slots(client.holder()).acquire_owned().await;
        Ok(IssueSlot(permit.ok()))
    }

    async fn find_owner(&self, client: &ConnectionHandle) {
        self.owners.note_shortage();
        self.owners.look_up(std::slice::from_ref(client)).await;
    }

    fn take(&self, holder: Holder) -> bool {
        let mut budgets = self.budgets.lock();
        budgets.take(holder, Instant::now())
    }

    fn slots(&self, holder: Holder) -> Arc<Semaphore> {
        let mut under_way = self.under_way.lock();
        if under_way.len() >= MAX_HOLDERS {
            under_way.retain(|_, slots| Arc::strong_count(slots) > 1);
        }
        let slots = under_way.entry(holder);
        Arc::clone(slots.or_insert_with(|| Arc::new(Semaphore::new(MAX_UNDER_WAY))))
    }
}
