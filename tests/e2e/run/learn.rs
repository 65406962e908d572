//! `run --learn`: a program runs once with hosts that no list allows, and then with the policy that this run wrote (SPEC
//! W1).

use e2e::daemon::{Config, Daemon};
use e2e::machine::{Need, has};
use e2e::origin::{Answer, Origin};
use e2e::program::{Program, Run};
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::shipped;
use serde_json::json;

use super::Installed;

/// The settings of the test's network, which no policy has.
fn network(config: &Config, installed: &Installed) -> String {
    let text = config.write(installed.path());
    let hosts = text.lines().filter(|line| {
        ["hosts_file", "nameservers", "log_format"]
            .iter()
            .any(|key| line.starts_with(key))
    });
    let lines: Vec<&str> = hosts.collect();
    let (resolver, daemon): (Vec<&str>, Vec<&str>) = lines
        .into_iter()
        .partition(|line| !line.starts_with("log_format"));
    format!(
        "\n[daemon]\n{}\n[daemon.resolver]\n{}\n",
        daemon.join("\n"),
        resolver.join("\n")
    )
}

fn config() -> Config {
    let mut config = Config::example();
    for host in ["a.example.test", "b.example.test", "c.example.test"] {
        config = config.host(host, std::net::Ipv4Addr::LOCALHOST);
    }
    config
}

fn script(origin: &Origin, hosts: &[&str]) -> String {
    let fetch = |host: &&str| {
        let url = origin.url(host, "/");
        format!("curl -sS --max-time 20 -o /dev/null -w '%{{http_code}} ' {url}")
    };
    let fetches: Vec<String> = hosts.iter().map(fetch).collect();
    fetches.join("; ")
}

fn learn(installed: &Installed, options: &[&str], script: &str) -> Run {
    installed
        .private(&config())
        .args(options)
        .args(["--", "sh", "-c", script])
        .run()
}

#[test]
fn w1_a_program_runs_with_the_policy_that_it_taught() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let origin = Origin::start(|_| Answer::Echo);
    let hosts = [
        "allowed.test",
        "blocked.test",
        "a.example.test",
        "b.example.test",
        "c.example.test",
    ];
    let script = script(&origin, &hosts);
    let plain = learn(&installed, &[], &script);
    assert_eq!(plain.stdout, "200 403 403 403 403 ", "{plain:?}");

    let file = installed.path().join("learned.toml");
    let output = ["--learn", "--output", file.to_str().expect("UTF-8")];
    let learned = learn(&installed, &output, &script);
    learned
        .succeeded()
        .says("wrote the policy")
        .says("allow_local_binding lifts the protection");
    assert_eq!(learned.stdout, "200 200 200 200 200 ");
    let policy = std::fs::read_to_string(&file).expect("the policy");
    for entry in [
        "\"*.example.test\" = \"allow\" # a.example.test, b.example.test, c.example.test; port ",
        "\"allowed.test\" = \"allow\" # port ",
        "\"blocked.test\" = \"allow\" # port ",
        "# allow_local_binding lifts the protection of local and private addresses for every entry",
        "allow_local_binding = true",
    ] {
        assert!(policy.contains(entry), "{entry} in {policy}");
    }

    // The learned policy, and how names resolve in this test.
    let policy = policy + &network(&config(), &installed);
    std::fs::write(&file, policy).expect("our own file");
    let with_policy = |script: &str| {
        let run = installed.proxyctl();
        let run = run.args(["run", "--config"]).arg(&file);
        run.args(["--", "sh", "-c", script]).run()
    };
    let again = with_policy(&script);
    assert_eq!(again.stdout, "200 200 200 200 200 ", "{again:?}");
    let other = with_policy(&self::script(&origin, &["denied.test"]));
    assert_eq!(other.stdout, "403 ", "nothing else is allowed: {other:?}");
}

