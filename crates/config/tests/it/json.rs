//! Configurations in JSON (SPEC C10): the same settings as in TOML, and the messages.

use std::path::Path;

use codex_network_config::{Diagnostics, Loaded, Sources, load};

const FULL: &str = r#"{
  "network": {
    "enabled": true,
    "mode": "limited",
    "proxy_url": "http://127.0.0.1:4001",
    "allow_local_binding": true,
    "dangerously_allow_all_unix_sockets": null,
    "credential_broker": true,
    "domains": {"a.example": "allow", "b.example": "deny", "\u0063.example": "allow"},
    "unix_sockets": {"/run/a": "allow"},
    "mitm": true,
    "mitm_hooks": [
      {"host": "a.example", "match": {"methods": ["GET"], "path_prefixes": ["/v1/"], "query": {"p": ["1"]}},
       "actions": {"strip_request_headers": ["x-a"], "inject_request_headers": [{"name": "x-key", "secret_env_var": "KEY"}]}},
      {"host": "c.example", "match": {"methods": ["POST"], "path_prefixes": ["/"]}, "actions": {}}
    ],
    "mitm_ca": {"certificate_file": "/etc/ca.pem", "private_key_file": "/etc/ca.key"},
    "credential_providers": {
      "mine": {"env": "MINE", "url_prefixes": ["https://a.example"], "source": {"file": "/etc/mine"}}
    }
  }
}
"#;

const SAME: &str = r#"
default_permissions = "dev"
[permissions.dev.network]
enabled = true
mode = "limited"
proxy_url = "http://127.0.0.1:4001"
allow_local_binding = true
credential_broker = true
domains = { "a.example" = "allow", "b.example" = "deny", "c.example" = "allow" }
unix_sockets = { "/run/a" = "allow" }
[permissions.dev.network.mitm]
enabled = true
ca_cert_path = "/etc/ca.pem"
ca_key_path = "/etc/ca.key"
[permissions.dev.network.mitm.hooks.hook-1]
host = "a.example"
methods = ["GET"]
path_prefixes = ["/v1/"]
query = { p = ["1"] }
action = ["hook-1"]
[permissions.dev.network.mitm.hooks.hook-2]
host = "c.example"
methods = ["POST"]
path_prefixes = ["/"]
[permissions.dev.network.mitm.actions.hook-1]
strip_request_headers = ["x-a"]
inject_request_headers = [{ name = "x-key", secret_env_var = "KEY" }]
[permissions.dev.network.credentials.mine]
env = "MINE"
url_prefixes = ["https://a.example"]
source = { file = "/etc/mine" }
"#;

fn sources(path: &Path, text: &str) -> Sources {
    std::fs::write(path, text).expect("a file");
    Sources::file(path).with_environment(|name| (name == "KEY").then(|| "hunter2".into()))
}

fn json(text: &str) -> Result<Loaded, Diagnostics> {
    let directory = tempfile::tempdir().expect("a directory");
    load(&sources(&directory.path().join("c.json"), text))
}

/// The settings as `/config` shows them.
fn shown(loaded: &Loaded) -> Vec<(&'static str, serde_json::Value)> {
    let settings = &loaded.settings;
    let now = codex_network_config::InForce {
        settings,
        policy: &settings.policy,
        listen: &settings.listen,
    };
    codex_network_config::effective(&now).collect()
}

#[test]
fn c10_a_document_has_the_settings_of_the_form_with_maps() {
    let directory = tempfile::tempdir().expect("a directory");
    let in_json = json(FULL).unwrap_or_else(|errors| panic!("{errors}"));
    let in_toml = load(&sources(&directory.path().join("c.toml"), SAME));
    let in_toml = in_toml.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(shown(&in_json), shown(&in_toml));
    assert!(in_json.notes.is_empty(), "{:?}", in_json.notes);
    let rule = in_json
        .settings
        .policy
        .allowed()
        .rules()
        .next()
        .expect("a rule");
    let line = rule.written_at.expect("a place");
    assert!(line.file.ends_with("c.json") && line.line == 9, "{line:?}");
    let providers = &in_json.settings.credential_providers;
    assert_eq!(*providers, in_toml.settings.credential_providers);
}

#[test]
fn c10_a_list_of_providers_has_their_ids() {
    let list = FULL
        .replace("\"credential_providers\": {", "\"credential_providers\": [")
        .replace("\"mine\": {\"env\"", "{\"id\": \"mine\", \"env\"")
        .replace("\"/etc/mine\"}}\n    }", "\"/etc/mine\"}}\n    ]");
    let list = json(&list).unwrap_or_else(|errors| panic!("{errors}"));
    let object = json(FULL).expect("an object");
    assert_eq!(shown(&list), shown(&object));
}

