//! The harness with a stand-in for the daemon that only fulfils the contract.

use super::*;

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/daemon/stand_in.sh");

fn start() -> Daemon {
    Daemon::launch()
        .program(STAND_IN)
        .config(&Config::example())
        .start()
}

#[test]
fn a_start_waits_until_ready_and_knows_where_everything_listens() {
    let daemon = start();
    assert_eq!(daemon.http_addr().port(), 1001);
    assert_eq!(daemon.socks_addr().port(), 1002);
    assert_eq!(daemon.admin_addr().port(), 1003);
    let first = &daemon.logs()[0];
    assert_eq!((first.message(), first.level()), (None, None));
    assert_eq!(first.raw, "a line that is not JSON");
}

#[test]
fn a_moved_listener_is_found_at_its_new_address() {
    let daemon = start();
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_log(|line| {
        line.field("address").and_then(Value::as_str) == Some("127.0.0.1:2001")
    });
    assert_eq!(daemon.http_addr().port(), 2001);
}

#[test]
fn an_end_gives_the_exit_code_and_the_whole_log() {
    let daemon = start();
    daemon.signal(Signal::SIGTERM);
    let exit = daemon.wait_exit();
    assert_eq!((exit.code, exit.signal), (Some(7), None));
    let last = exit.logs.last().expect("a log");
    assert_eq!(last.message(), Some("draining"));
    assert_eq!(last.target(), Some("stand_in"));
}

#[test]
fn try_start_distinguishes_a_failed_start_from_a_ready_daemon() {
    let exit = Daemon::launch()
        .program(STAND_IN)
        .config_text("unheard_of = 1")
        .try_start()
        .err()
        .expect("the stand-in refuses this key");
    assert_eq!(exit.code, Some(1));
    assert_eq!(exit.text(), "error: unknown key");
}

#[test]
fn the_daemon_sees_no_environment_but_what_the_test_gives() {
    let daemon = Daemon::launch()
        .program(STAND_IN)
        .config(&Config::example())
        .env("GIVEN", "1")
        .start();
    daemon.signal(Signal::SIGTERM);
    let exit = daemon.wait_exit();
    let known = ["PATH", "HOME", "CODEX_HOME", "GIVEN"];
    // A shell sets these itself.
    let shells = ["PWD", "OLDPWD", "SHLVL", "_", "LLVM_PROFILE_FILE"];
    for line in &exit.stdout {
        let name = line.raw.as_str();
        assert!(known.contains(&name) || shells.contains(&name), "{name}");
    }
    assert!(exit.stdout.iter().any(|line| line.raw == "GIVEN"));
}

#[test]
fn a_dropped_daemon_is_gone() {
    let daemon = start();
    let pid = i32::try_from(daemon.pid()).expect("a process id");
    drop(daemon);
    assert_eq!(kill(Pid::from_raw(pid), None), Err(nix::Error::ESRCH));
}

#[test]
fn a_configuration_is_the_toml_that_was_asked_for() {
    let directory = TempDir::new().expect("a temporary directory");
    let text = Config::example()
        .set("network", "mode", r#""limited""#)
        .unset("network", "allow_local_binding")
        .set("daemon.limits", "header_timeout", r#""1s""#)
        .hook("read", "allowed.test", &["GET", "HEAD"], "/a")
        .append("[other]\nkey = 1\n")
        .write(directory.path());
    let parsed: toml::Table = text.parse().expect("TOML");
    let network = parsed["network"].as_table().expect("a table");
    assert_eq!(network["mode"].as_str(), Some("limited"));
    assert_eq!(network["allowed_domains"][0].as_str(), Some("allowed.test"));
    assert_eq!(network["denied_domains"][0].as_str(), Some("denied.test"));
    assert!(!network.contains_key("allow_local_binding"));
    assert_eq!(
        network["mitm"]["hooks"]["read"].to_string(),
        r#"{ host = "allowed.test", methods = ["GET", "HEAD"], path_prefixes = ["/a"] }"#
    );
    assert_eq!(parsed["other"]["key"].as_integer(), Some(1));
    let daemon = &parsed["daemon"];
    assert_eq!(daemon["log_format"].as_str(), Some("json"));
    assert_eq!(daemon["limits"]["header_timeout"].as_str(), Some("1s"));
    let hosts = daemon["resolver"]["hosts_file"].as_str().expect("a path");
    let hosts = std::fs::read_to_string(hosts).expect("the hosts file is written");
    assert!(hosts.contains("127.0.0.1 blocked.test\n"), "{hosts}");
}