#[test]
fn w1_denied_and_local_hosts_are_refused_and_named_and_no_file_is_overwritten() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let origin = Origin::start(|_| Answer::Echo);
    let script = script(&origin, &["denied.test", "blocked.test"]);
    let learned = learn(&installed, &["--learn"], &script);
    assert_eq!(learned.stdout, "403 200 ");
    learned
        .succeeded()
        .says("# Refused: denied.test:")
        .says("\"blocked.test\" = \"allow\"");
    assert!(!learned.stderr.contains("\"denied.test\""), "{learned:?}");

    let protected = config().set("network", "allow_local_binding", "false");
    let run = installed.private(&protected);
    let run = run.args(["--learn", "--", "sh", "-c", &script]).run();
    assert_eq!(run.stdout, "403 403 ", "{run:?}");
    run.says("blocked.test:").says("(not_allowed_local)");
    assert!(!run.stderr.contains("= \"allow\""), "{run:?}");

    let file = installed.path().join("there.toml");
    std::fs::write(&file, "mine").expect("our own file");
    let output = ["--learn", "--output", file.to_str().expect("UTF-8")];
    let refused = learn(&installed, &output, "echo ran");
    assert_eq!(refused.code, Some(125), "{refused:?}");
    assert_eq!(refused.stdout, "");
    refused.says("overwrites nothing");
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "mine");
}

/// The session learns, and nothing else of the service does. Its records show what would be refused.
#[test]
fn w1_w2_a_service_lets_one_session_learn_and_suggests_what_was_refused() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let origin = Origin::start(|_| Answer::Echo);
    let daemon = Daemon::start(&config().set("daemon.admin", "show_sessions", "true"));
    let run = |options: &[&str], hosts: &[&str]| {
        Program::new(shipped::proxyctl())
            .arg("--socket")
            .arg(daemon.control_socket())
            .arg("run")
            .args(options)
            .args(["--", "sh", "-c", &script(&origin, hosts)])
            .run()
    };
    let learned = run(&["--learn"], &["blocked.test"]);
    assert_eq!(learned.stdout, "200 ", "{learned:?}");
    learned.says("\"blocked.test\" = \"allow\"");
    let refused = run(&[], &["a.example.test", "denied.test", "a.example.test"]);
    assert_eq!(refused.stdout, "403 403 403 ", "{refused:?}");

    let entries = daemon.blocked();
    let recorded: Vec<_> = entries
        .iter()
        .map(|entry| json!([entry["host"], entry["would_deny"], entry["source"]]))
        .collect();
    assert_eq!(
        recorded,
        [
            json!(["blocked.test", true, "session"]),
            json!(["a.example.test", null, "baseline_policy"]),
            json!(["denied.test", null, "baseline_policy"]),
            json!(["a.example.test", null, "baseline_policy"]),
        ]
    );
    let proposed = |arguments: &[&str]| {
        let suggested = proxyctl_json(&daemon, arguments);
        let entries = suggested["proposal"]["entries"].as_array().cloned();
        let entries = entries.expect("a list").into_iter();
        let patterns = entries.map(|entry| json!([entry["pattern"], entry["count"]]));
        patterns.collect::<Vec<_>>()
    };
    assert_eq!(
        proposed(&["suggest"]),
        [json!(["a.example.test", 2]), json!(["blocked.test", 1])]
    );
    let session = entries[1]["session"].as_str().expect("a session");
    assert_eq!(
        proposed(&["suggest", "--session", session]),
        [json!(["a.example.test", 2])]
    );
    let last = entries[2]["sequence"].to_string();
    assert_eq!(
        proposed(&["suggest", "--since", &last]),
        [json!(["a.example.test", 1])]
    );
    proxyctl(&daemon, &["suggest"])
        .succeeded()
        .says("\"a.example.test\" = \"allow\" # port ");
    proxyctl(&daemon, &["blocked", "--summary"])
        .succeeded()
        .says("proxyctl allow a.example.test");
    let summary = proxyctl_json(&daemon, &["blocked", "--summary"]);
    let hosts: Vec<_> = summary["hosts"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|host| json!([host["host"], host["count"], host["allow"]]))
        .collect();
    assert_eq!(
        hosts,
        [
            json!(["a.example.test", 2, "proxyctl allow a.example.test"]),
            json!(["blocked.test", 1, "proxyctl allow blocked.test"]),
            json!(["denied.test", 1, null]),
        ]
    );
}
