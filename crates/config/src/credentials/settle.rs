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

#[cfg(test)]
mod tests {
    use super::super::built_in_providers;
    use super::*;

    /// The destinations of one built-in provider under an environment, or the errors.
    fn built_in(id: &str, variable: &str, value: &str) -> Result<Vec<String>, Vec<String>> {
        let environment = |name: &str| (name == variable).then(|| value.to_owned());
        let settled = settled(&built_in_providers(), &environment, &|_| Vec::new());
        if !settled.ignored.is_empty() {
            return Err(settled
                .ignored
                .iter()
                .map(|one| one.error.to_string())
                .collect());
        }
        let mut providers = settled.providers.into_iter();
        let provider = providers
            .find(|provider| provider.id.as_str() == id)
            .expect("built in");
        assert!(provider.destinations_from.is_empty());
        Ok(provider
            .destinations
            .iter()
            .map(ToString::to_string)
            .collect())
    }

    #[test]
    fn b6_the_enterprise_token_goes_to_exactly_the_host_of_gh_host() {
        for (value, expected) in [
            ("ghe.example.com", vec!["https://ghe.example.com"]),
            (" GHE.Example.com \n", vec!["https://ghe.example.com"]),
            ("ghe.example.com:8443", vec!["https://ghe.example.com"]),
            ("192.0.2.7", vec!["https://192.0.2.7"]),
            ("github.com", vec![]),
            ("GITHUB.COM.", vec![]),
            ("api.github.com", vec![]),
            ("octocorp.ghe.com", vec![]),
            ("notgithub.com", vec!["https://notgithub.com"]),
            (
                "github.com.evil.example",
                vec!["https://github.com.evil.example"],
            ),
            ("  ", vec![]),
        ] {
            let found = built_in("github-enterprise", "GH_HOST", value);
            assert_eq!(
                found,
                Ok(expected.into_iter().map(str::to_owned).collect()),
                "{value}"
            );
        }
        for value in [
            "https://ghe.example.com",
            "ghe.example.com/x",
            r"ghe.example.com\x",
            "user@ghe.example.com",
            "ghe.example.com?x",
            "ghe.example.com#x",
            "*.example.com",
            "ghe example.com",
            "ghe.example.com:x",
        ] {
            assert!(
                built_in("github-enterprise", "GH_HOST", value).is_err(),
                "{value}"
            );
        }
        assert_eq!(built_in("github-enterprise", "NO_SUCH", ""), Ok(Vec::new()));
    }

    #[test]
    fn b6_the_openai_key_also_goes_to_the_host_of_the_launchers_base_url() {
        let own = "https://api.openai.com";
        for (value, added) in [
            (
                "https://llm.corp.example/v1",
                Some("https://llm.corp.example"),
            ),
            (
                "HTTPS://llm.corp.example:8443/v1?x#y",
                Some("https://llm.corp.example:8443"),
            ),
            ("https://api.openai.com/v1", None),
            (
                "https://llm.corp.example/v1@x",
                Some("https://llm.corp.example"),
            ),
            ("", None),
        ] {
            let found = built_in("openai", "OPENAI_BASE_URL", value).expect(value);
            let expected: Vec<&str> = std::iter::once(own).chain(added).collect();
            assert_eq!(found, expected, "{value}");
        }
        for value in [
            "http://llm.corp.example/v1",
            "http://127.0.0.1:8080",
            "llm.corp.example",
            "https://user:hunter2@llm.corp.example",
            "https://*.corp.example",
            r"https://evil.example\.corp.example",
            "https://",
            "ähttps://x.example",
        ] {
            let errors = built_in("openai", "OPENAI_BASE_URL", value).expect_err(value);
            assert!(!errors.concat().contains("hunter2"), "{errors:?}");
        }
    }

    #[test]
    fn b6_github_goes_to_its_cloud() {
        let cloud = [
            "github.com",
            "api.github.com",
            "uploads.github.com",
            "*.ghe.com",
        ];
        let cloud: Vec<String> = cloud.iter().map(|host| format!("https://{host}")).collect();
        assert_eq!(built_in("github", "GH_HOST", "ghe.example.com"), Ok(cloud));
    }

    #[test]
    fn b5_a_tool_adds_its_registry_once() {
        let profile = super::super::CredentialProfile::find("npm").expect("a profile");
        let id = CredentialId::parse("registry").expect("a name");
        let provider = profile.provider(id).expect("a provider");
        let urls = |tool| match tool {
            PackageTool::Npm => vec![
                "https://npm.corp.example/repo/".to_owned(),
                "https://npm.corp.example/repo/".to_owned(),
                "not a url".to_owned(),
            ],
            other => panic!("{other:?} is not asked"),
        };
        let settled = settled(&[provider], &|name| panic!("{name} is not read"), &urls);
        let destinations = &settled.providers[0].destinations;
        assert_eq!(destinations.len(), 1);
        assert_eq!(
            destinations[0].to_string(),
            "https://npm.corp.example/repo/"
        );
        assert_eq!(settled.ignored.len(), 1);
    }
}
