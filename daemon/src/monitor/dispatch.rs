//! The operations that a worker may request from the monitor: a table with one row each.
//!
//! A row is a match arm: the message, when it is permitted, and its effect. A worker that sends an
//! unknown operation, or one at the wrong time, is killed and replaced. A new row gives the worker a
//! new power.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::anyhow;

use super::issue::{LeafAnswer, LeafRequest, LeafScope};
use super::pending::{Pending, PendingStage};
use super::{End, Monitor, Phase, failed_start, predecessor};
use crate::privsep::message::{ConnectionEnds, Mode, ToMonitor, ToWorker, WorkerReport};
use crate::privsep::settled::Authority;
use crate::privsep::ticket::{QuestionId, Ticket};
use crate::{memory, notify};

impl Monitor {
    pub(super) fn dispatch(&mut self, message: ToMonitor) -> Option<End> {
        use ToMonitor::{
            Applied, AskOwners, CaFilesNeeded, HandedOver, IssueLeaf, ModeSet, Noted,
            ReadCredential, Rejected, Reload, Well,
        };
        match message {
            Noted { ticket } if self.has_announced(ticket) => self.noted(),
            Applied { ticket } if self.has_sent(ticket) => self.applied(ticket),
            Rejected { ticket, why } if self.has_sent(ticket) => self.rejected(ticket, &why),
            Reload { ticket } if self.permits_reload(ticket) => self.reload_requested(ticket),
            Well(report) if self.ping.is_owed() => self.well(&report),
            ModeSet { mode } if self.has_ready_worker() => self.mode_set(mode),
            CaFilesNeeded if self.has_ready_worker() => self.ca_files_needed(),
            ReadCredential { source } if self.has_ready_worker() => {
                self.credential_requested(source)
            }
            IssueLeaf {
                question,
                authority,
                public_key,
                name,
                user,
            } if self.permits_leaves() => self.issue_leaf(
                question,
                LeafRequest {
                    authority: &authority,
                    public_key: &public_key,
                    name: &name,
                    user,
                },
            ),
            AskOwners {
                question,
                connections,
            } if self.has_ready_worker() => self.owners(question, &connections),
            HandedOver if self.is_handing_over() => self.handed_over(),
            // One pattern for each row: a message without a row does not compile.
            Noted { .. }
            | Applied { .. }
            | Rejected { .. }
            | Reload { .. }
            | Well(_)
            | ModeSet { .. }
            | CaFilesNeeded
            | ReadCredential { .. }
            | IssueLeaf { .. }
            | AskOwners { .. }
            | HandedOver => {
                let (operation, _) = message.encode();
                self.distrust(&format!("operation {operation} out of phase"));
                None
            }
        }
    }

    /// The settings that the worker has received and not yet put in force.
    fn sent(&self) -> Option<&Pending> {
        let pending = self.pending.as_ref();
        pending.filter(|pending| pending.stage == PendingStage::Sent)
    }

    fn has_ready_worker(&self) -> bool {
        self.worker.as_ref().is_some_and(super::Worker::is_ready)
    }

    /// Whether listeners with this ticket were announced to the worker.
    fn has_announced(&self, ticket: Ticket) -> bool {
        let pending = self.pending.as_ref();
        pending.is_some_and(|it| it.ticket == ticket && it.stage == PendingStage::Announced)
    }

    /// Whether the worker has settings with this ticket, and has not confirmed or rejected them.
    fn has_sent(&self, ticket: Ticket) -> bool {
        match &self.pending {
            Some(pending) if pending.ticket == ticket => pending.stage == PendingStage::Sent,
            _ => {
                let worker = self.worker.as_ref();
                ticket == Ticket::FIRST && worker.is_some_and(|worker| !worker.is_ready())
            }
        }
    }

    /// One at a time: callers in the worker share a reload.
    fn permits_reload(&self, ticket: Ticket) -> bool {
        self.has_ready_worker() && ticket.is_of_worker() && !self.reloads.is_requested_by_worker()
    }

    /// Whether the worker is ready and was ever permitted to intercept. A request that arrives while
    /// a reload removes the CA is only late.
    fn permits_leaves(&self) -> bool {
        let pending = self.sent();
        let pending = pending.is_some_and(|pending| pending.settled.authority != Authority::None);
        self.has_ready_worker() && (pending || self.issuing.has_begun())
    }

    /// Whether the worker must outlive this monitor. Its confirmation may be late.
    fn is_handing_over(&self) -> bool {
        let worker = self.worker.as_ref();
        self.is_stopping() && worker.is_some_and(super::Worker::is_leaving)
    }

    /// No request can reach the announced listeners any more, so they may open.
    fn noted(&mut self) -> Option<End> {
        if let Some(pending) = self.pending.take()
            && !self.is_stopping()
        {
            self.pass_on(pending);
        }
        None
    }

