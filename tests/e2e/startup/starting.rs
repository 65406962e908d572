//! Starts: their output, and the reasons for a refusal.

use std::net::TcpListener;

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::machine::{self, Need};
use e2e::origin::{Answer, Origin};
use e2e::wait::TIMEOUT;
use serde_json::{Value, json};

use super::run;

#[test]
fn l5_help_names_the_commands_the_signals_and_the_defaults() {
    let run = run(&["--help"]);
    for part in [
        "proxy",
        "check",
        "--config",
        "-c",
        "SIGHUP",
        "SIGTERM",
        "no configuration",
        "78 the configuration cannot be used",
    ] {
        run.succeeded().says(part);
    }
    assert_eq!(run.stderr, "");
}

#[test]
fn l5_a_bad_command_line_is_exit_code_2() {
    for arguments in [
        &["bogus"][..],
        &["--bogus"],
        &["-c"],
        &["--config"],
        &["--config", "a", "--config", "b"],
        &["check", "a", "b"],
        &["proxy", "a"],
    ] {
        let run = run(arguments);
        assert_eq!(run.failed().code, Some(2), "{arguments:?}");
        assert!(run.stderr.starts_with("error: "), "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn l5_proxy_is_the_same_as_no_command() {
    let daemon = Daemon::launch()
        .config(&Config::example())
        .arg("proxy")
        .start();
    assert_eq!(daemon.admin("GET", "/health", None).text(), "ok");
}

#[test]
fn l5_a_start_logs_listeners_mode_rules_and_how_to_try_it() {
    let daemon = Daemon::start(&Config::limited());
    let ready = daemon.wait_for_log(|line| line.message() == Some("ready"));
    let http = daemon.http_addr();
    for (field, value) in [
        ("mode", json!("limited")),
        ("allow_rules", json!(1)),
        ("deny_rules", json!(1)),
        (
            "try_it",
            json!(format!("curl -x http://{http} http://example.com/")),
        ),
    ] {
        assert_eq!(ready.field(field), Some(&value), "{field}");
    }
    for address in [http, daemon.socks_addr(), daemon.admin_addr()] {
        assert!(address.ip().is_loopback());
        Connection::open(address);
    }
    assert!(daemon.stdout().is_empty(), "the log is on standard error");
}

#[test]
fn c4_all_problems_of_a_configuration_are_reported_with_exit_code_78() {
    let config = Config::example()
        .set("network", "modee", r#""limited""#)
        .set("daemon.limits", "max_connections", "0");
    let exit = Daemon::launch()
        .config(&config)
        .try_start()
        .err()
        .expect("it does not start");
    assert_eq!((exit.code, exit.signal), (Some(78), None));
    let text = exit.text();
    for part in [
        "error: the configuration cannot be used",
        "did you mean `mode`?",
        "max_connections",
        "config.toml:",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}

#[test]
fn l1_l2_l3_a_port_in_use_is_one_line_with_the_address_and_who_holds_it() {
    // Without it the proxy cannot see which process with more capabilities holds a port.
    if !machine::has(Need::Ptrace) {
        return;
    }
    for (key, name) in [
        ("proxy_url", "http"),
        ("socks_url", "socks5"),
        ("admin_url", "admin"),
    ] {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("a bound listener");
        let config = Config::example().set("network", key, &format!("\"{address}\""));
        let exit = Daemon::launch()
            .config(&config)
            .try_start()
            .err()
            .expect("it does not start");
        assert_eq!(exit.code, Some(1), "{key}");
        let errors: Vec<_> = exit
            .logs
            .iter()
            .map(|line| &*line.raw)
            .filter(|line| !line.starts_with('{'))
            .collect();
        let [error] = errors[..] else {
            panic!("one line, not {errors:?}");
        };
        for part in [
            &format!("cannot listen on {address} for {name}"),
            &format!("process {} (", std::process::id()),
            &format!("set {key} to another port"),
        ] {
            assert!(error.contains(part), "{part} is not in {error}");
        }
    }
}

#[test]
fn l8_a_listen_address_that_is_not_loopback_is_clamped_with_a_warning() {
    let daemon =
        Daemon::start(&Config::example().set("network", "proxy_url", r#""http://0.0.0.0:0""#));
    assert!(daemon.http_addr().ip().is_loopback());
    daemon.wait_for_log(|line| {
        line.level() == Some("WARN")
            && line.message().is_some_and(|message| {
                message.contains("is not a loopback address") && message.contains("config.toml:")
            })
    });
}

#[test]
fn l11_it_listens_on_ipv6_loopback() {
    if !machine::has(Need::Ipv6) {
        return;
    }
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon =
        Daemon::start(&Config::example().set("network", "proxy_url", r#""http://[::1]:0""#));
    assert!(daemon.http_addr().is_ipv6());
    let authority = format!("allowed.test:{}", origin.addr().port());
    let answer = daemon.get(&format!("http://{authority}/"));
    assert_eq!(answer.text(), "hello");
}

#[test]
fn c5_a_text_log_is_one_plain_line_per_event() {
    let config = Config::example().set("daemon", "log_format", r#""text""#);
    let daemon = Daemon::launch().config(&config).spawn();
    let ready = daemon.wait_for_log(|line| line.raw.contains(" ready "));
    assert!(ready.raw.contains("INFO"), "{}", ready.raw);
    for line in daemon.logs() {
        assert!(!line.raw.chars().any(char::is_control), "{:?}", line.raw);
    }
}

#[test]
fn c5_an_invalid_log_filter_is_exit_code_78() {
    let config = Config::example().set("daemon", "log", r#""==[""#);
    let exit = Daemon::launch()
        .config(&config)
        .try_start()
        .err()
        .expect("it does not start");
    assert_eq!(exit.code, Some(78));
    assert!(exit.text().contains("log = "), "{}", exit.text());
}

#[test]
fn l5_two_proxies_run_beside_each_other() {
    let (one, other) = (
        Daemon::start(&Config::example()),
        Daemon::start(&Config::example()),
    );
    let files = |daemon: &Daemon| daemon.admin("GET", "/config", None).json()["files"].clone();
    assert_ne!(files(&one), files(&other));
    assert_ne!(files(&one), Value::Null);
}

/// A container's manager may have no file for its socket (`sd_notify(3)`).
#[cfg(target_os = "linux")]
#[test]
fn l9_readiness_reaches_a_service_manager_in_the_abstract_namespace() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let name = format!("codex-network-proxy-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let manager = UnixDatagram::bind_addr(&address).expect("a name of our own");
    manager
        .set_read_timeout(Some(TIMEOUT))
        .expect("a fresh socket takes options");
    let _daemon = Daemon::launch()
        .config(&Config::example())
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .start();
    let mut message = [0; 1024];
    loop {
        let length = manager.recv(&mut message).expect("a message");
        if message[..length].starts_with(b"READY=1") {
            return;
        }
    }
}
