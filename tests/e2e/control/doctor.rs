//! `proxyctl doctor` on healthy and on broken daemons.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon, Signal, StartScript};
use e2e::port::Reserved;
use e2e::program::{Program, Run};
use e2e::shipped;
use serde_json::Value;

/// Runs `proxyctl --socket SOCKET doctor … --json` in a shell with these variables.
fn examine(
    socket: &Path,
    checks: &[&str],
    variables: &[(&str, &str)],
) -> (Option<i32>, Vec<Value>) {
    let mut program = Program::new(shipped::proxyctl())
        .arg("--socket")
        .arg(socket)
        .args(["doctor", "--json"])
        .args(checks);
    for (name, value) in variables {
        program = program.env(name, value);
    }
    let run: Run = program.run();
    let lines = serde_json::from_str(&run.stdout);
    (
        run.code,
        lines.unwrap_or_else(|error| panic!("{error}: {run:#?}")),
    )
}

/// The verdict and the text of each line of one check.
fn of<'l>(lines: &'l [Value], check: &str) -> Vec<(&'l str, &'l str)> {
    let lines = lines.iter().filter(|line| line["check"] == check);
    lines
        .map(|line| {
            let text = |key: &str| line[key].as_str().expect("a text");
            (text("verdict"), text("found"))
        })
        .collect()
}

/// The one line of a check.
#[track_caller]
fn the<'l>(lines: &'l [Value], check: &str) -> (&'l str, &'l str) {
    let found = of(lines, check);
    assert_eq!(found.len(), 1, "{check}: {lines:#?}");
    found[0]
}

/// The advice for the first problem.
#[track_caller]
fn advice(lines: &[Value]) -> &str {
    let problem = lines.iter().find(|line| line["verdict"] == "problem");
    let problem = problem.unwrap_or_else(|| panic!("no problem in {lines:#?}"));
    problem["advice"].as_str().expect("an advice")
}

#[test]
fn k1_doctor_finds_nothing_wrong_with_a_healthy_proxy() {
    let daemon = Daemon::start(&Config::example());
    let http = format!("http://{}", daemon.http_addr());
    let variables = ["http_proxy", "https_proxy"].map(|name| (name, http.as_str()));
    let (code, lines) = examine(&daemon.control_socket(), &[], &variables);
    assert_eq!(code, Some(0), "{lines:#?}");
    let doors = of(&lines, "listeners");
    for (name, address) in [
        ("http", daemon.http_addr()),
        ("socks5", daemon.socks_addr()),
        ("admin", daemon.admin_addr()),
    ] {
        let line = ("ok", format!("{name} {address} answers (bound)"));
        assert!(doors.contains(&(line.0, &line.1)), "{doors:?}");
        let held = format!("{name} {address} is in use by the proxy");
        let ports = of(&lines, "ports");
        assert!(
            ports
                .iter()
                .any(|(verdict, found)| *verdict == "ok" && found.starts_with(&held)),
            "{ports:?}"
        );
    }
    for check in ["control", "permissions", "ca", "environment", "version"] {
        assert_eq!(the(&lines, check).0, "ok", "{check}: {lines:#?}");
    }
    // If the machine lacks the worker's user, the proxy warns of that here too.
    let settings = of(&lines, "settings");
    assert_eq!(settings[0].0, "ok", "{settings:?}");
    let known = [
        "the worker runs as nobody",
        "every program on this machine may change the mode",
        // On a machine with a low limit.
        "the worker may have ",
    ];
    for (verdict, found) in &settings[1..] {
        assert_eq!(*verdict, "note");
        assert!(
            known.iter().any(|known| found.starts_with(known)),
            "{found}"
        );
    }
    // The checks leave no warnings in the daemon's log. The malformed request comes
    // after them in the log.
    Connection::open(daemon.http_addr()).exchange("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n");
    let malformed = "refused a malformed request";
    daemon.wait_for_message("carries no ftp URLs");
    let logs = daemon.logs();
    let entries = logs.iter().filter(|line| line.message_contains(malformed));
    assert_eq!(entries.count(), 1, "{logs:#?}");
    // Each line has all fields, whatever it found.
    for line in &lines {
        let keys: Vec<&String> = line.as_object().expect("an object").keys().collect();
        assert_eq!(keys[..4], ["check", "verdict", "found", "advice"]);
        let has_fingerprints = line.get("fingerprints").is_some();
        assert!(!has_fingerprints || line["check"] == "settings", "{line}");
        let is_problem = line["verdict"] == "problem";
        assert!(!is_problem || line["advice"].is_string(), "{line}");
    }
}

