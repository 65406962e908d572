//! Limits the number of connections (SPEC C5). Each connection takes a slot when it is accepted and
//! frees it when it ends.
//!
//! While slots are free, a connection costs one short lock. Otherwise clients are accepted into a waiting
//! room. One task finds slots for them by the rules of [`shares`]; it runs only while clients wait. When
//! the waiting room is full, clients wait in the kernel's queue. If no slot is freed for a while, that
//! queue is emptied too: many clients of one holder may stand in it before a client of another one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout};

use crate::drain::Drain;
use crate::owner::{ConnectionHandle, Owners};
use crate::shares::{self, AdmittedConnection, Holder};

/// Size of the waiting room.
const MAX_WAITING: usize = 128;
/// Clients accepted beyond the waiting room while the kernel's queue is emptied.
const MAX_SURPLUS: usize = 32;
/// The kernel's queue is emptied when no slot was freed for this long.
const STUCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often slots are searched for again when none is freed.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// Shortest time between two log lines about connections that ended to make room.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The number of slots, and when a connection is idle.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) slots: usize,
    /// A connection that was idle for less keeps its slot, within its holder's share.
    pub(crate) min_idle: Duration,
    /// The most connections of one session.
    pub(crate) per_session: usize,
}

/// The bounds in force, which a reload changes.
pub(crate) type BoundsInForce = Arc<dyn Fn() -> Bounds + Send + Sync>;

/// The effects of shortages of slots, counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Shortages {
    /// Connections that ended to make room for another one.
    pub(crate) ended: AtomicU64,
    /// Clients that were turned away.
    pub(crate) turned_away: AtomicU64,
}

/// The slots for one kind of connection.
pub(crate) struct Admission {
    /// The name in log messages.
    name: &'static str,
    owners: Arc<Owners>,
    drain: Drain,
    shortages: Arc<Shortages>,
    state: Mutex<AdmissionState>,
    /// How many connections have a slot.
    open: AtomicUsize,
    /// How many clients wait.
    waiting: AtomicUsize,
    /// A slot was freed, or another client waits.
    changed: Notify,
    /// The waiting room may have room.
    room: Notify,
}

struct AdmissionState {
    connected: BTreeMap<u64, ConnectionHandle>,
    waiting: VecDeque<Newcomer>,
    last_number: u64,
    /// When a slot was last freed or taken.
    last_change: Instant,
    search: SlotSearch,
    /// When a shortage was last logged.
    logged_at: Option<Instant>,
}

/// Whether the task that finds slots runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SlotSearch {
    Idle,
    Running,
}

struct Newcomer {
    connection: ConnectionHandle,
    admitted: oneshot::Sender<ConnectionSlot>,
}

/// The result of [`Admission::enter`].
pub(crate) enum AdmissionResult {
    Admitted(ConnectionSlot),
    /// A slot follows. If the sender is dropped, the client is turned away.
    Waits(oneshot::Receiver<ConnectionSlot>),
}

/// The slot of one connection. Dropping it frees the slot.
pub(crate) struct ConnectionSlot {
    admission: Arc<Admission>,
    number: u64,
}

/// The connections that have a slot, by number, and those that wait.
struct Clients {
    connected: Vec<(u64, ConnectionHandle)>,
    waiting: Vec<ConnectionHandle>,
}

/// Counts by holder that are not logged yet.
#[derive(Default)]
struct Unlogged {
    ended: BTreeMap<Holder, u64>,
    turned_away: BTreeMap<Holder, u64>,
}

