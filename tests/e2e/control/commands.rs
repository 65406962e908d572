//! Every command, with text and JSON output, successful and failed.

use e2e::client::{Association, Connection};
use e2e::daemon::{Config, Daemon, StartScript};
use e2e::machine::{self, Need};
use e2e::program::Program;
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::shipped;
use e2e::wait::{TIMEOUT, poll};
use serde_json::json;

use super::be_refused;

#[test]
fn k1_status_shows_what_runs_where_and_since_when() {
    let daemon = Daemon::start(&Config::example());
    be_refused(&daemon, "blocked.test");
    let status = proxyctl_json(&daemon, &["status"]);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["roles"][0]["name"], "monitor");
    assert_eq!(status["roles"][0]["pid"], daemon.pid());
    assert_eq!(status["roles"][1]["name"], "worker");
    assert_eq!(status["roles"][1]["capabilities"], "0000000000000000");
    assert_eq!(status["roles"][1]["no_new_privs"], true);
    assert_eq!(status["roles"][1]["seccomp"], "filter");
    assert_eq!(status["mode"], "full");
    assert_eq!(status["allow_rules"], 1);
    assert_eq!(status["generation"]["number"], 1);
    assert!(status["generation"]["since"].as_i64() >= status["started"].as_i64());
    assert!(status.get("last_reload").is_none());
    assert_eq!(status["counters"]["blocked"], 1);
    assert_eq!(status["files"], json!([daemon.config_path()]));
    let listeners = status["listeners"].as_array().expect("a list");
    let address = |name: &str| {
        let listener = listeners.iter().find(|listener| listener["name"] == name);
        let listener = listener.unwrap_or_else(|| panic!("no {name} in {listeners:?}"));
        assert_eq!(listener["origin"], "bound");
        listener["address"].as_str().expect("text").to_owned()
    };
    assert_eq!(address("http"), daemon.http_addr().to_string());
    assert_eq!(address("socks5"), daemon.socks_addr().to_string());
    assert_eq!(address("admin"), daemon.admin_addr().to_string());
    assert_eq!(
        address("control"),
        daemon.control_socket().display().to_string()
    );

    let text = proxyctl(&daemon, &["status"]);
    text.succeeded()
        .says(&format!("monitor {}, uid ", daemon.pid()))
        .says("full mode, 1 allow rule, 1 deny rule")
        .says("generation 1, for ")
        .says(&address("http"))
        .says("0 allowed, 1 refused");
    let worker = text.stdout.lines().find(|line| line.contains("worker "));
    let worker = worker.expect("the worker");
    for fact in ["uid ", "no new privileges", "seccomp filter"] {
        assert!(worker.contains(fact), "{worker}");
    }
    assert!(!text.stdout.contains('\x1b'), "no colour into a pipe");
}

#[test]
fn k1_status_shows_the_monitor_where_the_worker_cannot_see_it() {
    if !machine::has(Need::Mounts) {
        return;
    }
    let wrapped = StartScript::with_invisible_processes();
    let daemon = Daemon::launch()
        .program(wrapped.path())
        .config(&Config::example())
        .start();
    let status = proxyctl_json(&daemon, &["status"]);
    let monitor = &status["roles"][0];
    assert_eq!(monitor["name"], "monitor");
    // CAP_SETUID, CAP_SETGID, CAP_SETPCAP and CAP_KILL.
    assert_eq!(monitor["capabilities"], "00000000000001e0", "{status:#}");
    assert_eq!(monitor["seccomp"], "off");
    assert_eq!(status["roles"][1]["seccomp"], "filter");
}

#[test]
fn k1_s3_status_says_how_many_connections_have_a_udp_association() {
    let daemon = Daemon::start(&Config::example());
    let counted = || proxyctl_json(&daemon, &["status"])["counters"]["udp_associations"].clone();
    assert_eq!(counted(), 0);
    let says = |text: &str| proxyctl(&daemon, &["status"]).succeeded().says(text).code;
    says("0 open, 0 idle to upstreams");
    let one = Association::open(daemon.socks_addr());
    let another = Association::open(daemon.socks_addr());
    let tunnel = Connection::open(daemon.socks_addr());
    assert_eq!(counted(), 2);
    poll(TIMEOUT, || {
        let open = &proxyctl_json(&daemon, &["status"])["counters"]["connections"];
        (*open == 3).then_some(())
    })
    .expect("three connections");
    says("3 open (2 UDP associations), 0 idle to upstreams");
    drop((one, another, tunnel));
    poll(TIMEOUT, || (counted() == 0).then_some(())).expect("they end");
}

