//! The credentials that a launcher gives to a session, and the providers that they belong to (SPEC B3, B6).

use std::collections::HashMap;
use std::sync::Arc;

use codex_network_config::{
    CredentialId, CredentialProvider, CredentialSource, DestinationSource, PackageTool, Secret,
    Settings, VariableName, settled,
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
}

impl LauncherCredentials {
    /// Whether nothing is given.
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

/// The credentials that a launcher gives, each with its provider, and remarks about destinations that cannot
/// be used.
pub(crate) fn supplied(
    settings: &Settings,
    launcher: &LauncherCredentials,
) -> (Vec<SuppliedCredential>, Vec<String>) {
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
    let mut supplied = Vec::new();
    for (provider, configured) in settled.providers.into_iter().zip(providers) {
        let (provider, configured) = (Arc::new(provider), Arc::new(configured));
        for variable in &provider.variables {
            let value = launcher.values.get(variable.as_str());
            if let Some(value) = value.filter(|value| !value.expose().is_empty()) {
                supplied.push(SuppliedCredential {
                    configured: Arc::clone(&configured),
                    provider: Arc::clone(&provider),
                    variables: vec![variable.clone()],
                    value: value.clone(),
                });
            }
        }
    }
    let is_used = |id: &CredentialId| supplied.iter().any(|one| one.provider.id == *id);
    let mut remarks = Vec::new();
    for ignored in &settled.ignored {
        if is_used(&ignored.credential) {
            let source = match &ignored.source {
                DestinationSource::Variable(name, _) => name.as_str(),
                DestinationSource::Tool(tool) => tool.as_str(),
            };
            let (id, error) = (&ignored.credential, ignored.error);
            remarks.push(format!(
                "{source} adds no destination of the credential {id}: {error}"
            ));
        }
    }
    (supplied, remarks)
}