impl Admission {
    pub(crate) fn new(
        name: &'static str,
        owners: Arc<Owners>,
        drain: Drain,
        shortages: Arc<Shortages>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            owners,
            drain,
            shortages,
            state: Mutex::new(AdmissionState {
                connected: BTreeMap::new(),
                waiting: VecDeque::new(),
                last_number: 0,
                last_change: Instant::now(),
                search: SlotSearch::Idle,
                logged_at: None,
            }),
            open: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            changed: Notify::new(),
            room: Notify::new(),
        })
    }

    /// How many connections have a slot.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Finds the users that connections belong to.
    pub(crate) fn owners(&self) -> &Owners {
        &self.owners
    }

    /// Takes a slot, or a position in the waiting room.
    pub(crate) fn enter(
        self: &Arc<Self>,
        connection: &ConnectionHandle,
        bounds: &BoundsInForce,
    ) -> AdmissionResult {
        let slots = bounds().slots;
        let mut state = self.state();
        if state.waiting.is_empty() && state.connected.len() < slots {
            let number = self.take(&mut state, connection.clone());
            drop(state);
            return AdmissionResult::Admitted(self.slot(number));
        }
        let (admitted, slot) = oneshot::channel();
        state.waiting.push_back(Newcomer {
            connection: connection.clone(),
            admitted,
        });
        self.waiting.store(state.waiting.len(), Ordering::Relaxed);
        let search = std::mem::replace(&mut state.search, SlotSearch::Running);
        drop(state);
        self.owners.note_shortage();
        if search == SlotSearch::Idle {
            let (admission, bounds) = (Arc::clone(self), Arc::clone(bounds));
            self.drain
                .spawn(async move { admission.find_slots(&bounds).await });
        }
        self.changed.notify_one();
        AdmissionResult::Waits(slot)
    }

    /// Resolves when another client may be accepted.
    pub(crate) async fn may_accept(&self) {
        while !self.may_wait() {
            // Boxed: each accept loop would keep the room for it.
            let _ = Box::pin(timeout(RETRY_INTERVAL, self.room.notified())).await;
        }
    }

    fn may_wait(&self) -> bool {
        match self.waiting.load(Ordering::Relaxed) {
            0..MAX_WAITING => true,
            waiting if waiting < MAX_WAITING + MAX_SURPLUS => self.is_stuck(),
            _ => false,
        }
    }

    fn is_stuck(&self) -> bool {
        self.state().last_change.elapsed() >= STUCK_TIMEOUT
    }

    /// Finds slots for waiting clients until no client waits and everything is logged.
    async fn find_slots(self: Arc<Self>, bounds: &BoundsInForce) {
        let mut unlogged = Unlogged::default();
        while let Some(Clients { connected, waiting }) = self.look(&unlogged) {
            let mut pause = Duration::ZERO;
            if !waiting.is_empty() {
                self.owners.note_shortage();
                let all = connected.iter().map(|(_, connection)| connection);
                let all: Vec<_> = all.chain(&waiting).cloned().collect();
                self.owners.look_up(&all).await;
                let begun = Instant::now();
                self.settle(bounds(), &connected, &waiting, &mut unlogged);
                self.room.notify_waiters();
                // The pause is three times the work: the search takes at most a quarter of a
                // processor.
                pause = begun.elapsed() * 3;
            }
            self.log(&mut unlogged);
            tokio::select! {
                () = self.drain.begun() => {}
                () = async {
                    tokio::time::sleep(pause).await;
                    let _ = timeout(RETRY_INTERVAL, self.changed.notified()).await;
                } => {}
            }
        }
        self.room.notify_waiters();
    }

    /// The admitted and the waiting connections; `None` when there is nothing left to do.
    fn look(&self, unlogged: &Unlogged) -> Option<Clients> {
        let mut state = self.state();
        // A client that has gone needs no slot.
        let is_there = |newcomer: &Newcomer| !newcomer.admitted.is_closed();
        state.waiting.retain(is_there);
        if self.drain.has_begun() {
            state.waiting.clear();
        }
        self.waiting.store(state.waiting.len(), Ordering::Relaxed);
        if state.waiting.is_empty() {
            if unlogged.is_empty() || self.drain.has_begun() {
                state.search = SlotSearch::Idle;
                return None;
            }
            return Some(Clients {
                connected: Vec::new(),
                waiting: Vec::new(),
            });
        }
        let connected = state.connected.iter();
        let waiting = state.waiting.iter();
        Some(Clients {
            connected: connected
                .map(|(number, connection)| (*number, connection.clone()))
                .collect(),
            waiting: waiting
                .map(|newcomer| newcomer.connection.clone())
                .collect(),
        })
    }

    /// Plans which clients are admitted and which connections end, and does it. A connection that
    /// has ended in the meantime has already freed its slot.
    fn settle(
        self: &Arc<Self>,
        bounds: Bounds,
        connected: &[(u64, ConnectionHandle)],
        waiting: &[ConnectionHandle],
        unlogged: &mut Unlogged,
    ) {
        let rows: Vec<_> = connected
            .iter()
            .map(|(_, connection)| AdmittedConnection {
                holder: connection.holder(),
                idle: connection.activity().idle(),
            })
            .collect();
        let holders: Vec<_> = waiting.iter().map(ConnectionHandle::holder).collect();
        let plan = shares::plan(bounds.slots, bounds.min_idle, &rows, &holders);
        let mut state = self.state();
        for at in plan.end {
            let (number, connection) = &connected[at];
            if state.connected.remove(number).is_some() {
                self.open.fetch_sub(1, Ordering::Relaxed);
                self.shortages.ended.fetch_add(1, Ordering::Relaxed);
                *unlogged.ended.entry(rows[at].holder).or_default() += 1;
                connection.give_way();
            }
        }
        // Only this task removes newcomers, and new ones are added at the end.
        let mut leaving: Vec<(usize, Departure)> = plan
            .admit
            .iter()
            .map(|at| (*at, Departure::Admitted))
            .collect();
        if state.last_change.elapsed() >= STUCK_TIMEOUT && plan.admit.is_empty() {
            let turned_away = shares::surplus(MAX_WAITING, &holders);
            leaving.extend(
                turned_away
                    .into_iter()
                    .map(|at| (at, Departure::TurnedAway)),
            );
        }
        leaving.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let mut admitted = Vec::new();
        for (at, leaves) in leaving {
            let Some(newcomer) = state.waiting.remove(at) else {
                continue;
            };
            match leaves {
                Departure::Admitted if state.connected.len() < bounds.slots => {
                    let number = self.take(&mut state, newcomer.connection);
                    admitted.push((newcomer.admitted, number));
                }
                // More connections were admitted since the plan was made. The next plan decides.
                Departure::Admitted => state.waiting.insert(at, newcomer),
                Departure::TurnedAway => {
                    self.shortages.turned_away.fetch_add(1, Ordering::Relaxed);
                    *unlogged.turned_away.entry(holders[at]).or_default() += 1;
                }
            }
        }
        self.waiting.store(state.waiting.len(), Ordering::Relaxed);
        drop(state);
        for (newcomer, number) in admitted {
            // If the client has gone, this drops the slot and so frees it.
            let _ = newcomer.send(self.slot(number));
        }
    }

    fn take(&self, state: &mut AdmissionState, connection: ConnectionHandle) -> u64 {
        state.last_number += 1;
        state.last_change = Instant::now();
        state.connected.insert(state.last_number, connection);
        self.open.fetch_add(1, Ordering::Relaxed);
        state.last_number
    }

    fn slot(self: &Arc<Self>, number: u64) -> ConnectionSlot {
        ConnectionSlot {
            admission: Arc::clone(self),
            number,
        }
    }

    /// Logs the counts, at most every [`LOG_INTERVAL`].
    fn log(&self, unlogged: &mut Unlogged) {
        if unlogged.is_empty() {
            return;
        }
        let mut state = self.state();
        let was_logged = state
            .logged_at
            .is_some_and(|logged_at| logged_at.elapsed() < LOG_INTERVAL);
        if was_logged && !self.drain.has_begun() {
            return;
        }
        state.logged_at = Some(Instant::now());
        drop(state);
        for (holder, count) in std::mem::take(&mut unlogged.ended) {
            tracing::warn!(door = self.name, client = %holder, count, "all places are taken: ended connections of this client, the longest idle first, to let others in");
        }
        for (holder, count) in std::mem::take(&mut unlogged.turned_away) {
            tracing::warn!(door = self.name, client = %holder, count, "all places are taken: turned connections of this client away");
        }
    }

    fn state(&self) -> MutexGuard<'_, AdmissionState> {
        self.state.lock()
    }
}

/// How a client leaves the waiting room.
#[derive(Clone, Copy)]
enum Departure {
    Admitted,
    TurnedAway,
}

impl Unlogged {
    fn is_empty(&self) -> bool {
        self.ended.is_empty() && self.turned_away.is_empty()
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        if state.connected.remove(&self.number).is_some() {
            state.last_change = Instant::now();
            self.admission.open.fetch_sub(1, Ordering::Relaxed);
        }
        drop(state);
        if self.admission.waiting.load(Ordering::Relaxed) > 0 {
            self.admission.changed.notify_one();
        }
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission")
            .field("name", &self.name)
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}
