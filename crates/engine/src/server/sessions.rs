//! Opens sessions: doors that only one program uses, with settings of their own (SPEC J2, J4, J13).
//!
//! The doors of a session hold parts of the engine in which every request is judged by the session's
//! settings (`shared`). So no connection of a session can be judged without it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::Engine;
use super::session_broker::SessionBroker;
use super::session_doors::{Opening, SessionDoors};
use super::session_parts::{SessionDoor, SessionError, SessionParts};
use super::session_sockets::checked;
use super::settings_view::SettingsView;
use crate::accept::{AcceptTurn, ServingRuntime};
use crate::closing::GivenDescriptor;
use crate::drain::DrainPart;
use crate::http::Shared;
use crate::live_policy::{Generation, SessionRules, SessionRulesError};
use crate::owner::ConnectionHandle;
use crate::policy_dns::LookedUpNames;
use crate::record::Recorder;
use crate::session::{Session, SessionInfo, SessionNumber, SessionTotals, SessionUsage};

/// Interval of checks whether a session blocks the thread that accepts.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// An open session. Dropping it ends the session: its doors close, and its connections end at once.
pub struct OpenSession {
    entry: Arc<SessionEntry>,
    sessions: Arc<OpenSessions>,
    _place: Place,
}

/// The sessions of an engine.
#[derive(Debug, Default)]
pub(super) struct OpenSessions {
    last: AtomicU64,
    state: Mutex<SessionsState>,
}

#[derive(Debug, Default)]
struct SessionsState {
    open: BTreeMap<SessionNumber, Arc<SessionEntry>>,
    /// Places that are taken, of sessions that are open or about to be.
    places: usize,
    of_user: HashMap<u32, usize>,
    /// Whether a task watches the thread that accepts.
    is_watched: bool,
}

impl OpenSessions {
    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.state.lock().open.len()
    }
}

/// A session, and what it takes to end it.
struct SessionEntry {
    session: Arc<Session>,
    part: DrainPart,
    doors: SessionDoors,
    shared: Arc<Shared>,
    /// Notified when it was ended.
    ended: Notify,
    /// Why it was ended.
    why: OnceLock<&'static str>,
    brokered: SessionBroker,
}

/// The place of one session, until it is dropped.
#[derive(Debug)]
struct Place {
    sessions: Arc<OpenSessions>,
    uid: u32,
}

impl Engine {
    /// Opens a session. Its doors accept when the call returns.
    ///
    /// # Errors
    ///
    /// Returns an error in words for the opener, and closes the sockets.
    pub fn open_session(&self, parts: SessionParts) -> Result<OpenSession, SessionError> {
        let sockets = parts.sockets.into_iter();
        let given = sockets.map(|socket| GivenDescriptor::new(parts.uid, socket, &self.closer));
        let given = given.collect();
        if self.shared.drain.has_begun() {
            return Err(SessionError::Stopping);
        }
        let current = self.current();
        let limits = &current.settings().daemon.sessions;
        if let Some((_, turn)) = &self.session_runtime
            && turn.is_over(parts.uid)
        {
            return Err(SessionError::Waited);
        }
        let place = Place::take(&self.sessions, parts.uid, limits.max, limits.max_per_user)?;
        let checked = checked(parts.doors, given)?;
        let number = SessionNumber(self.sessions.last.fetch_add(1, Ordering::Relaxed) + 1);
        let profile = parts.profile.as_deref().map(Arc::from);
        let info = SessionInfo {
            id: random_id()?,
            uid: parts.uid,
            user: parts.user.map(Arc::from),
            command: parts.command.into(),
            pid: parts.pid,
            isolation: parts.isolation,
            profile,
            since: self.shared.recorder().now(),
        };
        let session = Arc::new(Session::new(number, info));
        let part = self.shared.drain.part();
        let addresses = checked.iter().map(|door| door.address).collect();
        let rules = SessionRules {
            profile: parts.profile,
            narrowing: parts.narrowing,
        };
        let names = Arc::<LookedUpNames>::default();
        let brokered = SessionBroker::new(&self.shared, &session, &rules, &parts.credentials)?;
        let shared = self.shared.for_session(
            Arc::clone(&session),
            rules,
            brokered.credentials.clone(),
            addresses,
            part.drain().clone(),
            Arc::clone(&names.synthetic),
        );
        let shared = Arc::new(
            shared.map_err(|error: SessionRulesError| SessionError::Rules(error.to_string()))?,
        );
        let mut entry = SessionEntry {
            session,
            part,
            doors: SessionDoors::default(),
            shared: Arc::clone(&shared),
            ended: Notify::new(),
            why: OnceLock::new(),
            brokered,
        };
        let runtimes = self.serving_runtimes();
        let (here, turn) = self.accepting(number, &runtimes);
        let opening = Opening {
            engine: self,
            shared: &shared,
            session: &entry.session,
            names,
            here,
            runtimes,
            turn,
        };
        // An error drops `entry`, which ends the tasks that have begun.
        let doors = opening.open(checked)?;
        let turn = opening.turn;
        entry.doors = doors;
        let entry = Arc::new(entry);
        self.list_session(number, &entry, turn);
        // They may have been read again since the session got its values.
        entry.brokered.renew(&self.current().supplied().credentials);
        Ok(OpenSession {
            entry,
            sessions: Arc::clone(&self.sessions),
            _place: place,
        })
    }

