//! Sessions over the control socket: who may open, see and end which (SPEC J2, J4).
//!
//! The engine opens a session and checks the sockets. Here the request of a caller becomes one: its
//! words are parsed, its rights are checked, and the session is tied to the caller's connection.

mod credentials;
mod rules;

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::Duration;

use codex_network_control::message::{
    DoorKind, DummyVariable, Isolation, MAX_COMMAND, MAX_DOORS, MAX_WAIT, SessionDestination,
    SessionEnd, SessionEnded, SessionEntry, SessionId, SessionOpened, SessionReport,
    SessionRequest, Sessions,
};
use codex_network_control::{Access, ControlError};
use codex_network_engine::{
    ChildEnvironment, DestinationCount, Engine, Generation, OpenSession, SessionDoor, SessionInfo,
    SessionParts, SessionTotals, SettingsView,
};
use codex_network_policy::{Authority, Enforcement, Host};
use nix::unistd::{Gid, Uid};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

pub(super) use self::credentials::{list as credentials, wanted};
use super::UserConnection;
use super::peer::Peer;
use crate::permitted_callers::PermittedCallers;
use crate::worker::reload::Reloader;

/// Interval of checks whether the last connection of a session has ended while the proxy stops.
const IDLE_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// How long an opener may take to call for the cause of a session's end.
const CAUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The session of one connection of the control socket. Dropping it ends the session.
pub(super) struct HeldSession {
    open: Mutex<Option<OpenSession>>,
    /// The rights that it needs, until the task of the connection takes them.
    claim: Mutex<Option<Box<WatchedClaim>>>,
    /// The cause, when the session was ended.
    why: OnceLock<&'static str>,
    /// Notified when there is a claim, and when there is a cause.
    changed: Notify,
    /// Notified when the opener has been given the cause.
    told: Notify,
    /// The place among the connections of the user. A connection with a session needs none: sessions have
    /// limits of their own.
    place: Mutex<Option<(OwnedSemaphorePermit, UserConnection)>>,
}

/// The caller of a call.
pub(super) struct Caller<'a> {
    pub(super) peer: Peer,
    pub(super) groups: &'a [Gid],
    pub(super) permitted: &'a PermittedCallers,
}

/// The rights that an open session needs. A reload may take them away (SPEC P11).
pub(super) struct Claim {
    user: Uid,
    groups: Vec<Gid>,
    profile: Option<String>,
    /// Whether it allows hosts that the policy does not list.
    is_widened: bool,
}

/// The rights that a session needs, and the changes of the settings that may take them away.
struct WatchedClaim {
    claim: Claim,
    changes: watch::Receiver<()>,
}

impl HeldSession {
    pub(super) fn new(place: Option<(OwnedSemaphorePermit, UserConnection)>) -> Self {
        Self {
            open: Mutex::new(None),
            claim: Mutex::new(None),
            why: OnceLock::new(),
            changed: Notify::new(),
            told: Notify::new(),
            place: Mutex::new(place),
        }
    }

    /// Resolves when the connection should end: the session was ended, or the proxy stops and the session
    /// has no connection left. Ends the session when a change of the settings takes a right away that it needs.
    ///
    /// The task of the connection runs it: one of its own would cost each session more memory.
    pub(super) async fn over(&self, engine: &Engine, reloader: &Reloader) {
        let drain = engine.drain();
        let stopping = async {
            drain.begun().await;
            while self.has_connections() {
                // Boxed, like the other waits at the end: they are not needed before.
                Box::pin(tokio::time::sleep(IDLE_CHECK_INTERVAL)).await;
            }
        };
        tokio::select! {
            why = self.cause(engine, reloader) => {
                self.ended(why);
                let told = tokio::time::timeout(CAUSE_TIMEOUT, self.told.notified());
                let _ = Box::pin(told).await;
            }
            () = stopping => self.ended("it is stopping"),
        }
    }

