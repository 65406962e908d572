//! The credentials of the caller, which the command gets as dummies (SPEC B3, B9).
//!
//! The proxy says which variables hold credentials. It gets the values of these alone, and the command gets
//! none of them.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;

use codex_network_config::{
    BrokeredVariable, Secret, VariableName, brokered_variables, built_in_providers,
};
use codex_network_control::Client;
use codex_network_control::client::CallError;
use codex_network_control::message::{
    CredentialValue, CredentialsQuery, GivenCredentials, SessionOpened, WantedCredentials,
};
use tokio::runtime::Runtime;

use crate::args::RunArgs;
use crate::failure::Failure;
use crate::presets;

/// The credentials in the caller's environment.
#[derive(Debug, Default)]
pub(super) struct LauncherCredentials {
    values: Vec<(VariableName, Secret)>,
    destinations: Vec<(String, String)>,
    tools: Vec<(String, Vec<String>)>,
    /// Variables that the command does not get (`--no-credentials`).
    removed: Vec<String>,
}

/// Finds the credentials that the session would use.
pub(super) fn given(
    runtime: &Runtime,
    client: &Client,
    args: &RunArgs,
) -> Result<LauncherCredentials, Failure> {
    let query = CredentialsQuery {
        profile: args.profile.clone(),
    };
    let wanted = match runtime.block_on(client.wanted_credentials(query)) {
        Ok(wanted) => wanted,
        // It has no broker.
        Err(CallError::TooOld { .. }) => WantedCredentials::default(),
        Err(error) => {
            return Err(Failure::NoSession(format!(
                "the proxy opened no session: {error}"
            )));
        }
    };
    if args.no_credentials {
        let built_in = built_in_providers().into_iter();
        let built_in = built_in.flat_map(|provider| provider.variables);
        let mut removed = wanted.variables;
        removed.extend(built_in.map(|variable| variable.as_str().to_owned()));
        return Ok(LauncherCredentials {
            removed,
            ..LauncherCredentials::default()
        });
    }
    let mut given = LauncherCredentials::default();
    for name in wanted.variables {
        // A credential is text (SPEC B9).
        if let (Ok(variable), Ok(value)) = (VariableName::parse(&name), env::var(&name))
            && !value.is_empty()
        {
            given
                .values
                .push((variable, Secret::new(value.into_bytes())));
        }
    }
    if given.values.is_empty() {
        return Ok(given);
    }
    for name in wanted.destinations {
        if let Ok(value) = env::var(&name) {
            given.destinations.push((name, value));
        }
    }
    for name in wanted.tools {
        let urls = presets::token_urls(&name);
        given.tools.push((name, urls));
    }
    Ok(given)
}

impl LauncherCredentials {
    /// The part of the request for a session.
    pub(super) fn given(&self) -> GivenCredentials {
        let values = self.values.iter().filter_map(|(name, value)| {
            let value = String::from_utf8(value.expose().to_vec()).ok()?;
            Some((name.as_str().to_owned(), CredentialValue::new(value)))
        });
        GivenCredentials {
            values: values.collect(),
            destinations: self.destinations.clone(),
            tools: self.tools.clone(),
        }
    }

    /// The environment of the command: that of the caller, with the variables of the session, and with dummies
    /// in place of credentials.
    pub(super) fn environment(&self, session: &SessionOpened) -> BTreeMap<OsString, OsString> {
        let of_session = session.environment.iter();
        let of_session = of_session.map(|(name, value)| (name.into(), value.into()));
        // Its end must not decide which proxy other commands find.
        let mut environment: BTreeMap<OsString, OsString> =
            env::vars_os().chain(of_session).collect();
        for name in &self.removed {
            environment.remove(OsString::from(name).as_os_str());
        }
        let brokered: Vec<BrokeredVariable> = session
            .dummies
            .iter()
            .filter_map(|dummy| {
                let mut values = self.values.iter();
                let (name, value) = values.find(|(name, _)| name.as_str() == dummy.name)?;
                Some(BrokeredVariable {
                    name: name.clone(),
                    value: value.clone(),
                    dummy: dummy.dummy.clone(),
                })
            })
            .collect();
        let texts = environment.iter();
        let texts = texts.filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
        let variables = brokered_variables(&brokered, texts);
        let variables = variables.into_iter();
        environment.extend(variables.map(|(name, value)| (name.into(), value.into())));
        environment
    }
}
