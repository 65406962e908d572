//! Secrets that the configuration names reach the worker, and no other process (SPEC M9, B4).

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::daemon::{Config, Daemon};
use e2e::proxyctl::proxyctl;
use serde_json::json;

const TOKEN: &str = "ghp-hunter2-variable";
const KEY: &str = "hunter2-file-sesame";

/// A hook with two secrets: one from a variable, one from a file.
fn config(key: &Path) -> Config {
    Config::example().append(&format!(
        r#"
        [network.mitm.hooks.api]
        host = "allowed.test"
        methods = ["get"]
        path_prefixes = ["/v1/"]
        query = {{ q = ["pattern:a*"] }}
        headers = {{ Accept = [] }}
        action = ["auth"]

        [network.mitm.actions.auth]
        strip_request_headers = ["Authorization"]
        inject_request_headers = [
            {{ name = "Authorization", secret_env_var = "API_TOKEN", prefix = "Bearer " }},
            {{ name = "x-key", secret_file = "{}" }},
        ]
        "#,
        key.display()
    ))
}

fn write_key(path: &Path, key: &str) {
    std::fs::write(path, key).expect("a file of the test");
    let own = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, own).expect("it is ours");
}

fn assert_concealed(what: &str, text: &str) {
    for secret in [TOKEN, KEY] {
        assert!(!text.contains(secret), "{what}: {text}");
    }
}

#[test]
fn b4_hooks_are_shown_and_their_secrets_are_not() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let key = directory.path().join("key");
    write_key(&key, KEY);
    let daemon = Daemon::launch()
        .config(&config(&key))
        .env("API_TOKEN", TOKEN)
        .start();
    let reported = daemon.admin("GET", "/config", None);
    let mitm = &reported.json()["mitm"];
    assert_eq!(
        mitm["hooks"],
        json!({ "api": {
            "host": "allowed.test",
            "methods": ["GET"],
            "path_prefixes": ["/v1/"],
            "query": { "q": ["pattern:a*"] },
            "headers": { "accept": [] },
            "action": ["auth"],
        }})
    );
    assert_eq!(
        mitm["actions"],
        json!({ "auth": {
            "strip_request_headers": ["authorization"],
            "inject_request_headers": [
                { "name": "authorization", "secret_env_var": "API_TOKEN", "value": "<secret>" },
                { "name": "x-key", "secret_file": key, "value": "<secret>" },
            ],
        }})
    );
    assert_concealed("/config", &reported.text());
    let run = proxyctl(&daemon, &["config"]);
    run.succeeded().says("mitm.hooks.api.host");
    run.says("<secret>");
    assert_concealed("proxyctl config", &run.stdout);

    // A file is read anew at each reload, and a missing one fails the reload.
    write_key(&key, "another");
    assert_eq!(daemon.reload().status, 200);
    write_key(&key, &format!("{KEY}\nand more"));
    let failed = daemon.reload();
    assert_eq!(failed.status, 500);
    assert!(
        failed.text().contains("cannot be a header's value"),
        "{}",
        failed.text()
    );
    assert_concealed("a failed reload", &failed.text());
    std::fs::remove_file(&key).expect("it was there");
    let failed = daemon.reload();
    assert_eq!(failed.status, 500);
    assert!(failed.text().contains("No such file"), "{}", failed.text());
    assert_eq!(daemon.admin("GET", "/config", None).json()["generation"], 2);
    let status = proxyctl(&daemon, &["status", "--json"]);
    assert_concealed("proxyctl status", &status.succeeded().stdout);
    for line in daemon.logs() {
        assert_concealed("the log", &line.raw);
    }
}

#[test]
fn m9_a_missing_secret_prevents_the_start() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let key = directory.path().join("key");
    let started = Daemon::launch().config(&config(&key)).try_start();
    let Err(failed) = started else {
        panic!("it started without its secrets");
    };
    let text = failed.text();
    assert!(
        text.contains("the environment variable `API_TOKEN` is not set"),
        "{text}"
    );
    assert!(text.contains("cannot be read: No such file"), "{text}");
}