    fn has_connections(&self) -> bool {
        let open = self.open.lock();
        open.as_ref().is_some_and(|open| open.connections() > 0)
    }

    fn ended(&self, why: &'static str) {
        let _ = self.why.set(why);
        self.changed.notify_waiters();
    }

    /// Resolves to the cause when the session was ended.
    async fn cause(&self, engine: &Engine, reloader: &Reloader) -> &'static str {
        let mut watched = loop {
            let changed = self.changed.notified();
            if let Some(watched) = self.claim.lock().take() {
                break watched;
            }
            changed.await;
        };
        let ends = self.open.lock().as_ref().map(OpenSession::ended);
        let Some(ends) = ends else {
            return pending().await;
        };
        let mut ends = pin!(ends);
        loop {
            tokio::select! {
                why = &mut ends => return why,
                Ok(()) = watched.changes.changed() => {
                    self.check(engine, &watched.claim, &reloader.admitted());
                },
            }
        }
    }

    /// Ends the session if the settings in force no longer give a right that it needs.
    fn check(&self, engine: &Engine, claim: &Claim, permitted: &PermittedCallers) {
        let Some(why) = claim.refusal(engine, permitted) else {
            return;
        };
        let open = self.open.lock();
        let info = open.as_ref().map(|open| open.info().clone());
        drop(open);
        let Some(info) = info else { return };
        if engine.end_session(&info.id, why) && engine.may_log_session_of(info.uid) {
            tracing::info!(
                parent: None,
                session = &*info.id,
                uid = info.uid,
                "ended a session: {why}"
            );
        }
    }

    /// Has the session watched, and ended when a change takes a right away that it needs.
    pub(super) fn watch(&self, claim: Claim, changes: watch::Receiver<()>) {
        let watched = WatchedClaim { claim, changes };
        *self.claim.lock() = Some(Box::new(watched));
        self.changed.notify_waiters();
    }

    /// Waits until the session ends, at most [`MAX_WAIT`].
    pub(super) async fn end(&self) -> Result<SessionEnd, ControlError> {
        if self.open.lock().is_none() {
            return invalid("no session was opened over this connection");
        }
        let cause = async {
            loop {
                let changed = self.changed.notified();
                if let Some(why) = self.why.get() {
                    return *why;
                }
                changed.await;
            }
        };
        let why = tokio::time::timeout(MAX_WAIT, cause).await.ok();
        if why.is_some() {
            self.told.notify_one();
        }
        Ok(SessionEnd {
            why: why.map(str::to_owned),
        })
    }

    /// Whether something can be intercepted in the session, and programs have no file with the CA.
    pub(super) fn lacks_ca_files(&self) -> bool {
        let open = self.open.lock();
        open.as_ref()
            .is_some_and(|session| lacks_ca_files(session, &session.current()))
    }

    /// The answer to the opener.
    pub(super) fn opened(&self, isolation: Isolation) -> Result<SessionOpened, ControlError> {
        match self.open.lock().as_ref() {
            Some(session) => Ok(opened(session, isolation)),
            None => invalid("no session was opened over this connection"),
        }
    }

    /// The results of the session so far; `None` without one.
    pub(super) fn report(&self) -> Option<SessionReport> {
        let open = self.open.lock();
        let session = open.as_ref()?;
        let (totals, usage) = (session.totals(), session.usage());
        let all = |counts: Vec<DestinationCount>| counts.into_iter().map(destination).collect();
        Some(SessionReport {
            allowed: all(usage.allowed),
            refused: all(usage.refused),
            others: usage.others,
            allowed_total: totals.allowed,
            refused_total: totals.refused,
            bytes_up: totals.sent,
            bytes_down: totals.received,
        })
    }
}

fn destination(count: DestinationCount) -> SessionDestination {
    SessionDestination {
        host: count.host,
        port: count.port,
        reason: count.reason,
        count: count.count,
        local: count.is_local,
    }
}

