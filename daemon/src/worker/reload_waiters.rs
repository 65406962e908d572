//! Callers that wait for the result of a reload (SPEC C7).
//!
//! The worker requests one reload at a time from the monitor. Requests that arrive while it runs are
//! merged into the next one, and all their callers get its result. The number of callers is limited,
//! since any user of this machine can request a reload through the admin API.
//!
//! A guarded reload may have one expected change and no other (SPEC C14). It is merged with no other request.

use std::collections::VecDeque;

use codex_network_policy::EntryChange;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::privsep::ticket::{Ticket, WorkerTickets};
use crate::problems::ReloadError;

/// Largest number of callers that wait at once.
const MAX_WAITERS: usize = 256;

/// The waiting callers.
#[derive(Debug, Default)]
pub(super) struct ReloadWaiters(Mutex<Waiters>);

#[derive(Debug, Default)]
struct Waiters {
    tickets: WorkerTickets,
    running: Option<RunningReload>,
    /// The callers that wait for the next one.
    waiting: Vec<Waiter>,
    /// The callers that wait for guarded ones, which come first.
    guarded: VecDeque<(EntryChange, Waiter)>,
}

/// The running reload, and the callers that wait for it.
#[derive(Debug)]
struct RunningReload {
    ticket: Ticket,
    /// The only change that it may have, if it is guarded.
    only: Option<EntryChange>,
    waiters: Vec<Waiter>,
}

#[derive(Debug)]
struct Waiter(oneshot::Sender<Result<(), ReloadError>>);

/// The result of joining.
pub(super) struct Joined {
    /// Receives the result of the reload.
    pub(super) outcome: oneshot::Receiver<Result<(), ReloadError>>,
    /// The ticket of the reload to request now, unless one runs.
    pub(super) request: Option<Ticket>,
}

impl ReloadWaiters {
    /// Adds a caller. With `only`, the reload may have this change and no other.
    ///
    /// # Errors
    ///
    /// Returns an error if too many wait already.
    pub(super) fn join(&self, only: Option<EntryChange>) -> Result<Joined, ReloadError> {
        let mut state = self.lock();
        let (waiter, outcome) = oneshot::channel();
        let Some(running) = &mut state.running else {
            let ticket = state.begin(only, vec![Waiter(waiter)]);
            return Ok(Joined {
                outcome,
                request: Some(ticket),
            });
        };
        // Callers that have gone make room.
        running.waiters.retain(Waiter::is_there);
        let running = running.waiters.len();
        state.waiting.retain(Waiter::is_there);
        if running + state.waiting.len() + state.guarded.len() >= MAX_WAITERS {
            return Err(ReloadError::placeless(&format!(
                "busy: {MAX_WAITERS} callers wait for a reload already; ask again later"
            )));
        }
        match only {
            None => state.waiting.push(Waiter(waiter)),
            Some(only) => state.guarded.push_back((only, Waiter(waiter))),
        }
        // The reload takes place even if the caller disconnects before it begins.
        Ok(Joined {
            outcome,
            request: None,
        })
    }

    /// The only change that the running reload with this guarded ticket may have.
    pub(super) fn only(&self, ticket: Ticket) -> Option<EntryChange> {
        let state = self.lock();
        let running = state.running.as_ref();
        let running = running.filter(|running| running.ticket == ticket)?;
        running.only.clone()
    }

    /// Gives the result to all callers of the reload with this ticket. Returns the ticket of the next
    /// one, if callers wait for one. The monitor's own reloads have no callers here.
    pub(super) fn ended(
        &self,
        ticket: Ticket,
        outcome: &Result<(), ReloadError>,
    ) -> Option<Ticket> {
        let mut state = self.lock();
        let ended = state.running.take_if(|running| running.ticket == ticket)?;
        for Waiter(waiter) in ended.waiters {
            // A caller that has gone needs no answer.
            let _ = waiter.send(outcome.clone());
        }
        if let Some((only, waiter)) = state.guarded.pop_front() {
            return Some(state.begin(Some(only), vec![waiter]));
        }
        if state.waiting.is_empty() {
            return None;
        }
        let waiting = std::mem::take(&mut state.waiting);
        Some(state.begin(None, waiting))
    }

    fn lock(&self) -> MutexGuard<'_, Waiters> {
        self.0.lock()
    }
}