#[test]
fn k1_doctor_prints_columns_and_no_colour_into_a_pipe() {
    let daemon = Daemon::start(&Config::example());
    let run = Program::new(shipped::proxyctl())
        .args(["doctor", "control", "environment"])
        .env("CODEX_NETWORK_PROXY_CONTROL", daemon.control_socket())
        .env("NO_PROXY", "a\u{1b}[2Jb.example")
        .run();
    assert_eq!(run.code, Some(1), "{run:#?}");
    assert_eq!(run.stderr, "", "all problems are in the output");
    let lines: Vec<&str> = run.stdout.lines().collect();
    let [control, environment, advice, no_proxy, unset, count] = lines[..] else {
        panic!("{lines:#?}");
    };
    assert!(control.starts_with("ok       control      "), "{control}");
    assert!(
        environment.starts_with("note     environment  no proxy variable"),
        "{environment}"
    );
    assert!(
        advice.starts_with("                      -> export HTTP_PROXY="),
        "{advice}"
    );
    assert!(
        no_proxy.starts_with("problem  environment  NO_PROXY takes a\\u{1b}[2Jb"),
        "{no_proxy}"
    );
    assert_eq!(unset.trim(), "-> unset NO_PROXY");
    assert_eq!(count, "1 problem, 1 note");
}

#[test]
fn k1_doctor_works_without_a_running_proxy() {
    let daemon = Daemon::start(&Config::example());
    let socket = daemon.control_socket();
    daemon.signal(Signal::SIGTERM);
    let config = daemon.config_path().to_owned();
    assert_eq!(daemon.wait_exit().code, Some(0));
    let (code, lines) = examine(&socket, &[], &[]);
    assert_eq!(code, Some(1), "not the 3 of other commands: {lines:#?}");
    let (verdict, found) = the(&lines, "control");
    assert_eq!(verdict, "problem");
    assert!(
        found.contains(&format!("{}: there is no such socket", socket.display())),
        "{found}"
    );
    assert!(advice(&lines).contains("start"), "{lines:#?}");
    for check in ["listeners", "ca", "version"] {
        let (verdict, found) = the(&lines, check);
        assert!(
            verdict == "note" && found.starts_with("skipped: "),
            "{check}: {found}"
        );
    }
    assert!(!config.exists());
}

#[test]
fn k1_doctor_reports_a_foreign_process_at_the_control_socket() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("mute.sock");
    let _mute = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    // It accepts the connection and never answers. The check still ends.
    let (code, lines) = examine(&path, &["control"], &[]);
    assert_eq!(code, Some(1));
    assert_eq!(the(&lines, "control").0, "problem", "{lines:#?}");
}

/// The files of a system where no proxy has been started yet.
struct System {
    home: tempfile::TempDir,
    socket: std::path::PathBuf,
}

impl System {
    fn new(config: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory");
        fs::write(home.path().join("config.toml"), config).expect("a new directory");
        let socket = home.path().join("none.sock");
        Self { home, socket }
    }

    fn codex_home(&self) -> &str {
        self.home.path().to_str().expect("a plain path")
    }
}

