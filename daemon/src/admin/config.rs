//! `GET /config`: the effective settings as JSON, under the names that the files use. The catalogue
//! of `codex_network_config` says how each key is shown. Secrets in [`Settings`] are a
//! [`Secret`](codex_network_config::Secret) or the credentials of an upstream proxy. Neither type
//! can be shown by accident.

use std::sync::Arc;

use codex_network_config::{InForce, Listen, Settings, UpstreamProxies, UpstreamProxy};
use codex_network_engine::Generation;
use codex_network_policy::Policy;
use serde_json::{Map, Value, json};

/// The proxies of the environment are shown behind this key, which lets them count.
const ALLOWS_UPSTREAM_PROXY: &str = "allow_upstream_proxy";

/// The settings that a generation was made from, with the addresses that its owner listens on.
pub(crate) fn effective(generation: &Generation, listen: &Listen) -> Value {
    let mut all = Map::new();
    all.insert("generation".to_owned(), json!(generation.number().get()));
    all.extend(settings(
        generation.settings(),
        generation.policy(),
        listen,
        &generation.supplied().upstream_proxies,
    ));
    Value::Object(all)
}

/// The settings with this policy, which may have another mode, these addresses, and these proxies of
/// the environment.
pub(crate) fn settings(
    settings: &Settings,
    policy: &Policy,
    listen: &Listen,
    upstream_proxies: &UpstreamProxies,
) -> Map<String, Value> {
    let mut all = Map::new();
    all.insert("files".to_owned(), json!(settings.files));
    let now = InForce {
        settings,
        policy,
        listen,
    };
    for (name, value) in codex_network_config::effective(&now) {
        insert(&mut all, name, value);
        if name == ALLOWS_UPSTREAM_PROXY {
            all.insert(
                "upstream_proxy".to_owned(),
                upstream_proxy(upstream_proxies),
            );
        }
    }
    all.insert("sources".to_owned(), sources(settings));
    all.insert("pinned".to_owned(), pinned(settings));
    all
}

/// Inserts a value with a dotted name, which says the tables that hold it.
fn insert(table: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            table.insert(name.to_owned(), value);
        }
        Some((outer, name)) => {
            let inner = table.entry(outer).or_insert_with(|| json!({}));
            if let Value::Object(inner) = inner {
                insert(inner, name, value);
            }
        }
    }
}

/// Where each value that is not a default is written.
fn sources(settings: &Settings) -> Value {
    let lines = settings.lines.iter();
    let sources = lines.map(|(key, places)| {
        let places: Vec<String> = places.iter().map(ToString::to_string).collect();
        (key.to_owned(), json!(places.join(", ")))
    });
    Value::Object(sources.collect())
}

/// The values that requirements permit, and where the requirements are written (SPEC C6).
fn pinned(settings: &Settings) -> Value {
    let pins = settings.managed.pins().iter();
    let pinned = pins.map(|pin| {
        let pinned = json!({ "allowed": pin.allowed, "by": pin.line.to_string() });
        (pin.key.to_owned(), pinned)
    });
    Value::Object(pinned.collect())
}

/// The proxies of the environment, without credentials (SPEC H12).
fn upstream_proxy(proxies: &UpstreamProxies) -> Value {
    let shown = |proxy: Option<&Arc<UpstreamProxy>>| proxy.map(ToString::to_string);
    json!({
        "http": shown(proxies.http()),
        "tunnel": shown(proxies.tunnel()),
        "no_proxy": proxies.no_proxy().entries(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    use codex_network_config::{Sources, load};

    use super::*;

    /// The configuration that sets every key.
    const FULL: &str = include_str!("../../../crates/config/tests/it/full.toml");

    #[test]
    fn a2_config_shows_the_settings_in_this_order_and_form() {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        std::fs::write(&key, "sesame\n").unwrap();
        let mut full = FULL.replace("/etc/secrets/key", key.to_str().unwrap());
        let block = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
        for (name, content) in [("headers", "a: sesame"), ("ca.pem", block)] {
            let file = directory.path().join(name);
            std::fs::write(&file, content).unwrap();
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            let named = format!("/etc/secrets/{name}");
            full = full.replace(&named, file.to_str().unwrap());
        }
        let full = Sources::none()
            .with_text("full.toml", full)
            .with_environment(|name| (name == "API_TOKEN").then(|| "hunter2".into()))
            .with_requirements_text(
                "requirements.toml",
                "[experimental_network]\nmode = \"limited\"\n[experimental_network.daemon]\nlog = \"info,codex_network_engine=debug\"\n",
            );
        let mut shown = String::new();
        for sources in [Sources::none(), full] {
            let all = load(&sources).unwrap().settings;
            let all = settings(&all, &all.policy, &all.listen, &UpstreamProxies::default());
            shown += &serde_json::to_string_pretty(&all).unwrap();
            shown.push('\n');
        }
        let shown = shown.replace(directory.path().to_str().unwrap(), "/etc/secrets");
        assert_eq!(shown, include_str!("config/shown.json"));
    }
}