impl Waiter {
    fn is_there(&self) -> bool {
        !self.0.is_closed()
    }
}

impl Waiters {
    fn begin(&mut self, only: Option<EntryChange>, waiters: Vec<Waiter>) -> Ticket {
        let ticket = self.tickets.next();
        let ticket = match only {
            None => ticket,
            Some(_) => ticket.guarded(),
        };
        self.running = Some(RunningReload {
            ticket,
            only,
            waiters,
        });
        ticket
    }
}

#[cfg(test)]
mod tests {
    use codex_network_policy::{ListKind, Pattern};

    use super::*;

    fn ticket(number: u32) -> Ticket {
        Ticket::of_worker(number)
    }

    fn failed() -> Result<(), ReloadError> {
        Err(ReloadError::placeless("for a reason"))
    }

    #[test]
    fn c7_requests_during_a_reload_share_the_next_one() {
        let waiters = ReloadWaiters::default();
        let mut first = waiters.join(None).expect("room");
        assert_eq!(first.request, Some(ticket(1)));
        let mut others: Vec<_> = (0..5).map(|_| waiters.join(None).expect("room")).collect();
        assert!(others.iter().all(|other| other.request.is_none()));
        assert_eq!(
            waiters.ended(ticket(9), &Ok(())),
            None,
            "not of this worker's callers"
        );
        assert_eq!(waiters.ended(ticket(1), &Ok(())), Some(ticket(2)));
        assert!(matches!(first.outcome.try_recv(), Ok(Ok(()))));
        assert!(
            others
                .iter_mut()
                .all(|other| other.outcome.try_recv().is_err())
        );
        assert_eq!(waiters.ended(ticket(2), &failed()), None);
        for mut other in others {
            assert!(matches!(other.outcome.try_recv(), Ok(Err(_))));
        }
        assert_eq!(waiters.join(None).expect("room").request, Some(ticket(3)));
    }

    #[test]
    fn c14_a_guarded_reload_has_one_caller_and_its_change() {
        let waiters = ReloadWaiters::default();
        let _first = waiters.join(None).expect("room");
        let mut plain = waiters.join(None).expect("room");
        let change = |pattern| Some(EntryChange::Allow(pattern));
        let pattern = |text| Pattern::parse(text, ListKind::Allow).expect("a pattern");
        let mut one = waiters.join(change(pattern("a.test"))).expect("room");
        let mut two = waiters.join(change(pattern("b.test"))).expect("room");
        let (second, third) = (ticket(2).guarded(), ticket(3).guarded());
        assert_eq!(waiters.ended(ticket(1), &Ok(())), Some(second));
        assert_eq!(waiters.only(second), change(pattern("a.test")));
        assert_eq!(waiters.only(third), None, "it does not run");
        assert_eq!(waiters.ended(second, &failed()), Some(third));
        assert!(matches!(one.outcome.try_recv(), Ok(Err(_))));
        assert!(two.outcome.try_recv().is_err() && plain.outcome.try_recv().is_err());
        assert_eq!(waiters.only(third), change(pattern("b.test")));
        assert_eq!(waiters.ended(third, &failed()), Some(ticket(4)));
        assert_eq!(waiters.only(ticket(4)), None);
        assert_eq!(waiters.ended(ticket(4), &Ok(())), None);
        assert!(matches!(plain.outcome.try_recv(), Ok(Ok(()))));
        assert!(matches!(two.outcome.try_recv(), Ok(Err(_))));
    }

    #[test]
    fn c7_a_caller_above_the_limit_is_refused_and_one_that_disconnects_makes_room() {
        let waiters = ReloadWaiters::default();
        let mut waiting: Vec<_> = (0..MAX_WAITERS)
            .map(|_| waiters.join(None).expect("room"))
            .collect();
        let refused = waiters.join(None).err().expect("no room");
        assert!(refused.text.contains("busy"), "{}", refused.text);
        waiting.pop();
        assert!(waiters.join(None).is_ok());
    }

    #[test]
    fn c7_a_reload_is_requested_even_if_all_its_callers_have_disconnected() {
        let waiters = ReloadWaiters::default();
        let first = waiters.join(None).expect("room");
        drop(waiters.join(None));
        assert_eq!(waiters.ended(ticket(1), &Ok(())), Some(ticket(2)));
        drop(first);
    }
}
