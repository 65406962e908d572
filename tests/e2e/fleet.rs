//! The examples in `packaging/fleet` do what they say. The tests of the booted machine check those
//! that need more than a shell.

use std::fs;
use std::path::{Path, PathBuf};

use codex_network_config::{Loaded, Sources, load};
use e2e::program::{Program, Run};
use e2e::shipped;
use tempfile::TempDir;

/// Each example, and its path on a system.
const PLACES: [(&str, &str); 6] = [
    (
        "conf.d/10-site.toml",
        "etc/codex-network-proxy/conf.d/10-site.toml",
    ),
    (
        "conf.d/50-team.toml",
        "etc/codex-network-proxy/conf.d/50-team.toml",
    ),
    ("requirements.toml", "etc/codex/requirements.toml"),
    (
        "environment/profile.sh",
        "etc/profile.d/codex-network-proxy.sh",
    ),
    (
        "environment/50-codex-network-proxy.conf",
        "etc/environment.d/50-codex-network-proxy.conf",
    ),
    ("nftables.conf", "etc/nftables.conf"),
];

fn fleet() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/fleet")
}

fn example(name: &str) -> String {
    let path = fleet().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A system's root with some of the examples.
fn installed(names: &[&str]) -> TempDir {
    let root = tempfile::tempdir().expect("a directory");
    for (name, place) in PLACES.iter().filter(|(name, _)| names.contains(name)) {
        let place = root.path().join(place);
        fs::create_dir_all(place.parent().expect("a parent")).expect("it is ours");
        fs::write(place, example(name)).expect("it is ours");
    }
    root
}

fn loaded(root: &TempDir) -> Loaded {
    load(&Sources::system_under(root.path())).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn c1_drop_ins_add_to_each_other_and_the_later_name_wins() {
    let patterns = |loaded: &Loaded| {
        let policy = &loaded.settings.policy;
        [policy.allowed(), policy.denied()].map(|set| {
            let mut patterns: Vec<String> = set.rules().map(|rule| rule.pattern.clone()).collect();
            patterns.sort_unstable();
            patterns
        })
    };
    let site = loaded(&installed(&["conf.d/10-site.toml"]));
    assert_eq!(
        patterns(&site),
        [
            vec!["**.example.com", "git.example.org"],
            vec!["paste.example.com"]
        ]
    );
    let both = loaded(&installed(&["conf.d/10-site.toml", "conf.d/50-team.toml"]));
    assert_eq!(
        patterns(&both),
        [
            vec!["**.example.com", "crates.example.org"],
            vec!["git.example.org", "paste.example.com"]
        ]
    );
    for loaded in [site, both] {
        assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
        assert!(
            loaded.notes.is_empty(),
            "the newest form: {:?}",
            loaded.notes
        );
    }
}

#[test]
fn c6_the_requirements_bound_settings_and_overrides() {
    let names = [
        "conf.d/10-site.toml",
        "conf.d/50-team.toml",
        "requirements.toml",
    ];
    let root = installed(&names);
    let bound = loaded(&root).settings;
    let denied: Vec<String> = bound
        .policy
        .denied()
        .rules()
        .map(|rule| rule.pattern.clone())
        .collect();
    assert!(
        denied.contains(&"**.paste.example.net".to_owned()),
        "{denied:?}"
    );
    assert!(!bound.allow_upstream_proxy);
    let wider = root
        .path()
        .join("etc/codex-network-proxy/conf.d/90-wider.toml");
    fs::write(
        wider,
        "[permissions.site.network]\nallow_local_binding = true\n",
    )
    .expect("it is ours");
    let refused = load(&Sources::system_under(root.path())).expect_err("it goes beyond");
    let refused = refused.to_string();
    assert!(refused.contains("90-wider.toml:2"), "{refused}");
    assert!(refused.contains("invalid value for"), "{refused}");
}

/// The output of `proxyctl doctor environment` for these variables, for a proxy on its defaults.
fn doctor(program: Program) -> Run {
    let run = program.run();
    run.succeeded()
        .says("set to this proxy")
        .says("no problems\n");
    run
}

#[test]
fn b1_the_doctor_finds_nothing_wrong_with_either_environment() {
    let socket = "/nowhere/control.sock";
    let shell = fleet().join("environment/profile.sh");
    let script = ". \"$0\"; \"$1\" --socket \"$2\" doctor environment";
    // A shell whose variables avoid the proxy.
    let run = Program::new("sh")
        .args(["-euc", script])
        .arg(shell)
        .args([shipped::proxyctl(), socket]);
    doctor(run.env("NO_PROXY", "*").env("no_proxy", "*"));

    let mut program =
        Program::new(shipped::proxyctl()).args(["--socket", socket, "doctor", "environment"]);
    let variables = example("environment/50-codex-network-proxy.conf");
    let lines = variables.lines().filter(|line| !line.starts_with('#'));
    for (name, value) in lines.map(|line| line.split_once('=').expect("a variable")) {
        program = program.env(name, value);
    }
    doctor(program);
}

#[test]
fn c1_cloud_init_contains_the_example_files() {
    let cloud_init = example("cloud-init.yaml");
    let mut carried = 0;
    for (name, place) in PLACES {
        let Some((_, entry)) = cloud_init.split_once(&format!("- path: /{place}\n")) else {
            assert_eq!(
                name, "conf.d/50-team.toml",
                "only a team's machines have that"
            );
            continue;
        };
        let (_, content) = entry.split_once("content: |\n").expect("it has content");
        let indented = |line: &str| match line {
            "" => "\n".to_owned(),
            line => format!("      {line}\n"),
        };
        let wanted: String = example(name).lines().map(indented).collect();
        assert!(
            content.starts_with(&wanted),
            "{name} is another in cloud-init.yaml"
        );
        carried += 1;
    }
    assert_eq!(carried, PLACES.len() - 1);
}

/// The messages of `systemd-analyze verify` about the units with this drop-in.
fn verified(drop_in: &str) -> String {
    let units = tempfile::tempdir().expect("a directory");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
    for entry in fs::read_dir(shipped).expect("it is there").flatten() {
        let text = fs::read_to_string(entry.path()).expect("a unit");
        // The programs are not installed here.
        let text = text.replace("/usr/bin/codex-network-proxy", "/bin/true");
        let text = text.replace("/usr/bin/proxyctl", "/bin/true");
        fs::write(units.path().join(entry.file_name()), text).expect("it is ours");
    }
    let folder = units.path().join("codex-network-proxy.service.d");
    fs::create_dir(&folder).expect("it is ours");
    fs::write(folder.join("10-journal.conf"), drop_in).expect("it is ours");
    let run = Program::new("systemd-analyze")
        .args(["verify", "./codex-network-proxy.service"])
        .current_dir(units.path())
        .run();
    run.stderr
}

#[test]
fn o6_the_drop_in_gives_the_audit_a_journal_whose_name_the_guide_uses() {
    let drop_in = example("systemd/10-journal.conf");
    let namespace = "LogNamespace=codex-network-proxy";
    assert!(drop_in.lines().any(|line| line == namespace), "{drop_in}");
    let journal = "systemd/journald@codex-network-proxy.conf";
    assert!(fleet().join(journal).exists());
    let readme = example("README.md");
    assert!(readme.contains("journalctl --namespace=codex-network-proxy "));
    if !Path::new("/usr/bin/systemd-analyze").exists() {
        return;
    }
    assert!(!verified(&drop_in).contains("10-journal.conf"));
    let misspelt = drop_in.replace("LogNamespace", "LogNamespaces");
    let found = verified(&misspelt);
    assert!(found.contains("LogNamespaces"), "{found}");
}

#[test]
fn c1_the_fleets_readme_is_short_and_names_every_file() {
    let readme = example("README.md");
    assert!(readme.lines().count() <= 200);
    let mut folders = vec![fleet()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("it is there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path.strip_prefix(fleet()).expect("it is below");
            let name = name.to_str().expect("a plain name");
            assert!(
                name == "README.md" || readme.contains(&format!("| `{name}` |")),
                "{name}"
            );
        }
    }
    for (name, place) in PLACES {
        let row = readme
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")));
        let folder = Path::new(place)
            .parent()
            .and_then(Path::to_str)
            .expect("a folder");
        assert!(
            row.is_some_and(|row| row.contains(&format!("`/{folder}"))),
            "{name}: {row:?}"
        );
    }
}
