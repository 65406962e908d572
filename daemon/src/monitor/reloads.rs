//! Reload requests: one runs, at most one waits, and requests that arrive meanwhile are merged into
//! that one (SPEC C7).
//!
//! A request that arrives during a load needs a load that begins later, since the files may have
//! changed in between. One later load is enough for all of them. So any number of requests causes
//! only one load after the other.
//!
//! A guarded reload (SPEC C14) is merged with no other one: the worker may refuse it, and the others must
//! take place all the same.

use crate::privsep::ticket::{MonitorTickets, Ticket};

/// The running and the waiting reload.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    running: Option<RunningReload>,
    /// The ticket of the next reload.
    waiting: Option<Ticket>,
    /// The ticket of the guarded reload after that.
    guarded: Option<Ticket>,
    loads: u32,
    own_tickets: MonitorTickets,
}

#[derive(Debug)]
struct RunningReload {
    /// The number of the load, to tell its result from that of a cancelled one.
    load: u32,
    /// The ticket under which the worker gets the result.
    ticket: Ticket,
}

/// A load to begin, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begin(pub(super) u32);

impl Reloads {
    /// A signal requests a reload.
    pub(super) fn request_by_signal(&mut self) -> Option<Begin> {
        if self.waiting.is_some() {
            return None;
        }
        let ticket = self.own_tickets.next();
        self.request(ticket)
    }

    /// The worker requests a reload with its own ticket, which the waiting reload then has. A
    /// worker has one ticket at a time ([`is_requested_by_worker`](Self::is_requested_by_worker)).
    pub(super) fn request(&mut self, ticket: Ticket) -> Option<Begin> {
        if self.running.is_none() {
            return Some(self.begin(ticket));
        }
        if ticket.is_guarded() {
            self.guarded = Some(ticket);
        } else {
            self.waiting = Some(ticket);
        }
        None
    }

    /// Whether a ticket of the worker is in use.
    pub(super) fn is_requested_by_worker(&self) -> bool {
        let running = self.running.as_ref().map(|running| running.ticket);
        [running, self.waiting, self.guarded]
            .into_iter()
            .flatten()
            .any(Ticket::is_of_worker)
    }

    /// Whether no reload is running.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_none()
    }

    /// The ticket of this load, unless it was cancelled.
    pub(super) fn ticket(&self, load: u32) -> Option<Ticket> {
        let running = self.running.as_ref()?;
        (running.load == load).then_some(running.ticket)
    }

    /// The running reload has ended. Returns the next one, if one waits.
    pub(super) fn done(&mut self) -> Option<Begin> {
        self.running = None;
        let next = self.waiting.take().or_else(|| self.guarded.take())?;
        Some(self.begin(next))
    }

    /// The worker is gone. Its reloads are carried out all the same, except for guarded ones: no other worker knows
    /// the change that they may have. Its tickets mean nothing to the next worker, which counts anew.
    pub(super) fn disown(&mut self) {
        if let Some(mut running) = self.running.take() {
            let own = self.own_tickets.next();
            // No worker puts it in force.
            running.ticket = if running.ticket.is_guarded() {
                own.guarded()
            } else {
                own
            };
            self.running = Some(running);
        }
        self.guarded = None;
        if self.waiting.is_some() {
            self.waiting = Some(self.own_tickets.next());
        }
    }

    fn begin(&mut self, ticket: Ticket) -> Begin {
        self.loads = self.loads.wrapping_add(1);
        self.running = Some(RunningReload {
            load: self.loads,
            ticket,
        });
        Begin(self.loads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(number: u32) -> Ticket {
        Ticket::of_worker(number)
    }

    #[test]
    fn c7_requests_during_a_load_share_the_next_load() {
        let mut reloads = Reloads::default();
        assert_eq!(reloads.request_by_signal(), Some(Begin(1)));
        for _ in 0..100 {
            assert_eq!(reloads.request_by_signal(), None);
        }
        assert!(!reloads.is_requested_by_worker());
        assert_eq!(reloads.request(ticket(7)), None);
        assert!(reloads.is_requested_by_worker());
        // The worker must get the result under its ticket.
        assert_eq!(reloads.request_by_signal(), None);
        assert_eq!(reloads.done(), Some(Begin(2)));
        assert_eq!(
            (reloads.ticket(1), reloads.ticket(2)),
            (None, Some(ticket(7)))
        );
        assert_eq!(reloads.done(), None);
        assert_eq!(reloads.ticket(2), None);
    }

    #[test]
    fn c14_a_guarded_reload_is_merged_with_no_other_one() {
        let mut reloads = Reloads::default();
        assert_eq!(reloads.request_by_signal(), Some(Begin(1)));
        let guarded = ticket(7).guarded();
        assert_eq!(reloads.request(guarded), None);
        assert!(reloads.is_requested_by_worker());
        assert_eq!(reloads.request_by_signal(), None);
        assert_eq!(reloads.done(), Some(Begin(2)));
        assert!(reloads.ticket(2).is_some_and(|ticket| !ticket.is_guarded()));
        assert_eq!(reloads.done(), Some(Begin(3)));
        assert_eq!(reloads.ticket(3), Some(guarded));
    }

    #[test]
    fn c14_a_guarded_reload_stays_guarded_without_its_worker() {
        let mut reloads = Reloads::default();
        assert_eq!(reloads.request(ticket(1).guarded()), Some(Begin(1)));
        reloads.disown();
        let disowned = reloads.ticket(1).expect("it runs");
        assert!(disowned.is_guarded() && !disowned.is_of_worker());
        assert_eq!(reloads.request(ticket(1).guarded()), None);
        reloads.disown();
        assert_eq!(reloads.done(), None, "it waited for a worker that is gone");
    }

    #[test]
    fn c7_the_reload_of_a_worker_outlives_it_and_its_tickets_do_not() {
        let mut reloads = Reloads::default();
        assert_eq!(reloads.request(ticket(1)), Some(Begin(1)));
        reloads.disown();
        assert!(
            reloads
                .ticket(1)
                .is_some_and(|ticket| !ticket.is_of_worker())
        );
        assert!(!reloads.is_requested_by_worker());
        assert_eq!(reloads.request(ticket(1)), None);
        reloads.disown();
        assert!(!reloads.is_requested_by_worker());
        assert_eq!(reloads.done(), Some(Begin(2)));
    }
}