/// Opens a session and ties it to the connection.
pub(super) fn open(
    engine: &Engine,
    caller: &Caller<'_>,
    held: &HeldSession,
    mut request: SessionRequest,
) -> Result<Claim, ControlError> {
    let mut place = held.open.lock();
    if place.is_some() {
        return invalid("this connection has a session already");
    }
    if request.sockets.is_incomplete {
        return invalid(format!(
            "not all descriptors of the call arrived: a session has at most {MAX_DOORS}, and the proxy needs \
             room for them"
        ));
    }
    check_command(&request.command)?;
    if let Some(profile) = &request.profile {
        check_profile(engine, caller, profile)?;
    }
    // Not that of the connection: a reload may have changed it.
    let access = caller.permitted.access(caller.peer.user, caller.groups);
    let Some(access) = access.filter(|access| access.covers(Access::UseSessions)) else {
        return invalid("this user may no longer open sessions");
    };
    let narrowing = rules::narrowing(engine, &request.narrowing, access)?;
    let claim = Claim {
        user: caller.peer.user,
        groups: caller.groups.to_vec(),
        profile: request.profile.clone(),
        is_widened: !request.narrowing.allow.is_empty() || request.narrowing.report,
    };
    let credentials = credentials::taken(std::mem::take(&mut request.credentials))?;
    let doors: Result<_, _> = request.doors.drain(..).map(door).collect();
    let doors = doors?;
    let user = caller.peer.user.as_raw();
    let session = engine.open_session(SessionParts {
        uid: user,
        user: caller.permitted.name(user).map(str::to_owned),
        command: request.command,
        pid: request.pid,
        isolation: request.isolation.as_str(),
        profile: request.profile,
        narrowing,
        credentials,
        doors,
        sockets: std::mem::take(&mut request.sockets.arrived),
    });
    let session = session.map_err(|error| ControlError::Invalid {
        message: error.to_string(),
    })?;
    let info = session.info();
    if engine.may_log_session_of(user) {
        tracing::info!(
            parent: None,
            session = &*info.id,
            command = &*info.command,
            uid = user,
            pid = caller.peer.pid,
            isolation = info.isolation,
            profile = info.profile.as_deref(),
            "a session was opened"
        );
    }
    *place = Some(session);
    drop(place);
    held.place.lock().take();
    Ok(claim)
}

impl Claim {
    /// The right that the settings in force no longer give, as the rest of a sentence.
    pub(super) fn refusal(
        &self,
        engine: &Engine,
        permitted: &PermittedCallers,
    ) -> Option<&'static str> {
        let generation = engine.current();
        let profiles = &generation.settings().profiles;
        self.missing(permitted, |name| profiles.contains_key(name))
    }

    fn missing(
        &self,
        permitted: &PermittedCallers,
        is_profile: impl Fn(&str) -> bool,
    ) -> Option<&'static str> {
        let access = permitted.access(self.user, &self.groups);
        let Some(access) = access.filter(|access| access.covers(Access::UseSessions)) else {
            return Some("its user may no longer open sessions");
        };
        if self.is_widened && access != Access::Administer {
            return Some(
                "it was widened (--allow or --learn), and its user is no longer an administrator",
            );
        }
        let profile = self.profile.as_deref()?;
        if !is_profile(profile) {
            return Some("its permission profile is no longer defined");
        }
        let may = permitted.may_choose(profile, self.user, &self.groups);
        (!may).then_some("its user may no longer choose its permission profile")
    }
}

/// Whether something can be intercepted, and programs have no file with the CA.
fn lacks_ca_files(session: &OpenSession, generation: &Generation) -> bool {
    let ca = generation.supplied().files.ca.as_deref();
    let has_bundle = ca.is_some_and(|ca| ca.bundle_file.is_some());
    let is_needed = generation.settings().intercepts() || !session.dummies().is_empty();
    generation.intercepts() && is_needed && !has_bundle
}

