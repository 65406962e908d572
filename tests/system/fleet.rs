//! The examples in `packaging/fleet`: read by the parsers of the tools that they are for, and
//! installed on a machine as its README says.

use std::path::PathBuf;

use e2e::program::{Program, Run};
use serde_json::Value;

use crate::machine::tree;
use crate::service::{SERVICE, Service};

fn fleet(name: &str) -> PathBuf {
    tree().join("packaging/fleet").join(name)
}

fn example(name: &str) -> Vec<u8> {
    std::fs::read(fleet(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A file as a Python module reads it, as JSON.
fn read_by(module: &str, call: &str, name: &str) -> Value {
    let script = format!(
        "import json, {module}, sys\n\
         with open(sys.argv[1], 'rb') as file:\n    \
         print(json.dumps({call}, default=lambda data: list(data)))"
    );
    let run = Program::new("python3")
        .args(["-c", &script])
        .arg(fleet(name))
        .run();
    serde_json::from_str(&run.succeeded().stdout).expect("JSON")
}

fn yaml(name: &str) -> Value {
    read_by("yaml", "yaml.safe_load(file)", name)
}

/// Runs a tool, if it is installed.
fn run_if_there(program: &str, arguments: &[&str], name: &str) -> Option<Run> {
    let path = std::env::var_os("PATH")?;
    let is_there = std::env::split_paths(&path).any(|folder| folder.join(program).exists());
    is_there.then(|| Program::new(program).args(arguments).arg(fleet(name)).run())
}

#[test]
fn d1_cloud_init_accepts_its_example() {
    let config = yaml("cloud-init.yaml");
    for file in config["write_files"].as_array().expect("a list") {
        assert_eq!(file["owner"], "root:root", "{file}");
        assert_eq!(file["permissions"], "0644", "{file}");
        assert!(
            file["path"]
                .as_str()
                .is_some_and(|path| path.starts_with("/etc/")),
            "{file}"
        );
    }
    for command in config["runcmd"].as_array().expect("a list") {
        let words = command.as_array().expect("words and no shell");
        assert!(words.iter().all(Value::is_string), "{command}");
    }
    if let Some(run) = run_if_there(
        "cloud-init",
        &["schema", "--config-file"],
        "cloud-init.yaml",
    ) {
        run.succeeded();
    }
}

#[test]
fn d1_ansible_accepts_the_playbook_which_checks_before_it_applies() {
    let plays = yaml("ansible/playbook.yml");
    let tasks = plays[0]["tasks"].as_array().expect("tasks");
    let at = |name: &str| {
        let place = tasks.iter().position(|task| task["name"] == name);
        place.unwrap_or_else(|| panic!("there is no task {name:?}"))
    };
    assert!(at("Install or upgrade") < at("Check the configuration"));
    assert!(at("Check the configuration") < at("Put it in force"));
    assert!(
        at("Install or upgrade") < at("Fence"),
        "the rules need the package's user"
    );
    // The handlers that tasks notify exist, and so do the files that tasks copy.
    let handlers = plays[0]["handlers"].as_array().expect("handlers");
    for task in tasks {
        if let Some(notified) = task["notify"].as_str() {
            assert!(
                handlers.iter().any(|handler| handler["name"] == notified),
                "{notified}"
            );
        }
        let source = task["ansible.builtin.copy"]["src"].as_str();
        if let Some(name) = source.and_then(|source| source.strip_prefix("{{ fleet }}/")) {
            assert!(fleet(name).exists(), "{name}");
        }
    }
    let check = ["--syntax-check", "--inventory", "localhost,"];
    if let Some(run) = run_if_there("ansible-playbook", &check, "ansible/playbook.yml") {
        run.succeeded();
    }
}

#[test]
fn d1_the_profile_has_a_certificate_and_names_launchds_job() {
    let profile = read_by(
        "plistlib",
        "plistlib.load(file)",
        "macos/codex-network-proxy.mobileconfig",
    );
    assert_eq!(profile["PayloadType"], "Configuration");
    let payloads = profile["PayloadContent"].as_array().expect("a list");
    let mut identities = vec![&profile["PayloadUUID"], &profile["PayloadIdentifier"]];
    for payload in payloads {
        identities.extend([&payload["PayloadUUID"], &payload["PayloadIdentifier"]]);
        assert_eq!(payload["PayloadVersion"], 1);
    }
    for (index, identity) in identities.iter().enumerate() {
        assert!(
            identity.is_string() && !identities[..index].contains(identity),
            "{identity}"
        );
    }
    let payload = |kind: &str| {
        let found = payloads
            .iter()
            .find(|payload| payload["PayloadType"] == kind);
        found.unwrap_or_else(|| panic!("no payload {kind}"))
    };
    let der: Vec<u8> = payload("com.apple.security.root")["PayloadContent"]
        .as_array()
        .expect("data")
        .iter()
        .filter_map(|byte| u8::try_from(byte.as_u64()?).ok())
        .collect();
    let certificate = Program::new("openssl")
        .args([
            "x509",
            "-inform",
            "DER",
            "-noout",
            "-subject",
            "-ext",
            "basicConstraints",
        ])
        .stdin(&der)
        .run();
    certificate
        .succeeded()
        .says("codex-network-proxy CA")
        .says("CA:TRUE");
    let label = read_by(
        "plistlib",
        "plistlib.load(file)",
        "../../launchd/com.openai.codex-network-proxy.plist",
    );
    let rule = &payload("com.apple.servicemanagement")["Rules"][0];
    assert_eq!(rule["RuleType"], "Label");
    assert_eq!(rule["RuleValue"], label["Label"]);
}

#[test]
fn c1_a_machine_with_the_fleets_files_has_the_policy_of_its_readme() {
    let service = Service::new();
    let machine = service.machine();
    let put = |name: &str, place: &str| machine.write(place, example(name));
    for name in ["10-site.toml", "50-team.toml"] {
        put(
            &format!("conf.d/{name}"),
            &format!("/etc/codex-network-proxy/conf.d/{name}"),
        );
    }
    put(
        "environment/profile.sh",
        "/etc/profile.d/codex-network-proxy.sh",
    );
    put("requirements.toml", "/etc/codex/requirements.toml");
    // The state after the installation of the package.
    service.configure_text("# Nothing yet.\n");
    machine.run(["codex-network-proxy", "check"]).succeeded();
    service.systemctl(&["preset", SERVICE]).succeeded();
    service.start();
    for (host, verdict, place) in [
        ("www.example.com", "is allowed", "10-site.toml"),
        ("crates.example.org", "is allowed", "50-team.toml"),
        ("git.example.org", "is refused", "50-team.toml"),
        ("paste.example.com", "is refused", "10-site.toml"),
        ("a.paste.example.net", "is refused", "requirements.toml"),
        ("elsewhere.example.net", "is refused", "not_allowed"),
    ] {
        let explained = service.proxyctl("root", &["explain", host]);
        explained.succeeded().says(verdict).says(place);
    }
    // A login shell, and other shells.
    let doctor = machine.run(["bash", "-lc", "proxyctl doctor"]);
    doctor
        .succeeded()
        .says("set to this proxy: ")
        .says("https_proxy, all_proxy")
        .says("no problems");
    machine
        .run([
            "rm",
            "-r",
            "/etc/codex",
            "/etc/profile.d/codex-network-proxy.sh",
        ])
        .succeeded();
}
