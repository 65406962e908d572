//! The direction of dependencies (`ARCHITECTURE.md`, "Crates").

use std::process::Command;

use crate::sources::root;

fn manifest(folder: &str) -> toml::Table {
    let path = root().join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&path).expect("a manifest");
    text.parse().expect("TOML")
}

fn dependencies(folder: &str) -> Vec<String> {
    manifest(folder)
        .get("dependencies")
        .and_then(toml::Value::as_table)
        .map(|table| table.keys().cloned().collect())
        .unwrap_or_default()
}

fn ours(folder: &str) -> Vec<String> {
    let mut ours: Vec<String> = dependencies(folder)
        .into_iter()
        .filter(|name| name.starts_with("codex-network-"))
        .collect();
    ours.sort_unstable();
    ours
}

#[test]
fn crates_depend_downwards() {
    assert_eq!(ours("crates/policy"), [""; 0]);
    assert_eq!(ours("crates/files"), [""; 0]);
    assert_eq!(
        ours("crates/config"),
        ["codex-network-files", "codex-network-policy"]
    );
    assert_eq!(
        ours("crates/engine"),
        [
            "codex-network-config",
            "codex-network-files",
            "codex-network-policy"
        ]
    );
    assert_eq!(ours("crates/control"), ["codex-network-policy"]);
    // `proxyctl` asks the proxy and does not contain it.
    let below_ctl = [
        "codex-network-config",
        "codex-network-control",
        "codex-network-files",
        "codex-network-policy",
    ];
    for name in ours("ctl") {
        assert!(below_ctl.contains(&name.as_str()), "ctl depends on {name}");
    }
}

#[test]
fn deciding_and_configuring_need_no_network() {
    for folder in ["crates/policy", "crates/config"] {
        for name in dependencies(folder) {
            let network = ["tokio", "hyper", "rustls", "hickory", "socket2", "nix"];
            // It reads PEM, and has no code of TLS.
            if name == "rustls-pki-types" {
                continue;
            }
            assert!(
                !network.iter().any(|word| name.contains(word)),
                "{folder} depends on {name}"
            );
        }
    }
}

/// The output of `cargo` about the embedder in `tests/embedder`, offline.
fn cargo(arguments: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    // Cargo sets these for a test of its own package. A build script that reads them would run again now,
    // and again in the next build, with all that depends on it.
    let told = std::env::vars_os().map(|(name, _)| name);
    for name in told.filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    }) {
        cargo.env_remove(name);
    }
    let cargo = cargo
        .args(arguments)
        .args(["--offline", "--package", "embedder"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let told = String::from_utf8_lossy(&cargo.stderr);
    assert!(cargo.status.success(), "{told}");
    String::from_utf8(cargo.stdout).expect("UTF-8")
}

#[test]
fn e1_an_embedder_pulls_in_nothing_of_the_service() {
    let tree = cargo(&["tree", "-e", "normal", "--prefix", "none"]);
    let names: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.contains(&"codex-network-engine"), "{tree}");
    for name in [
        "caps",
        "clap",
        "codex-network-control",
        "landlock",
        "sd-notify",
        "seccompiler",
        "signal-hook",
        "tarpc",
        "tracing-journald",
        "tracing-subscriber",
    ] {
        assert!(!names.contains(&name), "{name} is the service's: {tree}");
    }
    let features = cargo(&["tree", "-e", "normal,features", "--invert", "nix"]);
    for feature in ["process", "signal", "resource"] {
        let feature = format!("nix feature \"{feature}\"");
        assert!(!features.contains(&feature), "{features}");
    }
}

#[test]
fn e1_an_embedder_builds_without_the_service() {
    cargo(&["check", "--quiet"]);
}

#[test]
fn every_crate_takes_the_shared_lints() {
    for folder in [
        "crates/policy",
        "crates/files",
        "crates/config",
        "crates/engine",
        "crates/control",
        "daemon",
        "ctl",
        "packaging/macos",
        "tests",
        "tests/bench",
        "tests/embedder",
    ] {
        let shared = manifest(folder)
            .get("lints")
            .and_then(|lints| lints.get("workspace")?.as_bool());
        assert_eq!(shared, Some(true), "{folder}");
    }
}
