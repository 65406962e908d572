//! The operations that a worker may ask of the monitor: a table with one row each.
//!
//! A row says when its operation is permitted and what it does. A worker that sends an unknown
//! operation, or one at the wrong time, is killed and replaced. A new row gives the worker a new
//! power.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::anyhow;

use super::issue::{Answer, Asked, Scope};
use super::pending::{Pending, Stage};
use super::reloads::OWN_TICKETS;
use super::{End, FIRST, Monitor, Phase, failed_start, predecessor};
use crate::notify;
use crate::privsep::message::{Mode, ToMonitor, ToWorker, operation};
use crate::privsep::settled::Authority;

struct Row {
    operation: u8,
    /// Whether the message may come now.
    in_phase: fn(&Monitor, &ToMonitor) -> bool,
    answer: fn(&mut Monitor, &ToMonitor) -> Option<End>,
}

const TABLE: [Row; 9] = [
    Row {
        operation: operation::NOTED,
        in_phase: listeners_are_announced,
        answer: noted,
    },
    Row {
        operation: operation::APPLIED,
        in_phase: settings_are_out,
        answer: applied,
    },
    Row {
        operation: operation::REJECTED,
        in_phase: settings_are_out,
        answer: rejected,
    },
    Row {
        operation: operation::RELOAD,
        in_phase: may_reload,
        answer: reload,
    },
    Row {
        operation: operation::WELL,
        in_phase: was_asked,
        answer: well,
    },
    Row {
        operation: operation::MODE_SET,
        in_phase: is_ready,
        answer: mode_set,
    },
    Row {
        operation: operation::ISSUE_LEAF,
        in_phase: may_issue,
        answer: issue_leaf,
    },
    Row {
        operation: operation::ASK_OWNERS,
        in_phase: is_ready,
        answer: owners,
    },
    Row {
        operation: operation::HANDED_OVER,
        in_phase: is_handing_over,
        answer: handed_over,
    },
];

impl Monitor {
    /// The settings that the worker has received and not yet put in force.
    fn sent(&self) -> Option<&Pending> {
        let pending = self.pending.as_ref();
        pending.filter(|pending| pending.stage == Stage::Sent)
    }

    pub(super) fn dispatch(&mut self, message: &ToMonitor) -> Option<End> {
        let (operation, _) = message.encode();
        let row = TABLE.iter().find(|row| row.operation == operation);
        match row {
            Some(row) if (row.in_phase)(self, message) => (row.answer)(self, message),
            _ => {
                self.distrust(&format!("operation {operation} out of phase"));
                None
            }
        }
    }
}

/// Whether the worker was told of listeners to come with this ticket.
fn listeners_are_announced(monitor: &Monitor, message: &ToMonitor) -> bool {
    let ToMonitor::Noted { ticket } = message else {
        return false;
    };
    let pending = monitor.pending.as_ref();
    pending.is_some_and(|it| it.ticket == *ticket && it.stage == Stage::Announced)
}

/// Whether the worker was told to put settings with this ticket in force.
fn settings_are_out(monitor: &Monitor, message: &ToMonitor) -> bool {
    let (ToMonitor::Applied { ticket } | ToMonitor::Rejected { ticket, .. }) = message else {
        return false;
    };
    match &monitor.pending {
        Some(pending) if pending.ticket == *ticket => pending.stage == Stage::Sent,
        _ => {
            *ticket == FIRST
                && monitor
                    .worker
                    .as_ref()
                    .is_some_and(|worker| !worker.is_ready())
        }
    }
}

fn is_ready(monitor: &Monitor, _message: &ToMonitor) -> bool {
    monitor.worker.as_ref().is_some_and(super::Worker::is_ready)
}

fn was_asked(monitor: &Monitor, _message: &ToMonitor) -> bool {
    monitor.ping.is_owed()
}

fn may_reload(monitor: &Monitor, message: &ToMonitor) -> bool {
    let ToMonitor::Reload { ticket } = message else {
        return false;
    };
    let ready = monitor.worker.as_ref().is_some_and(super::Worker::is_ready);
    // One at a time: callers in the worker share a reload.
    let asked = monitor.reloads.is_asked_by_worker();
    ready && *ticket != FIRST && *ticket < OWN_TICKETS && !asked
}

/// Whether the worker is ready and was ever permitted to intercept. A worker that asks while a
/// reload removes the CA is only late.
fn may_issue(monitor: &Monitor, message: &ToMonitor) -> bool {
    let sent = monitor.sent();
    let pending = sent.is_some_and(|pending| pending.settled.authority != Authority::None);
    is_ready(monitor, message) && (pending || monitor.issuing.has_begun())
}

/// Whether the worker was asked to outlive this monitor. Its confirmation may be late.
fn is_handing_over(monitor: &Monitor, _message: &ToMonitor) -> bool {
    let worker = monitor.worker.as_ref();
    monitor.is_stopping() && worker.is_some_and(super::Worker::is_leaving)
}

/// No request can reach the announced listeners any more, so they may open.
fn noted(monitor: &mut Monitor, _message: &ToMonitor) -> Option<End> {
    if let Some(pending) = monitor.pending.take()
        && !monitor.is_stopping()
    {
        monitor.pass_on(pending);
    }
    None
}