    fn applied(&mut self, ticket: Ticket) -> Option<End> {
        if ticket == Ticket::FIRST {
            self.first_applied();
        } else if let Some(pending) = self.pending.take() {
            self.listeners.apply(pending.prepared);
            self.settle(pending.settled);
            // Before the next load, which removes a copy that was not kept.
            self.keep_copy();
            self.reload_done();
        }
        self.issuing.note(&self.settled.authority);
        None
    }

    /// A worker that has just started serves.
    fn first_applied(&mut self) {
        if let Some(worker) = &mut self.worker {
            worker.ready();
        }
        self.before = None;
        if self.phase == Phase::Starting {
            self.phase = Phase::Serving;
            failed_start::forget();
        }
        if let Some(fallback) = &self.fallback {
            let problems = fallback.problems.clone();
            let ticket = Ticket::FIRST;
            self.send(&ToWorker::ReloadFailed { ticket, problems }, &[]);
        }
        notify::ready();
        // At once, so that the service manager's status line has content.
        self.ping();
        self.keep_copy();
        memory::give_back_after_start();
        if std::mem::take(&mut self.reload_waits) {
            let begin = self.reloads.request_by_signal();
            self.reload(begin);
        }
    }

    fn rejected(&mut self, ticket: Ticket, why: &str) -> Option<End> {
        if ticket == Ticket::FIRST && self.phase == Phase::Starting {
            return Some(End::Failed(anyhow!("{why}")));
        }
        tracing::error!("the worker cannot put the settings in force: {why}");
        if ticket == Ticket::FIRST {
            self.kill_worker();
        } else {
            self.pending = None;
            self.reload_done();
        }
        None
    }

    fn reload_requested(&mut self, ticket: Ticket) -> Option<End> {
        let begin = self.reloads.request(ticket);
        self.reload(begin);
        None
    }

    fn well(&mut self, report: &WorkerReport) -> Option<End> {
        self.ping.answered();
        notify::well(
            report,
            self.back_off.restarts(),
            self.listeners.busy(),
            self.settled.fallback,
        );
        None
    }

    fn mode_set(&mut self, mode: Mode) -> Option<End> {
        self.narrowed = (mode == Mode::Limited).then_some(mode);
        self.publish_if_needed();
        None
    }

    fn ca_files_needed(&mut self) -> Option<End> {
        self.sessions_need_ca = true;
        self.publish_if_needed();
        None
    }

    fn issue_leaf(&mut self, question: QuestionId, request: LeafRequest<'_>) -> Option<End> {
        if let Some(worker) = &self.worker {
            worker.leaf_is_answered();
        }
        // A worker that puts new settings in force may request leaves of their CA before it has
        // reported success.
        let pending = self.pending.as_ref();
        let sent = pending.filter(|pending| pending.stage == PendingStage::Sent);
        let settled = [Some(&self.settled), sent.map(|pending| &pending.settled)];
        let allowed = settled.into_iter().flatten().map(|settled| LeafScope {
            authority: &settled.authority,
            interceptable: &settled.interceptable,
        });
        let answer = match self.issuing.answer(request, allowed, Instant::now()) {
            LeafAnswer::Leaf(leaf) => ToWorker::Leaf {
                question,
                certificate: leaf.certificate,
                not_before: seconds(leaf.not_before),
                not_after: seconds(leaf.not_after),
            },
            LeafAnswer::Refused(why) => ToWorker::LeafRefused { question, why },
            LeafAnswer::Unsound(why) => {
                self.distrust(&format!("its request for a certificate: {why}"));
                return None;
            }
        };
        self.send(&answer, &[]);
        None
    }

    /// Returns the users of clients on this machine. Only connections to our own listeners are
    /// looked up.
    fn owners(&mut self, question: QuestionId, connections: &[ConnectionEnds]) -> Option<End> {
        let ours = self.listeners.addresses();
        let users = self.socket_owners.users(connections, &ours);
        self.send(&ToWorker::Owners { question, users }, &[]);
        None
    }

    /// The worker drains and outlives this process. The next monitor takes it over.
    fn handed_over(&mut self) -> Option<End> {
        let worker = self.worker.as_ref()?;
        if let Err(error) = predecessor::leave(worker) {
            tracing::warn!(%error, "the service manager does not keep the worker; the stop waits for it");
            if worker.keep(self.events.clone()).is_err() {
                // Its messages and its end would not be noticed.
                self.kill_worker();
                return Some(End::Stopped);
            }
            if matches!(self.phase, Phase::HandingOver(_)) {
                self.drain_worker();
            }
            return None;
        }
        Some(End::Stopped)
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