#[test]
fn k1_mode_is_shown_and_changed() {
    let daemon = Daemon::start(&Config::example());
    assert_eq!(proxyctl(&daemon, &["mode"]).succeeded().stdout, "full\n");
    let changed = proxyctl(&daemon, &["mode", "limited"]);
    changed
        .succeeded()
        .says("limited, until it is changed again or the service restarts (was full)");
    assert_eq!(proxyctl_json(&daemon, &["mode"])["mode"], "limited");
    let logged = daemon.wait_for_log(|line| {
        line.message() == Some("the mode was changed through the control socket")
    });
    let uid = nix::unistd::Uid::effective().as_raw();
    assert_eq!(logged.field("uid"), Some(&json!(uid)), "K3: {}", logged.raw);
    assert!(logged.field("pid").is_some(), "{}", logged.raw);
    let reloaded = proxyctl(&daemon, &["reload"]);
    reloaded.succeeded().says("limited mode");
    let changed = proxyctl(&daemon, &["mode", "full"]);
    changed
        .succeeded()
        .says("full, until the next reload (was limited)");
    let reloaded = proxyctl(&daemon, &["reload"]);
    reloaded.succeeded().says("full mode");
}

#[test]
fn k1_reload_applies_the_files_and_prints_what_is_in_force() {
    let daemon = Daemon::start(&Config::example());
    daemon.rewrite_config(&Config::example().allow("more.test"));
    let reloaded = proxyctl(&daemon, &["reload"]);
    reloaded
        .succeeded()
        .says("reloaded: full mode, 2 allow rules, 1 deny rule");
    let reloaded = proxyctl_json(&daemon, &["reload"]);
    assert_eq!(reloaded["status"], "reloaded");
    assert_eq!(reloaded["generation"], 3);
    let last = &proxyctl_json(&daemon, &["status"])["last_reload"];
    assert_eq!(last["outcome"], "applied");
    daemon.wait_for_log(|line| {
        line.message() == Some("a reload was requested through the control socket")
    });
}

#[test]
fn k1_c7_a_failed_reload_returns_every_problem_and_changes_nothing() {
    let daemon = Daemon::start(&Config::example());
    daemon.rewrite_config_text("[network]\nmode = 3\nallowed_domans = []\n");
    let failed = proxyctl(&daemon, &["reload"]);
    assert_eq!(failed.code, Some(1));
    assert_eq!(failed.stdout, "");
    failed
        .says("config.toml:2:8: `mode` must be a string")
        .says("did you mean `allowed_domains`?")
        .says("the reload failed; the old settings stay in force");
    let failed = proxyctl(&daemon, &["reload", "--json"]);
    assert_eq!(failed.code, Some(1));
    let reported: serde_json::Value = serde_json::from_str(&failed.stdout).expect("JSON");
    assert_eq!(reported["status"], "failed");
    assert_eq!(reported["problems"][0]["line"], 2);
    let status = proxyctl_json(&daemon, &["status"]);
    assert_eq!(status["allow_rules"], 1);
    assert_eq!(status["last_reload"]["outcome"], "failed");
    proxyctl(&daemon, &["status"])
        .succeeded()
        .says("failed, ")
        .says("config.toml:2:8");
}

#[test]
fn k1_blocked_lists_what_was_refused_and_why() {
    let daemon = Daemon::start(&Config::example());
    proxyctl(&daemon, &["blocked"])
        .succeeded()
        .says("nothing was refused");
    be_refused(&daemon, "blocked.test");
    be_refused(&daemon, "denied.test");
    let blocked = proxyctl_json(&daemon, &["blocked"]);
    let first = &blocked["blocked"][0]["sequence"];
    assert_eq!(blocked["next"], blocked["blocked"][1]["sequence"]);
    assert_eq!(blocked["blocked"][0]["host"], "blocked.test");
    assert_eq!(blocked["blocked"][1]["reason"], "denied");
    // The same entries as the admin API gives.
    assert_eq!(blocked["blocked"], json!(daemon.blocked()));
    let later = proxyctl_json(&daemon, &["blocked", "--since", &first.to_string()]);
    assert_eq!(later["blocked"].as_array().map(Vec::len), Some(1));
    assert_eq!(later["dropped"], 0);
    proxyctl(&daemon, &["blocked"])
        .succeeded()
        .says("blocked.test:80")
        .says("denied: denied.test (");
    daemon.admin("GET", "/blocked?drain=true", None);
    let drained = proxyctl_json(&daemon, &["blocked"]);
    assert_eq!(
        (&drained["next"], &drained["dropped"]),
        (&blocked["next"], &json!(2))
    );
}

