//! Settings on their way to the worker: their listeners are announced, then opened, then handed over.
//!
//! The worker counts an address as the proxy's own before anything listens there, so no request that it
//! lets through meanwhile gets into the queue of a new listener (SPEC P6, C7).

use super::listen::Prepared;
use super::{Monitor, Worker};
use crate::privsep::message::{Problems, ToWorker};
use crate::privsep::settled::Settled;

/// Settings that the worker is to put in force.
pub(super) struct Pending {
    pub(super) ticket: u32,
    pub(super) settled: Settled,
    pub(super) prepared: Prepared,
    pub(super) stage: Stage,
}

/// How far a worker is with settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was told where listeners are to open, and has not said that it knows.
    Announced,
    /// It has the settings.
    Sent,
}

impl Monitor {
    /// Puts settings in force: by the worker, or by the next one.
    pub(super) fn put_in_force(&mut self, ticket: u32, settled: Settled, prepared: Prepared) {
        let pending = Pending {
            ticket,
            settled,
            prepared,
            stage: Stage::Announced,
        };
        if !self.worker.as_ref().is_some_and(Worker::is_ready) {
            // There is nobody to tell; one that is starting on the old settings is of no use.
            self.kill_worker();
            return self.adopt(pending);
        }
        match pending.prepared.addresses() {
            Ok([None, None, None]) => self.hand_over(pending),
            // Else requests that the worker lets through meanwhile would wait in the new queues, and be
            // served as if they came from outside (SPEC P6).
            Ok(addresses) => {
                self.tell(&ToWorker::Announce { ticket, addresses }, &[]);
                self.pending = Some(pending);
            }
            Err(error) => self.reload_failed(ticket, Problems::from(&error.into())),
        }
    }

    /// Opens the listeners and gives the worker its settings.
    pub(super) fn hand_over(&mut self, mut pending: Pending) {
        if let Err(error) = pending.prepared.listen() {
            return self.reload_failed(pending.ticket, Problems::from(&error));
        }
        pending.stage = Stage::Sent;
        self.send_settings(pending.ticket, &pending.settled, &pending.prepared);
        self.pending = Some(pending);
    }

    /// Takes settings over that no worker has tried yet: the next one starts on them. Should it fail,
    /// the ones before come back.
    pub(super) fn adopt(&mut self, mut pending: Pending) {
        if let Err(error) = pending.prepared.listen() {
            return self.reload_failed(pending.ticket, Problems::from(&error));
        }
        tracing::info!(
            "reloaded while no worker was there: the next one starts on the new settings"
        );
        self.listeners.apply(pending.prepared);
        self.before = Some(std::mem::replace(&mut self.settled, pending.settled));
        self.admit_callers();
        self.reload_done();
    }
}
