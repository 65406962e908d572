//! The destinations that only the launcher knows: those of its variables and its tools (SPEC B5, B6).
//!
//! A value that cannot be used adds no destination, and the launcher reports it. So a wrong variable makes
//! a credential useless and never lets it go to another place.

use codex_network_policy::{Authority, AuthorityError, Host};

use super::destination::{Destination, DestinationError};
use super::{CredentialId, CredentialProvider, DestinationSource, PackageTool, UrlForm};

/// Providers whose destinations are all known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The providers, in the same order. `destinations_from` of each is empty.
    pub providers: Vec<CredentialProvider>,
    /// Values that add no destination.
    pub ignored: Vec<IgnoredDestination>,
}

/// A value that should add a destination and cannot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredDestination {
    /// The provider.
    pub credential: CredentialId,
    /// The variable or the tool.
    pub source: DestinationSource,
    /// The reason.
    pub error: IgnoredDestinationError,
}

/// Why a value adds no destination. It contains at most one character of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IgnoredDestinationError {
    /// Not a destination.
    #[error(transparent)]
    Destination(#[from] DestinationError),
    /// Not a host with an optional port.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// A URL with another scheme than `https`, or a text that is not a URL.
    #[error("it is not a URL with https")]
    NotHttps,
    /// A character that `GH_HOST` may not have.
    #[error("it holds the character {0:?}: it is a host and nothing else")]
    Character(char),
}

/// Resolves [`CredentialProvider::destinations_from`] with the launcher's environment and tools.
/// `variable` looks a variable up. `urls` gives the URLs that a tool's configuration names; user information
/// in them must already be removed.
pub fn settled(
    providers: &[CredentialProvider],
    variable: &dyn Fn(&str) -> Option<String>,
    urls: &dyn Fn(PackageTool) -> Vec<String>,
) -> Settled {
    let mut settled = Settled::default();
    for provider in providers {
        let mut provider = provider.clone();
        for source in std::mem::take(&mut provider.destinations_from) {
            let values = match &source {
                DestinationSource::Variable(name, form) => {
                    let value = variable(name.as_str());
                    let value = value.filter(|value| !value.trim().is_empty());
                    value.into_iter().map(|value| (*form, value)).collect()
                }
                DestinationSource::Tool(tool) => {
                    let urls = urls(*tool).into_iter();
                    urls.map(|url| (UrlForm::Destination, url))
                        .collect::<Vec<_>>()
                }
            };
            for (form, value) in values {
                match destination(form, &value) {
                    Ok(Some(destination)) if !provider.destinations.contains(&destination) => {
                        provider.destinations.push(destination);
                    }
                    Ok(_) => {}
                    Err(error) => settled.ignored.push(IgnoredDestination {
                        credential: provider.id.clone(),
                        source: source.clone(),
                        error,
                    }),
                }
            }
        }
        settled.providers.push(provider);
    }
    settled
}

/// The destination that a value adds; `None` if it rightly adds none.
fn destination(form: UrlForm, value: &str) -> Result<Option<Destination>, IgnoredDestinationError> {
    match form {
        UrlForm::Destination => Ok(Some(Destination::parse(value)?)),
        UrlForm::HostOfUrl => {
            let value = value.trim();
            let scheme = value.get(..8);
            if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")) {
                return Err(IgnoredDestinationError::NotHttps);
            }
            let rest = &value[8..];
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let authority = Authority::parse(&rest[..end], Some(443))?;
            Ok(Some(Destination::host(authority)))
        }
        UrlForm::GithubHost => {
            let value = value.trim();
            let wrong = value.find(['/', '\\', '@', '?', '#', '*']);
            if let Some(wrong) = wrong.and_then(|at| value[at..].chars().next()) {
                return Err(IgnoredDestinationError::Character(wrong));
            }
            let host = Authority::parse(value, Some(443))?.host;
            let authority = Authority { host, port: 443 };
            Ok((!is_github_cloud(&authority.host)).then(|| Destination::host(authority)))
        }
    }
}

/// Whether a host belongs to GitHub's cloud, whose tokens are others than those of an enterprise server.
fn is_github_cloud(host: &Host) -> bool {
    let Host::Name(name) = host else {
        return false;
    };
    ["github.com", "ghe.com"].iter().any(|cloud| {
        let front = name.as_str().strip_suffix(cloud);
        front.is_some_and(|front| front.is_empty() || front.ends_with('.'))
    })
}
