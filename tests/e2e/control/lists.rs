//! `allow`, `deny` and `unset`: the file, the answer, and the running proxy (SPEC W3).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;

use e2e::daemon::{Config, Daemon, StartScript};
use e2e::machine::{self, Need};
use e2e::origin::{Answer, Origin};
use e2e::program::Program;
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::shipped;
use serde_json::json;
use tempfile::TempDir;

use super::callers::as_nobody;

fn content(daemon: &Daemon) -> String {
    fs::read_to_string(daemon.config_path()).expect("the test's own file")
}

/// The names in the directory of the configuration that a change may leave behind.
fn left_behind(daemon: &Daemon) -> Vec<String> {
    let entries = fs::read_dir(daemon.directory()).expect("the test's own directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names
        .filter(|name| name.contains("toml.lock") || name.contains("toml.new"))
        .collect()
}

#[test]
fn w3_allow_changes_the_file_and_the_running_proxy() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example().append("# The end.\n"));
    let url = origin.url("blocked.test", "/");
    assert_eq!(daemon.get(&url).status, 403);
    let before = content(&daemon);

    let arguments = ["allow", "Blocked.test.", "--reason", "the build needs it"];
    let path = daemon.config_path().display().to_string();
    proxyctl(&daemon, &arguments)
        .succeeded()
        .says("+    \"blocked.test\", # 20")
        .says(": the build needs it\n")
        .says(&format!("changed {path}\n"))
        .says("reloaded: full mode, 2 allow rules, 1 deny rule");
    assert_eq!(daemon.get(&url).text(), "hello");
    let after = content(&daemon);
    assert!(after.ends_with("# The end.\n"), "{after}");
    assert_eq!(left_behind(&daemon), [""; 0]);

    proxyctl(&daemon, &["allow", "blocked.test"])
        .succeeded()
        .says("blocked.test is allowed already, by blocked.test (")
        .says("nothing was changed");
    let changed = proxyctl_json(&daemon, &["unset", "blocked.test"]);
    assert_eq!(changed["file"], path);
    assert_eq!(changed["changed"], true);
    assert_eq!(changed["reloaded"], true);
    assert_eq!(changed["generation"], 3);
    let diff = changed["diff"].as_str().expect("a text");
    assert!(
        diff.starts_with(&format!("--- {path}\n+++ {path}\n@@ ")),
        "{diff}"
    );
    assert_eq!(daemon.get(&url).json()["reason"], "not_allowed");
    assert_eq!(content(&daemon), before);
}

#[test]
fn w3_deny_is_in_force_at_once_and_wins_over_a_later_allow() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let url = origin.url("allowed.test", "/");
    assert_eq!(daemon.get(&url).text(), "hello");
    proxyctl(&daemon, &["deny", "**.allowed.test"]).succeeded();
    assert_eq!(daemon.get(&url).json()["reason"], "denied");

    let before = content(&daemon);
    let refused = proxyctl(&daemon, &["allow", "www.allowed.test"]);
    assert_eq!(refused.failed().code, Some(1));
    refused
        .says("deny wins: allowing www.allowed.test would have no effect")
        .says("the deny entry \"**.allowed.test\" in line ")
        .says("proxyctl unset '**.allowed.test'");
    assert_eq!(content(&daemon), before);
    proxyctl(&daemon, &["unset", "**.allowed.test"]).succeeded();
    assert_eq!(daemon.get(&url).text(), "hello");
}

#[test]
fn w3_a_dry_run_shows_the_change_and_makes_none() {
    let daemon = Daemon::start(&Config::example());
    let before = content(&daemon);
    proxyctl(&daemon, &["allow", "x.test", "--dry-run"])
        .succeeded()
        .says("\"x.test\"")
        .says("nothing was changed");
    let shown = proxyctl_json(&daemon, &["allow", "x.test", "--dry-run"]);
    assert_eq!(
        (&shown["changed"], &shown["reloaded"]),
        (&json!(false), &json!(false))
    );
    assert!(
        shown["diff"]
            .as_str()
            .is_some_and(|diff| diff.contains("+allowed_domains")),
        "{shown}"
    );
    assert_eq!(content(&daemon), before);
    assert_eq!(
        proxyctl_json(&daemon, &["status"])["generation"]["number"],
        1
    );
}

