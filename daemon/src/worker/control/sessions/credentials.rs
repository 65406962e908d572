//! The credentials of sessions over the control socket (SPEC B3, B13). No call returns a value.

use std::sync::Arc;

use codex_network_config::{DestinationSource, Secret};
use codex_network_control::message::{
    CredentialEntry, CredentialValue, Credentials, CredentialsQuery, GivenCredentials,
    WantedCredential, WantedCredentials,
};
use codex_network_control::{Access, ControlError};
use codex_network_engine::{CredentialInfo, Engine, LauncherCredentials};
use nix::unistd::Uid;

use super::{Caller, check_profile, invalid, may_see};
use crate::memory;

/// The parts of a launcher's environment that a session of the caller would use.
pub(in super::super) fn wanted(
    engine: &Engine,
    caller: &Caller<'_>,
    query: &CredentialsQuery,
) -> Result<WantedCredentials, ControlError> {
    let generation = engine.current();
    let of_profile;
    let settings = match &query.profile {
        None => generation.settings(),
        Some(profile) => {
            check_profile(engine, caller, profile)?;
            let settings = generation.settings().with_profile(profile);
            of_profile = Arc::new(settings.unwrap_or_default());
            &of_profile
        }
    };
    let mut wanted = WantedCredentials {
        variables: LauncherCredentials::variables(settings)
            .map(str::to_owned)
            .collect(),
        hook_secrets: generation.settings().hook_secrets(),
        ..WantedCredentials::default()
    };
    for provider in settings.credential_providers.iter() {
        wanted.credentials.push(WantedCredential {
            id: provider.id.to_string(),
            env: provider.variables.iter().map(ToString::to_string).collect(),
            is_read: provider.source.is_read_with_the_configuration(),
        });
    }
    for source in LauncherCredentials::sources(settings) {
        match source {
            DestinationSource::Variable(name, _) => {
                wanted.destinations.push(name.as_str().to_owned());
            }
            DestinationSource::Tool(tool) => wanted.tools.push(tool.as_str().to_owned()),
        }
    }
    if !wanted.variables.is_empty() {
        // The next message may have values.
        memory::wipe_freed();
    }
    Ok(wanted)
}

/// The credentials of a request.
pub(super) fn taken(given: GivenCredentials) -> Result<LauncherCredentials, ControlError> {
    if !given.values.is_empty() {
        memory::wipe_freed();
    }
    if let Err(why) = given.check_bounds() {
        return invalid(why);
    }
    let secret = |value: CredentialValue| Secret::new(value.expose().as_bytes().to_vec());
    let values = given.values.into_iter();
    Ok(LauncherCredentials {
        values: values.map(|(name, value)| (name, secret(value))).collect(),
        destinations: given.destinations.into_iter().collect(),
        tools: given.tools.into_iter().collect(),
        without_any: given.without_any,
    })
}

/// The credentials of the sessions that a caller may see.
pub(in super::super) fn list(engine: &Engine, user: Uid, access: Access) -> Credentials {
    let sessions = engine.credentials().into_iter();
    let visible = sessions.filter(|(info, _)| may_see(info, user, access));
    let entries = visible.flat_map(|(info, credentials)| {
        let entry = move |one: CredentialInfo| CredentialEntry {
            session: info.id.to_string(),
            id: one.id.to_string(),
            env: one.variables.iter().map(ToString::to_string).collect(),
            destinations: one.destinations.iter().map(ToString::to_string).collect(),
            source: one.source.to_string(),
            uses: one.uses,
            last_used: one.last_used,
            read_at: one.read_at,
            failures: one.failures,
            failure: one.failure.map(|why| why.to_string()),
        };
        credentials.into_iter().map(entry)
    });
    Credentials {
        credentials: entries.collect(),
    }
}
