//! Callers that wait for the result of a reload (SPEC C7).
//!
//! The worker requests one reload at a time from the monitor. Requests that arrive while it runs are
//! merged into the next one, and all their callers get its result. The number of callers is limited,
//! since any user of this machine can request a reload through the admin API.

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
    /// The running reload, by its ticket, and the callers that wait for it.
    running: Option<(Ticket, Vec<Waiter>)>,
    /// The callers that wait for the next one.
    waiting: Vec<Waiter>,
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
    /// Adds a caller.
    ///
    /// # Errors
    ///
    /// Returns an error if too many wait already.
    pub(super) fn join(&self) -> Result<Joined, ReloadError> {
        let mut state = self.lock();
        let (waiter, outcome) = oneshot::channel();
        let Some((_, running)) = &mut state.running else {
            let ticket = state.begin(vec![Waiter(waiter)]);
            return Ok(Joined {
                outcome,
                request: Some(ticket),
            });
        };
        // Callers that have gone make room.
        running.retain(Waiter::is_there);
        let running = running.len();
        state.waiting.retain(Waiter::is_there);
        if running + state.waiting.len() >= MAX_WAITERS {
            return Err(ReloadError::placeless(&format!(
                "busy: {MAX_WAITERS} callers wait for a reload already; ask again later"
            )));
        }
        state.waiting.push(Waiter(waiter));
        // The reload takes place even if the caller disconnects before it begins.
        Ok(Joined {
            outcome,
            request: None,
        })
    }

    /// Gives the result to all callers of the reload with this ticket. Returns the ticket of the next
    /// one, if callers wait for one. The monitor's own reloads have no callers here.
    pub(super) fn ended(
        &self,
        ticket: Ticket,
        outcome: &Result<(), ReloadError>,
    ) -> Option<Ticket> {
        let mut state = self.lock();
        let (_, waiters) = state.running.take_if(|(running, _)| *running == ticket)?;
        for Waiter(waiter) in waiters {
            // A caller that has gone needs no answer.
            let _ = waiter.send(outcome.clone());
        }
        if state.waiting.is_empty() {
            return None;
        }
        let waiting = std::mem::take(&mut state.waiting);
        Some(state.begin(waiting))
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
    fn begin(&mut self, waiters: Vec<Waiter>) -> Ticket {
        let ticket = self.tickets.next();
        self.running = Some((ticket, waiters));
        ticket
    }
}

#[cfg(test)]
mod tests {
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
        let mut first = waiters.join().expect("room");
        assert_eq!(first.request, Some(ticket(1)));
        let mut others: Vec<_> = (0..5).map(|_| waiters.join().expect("room")).collect();
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
        assert_eq!(waiters.join().expect("room").request, Some(ticket(3)));
    }

    #[test]
    fn c7_a_caller_above_the_limit_is_refused_and_one_that_disconnects_makes_room() {
        let waiters = ReloadWaiters::default();
        let mut waiting: Vec<_> = (0..MAX_WAITERS)
            .map(|_| waiters.join().expect("room"))
            .collect();
        let refused = waiters.join().err().expect("no room");
        assert!(refused.text.contains("busy"), "{}", refused.text);
        waiting.pop();
        assert!(waiters.join().is_ok());
    }

    #[test]
    fn c7_a_reload_is_requested_even_if_all_its_callers_have_disconnected() {
        let waiters = ReloadWaiters::default();
        let first = waiters.join().expect("room");
        drop(waiters.join());
        assert_eq!(waiters.ended(ticket(1), &Ok(())), Some(ticket(2)));
        drop(first);
    }
}
