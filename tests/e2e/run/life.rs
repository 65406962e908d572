//! How a session begins and ends: exit status, signals, the end of `proxyctl` and of the proxy (SPEC J1,
//! J2, J9).

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use e2e::daemon::{Config, Daemon, Signal};
use e2e::machine::{Need, has};
use e2e::process::has_ended;
use e2e::wait::{TIMEOUT, poll};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::Installed;

fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).expect("a process id");
    kill(Pid::from_raw(pid), signal).expect("our own child takes signals");
}

/// `proxyctl run --config FILE -- sh -c SCRIPT`, running. The script's first line of output is a process
/// id as the host sees it, or `-`.
pub(super) fn started(installed: &Installed, script: &str) -> (Child, String) {
    let mut child = Command::new(installed.path().join("proxyctl"))
        .args(["run", "--config"])
        .arg(installed.write(&Config::example()))
        .args(["--", "sh", "-c", script])
        .env("XDG_RUNTIME_DIR", installed.path())
        .env("HOME", installed.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("proxyctl starts");
    let stdout = child.stdout.as_mut().expect("a piped stdout");
    let mut line = String::new();
    BufReader::new(stdout)
        .read_line(&mut line)
        .expect("a line of the command");
    if line.is_empty() {
        let mut words = String::new();
        let stderr = child.stderr.as_mut().expect("a piped stderr");
        stderr.read_to_string(&mut words).expect("its words");
        panic!("the command did not start: {words}");
    }
    (child, line.trim().to_owned())
}

/// The process of the private proxy.
fn private_proxy(installed: &Installed) -> u32 {
    let find = || {
        let processes = std::fs::read_dir("/proc").ok()?;
        let mut ids = processes
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let marks = installed.path().join("codex-network-proxy-run-");
        let marks = marks.to_str()?.to_owned();
        ids.find(|pid| {
            let line = e2e::process::command_line(*pid);
            line.contains("codex-network-proxy --config") && line.contains(&marks)
        })
    };
    poll(TIMEOUT, find).expect("a private proxy")
}

#[test]
fn j1_the_exit_status_is_the_commands() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let code = |words: &[&str]| {
        let run = installed.private(&Config::example()).arg("--");
        run.args(words).run()
    };
    assert_eq!(code(&["true"]).code, Some(0));
    assert_eq!(code(&["sh", "-c", "exit 3"]).code, Some(3));
    assert_eq!(code(&["sh", "-c", "kill -TERM $$"]).code, Some(143));
    let missing = code(&["a-command-that-does-not-exist"]);
    assert_eq!(missing.code, Some(127));
    missing.says("a-command-that-does-not-exist: command not found");
    let directory = code(&["/"]);
    assert_eq!(directory.code, Some(126));
    directory.says("/: cannot be started: ");
}

#[test]
fn j1_a_bad_option_is_a_usage_error_and_nothing_starts() {
    let installed = Installed::new();
    for words in [
        &["--no-such-option", "true"][..],
        &["--forward", "80", "true"],
        &["--deny", "*.", "true"],
        &["--service", "--private", "true"],
        &[],
    ] {
        let run = installed.proxyctl().arg("run").args(words).run();
        assert_eq!(run.code, Some(2), "{run:#?}");
    }
}

#[test]
fn j5_the_command_gets_the_variables_of_its_session_and_keeps_its_own() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let run = installed
        .private(&Config::example())
        .args(["--", "env"])
        .env("OWN", "kept")
        .env("http_proxy", "http://elsewhere.test:1")
        .run();
    let lines: Vec<&str> = run.succeeded().stdout.lines().collect();
    assert!(lines.contains(&"OWN=kept"), "{lines:#?}");
    assert!(
        lines.contains(&"http_proxy=http://127.0.0.1:3128"),
        "{lines:#?}"
    );
    assert!(!run.stdout.contains("elsewhere"), "{run:#?}");
}

#[test]
fn j9_a_signal_for_proxyctl_goes_on_to_the_command() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let script = "trap 'echo got it; exit 5' TERM; echo -; while :; do sleep 0.01; done";
    let (mut child, _) = started(&installed, script);
    send(child.id(), Signal::SIGTERM);
    let status = child.wait().expect("our own child");
    assert_eq!(status.code(), Some(5));
    assert_eq!(installed.left_over(), [""; 0]);
}

#[test]
fn j2_when_proxyctl_is_killed_the_command_the_proxy_and_its_directory_end_with_it() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let (mut child, _) = started(&installed, "echo -; exec tail -f /dev/null");
    let proxy = private_proxy(&installed);
    let everything = e2e::process::descendants(child.id());
    assert!(everything.contains(&proxy), "{proxy} in {everything:?}");
    send(child.id(), Signal::SIGKILL);
    child.wait().expect("our own child");
    for pid in everything {
        poll(TIMEOUT, || has_ended(pid).then_some(())).unwrap_or_else(|| {
            panic!("{pid} lives: {}", e2e::process::command_line(pid));
        });
    }
    poll(TIMEOUT, || installed.left_over().is_empty().then_some(())).expect("its directory");
}

#[test]
fn j2_when_the_service_ends_the_session_the_command_ends_and_run_says_so() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let daemon = Daemon::start(&Config::example());
    let mut child = Command::new(e2e::shipped::proxyctl())
        .arg("--socket")
        .arg(daemon.control_socket())
        .args(["run", "--", "sh", "-c", "echo -; exec tail -f /dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("proxyctl starts");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("a piped stdout");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line, "-\n");
    send(daemon.worker(), Signal::SIGKILL);
    let output = child.wait_with_output().expect("our own child");
    assert_eq!(output.status.code(), Some(125));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(words.contains("the proxy ended the session"), "{words}");
}

#[test]
fn j2_a_reload_that_takes_the_profile_away_ends_run_which_says_why() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let config = Config::example().append("[permissions.build.network]\nenabled = true\n");
    let daemon = Daemon::start(&config);
    let mut child = Command::new(e2e::shipped::proxyctl())
        .arg("--socket")
        .arg(daemon.control_socket())
        .args(["run", "--profile", "build", "--"])
        .args(["sh", "-c", "echo -; exec tail -f /dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("proxyctl starts");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("a piped stdout");
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    assert_eq!(line, "-\n");
    daemon.reload_with(&Config::example());
    let output = child.wait_with_output().expect("our own child");
    assert_eq!(output.status.code(), Some(125));
    let words = String::from_utf8_lossy(&output.stderr);
    let why = "the proxy ended the session (its permission profile is no longer defined)";
    assert!(words.contains(why), "{words}");
}

/// Standard output closes when the last process of the jail has ended.
#[test]
fn j2_when_run_ends_with_the_session_nothing_of_the_jail_is_left() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let daemon = Daemon::start(&Config::example());
    let script = "for i in $(seq 200); do sleep 600 & done; echo -; exec tail -f /dev/null";
    let mut child = Command::new(e2e::shipped::proxyctl())
        .arg("--socket")
        .arg(daemon.control_socket())
        .args(["run", "--", "sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("proxyctl starts");
    let mut stdout = child.stdout.take().expect("a piped stdout");
    let mut line = [0; 2];
    stdout.read_exact(&mut line).expect("a line");
    send(daemon.worker(), Signal::SIGKILL);
    assert_eq!(child.wait().expect("our own child").code(), Some(125));
    fcntl(&stdout, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("our own pipe");
    let read = stdout.read(&mut line).expect("the end, not a wait for it");
    assert_eq!(read, 0);
}