/// The answer to the opener.
fn opened(session: &OpenSession, isolation: Isolation) -> SessionOpened {
    let generation = session.current();
    let policy = generation.policy();
    let remarks = session.remarks().iter();
    let mut warnings: Vec<String> = remarks.cloned().collect();
    let dummies = session.dummies();
    if !dummies.is_empty() && !generation.intercepts() {
        warnings.push(
            "credentials are injected only where TLS is intercepted, which is not possible here: the dummies of \
             this session are of no use"
                .to_owned(),
        );
    }
    if lacks_ca_files(session, &generation) {
        warnings.push(
            "programs do not trust the intercepted hosts of this session: the public files of the CA are not \
             written; `proxyctl status` shows why"
                .to_owned(),
        );
    }
    if !policy.is_enabled() {
        warnings.push("the proxy is switched off and refuses everything".to_owned());
    } else if policy.enforcement() == Enforcement::Report {
        warnings.push(
            "hosts that are merely not allowed are let through, and recorded as hosts that would be refused"
                .to_owned(),
        );
    } else if policy.allows_no_host() {
        warnings.push("the allow list is empty, so everything is refused".to_owned());
    }
    let dummies = dummies.into_iter().map(|(name, dummy)| DummyVariable {
        name: name.to_owned(),
        dummy: dummy.to_owned(),
    });
    SessionOpened {
        dummies: dummies.collect(),
        id: session.info().id.to_string(),
        environment: environment(session, &generation, isolation),
        mode: policy.mode().as_str().to_owned(),
        allow_rules: policy.allowed().len(),
        warnings,
    }
}

/// The variables for the program (SPEC J5).
fn environment(
    session: &OpenSession,
    generation: &Generation,
    isolation: Isolation,
) -> Vec<(String, String)> {
    let address = |door: &SessionDoor| -> Option<SocketAddr> { session.address(door) };
    let Some(http) = address(&SessionDoor::Http) else {
        return Vec::new();
    };
    let mut child = ChildEnvironment::new(http);
    child.socks5 = address(&SessionDoor::Socks5);
    child.allow_local_binding = generation.policy().allows_local_binding();
    child.has_own_loopback = isolation == Isolation::Jail;
    let ca = generation.supplied().files.ca.as_deref();
    child.bundle = ca
        .filter(|_| generation.intercepts())
        .and_then(|ca| ca.bundle_file.clone());
    let mut variables = HashMap::new();
    child.apply_to(&mut variables);
    let mut variables: Vec<_> = variables.into_iter().collect();
    variables.sort();
    variables
}

fn check_command(command: &str) -> Result<(), ControlError> {
    if command.is_empty() || command.len() > MAX_COMMAND {
        return invalid(format!(
            "the name of the command must have 1 to {MAX_COMMAND} bytes"
        ));
    }
    if command.chars().any(char::is_control) || command.contains('/') {
        return invalid("the name of the command must be without a path and control characters");
    }
    Ok(())
}

/// Fails if the caller may not use the profile, or if no profile has this name.
fn check_profile(engine: &Engine, caller: &Caller<'_>, profile: &str) -> Result<(), ControlError> {
    let generation = engine.current();
    let profiles = &generation.settings().profiles;
    let may = |name: &str| {
        let (user, groups) = (caller.peer.user, caller.groups);
        caller.permitted.may_choose(name, user, groups)
    };
    if profiles.contains_key(profile) && may(profile) {
        return Ok(());
    }
    // A caller does not learn which other profiles there are.
    let known: Vec<_> = profiles.keys().filter(|name| may(name)).collect();
    let names = match known.as_slice() {
        [] => "this user may choose none".to_owned(),
        known => {
            let names: Vec<_> = known.iter().map(|name| name.as_str()).collect();
            format!("this user may choose {}", names.join(", "))
        }
    };
    invalid(format!(
        "there is no permission profile {profile:?} for this user; {names}"
    ))
}

