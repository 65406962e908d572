//! The credentials of the caller, which the command gets as dummies (SPEC B3, B9).
//!
//! The proxy says which variables hold credentials. It gets the values of these alone, and the command gets
//! none of them.
//!
//! - `keeper`: the programs of this machine that have tokens.
//! - `removal`: variables without a dummy.

mod keeper;
mod removal;

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;

use codex_network_config::{
    BrokeredVariable, CredentialVariable, Secret, VariableName, brokered_variables,
    built_in_providers,
};
use codex_network_control::Client;
use codex_network_control::client::CallError;
use codex_network_control::message::{
    CredentialValue, CredentialsQuery, GivenCredentials, SessionOpened, WantedCredentials,
};
use tokio::runtime::Runtime;

use crate::args::run::RunArgs;
use crate::failure::Failure;
use crate::presets;

/// The credentials in the caller's environment.
#[derive(Debug, Default)]
pub(super) struct LauncherCredentials {
    variables: Vec<CredentialVariable>,
    /// The caller's own values of credentials that the proxy reads. They stay here: neither the proxy nor the
    /// command gets them.
    unsent: Vec<CredentialVariable>,
    /// The variables among these whose values hooks put into requests.
    hook_secrets: Vec<String>,
    destinations: Vec<(String, String)>,
    tools: Vec<(String, Vec<String>)>,
    /// The command gets no dummies (`--no-credentials`).
    without_dummies: bool,
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
    let tokens = keeper::of(&args.credential, &wanted.credentials).map_err(Failure::NoSession)?;
    let read = wanted.credentials.iter().filter(|one| one.is_read);
    let mut read: Vec<String> = read.flat_map(|one| one.env.clone()).collect();
    read.extend(wanted.hook_secrets.iter().cloned());
    let mut names = wanted.variables;
    if args.no_credentials {
        names.extend(read.iter().cloned());
        let built_in = built_in_providers().into_iter();
        let built_in = built_in.flat_map(|provider| provider.variables);
        names.extend(built_in.map(|variable| variable.as_str().to_owned()));
    }
    let tokens = keeper::tokens(tokens).map_err(Failure::NoSession)?;
    let unsent = read
        .into_iter()
        .filter(|name| !names.contains(name))
        .filter_map(|name| {
            let value = env::var_os(&name)?;
            CredentialVariable::new(name, &value)
        })
        .collect();
    let variables = names.into_iter().filter_map(|name| {
        if let Some(token) = tokens.iter().find(|token| token.name == name) {
            return Some(token.clone());
        }
        let value = env::var_os(&name)?;
        CredentialVariable::new(name, &value)
    });
    let mut given = LauncherCredentials {
        variables: variables.collect(),
        unsent,
        hook_secrets: wanted.hook_secrets,
        without_dummies: args.no_credentials,
        ..LauncherCredentials::default()
    };
    if given.variables.is_empty() || given.without_dummies {
        return Ok(given);
    }
    for name in wanted.destinations {
        if let Ok(value) = env::var(&name) {
            given.destinations.push((name, value));
        }
    }
    for name in wanted.tools {
        let url = presets::token_url(&name);
        given.tools.push((name, url.into_iter().collect()));
    }
    Ok(given)
}

impl LauncherCredentials {
    /// The part of the request for a session. A credential is text (SPEC B9).
    pub(super) fn given(&self) -> GivenCredentials {
        if self.without_dummies {
            return GivenCredentials {
                without_any: true,
                ..GivenCredentials::default()
            };
        }
        let values = self.variables.iter().filter_map(|variable| {
            let value = CredentialValue::new(variable.text()?.to_owned());
            Some((variable.name.clone(), value))
        });
        GivenCredentials {
            values: values.collect(),
            destinations: self.destinations.clone(),
            tools: self.tools.clone(),
            without_any: false,
        }
    }

    /// The environment of the command, and remarks about variables that it lacks. It is that of the caller, with
    /// the variables of the session, with dummies in place of credentials, and without credentials that have none.
    pub(super) fn environment(
        &self,
        session: &SessionOpened,
    ) -> (BTreeMap<OsString, OsString>, Vec<String>) {
        let brokered: Vec<BrokeredVariable> = session
            .dummies
            .iter()
            .filter_map(|dummy| {
                let mut variables = self.all();
                let variable = variables.find(|variable| variable.name == dummy.name);
                let value = variable.map(|own| own.value.clone());
                Some(BrokeredVariable {
                    name: VariableName::parse(&dummy.name).ok()?,
                    value: value.unwrap_or_else(|| Secret::new(Vec::new())),
                    dummy: dummy.dummy.clone(),
                })
            })
            .collect();
        let mut environment: BTreeMap<OsString, OsString> = env::vars_os().collect();
        // Before those of the session are there: without them, the command would go past the proxy.
        let all: Vec<CredentialVariable> = self.all().cloned().collect();
        let remarks = removal::remove(
            &mut environment,
            &all,
            &brokered,
            &self.hook_secrets,
            self.without_dummies,
        );
        let of_session = session.environment.iter();
        environment.extend(of_session.map(|(name, value)| (name.into(), value.into())));
        let texts = environment.iter();
        let texts = texts.filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)));
        let variables = brokered_variables(&brokered, texts);
        let variables = variables.into_iter();
        environment.extend(variables.map(|(name, value)| (name.into(), value.into())));
        (environment, remarks)
    }

    /// Remarks about arguments of the command that contain a value. They stay: they are the user's own words.
    pub(super) fn remarks_about(&self, command: &[OsString]) -> Vec<String> {
        let arguments = command.iter().enumerate().skip(1);
        let remarks = arguments.filter_map(|(place, argument)| {
            let found = self.all().find(|credential| credential.is_in(argument))?;
            let name = &found.name;
            Some(format!(
                "argument {place} of the command contains the value of {name}, which the command gets; write ${name} in \
                 single quotes, and a shell of the command puts its own in"
            ))
        });
        remarks.collect()
    }

    /// All credentials that the caller has.
    fn all(&self) -> impl Iterator<Item = &CredentialVariable> {
        self.variables.iter().chain(&self.unsent)
    }
}
