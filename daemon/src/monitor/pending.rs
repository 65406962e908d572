//! Settings on their way to the worker: their listeners are announced, then opened, then passed on.
//!
//! The worker registers an address as the proxy's own before anything listens there, so no request
//! that it permits meanwhile can reach the queue of a new listener (SPEC P6, C7).

use super::listen::Prepared;
use super::{Monitor, Worker};
use crate::privsep::message::{Problems, ToWorker};
use crate::privsep::settled::Settled;
use crate::privsep::ticket::Ticket;

/// Settings that the worker must put in force.
pub(super) struct Pending {
    pub(super) ticket: Ticket,
    pub(super) settled: Settled,
    pub(super) prepared: Prepared,
    pub(super) stage: PendingStage,
}

/// The worker's progress with settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PendingStage {
    /// It knows where listeners will open, and has not confirmed.
    Announced,
    /// It has the settings.
    Sent,
}

impl Monitor {
    /// Puts settings in force: in the worker, or in the next one.
    pub(super) fn put_in_force(&mut self, ticket: Ticket, settled: Settled, prepared: Prepared) {
        let pending = Pending {
            ticket,
            settled,
            prepared,
            stage: PendingStage::Announced,
        };
        if !self.worker.as_ref().is_some_and(Worker::is_ready) {
            // No worker can take them. One that is starting on the old settings is useless.
            if !ticket.is_guarded() {
                self.kill_worker();
            }
            return self.adopt(pending);
        }
        match pending.prepared.addresses() {
            Ok([None, None, None]) => self.pass_on(pending),
            // Without this step, requests that the worker permits meanwhile could wait in the new
            // queues, and would be served as if they came from outside (SPEC P6).
            Ok(addresses) => {
                self.send(&ToWorker::Announce { ticket, addresses }, &[]);
                self.pending = Some(pending);
            }
            Err(error) => self.reload_failed(ticket, Problems::from(&error.into())),
        }
    }

    /// Opens the listeners and passes the settings to the worker.
    pub(super) fn pass_on(&mut self, mut pending: Pending) {
        if let Err(error) = pending.prepared.listen() {
            return self.reload_failed(pending.ticket, Problems::from(&error));
        }
        pending.stage = PendingStage::Sent;
        self.send_later_settings(pending.ticket, &pending.settled, &pending.prepared);
        self.pending = Some(pending);
    }

    /// Takes over settings that no worker has tried yet: the next one starts on them. If it fails,
    /// the previous ones come back.
    pub(super) fn adopt(&mut self, mut pending: Pending) {
        if pending.ticket.is_guarded() {
            tracing::warn!(
                "the worker that requested a reload for one change is gone; the old settings stay in force"
            );
            return self.reload_done();
        }
        if let Err(error) = pending.prepared.listen() {
            return self.reload_failed(pending.ticket, Problems::from(&error));
        }
        tracing::info!(
            "reloaded while no worker was there: the next one starts on the new settings"
        );
        self.listeners.apply(pending.prepared);
        self.before = Some(self.settled.clone());
        self.settle(pending.settled);
        self.reload_done();
    }
}
