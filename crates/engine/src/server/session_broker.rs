//! The credentials of an open session (SPEC B3).

use std::sync::Arc;

use parking_lot::Mutex;

use super::session_parts::SessionError;
use crate::broker::{self, LauncherCredentials, RegisteredDummies, SessionCredentials};
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
        let (supplied, mut remarks) = broker::supplied(&settings, launcher);
        let (credentials, errors) = SessionCredentials::from_supplied(supplied);
        let left = errors.iter();
        remarks.extend(left.map(|error| format!("{error}, so the session has no dummy for it")));
        let is_empty = credentials.iter().next().is_none();
        let info = session.info();
        let register = || shared.dummies.register(&info.id, info.uid, &credentials);
        let registered = (!is_empty).then(register);
        Ok(Self {
            credentials: (!is_empty).then(|| Arc::new(credentials)),
            registered: Mutex::new(registered),
            remarks,
        })
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
