//! Fingerprints of the settings, the requirements and the CA in force (SPEC O5). Two proxies with the same fingerprint
//! of their rules and requirements judge alike, so drift over many machines is one query.
//!
//! No secret is part of a fingerprint: values of credentials could be guessed from it. For the same reason the admin API
//! shows none of settings that it hides ([`Fingerprints::hidden`]). A key of each machine would hide them too, but then
//! machines could not be compared.

use std::sync::{Arc, Weak};

use codex_network_config::{InForce, Settings};
use codex_network_engine::Generation;
use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::ca::certificate;

/// Bytes of a SHA-256 hash that are shown: enough to tell configurations apart.
const SHOWN_BYTES: usize = 8;

/// The beginning of the names of settings that decide nothing: those of the daemon itself.
const DAEMON: &str = "daemon.";
/// Further settings that decide nothing: addresses and files, which differ between machines.
const PLACES: [&str; 5] = [
    "proxy_url",
    "socks_url",
    "admin_url",
    "mitm.ca_cert_path",
    "mitm.ca_key_path",
];

/// The fingerprints of what is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Fingerprints {
    /// Of the settings, with the mode that was set at run time and the upstream proxies; `None` if they are hidden.
    pub(crate) settings: Option<String>,
    /// Of the settings that decide about requests, without addresses and files; `None` if they are hidden.
    pub(crate) rules: Option<String>,
    /// Of the requirements, if there are any.
    pub(crate) requirements: Option<String>,
    /// Of the certificate of the CA, if there is one: the beginning of its SHA-256 fingerprint.
    pub(crate) ca: Option<String>,
}

/// Remembers the fingerprint of the settings, which have many lines, as long as they are in force.
#[derive(Debug, Default)]
pub(crate) struct Fingerprinter(Mutex<Option<(Weak<Settings>, OfSettings)>>);

/// The fingerprints of settings.
#[derive(Clone, Debug)]
struct OfSettings {
    all: String,
    rules: String,
}

impl Fingerprints {
    /// Without those from which hidden settings could be guessed. A certificate is public.
    pub(crate) fn hidden(self) -> Self {
        Self {
            ca: self.ca,
            ..Self::default()
        }
    }
}

impl Fingerprinter {
    pub(crate) fn of(&self, generation: &Generation) -> Fingerprints {
        let ca = generation.supplied().files.ca.as_deref();
        let OfSettings { all, rules } = self.of_settings(generation);
        Fingerprints {
            settings: Some(all),
            rules: Some(rules),
            requirements: of_requirements(generation.settings()),
            ca: ca.map(|ca| shown(&certificate::fingerprint(&ca.der))),
        }
    }

    fn of_settings(&self, generation: &Generation) -> OfSettings {
        let settings = generation.settings();
        let mut remembered = self.0.lock();
        // A `Weak` keeps the address from being used again.
        if let Some((of, fingerprints)) = &*remembered
            && std::ptr::eq(of.as_ptr(), Arc::as_ptr(settings))
        {
            return fingerprints.clone();
        }
        let fingerprints = settings_fingerprints(generation);
        *remembered = Some((Arc::downgrade(settings), fingerprints.clone()));
        fingerprints
    }
}

/// The settings as `/config` shows them, without the places that they are written in.
fn settings_fingerprints(generation: &Generation) -> OfSettings {
    let settings = generation.settings();
    let now = InForce {
        settings,
        policy: generation.policy(),
        listen: &settings.listen,
    };
    let (mut hash, mut rules) = (Sha256::new(), Sha256::new());
    for (name, value) in codex_network_config::effective(&now) {
        let line = format!("{name}={value}\n");
        if !name.starts_with(DAEMON) && !PLACES.contains(&name) {
            rules.update(&line);
        }
        hash.update(line);
    }
    let proxies = &generation.supplied().upstream_proxies;
    for (name, proxy) in [("http", proxies.http()), ("tunnel", proxies.tunnel())] {
        // Without its credentials.
        let proxy = proxy.map(ToString::to_string).unwrap_or_default();
        hash.update(format!("upstream_proxy.{name}={proxy}\n"));
    }
    let entries = proxies.no_proxy().entries();
    hash.update(format!("upstream_proxy.no_proxy={entries:?}\n"));
    OfSettings {
        all: shown(&hash.finalize()),
        rules: shown(&rules.finalize()),
    }
}

fn of_requirements(settings: &Settings) -> Option<String> {
    let lines = settings.managed.lines();
    (!lines.is_empty()).then(|| shown(&Sha256::digest(lines.join("\n"))))
}

fn shown(hash: &[u8]) -> String {
    certificate::hex(&hash[..SHOWN_BYTES.min(hash.len())])
}

#[cfg(test)]
mod tests {
    use codex_network_config::{CaCertificate, Sources, Supplied, SystemFiles, load};
    use codex_network_engine::{Engine, EngineParts};

    use super::*;