fn door(kind: DoorKind) -> Result<SessionDoor, ControlError> {
    Ok(match kind {
        DoorKind::Http => SessionDoor::Http,
        DoorKind::Socks5 => SessionDoor::Socks5,
        DoorKind::Transparent => SessionDoor::Transparent,
        DoorKind::DnsUdp => SessionDoor::DnsUdp,
        DoorKind::DnsTcp => SessionDoor::DnsTcp,
        DoorKind::Forward { host, port } => {
            let parsed = Host::parse(&host).map_err(|error| ControlError::Invalid {
                message: format!("{host:?} cannot be forwarded to: {error}"),
            })?;
            if port == 0 {
                return invalid(format!(
                    "{host:?} cannot be forwarded to: port 0 is no port"
                ));
            }
            SessionDoor::Forward(Authority { host: parsed, port })
        }
        DoorKind::Unknown => {
            return invalid("the proxy does not know a kind of door of this session");
        }
    })
}

/// The sessions that a caller may see, the oldest first.
pub(super) fn list(engine: &Engine, user: Uid, access: Access) -> Sessions {
    let sessions = engine.sessions().into_iter();
    let visible = sessions.filter(|(info, _)| may_see(info, user, access));
    Sessions {
        sessions: visible.map(|(info, totals)| entry(&info, totals)).collect(),
    }
}

/// The settings in force as the clients of a session see them, or all other clients (`None`).
pub(super) fn view(
    engine: &Engine,
    user: Uid,
    access: Access,
    session: Option<&str>,
) -> Result<SettingsView, ControlError> {
    let is_seen = |id: &str| {
        let sessions = engine.sessions();
        let mut seen = sessions
            .iter()
            .filter(|(info, _)| may_see(info, user, access));
        seen.any(|(info, _)| *info.id == *id)
    };
    let view = match session {
        Some(id) if !is_seen(id) => None,
        session => engine.view(session),
    };
    view.ok_or_else(|| ControlError::Invalid {
        message: format!("there is no session {:?}", session.unwrap_or_default()),
    })
}

/// Ends a session that the caller opened, or any for an administrator.
pub(super) fn end(
    engine: &Engine,
    user: Uid,
    access: Access,
    session: &SessionId,
) -> Result<SessionEnded, ControlError> {
    let mut sessions = engine.sessions().into_iter();
    let found = sessions.find(|(info, _)| *info.id == *session.id && may_see(info, user, access));
    let Some((info, totals)) = found else {
        return invalid(format!("there is no session {:?}", session.id));
    };
    if access != Access::Administer && info.uid != user.as_raw() {
        return Err(ControlError::NotPermitted {
            call: "end_session".to_owned(),
            needed: Access::Administer,
            has: access,
        });
    }
    engine.end_session(&info.id, "`proxyctl sessions end` ended it");
    Ok(SessionEnded {
        session: entry(&info, totals),
    })
}

fn may_see(info: &SessionInfo, user: Uid, access: Access) -> bool {
    access.covers(Access::Observe) || info.uid == user.as_raw()
}

fn entry(info: &SessionInfo, totals: SessionTotals) -> SessionEntry {
    SessionEntry {
        id: info.id.to_string(),
        user: info.user.as_deref().map(str::to_owned),
        uid: info.uid,
        command: info.command.to_string(),
        pid: info.pid,
        profile: info.profile.as_deref().map(str::to_owned),
        isolation: match info.isolation {
            "jail" => Isolation::Jail,
            "seatbelt" => Isolation::Seatbelt,
            _ => Isolation::Env,
        },
        since: info.since,
        allowed: totals.allowed,
        refused: totals.refused,
        asked: totals.asked,
        bytes_up: totals.sent,
        bytes_down: totals.received,
    }
}

fn invalid<T>(message: impl Into<String>) -> Result<T, ControlError> {
    Err(ControlError::Invalid {
        message: message.into(),
    })
}

#[cfg(test)]
mod tests;
