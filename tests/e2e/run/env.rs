//! `proxyctl env`.

use e2e::daemon::{Config, Daemon};
use e2e::program::Program;
use e2e::proxyctl::proxyctl;
use e2e::shipped;
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn j15_a_shell_that_evaluates_env_points_its_programs_at_the_proxy() {
    let daemon = Daemon::start(&Config::example());
    let script = format!(
        "eval \"$({} --socket {} env --shell bash)\" && env",
        shipped::proxyctl(),
        daemon.control_socket().display()
    );
    let run = Program::new("sh")
        .args(["-c", &script])
        .env("NO_PROXY", "*")
        .run();
    let set = |line: &str| {
        let lines: Vec<&str> = run.succeeded().stdout.lines().collect();
        assert!(lines.contains(&line), "{line} in {lines:#?}");
    };
    set(&format!("HTTP_PROXY=http://{}", daemon.http_addr()));
    set(&format!("https_proxy=http://{}", daemon.http_addr()));
    set(&format!("ALL_PROXY=socks5h://{}", daemon.socks_addr()));
    set("CODEX_NETWORK_PROXY_ACTIVE=1");
    // `Config::example` allows local binding.
    set("CODEX_NETWORK_ALLOW_LOCAL_BINDING=1");
    assert!(!run.stdout.contains("NO_PROXY=*"), "{run:#?}");
}

#[test]
fn j15_each_shell_has_its_syntax_and_programs_get_json() {
    let daemon = Daemon::start(&Config::example());
    let http = daemon.http_addr();
    for (shell, line) in [
        ("zsh", format!("export http_proxy='http://{http}'")),
        ("fish", format!("set -gx http_proxy 'http://{http}';")),
        ("powershell", format!("$env:http_proxy = 'http://{http}'")),
    ] {
        let run = proxyctl(&daemon, &["env", "--shell", shell]);
        assert!(
            run.succeeded().stdout.lines().any(|found| found == line),
            "{run:#?}"
        );
    }
    for arguments in [&["env", "--shell", "json"][..], &["env", "--json"]] {
        let run = proxyctl(&daemon, arguments);
        let set = json(&run.succeeded().stdout);
        assert_eq!(set["http_proxy"], format!("http://{http}"));
    }
}

#[test]
fn j15_unset_needs_no_proxy_and_keeps_certificates_of_the_users_own() {
    let run = Program::new(shipped::proxyctl())
        .args(["env", "--unset", "--shell", "bash"])
        .env("CODEX_CA_CERTIFICATE", "/bundle.pem")
        .env("SSL_CERT_FILE", "/bundle.pem")
        .env("CURL_CA_BUNDLE", "/own.pem")
        .run();
    let lines: Vec<&str> = run.succeeded().stdout.lines().collect();
    for name in ["http_proxy", "CODEX_NETWORK_PROXY_ACTIVE", "SSL_CERT_FILE"] {
        assert!(lines.contains(&&*format!("unset {name}")), "{lines:#?}");
    }
    assert!(!lines.contains(&"unset CURL_CA_BUNDLE"), "{lines:#?}");
}

#[test]
fn j15_without_a_proxy_env_sets_nothing_and_says_how_to_start_one() {
    let run = Program::new(shipped::proxyctl())
        .args(["--socket", "/nonexistent/control.sock", "env"])
        .run();
    assert_eq!(run.failed().code, Some(3));
    assert_eq!(run.stdout, "");
    run.says("no proxy answers");
}

#[test]
fn j15_with_interception_the_programs_trust_the_bundle() {
    let daemon = Daemon::start(&Config::limited());
    let run = proxyctl(&daemon, &["env", "--json"]);
    let set = json(&run.succeeded().stdout);
    let bundle = set["SSL_CERT_FILE"].as_str().expect("a path");
    assert_eq!(set["NODE_EXTRA_CA_CERTS"], bundle);
    let text = std::fs::read_to_string(bundle).expect("the bundle");
    assert!(text.contains("BEGIN CERTIFICATE"));
}