#[test]
fn k1_doctor_names_the_process_that_holds_a_port() {
    let http = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let http = http.local_addr().map(|address| (address, http));
    let (address, _held) = http.expect("an address");
    let place = Reserved::open();
    let free = place.address();
    let system = System::new(&format!(
        "[network]\nproxy_url = \"http://{address}\"\nsocks_url = \"socks5h://{free}\"\n\
         [daemon.admin]\nenabled = false\n"
    ));
    let variables = [("CODEX_HOME", system.codex_home())];
    let (code, lines) = examine(&system.socket, &["ports"], &variables);
    assert_eq!(code, Some(1), "{lines:#?}");
    let found = of(&lines, "ports");
    let held = format!(
        "http {address} is in use by process {} (",
        std::process::id()
    );
    assert!(
        found[0].0 == "problem" && found[0].1.starts_with(&held),
        "{found:?}"
    );
    assert_eq!(found[1], ("ok", format!("socks5 {free} is free").as_str()));
    assert_eq!(found.len(), 2);
    assert!(advice(&lines).contains("proxy_url"), "{lines:#?}");
}

#[test]
fn c6_doctor_finds_files_that_others_may_change() {
    let daemon = Daemon::start(&Config::example());
    let config = daemon.config_path();
    let directory = config.parent().expect("it is in one");
    for (path, good, bad) in [(config, 0o644, 0o646), (directory, 0o755, 0o757)] {
        fs::set_permissions(path, Permissions::from_mode(bad)).expect("it is ours");
        let (code, lines) = examine(&daemon.control_socket(), &["permissions"], &[]);
        assert_eq!(code, Some(1), "{lines:#?}");
        let wanted = format!(
            "{} can be changed by every user (mode {bad:04o})",
            path.display()
        );
        assert!(
            of(&lines, "permissions").contains(&("problem", &wanted)),
            "{lines:#?}"
        );
        assert_eq!(
            advice(&lines),
            format!("sudo chmod go-w {}", path.display())
        );
        fs::set_permissions(path, Permissions::from_mode(good)).expect("it is ours");
        assert_eq!(
            examine(&daemon.control_socket(), &["permissions"], &[]).0,
            Some(0)
        );
    }
}

#[test]
fn m3_doctor_finds_a_readable_key_and_an_untrusted_ca() {
    let config = Config::example().set("network", "mode", "\"limited\"");
    let daemon = Daemon::start(&config);
    // The CA is in use, and is lost when the process ends.
    let (code, lines) = examine(&daemon.control_socket(), &["ca"], &[]);
    assert_eq!(code, Some(1), "{lines:#?}");
    assert!(
        the(&lines, "ca").1.contains("is lost when the proxy stops"),
        "{lines:#?}"
    );
    let state = serde_json::json!(daemon.directory().join("state"));
    Program::new(shipped::proxy())
        .args(["init", "-c", &format!("daemon.state_dir={state}")])
        .run()
        .succeeded();
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(
        examine(&daemon.control_socket(), &["permissions"], &[]).0,
        Some(0)
    );
    let (_, lines) = examine(&daemon.control_socket(), &["ca"], &[]);
    assert_ne!(the(&lines, "ca").0, "ok", "{lines:#?}");
    // `init` never makes it like this, and the proxy would not start with it.
    let key = daemon.directory().join("state/ca.key");
    fs::set_permissions(&key, Permissions::from_mode(0o640)).expect("it is ours");
    let (code, lines) = examine(&daemon.control_socket(), &["permissions"], &[]);
    assert_eq!(code, Some(1), "{lines:#?}");
    assert!(advice(&lines).starts_with(&format!("sudo chmod 0600 {}", key.display())));
}