    /// Adds a session whose doors are open to the list, and has the listeners of sessions watched.
    fn list_session(
        &self,
        number: SessionNumber,
        entry: &Arc<SessionEntry>,
        turn: Option<Arc<AcceptTurn>>,
    ) {
        let mut state = self.sessions.state.lock();
        state.open.insert(number, Arc::clone(entry));
        let was_watched = std::mem::replace(&mut state.is_watched, turn.is_some());
        drop(state);
        if let Some(turn) = turn.filter(|_| !was_watched) {
            let recorder = Arc::clone(self.shared.recorder());
            let watching = watch(Arc::clone(&self.sessions), turn, recorder);
            self.shared.drain.spawn_until_begun(watching);
        }
    }

    /// The runtime that accepts for a session, out of these without one for all sessions.
    fn accepting(
        &self,
        number: SessionNumber,
        runtimes: &[Arc<ServingRuntime>],
    ) -> (Arc<ServingRuntime>, Option<Arc<AcceptTurn>>) {
        if let Some((runtime, turn)) = &self.session_runtime {
            return (Arc::clone(runtime), Some(Arc::clone(turn)));
        }
        let here = usize::try_from(number.0).unwrap_or(0) % runtimes.len();
        (Arc::clone(&runtimes[here]), None)
    }

    /// The open sessions, the oldest first, with their counts.
    pub fn sessions(&self) -> Vec<(SessionInfo, SessionTotals)> {
        let state = self.sessions.state.lock();
        let entries = state.open.values();
        entries
            .map(|entry| (entry.session.info().clone(), entry.session.totals()))
            .collect()
    }

    /// Calls this for the credentials of each session, the oldest session first.
    pub(super) fn each_brokered(&self, mut each: impl FnMut(&SessionInfo, &SessionBroker)) {
        let state = self.sessions.state.lock();
        let entries = state.open.values();
        entries.for_each(|entry| each(entry.session.info(), &entry.brokered));
    }

    /// Ends a session, for a cause that [`OpenSession::ended`] gives. False if no session has this id.
    pub fn end_session(&self, id: &str, why: &'static str) -> bool {
        let entry = self.session_entry(id);
        entry.map(|entry| entry.end(why)).is_some()
    }

    /// The settings in force as a session sees them, or all other clients (`None`). `None` if no session has
    /// this id.
    pub fn view(&self, session: Option<&str>) -> Option<SettingsView> {
        let mut view = self.clone();
        if let Some(id) = session {
            view.shared = Arc::clone(&self.session_entry(id)?.shared);
        }
        Some(SettingsView(view))
    }

    /// The open session with this id.
    pub(super) fn session(&self, id: &str) -> Option<Arc<Session>> {
        let entry = self.session_entry(id)?;
        Some(Arc::clone(&entry.session))
    }

    fn session_entry(&self, id: &str) -> Option<Arc<SessionEntry>> {
        let state = self.sessions.state.lock();
        let mut entries = state.open.values();
        entries
            .find(|entry| *entry.session.info().id == *id)
            .cloned()
    }

    /// Whether to log a message about the sessions of a user. Beyond the user's budget of lines the message is
    /// counted.
    pub fn may_log_session_of(&self, user: u32) -> bool {
        let user = ConnectionHandle::of_user(user);
        self.shared.recorder().may_log(&user, "sessions")
    }

    /// All runtimes that serve connections.
    fn serving_runtimes(&self) -> Arc<[Arc<ServingRuntime>]> {
        if self.runtimes.is_empty() {
            return Arc::from([ServingRuntime::new(Handle::current())]);
        }
        Arc::clone(&self.runtimes)
    }
}

impl OpenSession {
    /// The facts about the session.
    pub fn info(&self) -> &SessionInfo {
        self.entry.session.info()
    }

