//! Credentials of an embedder's programs (SPEC B3, E1): the values of the launcher's environment, the providers
//! that the embedder adds, and the variables of a child.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::sync::Arc;

use codex_network_config::{
    BrokeredVariable, CredentialProvider, CredentialVariable, DestinationSource, Secret, Settings,
    VariableName,
};
use codex_network_engine::{ChildCredentials, Engine, LauncherCredentials};

use super::error::NetworkProxyError;

/// The embedder's part of the credentials. The default has no broker.
#[derive(Clone, Default)]
pub(super) struct EmbedderCredentials {
    /// Stand beside those of the settings, in their place where they have the same name or variable.
    pub(super) providers: Vec<CredentialProvider>,
    /// The launcher's environment, of which only the variables that providers name are used; `None` without a broker.
    pub(super) environment: Option<Arc<HashMap<String, Secret>>>,
}

impl EmbedderCredentials {
    /// Takes the variables of a launcher's environment.
    pub(super) fn of(
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Arc<HashMap<String, Secret>> {
        let variables = environment.into_iter().filter_map(|(name, value)| {
            let variable = CredentialVariable::new(name, OsStr::new(&value))?;
            Some((variable.name, variable.value))
        });
        Arc::new(variables.collect())
    }

    /// Adds providers. A later one replaces an earlier one with its name, and has its variables.
    pub(super) fn add(&mut self, providers: impl IntoIterator<Item = CredentialProvider>) {
        for provider in providers {
            self.providers.retain(|other| other.id != provider.id);
            for other in &mut self.providers {
                let is_taken = |name: &VariableName| provider.variables.contains(name);
                other.variables.retain(|name| !is_taken(name));
            }
            self.providers.push(provider);
        }
    }

    /// Adds the embedder's providers to the settings. Without an environment, no program has a credential.
    ///
    /// # Errors
    ///
    /// [`NetworkProxyError::ServiceOnly`] if programs have credentials, and one of them has a source that is not read
    /// here.
    pub(super) fn add_to(&self, settings: &mut Settings) -> Result<(), NetworkProxyError> {
        self.add_providers(settings);
        let mut all = settings.credential_providers.iter();
        if self.environment.is_some()
            && all.any(|provider| provider.source.is_read_with_the_configuration())
        {
            return Err(NetworkProxyError::ServiceOnly(
                "a credential has a source that only the service reads (file, command or systemd_credential); set \
                 source = \"env\", and pass the variable with NetworkProxyBuilder::credentials",
            ));
        }
        Ok(())
    }

    fn add_providers(&self, settings: &mut Settings) {
        if self.providers.is_empty() {
            return;
        }
        let is_ours = |name: &VariableName| {
            let mut own = self.providers.iter().flat_map(|own| &own.variables);
            own.any(|own| own == name)
        };
        let others = settings.credential_providers.iter();
        let others = others.filter(|other| !self.providers.iter().any(|own| own.id == other.id));
        let others = others.cloned().map(|mut other| {
            other.variables.retain(|name| !is_ours(name));
            other
        });
        let all = others.chain(self.providers.iter().cloned());
        settings.credential_providers = all.collect();
    }

    /// The values and the sources of destinations that the providers of these settings name.
    pub(super) fn given(&self, settings: &Settings) -> LauncherCredentials {
        let Some(environment) = &self.environment else {
            return LauncherCredentials::default();
        };
        let values = LauncherCredentials::variables(settings)
            .filter_map(|name| Some((name.to_owned(), environment.get(name)?.clone())));
        let destinations =
            LauncherCredentials::sources(settings).filter_map(|source| match source {
                DestinationSource::Variable(name, _) => {
                    let value = environment.get(name.as_str())?.expose();
                    let value = std::str::from_utf8(value).ok()?;
                    Some((name.as_str().to_owned(), value.to_owned()))
                }
                // No program is started for an embedder.
                DestinationSource::Tool(_) => None,
            });
        LauncherCredentials {
            values: values.collect(),
            destinations: destinations.collect(),
            tools: HashMap::new(),
            without_any: false,
        }
    }

    /// The credentials of a child, and the secrets of hooks, which it does not get; `None` without any.
    pub(super) fn of_child(&self, engine: &Engine) -> Option<ChildCredentials> {
        let current = engine.current();
        let of_hooks = current.settings().hook_secrets();
        let Some(environment) = self.environment.as_ref() else {
            return (!of_hooks.is_empty()).then(|| ChildCredentials {
                brokered: Vec::new(),
                variables: of_hooks,
            });
        };
        let brokered = engine
            .own_dummies()
            .into_iter()
            .filter_map(|(name, dummy)| {
                Some(BrokeredVariable {
                    name: VariableName::parse(name).ok()?,
                    value: environment.get(name)?.clone(),
                    dummy: dummy.to_owned(),
                })
            });
        let brokered: Vec<BrokeredVariable> = brokered.collect();
        // Also those that a service would read from other sources: the child gets none of its own for them.
        let providers = current.settings().credential_providers.iter();
        let names = providers.flat_map(|provider| &provider.variables);
        let mut variables: Vec<String> = names.map(|name| name.as_str().to_owned()).collect();
        // A provider may have gone with a reload; its value does not come back.
        let own = brokered.iter().map(|one| one.name.as_str().to_owned());
        variables.extend(own);
        variables.extend(of_hooks);
        variables.sort();
        variables.dedup();
        Some(ChildCredentials {
            brokered,
            variables,
        })
    }
}

impl fmt::Debug for EmbedderCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbedderCredentials")
            .field("providers", &self.providers.len())
            .finish_non_exhaustive()
    }
}
