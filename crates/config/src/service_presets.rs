//! Presets: ready allow lists of well-known services, by name (SPEC J16).
//!
//! A preset is an allow list and nothing else. It has the hosts that the service's own clients need, spelled
//! out where possible. No registry of packages is here: people use mirrors and private registries, so
//! `proxyctl run --preset npm` asks the tool on the machine.

use std::sync::Arc;

use codex_network_policy::{ConfigLine, ListKind, Pattern};

/// A ready allow list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServicePreset {
    /// The name in configurations and on command lines.
    pub name: &'static str,
    /// Its purpose, in a few words.
    pub about: &'static str,
    /// Its patterns (SPEC P2), each in its canonical text.
    pub patterns: &'static [&'static str],
}

/// All presets, sorted by name.
pub const SERVICE_PRESETS: &[ServicePreset] = &[
    ServicePreset {
        name: "anthropic",
        about: "the Claude API, and signing in to it",
        patterns: &[
            "api.anthropic.com",
            "claude.ai",
            "console.anthropic.com",
            "platform.claude.com",
        ],
    },
    ServicePreset {
        name: "bitbucket",
        about: "repositories on bitbucket.org and their API",
        patterns: &["altssh.bitbucket.org", "api.bitbucket.org", "bitbucket.org"],
    },
    ServicePreset {
        name: "docker-hub",
        about: "pulling and pushing images of Docker Hub",
        patterns: &[
            "auth.docker.io",
            "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
            "hub.docker.com",
            "index.docker.io",
            "production.cloudflare.docker.com",
            "production.cloudfront.docker.com",
            "registry-1.docker.io",
        ],
    },
    ServicePreset {
        name: "gemini",
        about: "the Gemini API",
        patterns: &["generativelanguage.googleapis.com"],
    },
    ServicePreset {
        name: "github",
        about: "repositories on github.com, releases, large files and the API",
        patterns: &[
            "api.github.com",
            "codeload.github.com",
            "gist.github.com",
            "github-cloud.s3.amazonaws.com",
            "github.com",
            "media.githubusercontent.com",
            "objects.githubusercontent.com",
            "raw.githubusercontent.com",
            "release-assets.githubusercontent.com",
            "ssh.github.com",
            "uploads.github.com",
        ],
    },
    ServicePreset {
        name: "gitlab",
        about: "repositories on gitlab.com and their API",
        patterns: &["altssh.gitlab.com", "gitlab.com"],
    },
    ServicePreset {
        name: "huggingface",
        about: "models and data sets of the Hugging Face Hub",
        patterns: &["*.hf.co", "**.huggingface.co"],
    },
    ServicePreset {
        name: "openai",
        about: "the OpenAI API, Codex, and signing in to them",
        patterns: &["api.openai.com", "auth.openai.com", "chatgpt.com"],
    },
];

impl ServicePreset {
    /// The preset of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        SERVICE_PRESETS.iter().find(|preset| preset.name == name)
    }

    /// The preset as rules whose origin is `preset NAME`.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (Pattern, Option<ConfigLine>)> + use<> {
        let origin = ConfigLine {
            file: Arc::from(format!("preset {}", self.name)),
            line: 0,
        };
        // The tests parse all of them.
        let patterns = self
            .patterns
            .iter()
            .filter_map(|host| Pattern::parse(host, ListKind::Allow).ok());
        patterns.map(move |pattern| (pattern, Some(origin.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn j16_presets_have_unique_names_in_order_that_fit_command_lines() {
        let names: Vec<_> = SERVICE_PRESETS.iter().map(|preset| preset.name).collect();
        assert!(names.is_sorted_by(|one, other| one < other), "{names:?}");
        for name in names {
            let fits =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(!name.is_empty() && name.bytes().all(fits), "{name}");
        }
    }

    #[test]
    fn j16_each_host_of_a_preset_is_a_canonical_pattern_of_a_public_name() {
        for preset in SERVICE_PRESETS {
            assert!(!preset.patterns.is_empty() && !preset.about.is_empty());
            for host in preset.patterns {
                // A managed list takes no `*` alone.
                let pattern = Pattern::parse(host, ListKind::ManagedAllow)
                    .unwrap_or_else(|error| panic!("{host}: {error}"));
                assert_eq!(pattern.to_string(), *host, "{}", preset.name);
                let name = host.trim_start_matches(['*', '.']);
                assert!(name.contains('.'), "{host} covers a top-level domain");
                let is_name = !name.contains('*') && name.parse::<std::net::IpAddr>().is_err();
                assert!(is_name, "{host}");
            }
            assert_eq!(
                preset.rules().count(),
                preset.patterns.len(),
                "{}",
                preset.name
            );
        }
    }

    #[test]
    fn j16_the_hosts_of_a_preset_are_sorted_and_none_covers_another() {
        for preset in SERVICE_PRESETS {
            let name = |host: &str| host.trim_start_matches(['*', '.']).to_owned();
            let names: Vec<_> = preset.patterns.iter().map(|host| name(host)).collect();
            assert!(names.is_sorted_by(|one, other| one < other), "{names:?}");
            for wildcard in preset.patterns.iter().filter(|host| host.starts_with('*')) {
                let below = format!(".{}", name(wildcard));
                let covered = names.iter().find(|name| name.ends_with(&below));
                assert_eq!(covered, None, "{wildcard} covers it");
            }
        }
    }
}