#[test]
fn k1_patterns_and_config_show_what_is_in_force() {
    let daemon = Daemon::start(&Config::example());
    let patterns = proxyctl_json(&daemon, &["patterns"]);
    assert_eq!(patterns["allowed"][0]["pattern"], "allowed.test");
    assert!(patterns["denied"][0]["line"].as_u64() > Some(0));
    proxyctl(&daemon, &["patterns"])
        .succeeded()
        .says("allow\n  allowed.test  ")
        .says("deny\n  denied.test  ");
    let config = proxyctl_json(&daemon, &["config"]);
    assert_eq!(config, daemon.admin("GET", "/config", None).json());
    proxyctl(&daemon, &["config"])
        .succeeded()
        .says("daemon.limits.drain_timeout ")
        .says(&format!("# {}", daemon.config_path().display()));
}

#[test]
fn k1_explain_prints_verdict_rule_position_and_remedy() {
    let daemon = Daemon::start(&Config::example());
    let config = daemon.config_path().display().to_string();
    proxyctl(&daemon, &["explain", "https://allowed.test/x"])
        .succeeded()
        .says("CONNECT allowed.test:443 in full mode is allowed")
        .says(&format!("the allow list has allowed.test ({config}:"))
        .says("its addresses are checked");
    proxyctl(&daemon, &["explain", "http://denied.test"])
        .succeeded()
        .says("GET http://denied.test:80 in full mode is refused")
        .says("denied (baseline_policy)")
        .says("remove that entry");
    proxyctl(&daemon, &["explain", "nobody.test"])
        .succeeded()
        .says("add \"nobody.test\" to allowed_domains");
    let explained = proxyctl_json(&daemon, &["explain", "denied.test"]);
    assert_eq!(explained["decision"], "deny");
    assert_eq!(explained["rule"]["list"], "deny");
    assert_eq!(explained["rule"]["file"], config);
    let own = format!("http://{}/", daemon.http_addr());
    assert_eq!(
        proxyctl_json(&daemon, &["explain", &own])["reason"],
        "loop_detected"
    );
    proxyctl(&daemon, &["mode", "limited"]).succeeded();
    let post = ["explain", "http://allowed.test", "--method", "POST"];
    assert_eq!(
        proxyctl_json(&daemon, &post)["reason"],
        "method_not_allowed"
    );
    assert_eq!(proxyctl_json(&daemon, &post[..2])["decision"], "allow");
    let none = proxyctl(&daemon, &["explain", "https://me:hunter2@allowed.test"]);
    assert_eq!(none.code, Some(1));
    assert!(!none.says("out of the URL").stderr.contains("hunter2"));
}

#[test]
fn k1_explain_agrees_with_what_the_proxy_does() {
    let daemon = Daemon::start(&Config::example());
    for host in ["blocked.test", "denied.test"] {
        be_refused(&daemon, host);
        let entry = daemon.wait_for_blocked(|entry| entry["host"] == host);
        let explained = proxyctl_json(&daemon, &["explain", &format!("http://{host}/")]);
        for key in ["decision", "source", "reason"] {
            assert_eq!(explained[key], entry[key], "{host}: {key}");
        }
    }
}

#[test]
fn k1_a_bad_command_line_is_exit_code_2() {
    for arguments in [
        &[][..],
        &["statsu"],
        &["mode", "half"],
        &["blocked", "--since", "yesterday"],
        &["explain"],
    ] {
        let run = Program::new(shipped::proxyctl()).args(arguments).run();
        assert_eq!(run.code, Some(2), "{arguments:?}: {run:?}");
    }
}

#[test]
fn k1_a_closed_output_is_no_failure() {
    let daemon = Daemon::start(&Config::example());
    Program::new("bash")
        .args([
            "-c",
            "set -o pipefail; \"$0\" --socket \"$1\" config | true",
        ])
        .arg(shipped::proxyctl())
        .arg(daemon.control_socket())
        .run()
        .succeeded();
}
