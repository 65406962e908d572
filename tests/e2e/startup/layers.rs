//! Where settings come from, and which take precedence (SPEC C1, L7).

use std::net::UdpSocket;

use e2e::daemon::{Config, Daemon, StartScript};
use e2e::program::{Program, Run};
use serde_json::json;
use tempfile::TempDir;

use super::{assert_nothing_in_etc, by_hand, run};

/// `check` without a file, with this text in the user's layer.
fn check_user(text: &str, arguments: &[&str]) -> Run {
    let home = TempDir::new().expect("a temporary directory");
    std::fs::write(home.path().join("config.toml"), text).expect("a new file");
    Program::new(e2e::shipped::proxy())
        .env("CODEX_HOME", home.path())
        .arg("check")
        .args(arguments)
        .run()
}

#[test]
fn l7_without_any_file_it_starts_on_built_in_defaults_and_says_how_to_allow_a_host() {
    assert_nothing_in_etc();
    let mute = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let home = TempDir::new().expect("a temporary directory");
    let wrapped = StartScript::without_config();
    let mut launch = Daemon::launch()
        .program(wrapped.path())
        .env("CODEX_HOME", home.path());
    for argument in by_hand(mute.local_addr().expect("a bound socket")) {
        launch = launch.arg(argument);
    }
    let daemon = launch.start();
    let reported = daemon.admin("GET", "/config", None).json();
    assert_eq!(reported["files"], json!([]));
    for (key, value) in [
        ("enabled", json!(true)),
        ("mode", json!("full")),
        ("allowed_domains", json!([])),
        ("allow_local_binding", json!(false)),
    ] {
        assert_eq!(reported[key], value, "{key}");
    }
    let refused = daemon.get("http://example.com/");
    assert_eq!(refused.status, 403);
    let message = refused.json()["message"].to_string();
    assert!(message.contains("allowed_domains"), "{message}");
    daemon.wait_for_log(|line| {
        line.level() == Some("WARN") && line.message_contains("allowed_domains")
    });
}

#[test]
fn c1_the_file_in_codex_home_is_read_and_named() {
    let run = check_user("[network]\nmode = \"limited\"\n", &[]);
    run.succeeded().says("limited mode").says("/config.toml\n");
    let bad = check_user("[network]\nmodee = \"limited\"\n", &[]);
    bad.failed().says("/config.toml:2:1: ");
}

#[test]
fn c1_config_replaces_every_other_file() {
    let home = TempDir::new().expect("a temporary directory");
    std::fs::write(home.path().join("config.toml"), "broken").expect("a new file");
    let daemon = Daemon::launch()
        .config(&Config::example())
        .env("CODEX_HOME", home.path())
        .start();
    let reported = daemon.admin("GET", "/config", None).json();
    assert_eq!(reported["files"], json!([daemon.config_path()]));
}

#[test]
fn c1_an_override_is_stronger_than_the_files_and_the_last_one_wins() {
    let text = "[network]\nmode = \"limited\"\nallowed_domains = [\"a.example\"]\n";
    check_user(text, &["-c", "network.mode=full"])
        .succeeded()
        .says("full mode, 1 allow rule");
    let last = ["-c", "network.mode=full", "-c", "network.mode=\"limited\""];
    check_user(text, &last).succeeded().says("limited mode");
    let whole_list = [
        "-c",
        r#"network.allowed_domains=["b.example", "c.example"]"#,
    ];
    check_user(text, &whole_list)
        .succeeded()
        .says("limited mode, 2 allow rules");
}

#[test]
fn c1_an_override_survives_a_reload() {
    let daemon = Daemon::launch()
        .config(&Config::example())
        .arg("-c")
        .arg("network.mode=limited")
        .start();
    daemon.reload_with(&Config::example().set("network", "mode", r#""full""#));
    let reported = daemon.admin("GET", "/config", None).json();
    assert_eq!(reported["mode"], "limited");
}

#[test]
fn c1_a_bad_override_is_reported_with_its_position() {
    for (assignment, reported) in [
        ("network", "an override needs a key and a value"),
        ("network.mod=full", "did you mean `mode`?"),
        ("network.mode=fast", "-c:1:"),
        ("=1", "-c:1:"),
    ] {
        let run = run(&["check", "-c", assignment]);
        assert_eq!(run.failed().code, Some(1), "{assignment}");
        run.says(reported);
    }
}

#[test]
fn c2_the_proxy_runs_on_the_newest_dialect() {
    let origin = e2e::origin::Origin::start(|_| e2e::origin::Answer::text("hello"));
    let mute = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let text = format!(
        "default_permissions = \"p\"\n[permissions.p.network]\nenabled = true\n\
         proxy_url = \"http://127.0.0.1:0\"\nsocks_url = \"socks5h://127.0.0.1:0\"\n\
         admin_url = \"http://127.0.0.1:0\"\n[permissions.p.network.domains]\n\
         \"127.0.0.1\" = \"allow\"\n[daemon]\nlog_format = \"json\"\n[daemon.resolver]\n\
         nameservers = [\"{}\"]\n",
        mute.local_addr().expect("a bound socket")
    );
    let daemon = Daemon::launch().config_text(&text).start();
    let authority = origin.addr().to_string();
    let answer = daemon.get(&format!("http://{authority}/"));
    assert_eq!(answer.text(), "hello");
}

#[test]
fn c4_a_file_that_is_mostly_codex_own_starts_the_proxy() {
    let config = Config::example().append("[model_providers.x]\nname = \"y\"\n[tui]\nz = 1\n");
    let daemon = Daemon::start(&config);
    assert_eq!(daemon.admin("GET", "/health", None).text(), "ok");
}