#[test]
fn w3_of_changes_at_once_none_is_lost() {
    const CHANGES: usize = 8;
    let daemon = Daemon::start(&Config::example());
    thread::scope(|scope| {
        for number in 0..CHANGES {
            let daemon = &daemon;
            scope.spawn(move || {
                let host = format!("host{number}.test");
                proxyctl(daemon, &["allow", &host]).succeeded();
            });
        }
    });
    let patterns = proxyctl_json(&daemon, &["patterns"]);
    assert_eq!(
        patterns["allowed"].as_array().map(Vec::len),
        Some(1 + CHANGES)
    );
    assert_eq!(left_behind(&daemon), [""; 0]);
}

#[test]
fn w3_a_change_that_the_proxy_does_not_take_is_undone() {
    let daemon = Daemon::launch()
        .config(&Config::example())
        .arg("-c")
        .arg("network.allowed_domains=[\"only.test\"]")
        .start();
    let before = content(&daemon);
    let refused = proxyctl(&daemon, &["allow", "x.test"]);
    assert_eq!(refused.failed().code, Some(1));
    refused
        .says("the change is not in force")
        .says("has its old content again");
    assert_eq!(content(&daemon), before);
    let allowed = &proxyctl_json(&daemon, &["patterns"])["allowed"];
    assert_eq!(allowed[0]["pattern"], "only.test");
}

#[test]
fn w3_on_a_full_disk_nothing_changes() {
    let daemon = Daemon::start(&Config::example());
    let before = content(&daemon);
    // No file may grow beyond nothing, and the write fails instead of ending the program.
    let limited = "trap '' XFSZ; ulimit -f 0; exec \"$0\" --socket \"$1\" allow x.test";
    let refused = Program::new("bash")
        .args(["-c", limited])
        .arg(shipped::proxyctl())
        .arg(daemon.control_socket())
        .run();
    assert_eq!(refused.failed().code, Some(1));
    refused.says("File too large").says("nothing was changed");
    assert_eq!(content(&daemon), before);
    assert_eq!(left_behind(&daemon), [""; 0]);
    assert_eq!(
        proxyctl_json(&daemon, &["status"])["generation"]["number"],
        1
    );
}

#[test]
fn w3_without_a_proxy_only_the_file_changes() {
    let home = TempDir::new().expect("a directory");
    let allow = |pattern: &str| {
        Program::new(shipped::proxyctl())
            .args(["allow", pattern, "--config"])
            .arg(home.path().join("policy.toml"))
            .env("CODEX_NETWORK_PROXY_CONTROL", home.path().join("none.sock"))
            .run()
    };
    // A named file must exist, as for the proxy.
    allow("x.test").failed().says("policy.toml");
    fs::write(home.path().join("policy.toml"), "# mine\n").expect("a new file");
    allow("x.test")
        .succeeded()
        .says("no running proxy reads this file");
    let text = fs::read_to_string(home.path().join("policy.toml")).expect("the file");
    assert_eq!(
        text,
        "# mine\n\n[network]\nallowed_domains = [\"x.test\"]\n"
    );
}

