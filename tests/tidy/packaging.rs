//! The packages: complete, and with valid configuration.

use std::fs;
use std::path::Path;

use codex_network_config::{AdminAccess, Loaded, ServicePreset, Sources, load};
use tempfile::TempDir;

use crate::sources::root;

/// Checks texts as the files of `/etc/codex-network-proxy`.
fn check(config: &str, requirements: &str) -> Loaded {
    let directory = TempDir::new().expect("a temporary directory");
    let etc = directory.path().join("etc/codex-network-proxy");
    fs::create_dir_all(&etc).expect("a new directory");
    fs::write(etc.join("config.toml"), config).expect("a new file");
    fs::write(etc.join("requirements.toml"), requirements).expect("a new file");
    let sources = Sources::system_under(directory.path()).with_requirements_under(directory.path());
    load(&sources).unwrap_or_else(|problems| panic!("{problems}"))
}

fn shipped(name: &str) -> String {
    fs::read_to_string(root().join("packaging/config").join(name)).expect("a shipped file")
}

/// A shipped file with its examples in force: text after a `#` without a blank.
fn in_force(text: &str) -> String {
    let line = |line: &str| {
        let example = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
        example.unwrap_or(line).to_owned() + "\n"
    };
    text.lines().map(line).collect()
}

/// The names of the files in a folder of the tree.
fn names(folder: &str) -> Vec<String> {
    names_in(&root().join(folder))
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn c1_c6_the_shipped_configuration_is_sound_and_only_makes_the_admin_api_read_only() {
    let (config, requirements) = (shipped("config.toml"), shipped("requirements.toml"));
    let loaded = check(&config, &requirements);
    assert!(loaded.notes.is_empty() && loaded.warnings.is_empty());
    // An existing policy table would be a second generation beside the user's own.
    let said = config
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert_eq!(
        said.collect::<Vec<_>>(),
        ["[daemon.admin]", "read_only = true"]
    );
    assert_eq!(loaded.settings.daemon.admin.access, AdminAccess::ReadOnly);
    assert_eq!(loaded.settings.files.len(), 2);
    assert!(loaded.settings.policy.allowed().is_empty());
    assert!(loaded.settings.managed.pins().is_empty());
}

#[test]
fn c1_c6_the_examples_in_the_shipped_configuration_are_sound() {
    let loaded = check(&in_force(&shipped("config.toml")), "");
    let allowed: Vec<_> = loaded.settings.policy.allowed().rules().collect();
    let of_preset = ServicePreset::find("github").expect("a preset").patterns;
    assert!(
        of_preset
            .iter()
            .all(|host| allowed.iter().any(|rule| rule.pattern == *host))
    );
    assert_eq!(allowed.len(), 2 + of_preset.len());
    assert_eq!(loaded.settings.policy.denied().len(), 1);
    let loaded = check("", &in_force(&shipped("requirements.toml")));
    assert!(loaded.settings.managed.pins().len() >= 4);
}

#[test]
fn the_package_has_every_unit_and_its_scripts_know_them() {
    let manifest = fs::read_to_string(root().join("daemon/Cargo.toml")).expect("the manifest");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let deb = &manifest["package"]["metadata"]["deb"];
    let sources: Vec<&str> = deb["assets"]
        .as_array()
        .expect("the list")
        .iter()
        .filter_map(|asset| asset.as_array()?.first()?.as_str())
        .collect();
    let is_packed = |path: &str| {
        sources.iter().any(|source| match source.split_once('*') {
            Some((start, end)) => path.starts_with(start) && path.ends_with(end),
            None => path == *source,
        })
    };
    for folder in ["systemd", "packaging/config"] {
        for name in names(folder) {
            assert!(is_packed(&format!("../{folder}/{name}")), "{folder}/{name}");
        }
    }
    assert!(
        is_packed("../packaging/OPERATING.md"),
        "the operator's page"
    );
    let generated = TempDir::new().expect("a temporary directory");
    manual::write(generated.path()).expect("the pages and completions");
    for folder in ["man", "completions"] {
        for name in names_in(&generated.path().join(folder)) {
            let path = format!("../target/package/{folder}/{name}");
            assert!(is_packed(&path), "{path}");
        }
    }
    let folders = names("packaging/fleet").into_iter();
    let folders = folders.filter(|name| root().join("packaging/fleet").join(name).is_dir());
    let folders = folders.map(|name| format!("packaging/fleet/{name}"));
    for folder in folders.chain(["packaging/fleet".to_owned()]) {
        for name in names(&folder) {
            let path = format!("{folder}/{name}");
            assert!(
                root().join(&path).is_dir() || is_packed(&format!("../{path}")),
                "{path}"
            );
        }
    }
    let units: Vec<String> = names("systemd")
        .into_iter()
        .filter(|name| name.ends_with(".service") || name.ends_with(".socket"))
        .collect();
    assert!(units.len() >= 5, "{units:?}");
    for script in names("packaging/deb/scripts") {
        let path = root().join("packaging/deb/scripts").join(&script);
        let text = fs::read_to_string(path).expect("a script");
        for unit in &units {
            assert!(
                text.contains(unit.as_str()),
                "{script} does not know {unit}"
            );
        }
    }
}
