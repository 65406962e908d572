//! Those who wait for a reload: they share (SPEC C7).
//!
//! One reload is asked of the monitor at a time. Whoever asks while it runs waits for the next one,
//! with everybody else who does, and all of them get its outcome. How many may wait is bounded:
//! anybody on this machine can ask through the admin API.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::problems::ReloadError;

/// Most that wait at once.
const MOST: usize = 256;

/// Who waits for what.
#[derive(Debug, Default)]
pub(super) struct Askers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    tickets: u32,
    /// The reload that runs, by its ticket, and who waits for it.
    running: Option<(u32, Vec<Asker>)>,
    /// Who waits for the one after it.
    waiting: Vec<Asker>,
}

#[derive(Debug)]
struct Asker(oneshot::Sender<Result<(), ReloadError>>);

/// What becomes of somebody who asks.
pub(super) struct Joined {
    /// Where the outcome comes.
    pub(super) outcome: oneshot::Receiver<Result<(), ReloadError>>,
    /// The ticket of the reload that is to be asked for now, unless one runs.
    pub(super) ask: Option<u32>,
}

impl Askers {
    /// Adds one.
    ///
    /// # Errors
    ///
    /// Too many wait already.
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
        // Those who have hung up make room.
        running.retain(Asker::is_there);
        let running = running.len();
        state.waiting.retain(Asker::is_there);
        if running + state.waiting.len() >= MOST {
            return Err(ReloadError::placeless(&format!(
                "busy: {MOST} callers wait for a reload already; ask again later"
            )));
        }
        state.waiting.push(Asker(asker));
        // Somebody asked for it, even if they hang up before it begins.
        Ok(Joined { outcome, ask: None })
    }

    /// Tells everybody who waited for the reload with this ticket. Gives the ticket of the next one,
    /// if somebody waits for one. The monitor's own reloads have nobody here.
    pub(super) fn ended(&self, ticket: u32, outcome: &Result<(), ReloadError>) -> Option<u32> {
        let mut state = self.lock();
        let (_, askers) = state.running.take_if(|(running, _)| *running == ticket)?;
        for Asker(asker) in askers {
            // One that has gone away needs no answer.
            let _ = asker.send(outcome.clone());
        }
        if state.waiting.is_empty() {
            return None;
        }
        let waiting = std::mem::take(&mut state.waiting);
        Some(state.begin(waiting))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut waiting: Vec<_> = (0..MOST).map(|_| askers.join().expect("room")).collect();
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
