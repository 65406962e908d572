//! Callers that wait for a reload share it (SPEC C7).
//!
//! The worker requests one reload at a time from the monitor. Callers that ask while it runs wait
//! for the next one, and all of them get its result. Their number is bounded: any user of this
//! machine can ask through the admin API.

use parking_lot::{Mutex, MutexGuard};

use tokio::sync::oneshot;

use crate::problems::ReloadError;

/// Largest number of callers that wait at once.
const MAX_WAITERS: usize = 256;

/// The waiting callers.
#[derive(Debug, Default)]
pub(super) struct Askers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tickets: u32,
    /// The running reload, by its ticket, and the callers that wait for it.
    running: Option<(u32, Vec<Asker>)>,
    /// The callers that wait for the next one.
    waiting: Vec<Asker>,
}

#[derive(Debug)]
struct Asker(oneshot::Sender<Result<(), ReloadError>>);

/// The result of joining.
pub(super) struct Joined {
    /// Receives the result of the reload.
    pub(super) outcome: oneshot::Receiver<Result<(), ReloadError>>,
    /// The ticket of the reload to request now, unless one runs.
    pub(super) ask: Option<u32>,
}

impl Askers {
    /// Adds a caller.
    ///
    /// # Errors
    ///
    /// When too many wait already.
    pub(super) fn join(&self) -> Result<Joined, ReloadError> {
        let mut state = self.lock();
        let (asker, outcome) = oneshot::channel();
        let Some((_, running)) = &mut state.running else {
            let ask = state.begin(vec![Asker(asker)]);
            return Ok(Joined {
                outcome,
                ask: Some(ask),
            });
        };
        // Callers that have gone make room.
        running.retain(Asker::is_there);
        let running = running.len();
        state.waiting.retain(Asker::is_there);
        if running + state.waiting.len() >= MAX_WAITERS {
            return Err(ReloadError::placeless(&format!(
                "busy: {MAX_WAITERS} callers wait for a reload already; ask again later"
            )));
        }
        state.waiting.push(Asker(asker));
        // The request stands, even if the caller goes before the reload begins.
        Ok(Joined { outcome, ask: None })
    }

    /// Tells all callers of the reload with this ticket. Returns the ticket of the next one, if
    /// callers wait for one. The monitor's own reloads have no callers here.
    pub(super) fn ended(&self, ticket: u32, outcome: &Result<(), ReloadError>) -> Option<u32> {
        let mut state = self.lock();
        let (_, askers) = state.running.take_if(|(running, _)| *running == ticket)?;
        for Asker(asker) in askers {
            // A caller that has gone needs no answer.
            let _ = asker.send(outcome.clone());
        }
        if state.waiting.is_empty() {
            return None;
        }
        let waiting = std::mem::take(&mut state.waiting);
        Some(state.begin(waiting))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}

impl Asker {
    fn is_there(&self) -> bool {
        !self.0.is_closed()
    }
}

impl State {
    fn begin(&mut self, askers: Vec<Asker>) -> u32 {
        // 0 is the ticket of a worker's first settings, and the monitor's own have the top bit.
        self.tickets = (self.tickets % (u32::MAX >> 1)) + 1;
        self.running = Some((self.tickets, askers));
        self.tickets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Result<(), ReloadError> {
        Err(ReloadError::placeless("for a reason"))
    }

    #[test]
    fn c7_askers_share_the_reload_after_the_one_that_runs() {
        let askers = Askers::default();
        let mut first = askers.join().expect("room");
        assert_eq!(first.ask, Some(1));
        let mut others: Vec<_> = (0..5).map(|_| askers.join().expect("room")).collect();
        assert!(others.iter().all(|other| other.ask.is_none()));
        assert_eq!(askers.ended(9, &Ok(())), None, "somebody else's");
        assert_eq!(askers.ended(1, &Ok(())), Some(2));
        assert!(matches!(first.outcome.try_recv(), Ok(Ok(()))));
        assert!(
            others
                .iter_mut()
                .all(|other| other.outcome.try_recv().is_err())
        );
        assert_eq!(askers.ended(2, &failed()), None);
        for mut other in others {
            assert!(matches!(other.outcome.try_recv(), Ok(Err(_))));
        }
        assert_eq!(askers.join().expect("room").ask, Some(3));
    }

    #[test]
    fn c7_one_asker_too_many_is_told_so_and_one_that_hangs_up_makes_room() {
        let askers = Askers::default();
        let mut waiting: Vec<_> = (0..MAX_WAITERS)
            .map(|_| askers.join().expect("room"))
            .collect();
        let refused = askers.join().err().expect("no room");
        assert!(refused.text.contains("busy"), "{}", refused.text);
        waiting.pop();
        assert!(askers.join().is_ok());
    }

    #[test]
    fn c7_a_reload_whose_askers_have_all_hung_up_is_asked_for_all_the_same() {
        let askers = Askers::default();
        let first = askers.join().expect("room");
        drop(askers.join());
        assert_eq!(askers.ended(1, &Ok(())), Some(2));
        drop(first);
    }
}