    fn engine(text: &str, requirements: &str, ca: Option<&[u8]>) -> Engine {
        let sources = Sources::none()
            .with_text("a.toml", text)
            .with_environment(|_| Some("secret".into()))
            .with_requirements_text("requirements.toml", requirements);
        let settings = load(&sources).expect("a configuration").settings;
        let ca = ca.map(|der| {
            Arc::new(CaCertificate {
                der: der.into(),
                ..CaCertificate::default()
            })
        });
        let parts = EngineParts {
            supplied: Supplied {
                files: SystemFiles {
                    ca,
                    ..SystemFiles::default()
                },
                ..Supplied::default()
            },
            ..EngineParts::default()
        };
        Engine::new(Arc::new(settings), parts).expect("an engine")
    }

    fn of(text: &str, requirements: &str) -> Fingerprints {
        let engine = engine(text, requirements, None);
        Fingerprinter::default().of(&engine.current())
    }

    #[tokio::test]
    async fn o5_the_same_meaning_in_another_form_has_the_same_fingerprint() {
        let one = of("[network]\nallowed_domains = [\"a.test\"]\n", "");
        let comment = "# another place\n\n[network]\nallowed_domains = [ \"a.test\" ]\n";
        assert_eq!(of(comment, ""), one);
        assert_eq!(one.settings.as_ref().map(String::len), Some(16));
        assert_eq!((&one.requirements, &one.ca), (&None, &None));
    }

    #[tokio::test]
    async fn o5_every_change_of_a_setting_changes_the_fingerprint() {
        let texts = [
            "",
            "[network]\nallowed_domains = [\"a.test\"]\n",
            "[network]\ndenied_domains = [\"a.test\"]\n",
            "[network]\nmode = \"limited\"\n",
            "[daemon.limits]\nmax_connections = 77\n",
            "[daemon]\nlog_flows = true\n",
        ];
        let all: std::collections::HashSet<_> = texts
            .map(|text| of(text, "").settings)
            .into_iter()
            .collect();
        assert_eq!(all.len(), texts.len());
    }

    #[tokio::test]
    async fn o5_addresses_and_files_are_no_rules() {
        let rules = "[network]\nallowed_domains = [\"a.test\"]\n";
        let one = of(rules, "");
        for place in [
            "proxy_url = \"http://127.0.0.1:4128\"\n",
            "socks_url = \"http://127.0.0.1:4129\"\n",
            "admin_url = \"http://127.0.0.1:4130\"\n",
            "[daemon]\nstate_dir = \"/srv/proxy\"\n",
            "[daemon.limits]\nmax_connections = 77\n",
        ] {
            let other = of(&format!("{rules}{place}"), "");
            assert_eq!(other.rules, one.rules, "{place}");
            assert_ne!(other.settings, one.settings, "{place}");
        }
        for rule in ["mode = \"limited\"\n", "denied_domains = [\"b.test\"]\n"] {
            assert_ne!(of(&format!("{rules}{rule}"), "").rules, one.rules, "{rule}");
        }
    }

    #[tokio::test]
    async fn o5_the_fingerprint_of_hidden_settings_is_hidden_and_that_of_the_ca_is_not() {
        let engine = engine(
            "",
            "[experimental_network]\nmode = \"limited\"\n",
            Some(b"certificate"),
        );
        let all = Fingerprinter::default().of(&engine.current());
        assert!(all.requirements.is_some() && all.ca.is_some());
        let hidden = all.clone().hidden();
        let expected = Fingerprints {
            ca: all.ca,
            ..Fingerprints::default()
        };
        assert_eq!(hidden, expected);
    }

    #[tokio::test]
    async fn o5_requirements_have_a_fingerprint_of_their_meaning() {
        let table = "[experimental_network]\n";
        let one = of(
            "",
            &format!("{table}mode = \"limited\"\ndenied_domains = [\"a.test\"]\n"),
        );
        let other = of(
            "",
            &format!("{table}# why\ndenied_domains = [\"a.test\"]\nmode = \"limited\"\n"),
        );
        assert!(one.requirements.is_some());
        assert_eq!(one.requirements, other.requirements);
        let stricter = of(
            "",
            &format!("{table}mode = \"limited\"\ndenied_domains = [\"b.test\"]\n"),
        );
        assert_ne!(one.requirements, stricter.requirements);
    }

    #[tokio::test]
    async fn o5_the_mode_that_was_set_at_run_time_counts_and_the_ca_has_its_own() {
        let engine = engine("", "", Some(b"certificate"));
        let fingerprinter = Fingerprinter::default();
        let before = fingerprinter.of(&engine.current());
        assert_eq!(fingerprinter.of(&engine.current()), before);
        engine
            .set_mode(codex_network_policy::Mode::Limited)
            .expect("no requirement");
        let after = fingerprinter.of(&engine.current());
        assert_ne!(before.settings, after.settings);
        assert_eq!(before.ca, after.ca);
        assert!(before.ca.is_some());
    }
}
