//! Ready allow lists for well-known services, by name (SPEC J16).
//!
//! A preset is an allow list and nothing else. The hosts of package managers are not here: `proxyctl`
//! asks the tools of the machine, since people use mirrors and private registries.

/// An allow list with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServicePreset {
    /// The name, in lower case.
    pub name: &'static str,
    /// The service, for people.
    pub about: &'static str,
    /// Patterns of an allow list (SPEC P2).
    pub patterns: &'static [&'static str],
}

/// All of them, in the order of their names.
pub const SERVICE_PRESETS: &[ServicePreset] = &[
    ServicePreset {
        name: "anthropic",
        about: "the API of Anthropic",
        patterns: &["api.anthropic.com"],
    },
    ServicePreset {
        name: "bitbucket",
        about: "repositories on bitbucket.org",
        patterns: &["api.bitbucket.org", "bitbucket.org"],
    },
    ServicePreset {
        name: "docker-hub",
        about: "images of Docker Hub",
        patterns: &[
            "auth.docker.io",
            "index.docker.io",
            "production.cloudflare.docker.com",
            "registry-1.docker.io",
        ],
    },
    ServicePreset {
        name: "github",
        about: "repositories, API and releases of github.com",
        patterns: &[
            "api.github.com",
            "codeload.github.com",
            "github.com",
            "objects.githubusercontent.com",
            "raw.githubusercontent.com",
            "release-assets.githubusercontent.com",
            "uploads.github.com",
        ],
    },
    ServicePreset {
        name: "gitlab",
        about: "repositories, API and registry of gitlab.com",
        patterns: &["gitlab.com", "registry.gitlab.com"],
    },
    ServicePreset {
        name: "openai",
        about: "the API of OpenAI, and signing in with ChatGPT",
        patterns: &["api.openai.com", "auth.openai.com", "chatgpt.com"],
    },
];

#[cfg(test)]
mod tests {
    use codex_network_policy::{ListKind, Pattern};

    use super::*;

    #[test]
    fn j16_presets_have_plain_names_in_order_and_patterns_of_public_hosts() {
        assert!(SERVICE_PRESETS.is_sorted_by(|one, next| one.name < next.name));
        for preset in SERVICE_PRESETS {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            assert!(preset.name.bytes().all(plain), "{}", preset.name);
            assert!(!preset.about.is_empty());
            assert!(!preset.patterns.is_empty());
            assert!(preset.patterns.is_sorted(), "{}", preset.name);
            for text in preset.patterns {
                let pattern = Pattern::parse(text, ListKind::Allow);
                let pattern = pattern.unwrap_or_else(|error| panic!("{text}: {error}"));
                assert!(
                    !pattern.is_everything() && !pattern.spells_out_local(),
                    "{text}"
                );
                assert!(text.contains('.') && !text.contains('*'), "{text}");
            }
        }
    }
}