#[test]
fn w3_a_file_of_another_user_is_refused_with_the_change_to_make() {
    if !machine::has(Need::Root) {
        return;
    }
    let daemon =
        Daemon::start(&Config::example().set("daemon.control", "administrators", r#"["nobody"]"#));
    let before = content(&daemon);
    let refused = as_nobody(&daemon, &["allow", "x.test"]);
    assert_eq!(refused.failed().code, Some(4));
    refused
        .says("+allowed_domains = [\"allowed.test\", \"x.test\"]")
        .says("is not yours to change: it belongs to user 0");
    assert_eq!(content(&daemon), before);
}

#[test]
fn w3_a_user_of_sessions_sees_the_change_that_an_administrator_could_make() {
    if !machine::has(Need::Root) {
        return;
    }
    let daemon = Daemon::start(&Config::example().set("daemon.control", "users", r#"["nobody"]"#));
    let refused = as_nobody(&daemon, &["allow", "x.test"]);
    assert_eq!(refused.failed().code, Some(4));
    // The file that the proxy was started with, and not that of a service without `--config`.
    let file = daemon.config_path().display().to_string();
    refused
        .says(&format!("+++ {file}"))
        .says("+allowed_domains = [\"allowed.test\", \"x.test\"]")
        .says(&format!("{file} is not yours to change"));
    let closed = fs::Permissions::from_mode(0o600);
    fs::set_permissions(daemon.config_path(), closed).expect("the test's own file");
    let refused = as_nobody(&daemon, &["deny", "x.test"]);
    assert_eq!(refused.failed().code, Some(4));
    refused.says(&format!(
        "{file} is not yours to read; its owner can make the change: `proxyctl deny 'x.test'`"
    ));
    assert_eq!(
        proxyctl_json(&daemon, &["status"])["generation"]["number"],
        1
    );
}

/// The proxy of another user names the files that would change.
#[test]
fn w3_root_does_not_change_the_files_of_another_users_proxy() {
    if !machine::has(Need::Root) {
        return;
    }
    let directory = TempDir::new().expect("a temporary directory");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), open).expect("our own directory");
    shipped::install(directory.path());
    let script = StartScript::as_ordinary_user(&directory.path().join("codex-network-proxy"));
    let daemon = Daemon::launch()
        .program(script.path())
        .config(&Config::example())
        .start();
    let before = content(&daemon);
    let refused = proxyctl(&daemon, &["allow", "x.test"]);
    assert_eq!(refused.failed().code, Some(4));
    refused.says("whose files root does not change");
    assert_eq!(content(&daemon), before);
}

#[test]
fn w3_c6_requirements_are_respected_and_named() {
    if !machine::has(Need::Mounts) {
        return;
    }
    let etc = TempDir::new().expect("a temporary directory");
    fs::create_dir(etc.path().join("codex")).expect("a new directory");
    let requirements = etc.path().join("codex/requirements.toml");
    let require = |text: &str| {
        fs::write(&requirements, format!("[experimental_network]\n{text}\n"))
            .expect("our own file");
    };
    require("denied_domains = [\"*.managed.test\"]");
    let script = StartScript::with_etc(etc.path());
    let daemon = Daemon::launch()
        .program(script.path())
        // A resolver of the test's own would be against the second requirement.
        .config(&Config::example().system_names())
        .start();
    // On the machine that the proxy sees.
    let inside = |arguments: &[&str]| {
        Program::new("nsenter")
            .arg("--mount")
            .arg("--target")
            .arg(daemon.pid().to_string())
            .arg(shipped::proxyctl())
            .arg("--socket")
            .arg(daemon.control_socket())
            .args(arguments)
            .current_dir(Path::new("/"))
            .run()
    };
    let refused = inside(&["allow", "a.managed.test"]);
    assert_eq!(refused.failed().code, Some(4), "{refused:?}");
    refused
        .says(
            "the deny entry \"*.managed.test\" in line 2 of /etc/codex/requirements.toml covers it",
        )
        .says("it is a requirement");
    let refused = inside(&["unset", "*.managed.test"]);
    assert_eq!(refused.failed().code, Some(4), "{refused:?}");
    refused.says("which only its administrator can remove");
    require("managed_allowed_domains_only = true\nallowed_domains = [\"a.test\"]");
    let refused = inside(&["allow", "x.test"]);
    assert_eq!(refused.failed().code, Some(4), "{refused:?}");
    refused.says("/etc/codex/requirements.toml:2 lets only managed entries allow hosts");
}
