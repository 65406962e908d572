//! The credentials of an open session, and those of the clients without a session (SPEC B3, E1).

use std::sync::Arc;

use codex_network_config::{CredentialProvider, CredentialReadings, Settings};
use nix::unistd::Uid;
use parking_lot::Mutex;

use super::Engine;
use super::session_parts::SessionError;
use crate::broker::{
    self, CredentialError, CredentialInfo, DummyRegistry, LackingCredential, LauncherCredentials,
    NO_SESSION, RegisteredDummies, SessionCredentials, Supply,
};
use crate::http::Shared;
use crate::live_policy::SessionRules;
use crate::session::{Session, SessionInfo};

/// The credentials of a session, and its dummies until it ends.
#[derive(Default)]
pub(super) struct SessionBroker {
    /// `None` if it has none.
    pub(super) credentials: Option<Arc<SessionCredentials>>,
    registered: Mutex<Option<RegisteredDummies>>,
    /// Those whose sources could not be read.
    pub(super) lacking: Vec<LackingCredential>,
    /// Values and destinations that cannot be used, a sentence each without the full stop.
    pub(super) remarks: Vec<String>,
}

impl Engine {
    /// The credentials of each session, the oldest session first.
    pub fn credentials(&self) -> Vec<(SessionInfo, Vec<CredentialInfo>)> {
        let current = self.current();
        let readings = &current.supplied().credentials;
        let mut all = Vec::new();
        self.each_brokered(|info, brokered| all.push((info.clone(), brokered.infos(readings))));
        all
    }

    /// Gives the sessions the values that were read last (SPEC B13).
    pub(super) fn renew_values(&self, readings: &CredentialReadings) {
        self.each_brokered(|_, brokered| brokered.renew(readings));
    }
}

impl SessionBroker {
    /// Makes the dummies for the credentials that a session with these rules may use.
    pub(super) fn new(
        shared: &Shared,
        session: &Session,
        rules: &SessionRules,
        launcher: &LauncherCredentials,
    ) -> Result<Self, SessionError> {
        let current = shared.live().current();
        let readings = &current.supplied().credentials;
        if launcher.without_any || launcher.is_empty() && readings.iter().next().is_none() {
            return Ok(Self::default());
        }
        let settings = rules.apply(&current);
        let settings = settings.map_err(|error| SessionError::Rules(error.to_string()))?;
        let supply = broker::supply(&settings, launcher, readings);
        let mut required = supply.lacking.iter().filter(|one| one.provider.require);
        if let Some(LackingCredential { provider, why }) = required.next() {
            let sentence = format!("the credential {} {why}", provider.id);
            return Err(SessionError::Credential(sentence));
        }
        let info = session.info();
        let (all, errors) = Self::under(supply, &shared.dummies, &info.id, info.uid);
        let is_required = |provider: &CredentialProvider| {
            let is_read = provider.source.is_read_with_the_configuration();
            provider.require && is_read && errors.iter().any(|error| error.id == provider.id)
        };
        if settings.credential_providers.iter().any(is_required) {
            let sentences: Vec<String> = errors.iter().map(ToString::to_string).collect();
            return Err(SessionError::Credential(sentences.join("; ")));
        }
        Ok(all)
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
        let supply = broker::supply(settings, launcher, &CredentialReadings::default());
        Self::under(supply, dummies, &Arc::from(NO_SESSION), user).0
    }

    fn under(
        supply: Supply,
        dummies: &DummyRegistry,
        session: &Arc<str>,
        user: u32,
    ) -> (Self, Vec<CredentialError>) {
        let (lacking, mut remarks) = (supply.lacking, supply.remarks);
        let lacks = lacking.iter().map(|LackingCredential { provider, why }| {
            format!(
                "the credential {} {why}, so the session has no dummy for it",
                provider.id
            )
        });
        remarks.extend(lacks);
        let (credentials, errors) = SessionCredentials::from_supplied(supply.supplied, user);
        let left = errors.iter();
        remarks.extend(left.map(|error| format!("{error}, so the session has no dummy for it")));
        let is_empty = credentials.iter().next().is_none();
        let registered = (!is_empty).then(|| dummies.register(session, user, &credentials));
        let all = Self {
            credentials: (!is_empty).then(|| Arc::new(credentials)),
            registered: Mutex::new(registered),
            lacking,
            remarks,
        };
        (all, errors)
    }

    /// The variables that hold dummies, and these.
    pub(super) fn dummies(&self) -> Vec<(&str, &str)> {
        let all = self.credentials.iter().flat_map(|all| all.dummies());
        all.map(|(name, dummy)| (name.as_str(), dummy)).collect()
    }

    /// Takes the values of later readings. The dummies stay the same (SPEC B9).
    pub(super) fn renew(&self, readings: &CredentialReadings) {
        let Some(credentials) = &self.credentials else {
            return;
        };
        for error in credentials.renew(readings) {
            tracing::warn!("{error}; the value before stays in use");
        }
    }

    /// The facts about each credential, those that the session lacks included.
    pub(super) fn infos(&self, readings: &CredentialReadings) -> Vec<CredentialInfo> {
        let present = self.credentials.iter().flat_map(|all| all.infos());
        let lacking = self.lacking.iter().map(|lacking| CredentialInfo {
            id: lacking.provider.id.clone(),
            variables: lacking.provider.variables.clone(),
            destinations: lacking.provider.destinations.clone(),
            source: lacking.provider.source.clone(),
            uses: 0,
            last_used: None,
            read_at: None,
            failures: 0,
            failure: Some(Arc::clone(&lacking.why)),
        });
        let with_reading = |mut info: CredentialInfo| {
            if let Some(reading) = readings.of(&info.source) {
                let is_lacking = info.failure.is_some();
                info.read_at = (!is_lacking && reading.read_at > 0).then_some(reading.read_at);
                info.failures = reading.failures;
                info.failure = info.failure.or_else(|| reading.failure.clone());
            }
            info
        };
        present.chain(lacking).map(with_reading).collect()
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
