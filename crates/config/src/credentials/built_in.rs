//! The providers that need no configuration (SPEC B3, B6), and the ready profiles (SPEC B5), as data.

use codex_network_policy::HeaderNameText;

use super::{
    CredentialId, CredentialProvider, CredentialSource, Destination, DestinationSource,
    PackageTool, Placement, UrlForm, VariableName,
};

/// A ready provider, which a configuration takes by its name (`use = "anthropic"`).
#[derive(Clone, Copy, Debug)]
pub struct CredentialProfile {
    /// The name in configurations.
    pub name: &'static str,
    /// Its purpose, in a few words.
    pub about: &'static str,
    variables: &'static [&'static str],
    destinations: &'static [&'static str],
    from: &'static [ReadyFrom],
    placements: &'static [ReadyPlacement],
}

/// A [`DestinationSource`] as data.
#[derive(Clone, Copy, Debug)]
enum ReadyFrom {
    Variable(&'static str, UrlForm),
    Tool(PackageTool),
}

/// A [`Placement`] as data.
#[derive(Clone, Copy, Debug)]
enum ReadyPlacement {
    Bearer,
    Token,
    Basic,
    Header(&'static str),
}

/// The providers that `credential_broker = true` switches on.
const BUILT_IN: &[CredentialProfile] = &[
    CredentialProfile {
        name: "github",
        about: "GitHub's cloud",
        variables: &["GH_TOKEN", "GITHUB_TOKEN"],
        destinations: &[
            "github.com",
            "api.github.com",
            "uploads.github.com",
            "*.ghe.com",
        ],
        from: &[],
        placements: GIT_AND_API,
    },
    CredentialProfile {
        name: "github-enterprise",
        about: "a GitHub server of one's own",
        variables: &["GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"],
        destinations: &[],
        from: &[ReadyFrom::Variable("GH_HOST", UrlForm::GithubHost)],
        placements: GIT_AND_API,
    },
    CredentialProfile {
        name: "openai",
        about: "the OpenAI API",
        variables: &["OPENAI_API_KEY"],
        destinations: &["api.openai.com"],
        from: &[ReadyFrom::Variable("OPENAI_BASE_URL", UrlForm::HostOfUrl)],
        placements: &[ReadyPlacement::Bearer],
    },
];

/// The forms of git (Basic), `gh` (`token`) and other clients (`Bearer`).
const GIT_AND_API: &[ReadyPlacement] = &[
    ReadyPlacement::Bearer,
    ReadyPlacement::Token,
    ReadyPlacement::Basic,
];

/// The providers that `use` names, sorted.
const PROFILES: &[CredentialProfile] = &[
    CredentialProfile {
        name: "anthropic",
        about: "the Claude API",
        variables: &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"],
        destinations: &["api.anthropic.com"],
        from: &[ReadyFrom::Variable(
            "ANTHROPIC_BASE_URL",
            UrlForm::HostOfUrl,
        )],
        placements: &[ReadyPlacement::Header("x-api-key"), ReadyPlacement::Bearer],
    },
    CredentialProfile {
        name: "cargo",
        about: "publishing to cargo's default registry",
        variables: &["CARGO_REGISTRY_TOKEN"],
        destinations: &[],
        from: &[ReadyFrom::Tool(PackageTool::Cargo)],
        placements: &[
            ReadyPlacement::Header("authorization"),
            ReadyPlacement::Bearer,
        ],
    },
    CredentialProfile {
        name: "gitlab",
        about: "gitlab.com, or the server that `GITLAB_HOST` names",
        variables: &["GITLAB_TOKEN", "GITLAB_ACCESS_TOKEN"],
        destinations: &["gitlab.com"],
        from: &[ReadyFrom::Variable("GITLAB_HOST", UrlForm::Destination)],
        placements: &[
            ReadyPlacement::Header("private-token"),
            ReadyPlacement::Bearer,
            ReadyPlacement::Basic,
        ],
    },
    CredentialProfile {
        name: "huggingface",
        about: "the Hugging Face Hub and its inference API",
        variables: &["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"],
        destinations: &["huggingface.co", "*.huggingface.co"],
        from: &[ReadyFrom::Variable("HF_ENDPOINT", UrlForm::HostOfUrl)],
        placements: &[ReadyPlacement::Bearer, ReadyPlacement::Basic],
    },
    CredentialProfile {
        name: "npm",
        about: "npm's registry",
        variables: &["NPM_TOKEN", "NODE_AUTH_TOKEN"],
        destinations: &[],
        from: &[ReadyFrom::Tool(PackageTool::Npm)],
        placements: &[ReadyPlacement::Bearer, ReadyPlacement::Basic],
    },
    CredentialProfile {
        name: "pip",
        about: "pip's index; `env` names the variable",
        variables: &[],
        destinations: &[],
        from: &[ReadyFrom::Tool(PackageTool::Pip)],
        placements: &[ReadyPlacement::Basic],
    },
    CredentialProfile {
        name: "slack",
        about: "the Slack API",
        variables: &["SLACK_BOT_TOKEN", "SLACK_TOKEN", "SLACK_USER_TOKEN"],
        destinations: &["files.slack.com", "slack.com"],
        from: &[],
        placements: &[ReadyPlacement::Bearer],
    },
    CredentialProfile {
        name: "twine",
        about: "uploading to twine's repository",
        variables: &["TWINE_PASSWORD"],
        destinations: &[],
        from: &[ReadyFrom::Tool(PackageTool::Twine)],
        placements: &[ReadyPlacement::Basic],
    },
];

/// The providers that need no configuration (SPEC B3, B6): `github`, `github-enterprise`, `openai`.
pub fn built_in_providers() -> Vec<CredentialProvider> {
    let providers = BUILT_IN.iter();
    providers
        .filter_map(|ready| ready.provider(CredentialId::parse(ready.name).ok()?))
        .collect()
}

impl CredentialProfile {
    /// The profile of this name. The built-in providers are profiles too.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().find(|profile| profile.name == name)
    }