#[test]
fn c10_options_of_the_command_line_lie_over_a_document() {
    let directory = tempfile::tempdir().expect("a directory");
    let sources = sources(&directory.path().join("c.json"), FULL);
    let sources = sources.with_override("network.mode=full");
    let sources = sources.with_override("daemon.log=debug");
    let settings = load(&sources)
        .unwrap_or_else(|errors| panic!("{errors}"))
        .settings;
    assert_eq!(settings.policy.mode().as_str(), "full");
    assert_eq!(settings.daemon.log, "debug");
    // A process without access to the file reads it in the same form.
    let captured = sources.capture().expect("captured");
    let captured = captured.with_secrets(load(&sources).expect("sound").secrets);
    let captured = Sources::from_bytes(&captured.to_bytes()).expect("bytes");
    assert!(load(&captured).is_ok());
}

#[test]
fn c10_messages() {
    let deep = format!("{{\"network\": {}1{}}}", "[".repeat(40), "]".repeat(40));
    let texts = [
        "",
        "[]",
        "{",
        "{\"network\": {\"mode\": \"full\",}}",
        "{} {}",
        "{\"network\": {}}\nx",
        "{\"network\": {}, \"daemon\": {}}",
        "{\"network\": []}",
        "{\"network\": {\"allowed_domains\": [], \"credentials\": {}, \"zzz\": 1, \"mitm\": {}}}",
        "{\"network\": {\"mode\": \"full\",\n\"mode\": \"limited\"}}",
        "{\"network\": {\"mode\": 5, \"enabled\": 1.5, \"domains\": {\"x/y\": \"allow\", \"a.example\": \"maybe\"}}}",
        "{\"network\": {\"mitm_hooks\": {}}}",
        "{\"network\": {\"mitm_hooks\": [5, {\"host\": \"a.example\", \"match\": {\"host\": 1, \"methods\": [\"GET\"], \"path_prefixes\": [\"/\"]}, \"actions\": {\"x\": 1}, \"y\": 1}, {\"match\": 5}]}}",
        "{\"network\": {\"mitm_ca\": {\"certificate_file\": \"ca.pem\", \"key\": \"k\"}}}",
        "{\"network\": {\"mitm_ca\": 5}}",
        "{\"network\": {\"credential_providers\": [{\"env\": \"T\"}, {\"id\": \"a\", \"env\": \"T\", \"url_prefixes\": [\"a.example\"]}, {\"id\": \"a\"}, 5]}}",
        "{\"network\": {\"credential_providers\": {\"a\": {\"env\": [null], \"url_prefixes\": [\"a.example\"], \"x\": 1}}}}",
        &deep,
    ];
    let directory = tempfile::tempdir().expect("a directory");
    let mut all = String::new();
    for text in texts {
        let sources = sources(&directory.path().join("c.json"), text);
        all.push_str(&match load(&sources) {
            Ok(_) => "sound".to_owned(),
            Err(errors) => errors.to_string(),
        });
        all.push_str("\n----\n");
    }
    let directory = format!("{}/", directory.path().display());
    insta::assert_snapshot!(all.replace(&directory, ""));
}

#[test]
fn c10_a_document_has_at_most_one_mebibyte() {
    let padded = |length: usize| format!("{}{}", "{\"network\": {}}", " ".repeat(length - 15));
    assert!(json(&padded(1 << 20)).is_ok());
    let error = json(&padded((1 << 20) + 1))
        .expect_err("too large")
        .one_line();
    assert!(error.contains("at most 1 MiB"), "{error}");
}

#[test]
fn c10_every_prefix_of_a_document_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("c.json");
    let text = FULL.trim_end();
    for end in (0..text.len()).step_by(7) {
        assert!(load(&sources(&path, &text[..end])).is_err(), "{end}");
    }
}

#[test]
fn b4_no_message_about_a_document_repeats_a_secret() {
    for text in [
        "{\"network\": {\"mitm_hooks\": [{\"secret\": \"hunter2\"}]}}",
        "{\"network\": {\"token\": \"hunter2\"}}",
        "{\"network\": {\"credential_providers\": {\"a\": {\"value\": \"hunter2\"}}}}",
    ] {
        let errors = json(text).expect_err(text).to_string();
        assert!(!errors.contains("hunter2"), "{errors}");
    }
}
