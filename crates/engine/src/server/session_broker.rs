//! The credentials of an open session, and those of the clients without a session (SPEC B3, E1).

use std::sync::Arc;

use codex_network_config::Settings;
use nix::unistd::Uid;
use parking_lot::Mutex;

use super::Engine;
use super::session_parts::SessionError;
use crate::broker::{
    self, CredentialInfo, DummyRegistry, LauncherCredentials, NO_SESSION, RegisteredDummies,
    SessionCredentials,
};
use crate::http::Shared;
use crate::live_policy::SessionRules;
use crate::session::Session;

/// The credentials of a session, and its dummies until it ends.
#[derive(Default)]
pub(super) struct SessionBroker {
    /// `None` if it has none.
    pub(super) credentials: Option<Arc<SessionCredentials>>,
    registered: Mutex<Option<RegisteredDummies>>,
    /// Values and destinations that cannot be used, a sentence each without the full stop.
    pub(super) remarks: Vec<String>,
}

impl SessionBroker {
    /// Makes the dummies for the credentials that a session with these rules may use.
    pub(super) fn new(
        shared: &Shared,
        session: &Session,
        rules: &SessionRules,
        launcher: &LauncherCredentials,
    ) -> Result<Self, SessionError> {
        if launcher.is_empty() {
            return Ok(Self::default());
        }
        let settings = rules.apply(&shared.live().current());
        let settings = settings.map_err(|error| SessionError::Rules(error.to_string()))?;
        let info = session.info();
        Ok(Self::under(
            &settings,
            &shared.dummies,
            &info.id,
            info.uid,
            launcher,
        ))
    }

    /// Makes the dummies for clients without a session.
    pub(super) fn without_session(
        settings: &Settings,
        dummies: &DummyRegistry,
        launcher: &LauncherCredentials,
    ) -> Self {
        if launcher.is_empty() {
            return Self::default();
        }
        let user = Uid::current().as_raw();
        Self::under(settings, dummies, &Arc::from(NO_SESSION), user, launcher)
    }

    fn under(
        settings: &Settings,
        dummies: &DummyRegistry,
        session: &Arc<str>,
        user: u32,
        launcher: &LauncherCredentials,
    ) -> Self {
        let (supplied, mut remarks) = broker::supplied(settings, launcher);
        let (credentials, errors) = SessionCredentials::from_supplied(supplied);
        let left = errors.iter();
        remarks.extend(left.map(|error| format!("{error}, so the session has no dummy for it")));
        let is_empty = credentials.iter().next().is_none();
        let registered = (!is_empty).then(|| dummies.register(session, user, &credentials));
        Self {
            credentials: (!is_empty).then(|| Arc::new(credentials)),
            registered: Mutex::new(registered),
            remarks,
        }
    }

    /// The variables that hold dummies, and these.
    pub(super) fn dummies(&self) -> Vec<(&str, &str)> {
        let all = self.credentials.iter().flat_map(|all| all.dummies());
        all.map(|(name, dummy)| (name.as_str(), dummy)).collect()
    }

    /// Makes the dummies void.
    pub(super) fn end(&self) {
        self.registered.lock().take();
    }
}

impl Engine {
    /// The credentials of the clients without a session ([`EngineParts::credentials`](super::EngineParts)).
    pub fn own_credentials(&self) -> Vec<CredentialInfo> {
        let all = self.broker.credentials.iter();
        all.flat_map(|all| all.infos()).collect()
    }

    /// The variables of their programs that hold dummies, and these.
    pub fn own_dummies(&self) -> Vec<(&str, &str)> {
        self.broker.dummies()
    }

    /// Their values and destinations that cannot be used, a sentence each without the full stop.
    pub fn credential_remarks(&self) -> &[String] {
        &self.broker.remarks
    }
}