fn applied(monitor: &mut Monitor, message: &ToMonitor) -> Option<End> {
    let ToMonitor::Applied { ticket } = message else {
        return None;
    };
    let ticket = *ticket;
    if ticket == FIRST {
        if let Some(worker) = &mut monitor.worker {
            worker.ready();
        }
        monitor.before = None;
        if monitor.phase == Phase::Starting {
            monitor.phase = Phase::Serving;
            failed_start::forget();
        }
        if let Some(standby) = &monitor.standby {
            let problems = standby.problems.clone();
            monitor.tell(&ToWorker::ReloadFailed { ticket, problems }, &[]);
        }
        notify::ready();
        // At once, so that the service manager's status line has content.
        monitor.ping();
        monitor.keep_copy();
        if std::mem::take(&mut monitor.reload_waits) {
            let begin = monitor.reloads.ask_by_signal();
            monitor.reload(begin);
        }
    } else if let Some(pending) = monitor.pending.take() {
        monitor.listeners.apply(pending.prepared);
        monitor.settle(pending.settled);
        // Before the next load, which removes a copy that was not kept.
        monitor.keep_copy();
        monitor.reload_done();
    }
    monitor.issuing.note(&monitor.settled.authority);
    None
}

fn rejected(monitor: &mut Monitor, message: &ToMonitor) -> Option<End> {
    let ToMonitor::Rejected { ticket, why } = message else {
        return None;
    };
    if *ticket == FIRST && monitor.phase == Phase::Starting {
        return Some(End::Failed(anyhow!("{why}")));
    }
    tracing::error!("the worker cannot put the settings in force: {why}");
    if *ticket == FIRST {
        monitor.kill_worker();
    } else {
        monitor.pending = None;
        monitor.reload_done();
    }
    None
}

fn reload(monitor: &mut Monitor, message: &ToMonitor) -> Option<End> {
    if let ToMonitor::Reload { ticket } = message {
        let begin = monitor.reloads.ask(*ticket);
        monitor.reload(begin);
    }
    None
}

fn well(monitor: &mut Monitor, message: &ToMonitor) -> Option<End> {
    if let ToMonitor::Well(report) = message {
        monitor.ping.answered();
        notify::well(
            report,
            monitor.back_off.restarts(),
            monitor.listeners.busy(),
            monitor.settled.fallback,
        );
    }
    None
}

fn mode_set(monitor: &mut Monitor, message: &ToMonitor) -> Option<End> {
    if let ToMonitor::ModeSet { mode } = message {
        monitor.narrowed = (*mode == Mode::Limited).then_some(Mode::Limited);
        monitor.publish_if_narrowed();
    }
    None
}

fn issue_leaf(monitor: &mut Monitor, message: &ToMonitor) -> Option<End> {
    let ToMonitor::IssueLeaf {
        ticket,
        authority,
        public_key,
        name,
    } = message
    else {
        return None;
    };
    if let Some(worker) = &monitor.worker {
        worker.leaf_is_answered();
    }
    let asked = Asked {
        authority,
        public_key,
        name,
    };
    // A worker that puts new settings in force may request leaves of their CA before it has
    // reported success.
    let pending = monitor.pending.as_ref();
    let sent = pending.filter(|pending| pending.stage == Stage::Sent);
    let settled = [Some(&monitor.settled), sent.map(|pending| &pending.settled)];
    let allowed = settled.into_iter().flatten().map(|settled| Scope {
        authority: &settled.authority,
        interceptable: &settled.interceptable,
    });
    let ticket = *ticket;
    let answer = match monitor.issuing.answer(asked, allowed, Instant::now()) {
        Answer::Leaf(leaf) => ToWorker::Leaf {
            ticket,
            certificate: leaf.certificate,
            not_before: seconds(leaf.not_before),
            not_after: seconds(leaf.not_after),
        },
        Answer::Refused(why) => ToWorker::LeafRefused { ticket, why },
        Answer::Unsound(why) => {
            monitor.distrust(&format!("it asked for a certificate: {why}"));
            return None;
        }
    };
    monitor.tell(&answer, &[]);
    None
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Returns the users of clients on this machine. Only connections to our own listeners are looked
/// up.
fn owners(monitor: &mut Monitor, message: &ToMonitor) -> Option<End> {
    if let ToMonitor::AskOwners {
        ticket,
        connections,
    } = message
    {
        let ours = monitor.listeners.addresses();
        let users = monitor.socket_owners.users(connections, &ours);
        let ticket = *ticket;
        monitor.tell(&ToWorker::Owners { ticket, users }, &[]);
    }
    None
}

/// The worker drains and outlives this process. The next monitor takes it over.
fn handed_over(monitor: &mut Monitor, _message: &ToMonitor) -> Option<End> {
    let worker = monitor.worker.as_ref()?;
    if let Err(error) = predecessor::leave(worker) {
        tracing::warn!(%error, "the service manager does not keep the worker; the stop waits for it");
        if worker.keep(monitor.events.clone()).is_err() {
            // Its messages and its end would not be noticed.
            monitor.kill_worker();
            return Some(End::Stopped);
        }
        if matches!(monitor.phase, Phase::HandingOver(_)) {
            monitor.drain_worker();
        }
        return None;
    }
    Some(End::Stopped)
}