#[test]
fn b1_doctor_checks_the_environment_of_its_shell() {
    let daemon = Daemon::start(&Config::example());
    let (http, socks5) = (daemon.http_addr(), daemon.socks_addr());
    let right = format!("http://{http}");
    let names = format!("socks5://{socks5}");
    let elsewhere = "http://me:hunter2@192.0.2.1:3128";
    for (variables, code, wanted) in [
        (
            vec![("HTTPS_PROXY", elsewhere)],
            1,
            "HTTPS_PROXY=http://***@192.0.2.1:3128 does not name",
        ),
        (
            vec![("https_proxy", right.as_str()), ("HTTPS_PROXY", elsewhere)],
            1,
            "disagree",
        ),
        (
            vec![("all_proxy", names.as_str())],
            0,
            "resolve names themselves",
        ),
        (
            vec![("NO_PROXY", "localhost,*.corp.example")],
            1,
            "NO_PROXY takes *.corp.example",
        ),
        // The configuration of these tests permits direct connections to local addresses.
        (
            vec![("no_proxy", "localhost,127.0.0.1,10.0.0.0/8")],
            0,
            "no proxy variable is set",
        ),
        (
            vec![("SSL_CERT_FILE", "/nowhere.pem")],
            1,
            "SSL_CERT_FILE names a file that cannot be read",
        ),
    ] {
        let (ended, lines) = examine(&daemon.control_socket(), &["environment"], &variables);
        assert_eq!(ended, Some(code), "{variables:?}: {lines:#?}");
        let found = of(&lines, "environment");
        assert!(
            found.iter().any(|(_, found)| found.contains(wanted)),
            "{wanted}: {found:?}"
        );
        assert!(!format!("{lines:?}").contains("hunter2"), "{lines:#?}");
    }
}

#[test]
fn a2_doctor_reports_a_writable_admin_api() {
    let daemon = Daemon::start(&Config::example());
    let may_change = |lines: &[Value]| {
        let found = of(lines, "settings");
        found.iter().any(|(verdict, found)| {
            *verdict == "note" && found.starts_with("every program on this machine may change")
        })
    };
    let socket = daemon.control_socket();
    let (code, lines) = examine(&socket, &["settings"], &[]);
    assert!(code == Some(0) && may_change(&lines), "{lines:#?}");
    daemon.reload_with(&Config::example().set("daemon.admin", "read_only", "true"));
    let (code, lines) = examine(&socket, &["settings"], &[]);
    assert!(code == Some(0) && !may_change(&lines), "{lines:#?}");
}

#[test]
fn c5_doctor_reports_too_few_descriptors_and_an_unconfined_worker() {
    let config = Config::example().set("daemon", "sandbox", r#""off""#).set(
        "daemon.limits",
        "max_connections",
        "10",
    );
    let wrapped = StartScript::with_descriptors(200);
    let daemon = Daemon::launch()
        .program(wrapped.path())
        .config(&config)
        .start();
    // Kept connections take 25. On Linux, tunnels take a few for pipes.
    let needed = if cfg!(target_os = "linux") { 233 } else { 227 };
    let too_many = format!(
        "the worker may have 200 descriptors open, and max_connections = 101 can need {needed}"
    );
    let is_short = |lines: &[Value]| {
        let found = of(lines, "settings");
        found
            .iter()
            .any(|(verdict, found)| *verdict == "note" && *found == too_many)
    };
    let socket = daemon.control_socket();
    let (_, lines) = examine(&socket, &["settings", "confinement"], &[]);
    assert!(!is_short(&lines), "{lines:#?}");
    if cfg!(target_os = "linux") {
        let reported = ("note", "the worker runs without Landlock");
        assert!(of(&lines, "confinement").contains(&reported), "{lines:#?}");
    }
    daemon.reload_with(&config.set("daemon.limits", "max_connections", "101"));
    let (code, lines) = examine(&socket, &["settings"], &[]);
    assert!(code == Some(0) && is_short(&lines), "{lines:#?}");
}

#[test]
fn c7_doctor_reports_that_the_last_reload_failed() {
    let daemon = Daemon::start(&Config::example());
    daemon.rewrite_config_text("[network]\nmode = 3\n");
    assert_eq!(daemon.reload().status, 500);
    let (code, lines) = examine(&daemon.control_socket(), &["settings"], &[]);
    assert_eq!(code, Some(1), "{lines:#?}");
    let (verdict, found) = of(&lines, "settings")[0];
    assert_eq!(verdict, "problem");
    assert!(found.contains("config.toml:2:8"), "{found}");
}

#[test]
fn k1_a_check_that_does_not_exist_is_a_usage_error() {
    let run = Program::new(shipped::proxyctl())
        .args(["doctor", "prots"])
        .run();
    assert_eq!(run.code, Some(2), "{run:#?}");
    run.says("ports");
}
