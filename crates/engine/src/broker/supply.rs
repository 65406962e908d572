//! The credentials that a session gets, and the providers that they belong to: those of its launcher, and those
//! that were read with the configuration (SPEC B3, B6, B13).

use std::collections::HashMap;
use std::sync::Arc;

use codex_network_config::{
    CredentialId, CredentialProvider, CredentialReadings, CredentialSource, DestinationSource,
    PackageTool, Secret, Settings, VariableName, settled,
};

use super::store::SuppliedCredential;

/// The parts of a launcher's environment that the broker uses. Names that no provider knows count for nothing.
#[derive(Clone, Debug, Default)]
pub struct LauncherCredentials {
    /// Variables whose values are credentials.
    pub values: HashMap<String, Secret>,
    /// Variables that add destinations, such as `GH_HOST`.
    pub destinations: HashMap<String, String>,
    /// The URLs in the configuration of package managers, without user information.
    pub tools: HashMap<String, Vec<String>>,
    /// Whether the session has no credentials at all, those that were read with the configuration included.
    pub without_any: bool,
}

impl LauncherCredentials {
    /// Whether no value is given.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The variables whose values are credentials under these settings.
    pub fn variables(settings: &Settings) -> impl Iterator<Item = &str> {
        let providers = settings
            .credential_providers
            .iter()
            .filter(|provider| is_given(provider));
        let variables = providers.flat_map(|provider| &provider.variables);
        variables.map(VariableName::as_str)
    }

    /// The sources in a launcher's environment that add destinations under these settings.
    pub fn sources(settings: &Settings) -> impl Iterator<Item = &DestinationSource> {
        let providers = settings
            .credential_providers
            .iter()
            .filter(|provider| is_given(provider));
        providers.flat_map(|provider| &provider.destinations_from)
    }
}

/// Whether the launcher gives the values of the provider.
fn is_given(provider: &CredentialProvider) -> bool {
    provider.source == CredentialSource::Environment
}

/// The credentials of a session.
#[derive(Debug, Default)]
pub(crate) struct Supply {
    /// Those with a value.
    pub(crate) supplied: Vec<SuppliedCredential>,
    /// The providers whose sources could not be read, with the reason.
    pub(crate) lacking: Vec<LackingCredential>,
    /// Destinations that cannot be used, a sentence each without the full stop.
    pub(crate) remarks: Vec<String>,
}

/// A credential that a session does not have, since its source could not be read.
#[derive(Clone, Debug)]
pub(crate) struct LackingCredential {
    pub(crate) provider: Arc<CredentialProvider>,
    /// The rest of a sentence about the credential.
    pub(crate) why: Arc<str>,
}

/// The credentials of a session under these settings.
pub(crate) fn supply(
    settings: &Settings,
    launcher: &LauncherCredentials,
    readings: &CredentialReadings,
) -> Supply {
    let mut supply = Supply::default();
    given(settings, launcher, &mut supply);
    for provider in settings.credential_providers.iter() {
        if !provider.source.is_read_with_the_configuration() {
            continue;
        }
        let provider = Arc::new(provider.clone());
        let reading = readings.of(&provider.source);
        let Some(value) = reading.and_then(|reading| reading.value.clone()) else {
            let why = reading.and_then(|reading| reading.failure.clone());
            let why = why.unwrap_or_else(|| Arc::from("is read by the service alone"));
            supply.lacking.push(LackingCredential { provider, why });
            continue;
        };
        supply.supplied.push(SuppliedCredential {
            // A launcher adds no destination to a credential that it does not give.
            configured: Arc::clone(&provider),
            variables: provider.variables.clone(),
            provider,
            value,
        });
    }
    supply
}

/// Adds the credentials that a launcher gives, each with its provider.
fn given(settings: &Settings, launcher: &LauncherCredentials, supply: &mut Supply) {
    if launcher.is_empty() {
        return;
    }
    let providers: Vec<CredentialProvider> = settings
        .credential_providers
        .iter()
        .filter(|provider| is_given(provider))
        .cloned()
        .collect();
    let urls = |tool: PackageTool| launcher.tools.get(tool.as_str()).cloned();
    let settled = settled(
        &providers,
        &|name| launcher.destinations.get(name).cloned(),
        &|tool| urls(tool).unwrap_or_default(),
    );
    for (provider, configured) in settled.providers.into_iter().zip(providers) {
        let (provider, configured) = (Arc::new(provider), Arc::new(configured));
        for variable in &provider.variables {
            let value = launcher.values.get(variable.as_str());
            if let Some(value) = value.filter(|value| !value.expose().is_empty()) {
                supply.supplied.push(SuppliedCredential {
                    configured: Arc::clone(&configured),
                    provider: Arc::clone(&provider),
                    variables: vec![variable.clone()],
                    value: value.clone(),
                });
            }
        }
    }
    let supplied = &supply.supplied;
    let is_used = |id: &CredentialId| supplied.iter().any(|one| one.provider.id == *id);
    for ignored in &settled.ignored {
        if is_used(&ignored.credential) {
            let source = match &ignored.source {
                DestinationSource::Variable(name, _) => name.as_str(),
                DestinationSource::Tool(tool) => tool.as_str(),
            };
            let (id, error) = (&ignored.credential, ignored.error);
            supply.remarks.push(format!(
                "{source} adds no destination of the credential {id}: {error}"
            ));
        }
    }
}