    /// Its counts so far.
    pub fn totals(&self) -> SessionTotals {
        self.entry.session.totals()
    }

    /// Its destinations so far.
    pub fn usage(&self) -> SessionUsage {
        self.entry.session.usage()
    }

    /// Its settings in force.
    pub fn current(&self) -> Arc<Generation> {
        self.entry.shared.live().current()
    }

    /// The variables of its program that hold dummies of credentials, and these (SPEC B3).
    pub fn dummies(&self) -> Vec<(&str, &str)> {
        self.entry.brokered.dummies()
    }

    /// Values and destinations of its credentials that cannot be used, a sentence each without the full stop.
    pub fn remarks(&self) -> &[String] {
        &self.entry.brokered.remarks
    }

    /// The address of its first door of a kind.
    pub fn address(&self, door: &SessionDoor) -> Option<SocketAddr> {
        self.entry.doors.address(door)
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.entry.session.open_connections()
    }

    /// Resolves to the cause when the session was ended, by [`Engine::end_session`], by the engine, or because
    /// this value was dropped.
    pub fn ended(&self) -> impl Future<Output = &'static str> + Send + use<> {
        let entry = Arc::clone(&self.entry);
        async move {
            // Made before the cause is looked up, so that no notification is missed.
            let ended = entry.ended.notified();
            if entry.why.get().is_none() {
                ended.await;
            }
            entry.why.get().copied().unwrap_or("its connection ended")
        }
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        self.entry.end("its connection ended");
        let number = self.entry.session.number();
        self.sessions.state.lock().open.remove(&number);
    }
}

impl std::fmt::Debug for OpenSession {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenSession")
            .field("session", &self.entry.session)
            .finish_non_exhaustive()
    }
}

impl SessionEntry {
    /// Closes the doors and ends the connections. The first cause counts.
    fn end(&self, why: &'static str) {
        let _ = self.why.set(why);
        self.ended.notify_waiters();
        // First, so that no loop takes the end of its listener for a failure.
        self.part.cut();
        self.brokered.end();
        let approvals = self.shared.enforcer.approvals();
        approvals.end_session(self.session.number());
        self.doors.shut();
    }
}

impl Drop for SessionEntry {
    fn drop(&mut self) {
        self.end("its doors cannot be opened");
    }
}

impl std::fmt::Debug for SessionEntry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionEntry")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Place {
    fn take(
        sessions: &Arc<OpenSessions>,
        uid: u32,
        max: usize,
        max_per_user: usize,
    ) -> Result<Self, SessionError> {
        let mut state = sessions.state.lock();
        let of_user = state.of_user.get(&uid).copied().unwrap_or_default();
        if of_user >= max_per_user {
            return Err(SessionError::UserFull(of_user));
        }
        if state.places >= max {
            return Err(SessionError::Full(state.places));
        }
        state.places += 1;
        state.of_user.insert(uid, of_user + 1);
        drop(state);
        Ok(Self {
            sessions: Arc::clone(sessions),
            uid,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.sessions.state.lock();
        state.places -= 1;
        if let Some(of_user) = state.of_user.get_mut(&self.uid) {
            *of_user -= 1;
            if *of_user == 0 {
                state.of_user.remove(&self.uid);
            }
        }
    }
}

/// Ends each session that blocks the thread that accepts, and all sessions of a user that do so too long.
/// Returns when there is no session.
async fn watch(sessions: Arc<OpenSessions>, turn: Arc<AcceptTurn>, recorder: Arc<Recorder>) {
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let mut state = sessions.state.lock();
        if state.open.is_empty() {
            state.is_watched = false;
            return;
        }
        let blocking = turn.blocking();
        let is_over = |entry: &SessionEntry| {
            blocking.contains(&entry.session.number()) || turn.is_over(entry.session.uid())
        };
        let open = state.open.values().filter(|entry| is_over(entry));
        let ends: Vec<_> = open.map(Arc::clone).collect();
        drop(state);
        for entry in ends.iter().filter(|entry| entry.why.get().is_none()) {
            let info = entry.session.info();
            let user = ConnectionHandle::of_user(info.uid);
            if recorder.may_log(&user, "sessions") {
                tracing::warn!(
                    session = &*info.id,
                    uid = info.uid,
                    "ended a session whose listening socket was made blocking"
                );
            }
            entry.end("a listening socket of it, or of its user, was made blocking");
        }
    }
}

/// A name for records. It is no secret.
fn random_id() -> io::Result<Arc<str>> {
    let mut bytes = [0; 8];
    let filled = SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)).into())
}