    /// All profiles: the built-in providers, then the others, sorted by name.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        BUILT_IN.iter().chain(PROFILES)
    }

    /// The profile as a provider with this name. The tests make each of them, so there is always one.
    pub fn provider(&self, id: CredentialId) -> Option<CredentialProvider> {
        let variables = self.variables.iter();
        let destinations = self.destinations.iter();
        let from = self.from.iter().map(|from| {
            Some(match from {
                ReadyFrom::Variable(name, form) => {
                    DestinationSource::Variable(VariableName::parse(name).ok()?, *form)
                }
                ReadyFrom::Tool(tool) => DestinationSource::Tool(*tool),
            })
        });
        let placements = self.placements.iter().map(|placement| {
            Some(match placement {
                ReadyPlacement::Bearer => Placement::Bearer,
                ReadyPlacement::Token => Placement::Token,
                ReadyPlacement::Basic => Placement::Basic { username: None },
                ReadyPlacement::Header(name) => Placement::Header {
                    name: HeaderNameText::parse(name).ok()?,
                    prefix: String::new(),
                },
            })
        });
        Some(CredentialProvider {
            id,
            variables: variables
                .map(|name| VariableName::parse(name).ok())
                .collect::<Option<_>>()?,
            patterns: Vec::new(),
            destinations: destinations
                .map(|text| Destination::parse(text).ok())
                .collect::<Option<_>>()?,
            destinations_from: from.collect::<Option<_>>()?,
            placements: placements.collect::<Option<_>>()?,
            source: CredentialSource::Environment,
            methods: None,
            require: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn b3_b5_each_entry_of_the_tables_is_a_provider() {
        assert_eq!(built_in_providers().len(), BUILT_IN.len());
        for profile in CredentialProfile::all() {
            let id = CredentialId::parse(profile.name).expect("a name");
            let provider = profile
                .provider(id)
                .unwrap_or_else(|| panic!("{}", profile.name));
            assert!(!provider.placements.is_empty() && !profile.about.is_empty());
            let goes_somewhere =
                !provider.destinations.is_empty() || !provider.destinations_from.is_empty();
            assert!(goes_somewhere, "{}", profile.name);
            for destination in &provider.destinations {
                assert_eq!(destination.scheme().as_str(), "https", "{destination}");
            }
        }
    }

    #[test]
    fn b5_profiles_are_sorted_and_no_variable_has_two_providers() {
        assert!(PROFILES.is_sorted_by(|one, other| one.name < other.name));
        let mut names = BTreeSet::new();
        let mut variables = BTreeSet::new();
        for profile in CredentialProfile::all() {
            assert!(names.insert(profile.name), "{}", profile.name);
            for variable in profile.variables {
                assert!(variables.insert(variable), "{variable}");
            }
        }
        assert!(CredentialProfile::find("anthropic").is_some());
        assert!(CredentialProfile::find("github").is_some());
        assert!(CredentialProfile::find("git").is_none());
    }

    #[test]
    fn b3_the_variables_of_the_built_in_providers_are_those_of_the_field() {
        let variables = |id: &str| {
            let mut providers = built_in_providers().into_iter();
            let provider = providers.find(|provider| provider.id.as_str() == id);
            let variables = provider.expect("built in").variables;
            variables
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert_eq!(variables("github"), ["GH_TOKEN", "GITHUB_TOKEN"]);
        let enterprise = ["GH_ENTERPRISE_TOKEN", "GITHUB_ENTERPRISE_TOKEN"];
        assert_eq!(variables("github-enterprise"), enterprise);
        assert_eq!(variables("openai"), ["OPENAI_API_KEY"]);
    }
}
