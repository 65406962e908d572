//! Stopping: draining the worker, or leaving it to the next monitor (SPEC L15).

use std::time::{Duration, Instant};

use super::predecessor::{self, GRACE, Predecessor};
use super::{End, Monitor, Phase};
use crate::notify;
use crate::privsep::message::ToWorker;

/// How long a worker may take to confirm that it outlives the monitor.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

impl Monitor {
    pub(super) fn is_stopping(&self) -> bool {
        matches!(self.phase, Phase::Draining(_) | Phase::HandingOver(_))
    }

    /// A restart has begun: leaves the worker to the next monitor, which serves new clients at once.
    /// Without a service manager no next monitor starts, so nothing happens. SIGTERM follows, and the
    /// loop may see it first.
    pub(super) fn hand_over(&mut self) -> Option<End> {
        if matches!(self.phase, Phase::HandingOver(_)) || !notify::is_heard() {
            return None;
        }
        // At most one worker drains beside the next one.
        self.predecessor = None;
        let Some(worker) = self.worker.as_ref().filter(|worker| worker.is_ready()) else {
            self.kill_worker();
            return Some(End::Stopped);
        };
        if let Err(error) = worker.hand_over(self.settled.drain_limit) {
            tracing::debug!(%error, "the worker does not listen");
            self.kill_worker();
            return Some(End::Stopped);
        }
        self.close();
        self.phase = Phase::HandingOver(Instant::now() + HAND_OVER_TIMEOUT);
        None
    }

    /// The first request to stop drains; the second ends at once. A handover goes on.
    pub(super) fn stop(&mut self) -> Option<End> {
        if matches!(self.phase, Phase::HandingOver(_)) {
            return None;
        }
        let nothing_drains = self.worker.is_none() && self.predecessor.is_none();
        if matches!(self.phase, Phase::Draining(_)) || nothing_drains {
            self.kill_worker();
            return Some(End::Stopped);
        }
        self.close();
        self.drain_worker();
        None
    }

    /// Ends everything but the worker.
    fn close(&mut self) {
        // Its result is no longer needed, and it may hang.
        self.loading = None;
        self.stop_following();
        notify::stopping();
        // These are copies of the worker's sockets: while they are open, clients would wait in
        // vain.
        self.listeners.close();
        self.control = None;
    }

    /// Asks the worker to finish open connections within the drain's limit.
    pub(super) fn drain_worker(&mut self) {
        let limit = self.settled.drain_limit;
        self.phase = Phase::Draining(Instant::now() + limit + GRACE);
        self.send(&ToWorker::Drain { limit }, &[]);
    }

    /// The end of a stop, once both workers have ended.
    pub(super) fn drained(&self) -> Option<End> {
        let done = self.is_stopping() && self.worker.is_none() && self.predecessor.is_none();
        done.then_some(End::Stopped)
    }

    pub(super) fn adopt_predecessor(&mut self, left: predecessor::LeftWorker) {
        let (limit, events) = (self.settled.drain_limit, self.events.clone());
        self.predecessor = Predecessor::adopt(left, limit, events);
        if let Some(predecessor) = &self.predecessor {
            predecessor.obey(&self.settled);
        }
    }
}
