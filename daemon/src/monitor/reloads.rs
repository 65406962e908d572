//! The reloads that were asked for: one runs, at most one waits, and whoever asks meanwhile shares it
//! (SPEC C7).
//!
//! What was asked for while a load runs needs one that begins later, since the files may have changed
//! in between; one is enough for everybody. So no number of askers makes for more work than one load
//! after the other.

/// Tickets of reloads that a worker asks for lie below this, the monitor's own above.
pub(super) const OWN_TICKETS: u32 = 1 << 31;

/// What runs and what waits.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    running: Option<Running>,
    /// The ticket of the one that comes next.
    waiting: Option<u32>,
    loads: u32,
    own: u32,
}

#[derive(Debug)]
struct Running {
    /// Which load it is, to know its outcome from that of one that was given up.
    load: u32,
    /// Under which ticket the worker hears of it.
    ticket: u32,
}

/// A load to begin, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Begin(pub(super) u32);

impl Reloads {
    /// A signal asks.
    pub(super) fn ask_by_signal(&mut self) -> Option<Begin> {
        if self.waiting.is_some() {
            return None;
        }
        let ticket = self.own_ticket();
        self.ask(ticket)
    }

    /// The worker asks, under a ticket of its own: whatever waits is told to it under this one. One
    /// worker has one ticket out at a time ([`is_asked_by_worker`](Self::is_asked_by_worker)).
    pub(super) fn ask(&mut self, ticket: u32) -> Option<Begin> {
        if self.running.is_none() {
            return Some(self.begin(ticket));
        }
        self.waiting = Some(ticket);
        None
    }

    /// Whether a ticket of the worker's is out.
    pub(super) fn is_asked_by_worker(&self) -> bool {
        let running = self.running.as_ref().map(|running| running.ticket);
        [running, self.waiting]
            .into_iter()
            .flatten()
            .any(|ticket| ticket < OWN_TICKETS)
    }

    /// The ticket of this load, unless it was given up.
    pub(super) fn ticket(&self, load: u32) -> Option<u32> {
        let running = self.running.as_ref()?;
        (running.load == load).then_some(running.ticket)
    }

    /// The one that ran is over. Gives the next one, if any waits.
    pub(super) fn done(&mut self) -> Option<Begin> {
        self.running = None;
        let next = self.waiting.take()?;
        Some(self.begin(next))
    }

    /// The worker is gone: what it asked for is carried out all the same, and its tickets mean
    /// nothing to the next one, which counts anew.
    pub(super) fn disown(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.ticket = self.own_ticket();
            self.running = Some(running);
        }
        if self.waiting.is_some() {
            self.waiting = Some(self.own_ticket());
        }
    }

    fn begin(&mut self, ticket: u32) -> Begin {
        self.loads = self.loads.wrapping_add(1);
        self.running = Some(Running {
            load: self.loads,
            ticket,
        });
        Begin(self.loads)
    }

    fn own_ticket(&mut self) -> u32 {
        self.own = self.own.wrapping_add(1);
        self.own | OWN_TICKETS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c7_whoever_asks_while_a_load_runs_shares_the_next() {
        let mut reloads = Reloads::default();
        assert_eq!(reloads.ask_by_signal(), Some(Begin(1)));
        for _ in 0..100 {
            assert_eq!(reloads.ask_by_signal(), None);
        }
        assert!(!reloads.is_asked_by_worker());
        assert_eq!(reloads.ask(7), None);
        assert!(reloads.is_asked_by_worker());
        // The worker has to hear of it under its ticket.
        assert_eq!(reloads.ask_by_signal(), None);
        assert_eq!(reloads.done(), Some(Begin(2)));
        assert_eq!((reloads.ticket(1), reloads.ticket(2)), (None, Some(7)));
        assert_eq!(reloads.done(), None);
        assert_eq!(reloads.ticket(2), None);
    }

    #[test]
    fn c7_what_a_worker_asked_for_outlives_it_and_its_tickets_do_not() {
        let mut reloads = Reloads::default();
        assert_eq!(reloads.ask(1), Some(Begin(1)));
        reloads.disown();
        assert!(reloads.ticket(1).is_some_and(|ticket| ticket > OWN_TICKETS));
        assert!(!reloads.is_asked_by_worker());
        assert_eq!(reloads.ask(1), None);
        reloads.disown();
        assert!(!reloads.is_asked_by_worker());
        assert_eq!(reloads.done(), Some(Begin(2)));
    }
}
