//! Numbers that tie an answer to its request. Only this file makes them, writes them and reads them.

use std::sync::atomic::{AtomicU32, Ordering};

use super::layout::{Malformed, Reader, Writer};

/// The ticket of settings, and of the reload that they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u32);

/// The monitor's own tickets have this bit. The tickets of a worker are below.
const OF_MONITOR: u32 = 1 << 31;
/// The tickets of guarded reloads have this bit. The numbers are below.
const GUARDED: u32 = 1 << 30;

impl Ticket {
    /// The settings that a worker starts with.
    pub(crate) const FIRST: Self = Self(0);
    /// The settings of a worker that only drains.
    pub(crate) const DRAINING: Self = Self(OF_MONITOR);

    /// Whether a worker requested the reload.
    pub(crate) fn is_of_worker(self) -> bool {
        self != Self::FIRST && self.0 < OF_MONITOR
    }

    /// Whether the settings may be put in force only by the worker that requested the reload: it knows the one
    /// change that they may have (SPEC C14).
    pub(crate) fn is_guarded(self) -> bool {
        self.0 & GUARDED != 0
    }

    /// The ticket of a guarded reload with the number of this one.
    #[must_use]
    pub(crate) fn guarded(self) -> Self {
        Self(self.0 | GUARDED)
    }

    pub(super) fn encode(self, out: &mut Writer) {
        out.u32(self.0);
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.u32().map(Self)
    }

    /// A ticket of a worker, for tests.
    #[cfg(test)]
    pub(crate) fn of_worker(number: u32) -> Self {
        let ticket = Self(number);
        assert!(ticket.is_of_worker(), "{number}");
        ticket
    }
}

/// Makes the tickets of the reloads that a worker requests.
#[derive(Debug, Default)]
pub(crate) struct WorkerTickets(u32);

impl WorkerTickets {
    pub(crate) fn next(&mut self) -> Ticket {
        self.0 = (self.0 % (GUARDED - 1)) + 1;
        Ticket(self.0)
    }
}

/// Makes the tickets of the reloads that a signal requests, or that outlive the worker that requested
/// them.
#[derive(Debug, Default)]
pub(crate) struct MonitorTickets(u32);

impl MonitorTickets {
    pub(crate) fn next(&mut self) -> Ticket {
        self.0 = (self.0 % (GUARDED - 1)) + 1;
        Ticket(self.0 | OF_MONITOR)
    }
}

/// The number of a question about a leaf or about owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct QuestionId(u32);

impl QuestionId {
    pub(super) fn encode(self, out: &mut Writer) {
        out.u32(self.0);
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        input.u32().map(Self)
    }

    /// For tests.
    #[cfg(test)]
    pub(crate) fn numbered(number: u32) -> Self {
        Self(number)
    }
}

/// Makes the numbers of questions.
#[derive(Debug, Default)]
pub(crate) struct QuestionIds(AtomicU32);

impl QuestionIds {
    pub(crate) fn next(&self) -> QuestionId {
        QuestionId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c7_tickets_of_the_worker_and_of_the_monitor_never_meet() {
        let mut last = WorkerTickets(GUARDED - 2);
        for ticket in [last.next(), last.next()] {
            assert!(ticket.is_of_worker(), "{ticket:?}");
            assert!(!ticket.is_guarded(), "{ticket:?}");
            assert!(ticket.guarded().is_of_worker() && ticket.guarded().is_guarded());
        }
        let mut last = MonitorTickets(GUARDED - 2);
        for ticket in [last.next(), last.next(), Ticket::DRAINING, Ticket::FIRST] {
            assert!(!ticket.is_of_worker(), "{ticket:?}");
            assert!(!ticket.is_guarded(), "{ticket:?}");
        }
    }
}
