//! The three roles of the service, seen from outside: what the kernel reports about the worker, and
//! what clients notice when it dies (`ARCHITECTURE.md`, "Three roles, one program").

use std::path::PathBuf;
use std::time::Duration;

use e2e::client::{Connection, Response};
use e2e::daemon::{Config, Daemon, Signal};
use e2e::machine::{self, Need};
use e2e::origin::{Answer, Origin};
use e2e::wait::{TIMEOUT, poll};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::startup::Wrapped;

/// The processes that the daemon's first process has started and that still exist.
pub(crate) fn children(daemon: &Daemon) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("a Linux machine");
    let parent = |pid: u32| {
        status(pid)?
            .lines()
            .find_map(|line| line.strip_prefix("PPid:\t")?.parse::<u32>().ok())
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| parent(*pid) == Some(daemon.pid()))
        .collect()
}

pub(crate) fn worker(daemon: &Daemon) -> u32 {
    let children = poll(TIMEOUT, || {
        Some(children(daemon)).filter(|children| children.len() == 1)
    });
    children.expect("one worker and nothing else")[0]
}

/// Makes the configuration a pipe, and starts a reload: its loader waits until the pipe is opened.
fn start_a_loader_that_waits(daemon: &Daemon) -> PathBuf {
    let pipe = daemon.config_path().to_owned();
    std::fs::remove_file(&pipe).expect("the test's own file");
    e2e::program::Program::new("mkfifo")
        .arg(&pipe)
        .run()
        .succeeded();
    daemon.signal(Signal::SIGHUP);
    pipe
}

/// The words of a process's command line, with spaces between them.
pub(crate) fn command_line(pid: u32) -> String {
    let words = std::fs::read(PathBuf::from("/proc").join(pid.to_string()).join("cmdline"));
    let words = String::from_utf8_lossy(&words.unwrap_or_default()).replace('\0', " ");
    words.trim_end().to_owned()
}

/// Whether a process has ended, even if it is not reaped yet.
pub(crate) fn is_gone(pid: u32) -> bool {
    status(pid).is_none_or(|status| status.contains("State:\tZ"))
}

fn status(pid: u32) -> Option<String> {
    std::fs::read_to_string(PathBuf::from("/proc").join(pid.to_string()).join("status")).ok()
}

/// A line of `/proc/PID/status`.
fn field(pid: u32, name: &str) -> String {
    let status = status(pid).expect("the worker is there");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    line.unwrap_or_else(|| panic!("no {name} in\n{status}"))
        .to_owned()
}

/// One request on a connection of its own.
fn get(daemon: &Daemon, url: &str) -> Response {
    Connection::open(daemon.http_addr()).exchange(&format!("GET {url} HTTP/1.1\r\n\r\n"))
}

pub(crate) fn end(pid: u32) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    // It may have ended by itself since it was looked up.
    let killed = kill(pid, Signal::SIGKILL);
    assert!(
        matches!(killed, Ok(()) | Err(nix::Error::ESRCH)),
        "{killed:?}"
    );
}

#[test]
fn l5_the_worker_has_no_privilege_and_cannot_get_any() {
    let daemon = Daemon::start(e2e::binary!(), &Config::example());
    let worker = worker(&daemon);
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(worker, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(worker, "NoNewPrivs"), "1");
    assert_eq!(field(worker, "Seccomp"), "2", "a filter");
    let ours = nix::unistd::Uid::effective();
    let uids: Vec<String> = field(worker, "Uid")
        .split('\t')
        .map(str::to_owned)
        .collect();
    if machine::is_root() {
        assert_eq!(field(worker, "CapBnd"), "0000000000000000");
        assert!(
            uids.iter().all(|uid| uid != "0"),
            "root's worker is somebody else: {uids:?}"
        );
        assert_eq!(field(worker, "Groups").trim(), "");
    } else {
        assert!(uids.iter().all(|uid| *uid == ours.to_string()), "{uids:?}");
    }
}

#[test]
fn l5_ps_names_the_roles() {
    let daemon = Daemon::start(e2e::binary!(), &Config::example());
    let short = |pid: u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.expect("the process is there").trim_end().to_owned()
    };
    let worker = worker(&daemon);
    assert_eq!(command_line(worker), "codex-network-proxy: worker work");
    assert_eq!(short(worker), "codex-np-worker");
    let _pipe = start_a_loader_that_waits(&daemon);
    let loader = poll(TIMEOUT, || {
        let others = children(&daemon).into_iter();
        others
            .filter(|pid| *pid != worker)
            .find(|pid| short(*pid) == "codex-np-loader")
    })
    .expect("a loader");
    let words = command_line(loader);
    assert!(
        words.starts_with("codex-network-proxy: loader --config="),
        "{words}"
    );
}

#[test]
fn l5_an_unknown_user_is_one_clear_error() {
    if !machine::has(Need::Root) {
        // Only root can change the worker's user; for others the key has no effect.
        let config = Config::example().set("daemon", "user", r#""nobody-by-this-name""#);
        drop(Daemon::start(e2e::binary!(), &config));
        return;
    }
    let config = Config::example().set("daemon", "user", r#""nobody-by-this-name""#);
    let exit = Daemon::launch(e2e::binary!())
        .config(&config)
        .try_start()
        .err()
        .expect("a refusal");
    assert_eq!(exit.code, Some(78));
    assert!(
        exit.text()
            .contains(r#"there is no user "nobody-by-this-name""#),
        "{}",
        exit.text()
    );
}

#[test]
fn l5_root_is_no_user_for_a_worker() {
    // For others the key has no effect.
    if !machine::has(Need::Root) {
        return;
    }
    for user in ["root", "nobody"] {
        let config = Config::example().set("daemon", "user", &format!("\"{user}\""));
        let started = Daemon::launch(e2e::binary!()).config(&config).try_start();
        match started {
            Ok(daemon) => {
                assert_eq!(user, "nobody");
                assert!(!field(worker(&daemon), "Uid").starts_with("0\t"));
            }
            Err(exit) => {
                assert_eq!((user, exit.code), ("root", Some(78)), "{}", exit.text());
                assert!(exit.text().contains("the worker cannot be root"));
            }
        }
    }
}

#[test]
fn l5_clients_wait_for_the_next_worker_and_none_is_refused() {
    let origin = Origin::start(|_| Answer::text("here"));
    let daemon = Daemon::start(e2e::binary!(), &Config::example());
    let first = worker(&daemon);
    end(first);
    // At once: clients that connect now wait in the kernel's queue for the next worker.
    for _ in 0..20 {
        let answer = get(&daemon, &origin.url("allowed.test", "/"));
        assert_eq!(answer.status, 200);
    }
    assert_ne!(worker(&daemon), first);
    let told = daemon.wait_for_log(|line| line.message_starts_with("the worker is gone"));
    assert_eq!(
        told.field("restarts").and_then(serde_json::Value::as_u64),
        Some(1)
    );
}

/// Signals, reloads and the end belong to the monitor, whatever a worker does.
#[test]
fn l5_a_stuck_worker_is_replaced_and_does_not_hold_the_monitor_up() {
    let daemon = Daemon::launch(e2e::binary!())
        .config(&Config::example())
        // The monitor pings its worker at an interval that it derives from the watchdog. A stuck
        // worker gets half of this time; a sound one on a loaded machine needs less.
        .env("WATCHDOG_USEC", "8000000")
        .start();
    let stuck = worker(&daemon);
    let pid = Pid::from_raw(i32::try_from(stuck).expect("a process id"));
    kill(pid, Signal::SIGSTOP).expect("the worker is there");
    daemon.rewrite_config(&Config::example().deny("allowed.test"));
    for _ in 0..50 {
        daemon.signal(Signal::SIGHUP);
    }
    daemon.wait_for_message("does not answer");
    assert_eq!(get(&daemon, "http://allowed.test/").status, 403);
    assert_ne!(worker(&daemon), stuck);
    // A worker's death is reported as a death.
    let distrusted = daemon
        .logs()
        .iter()
        .any(|line| line.raw.contains("trusted"));
    assert!(!distrusted);
    let stuck = worker(&daemon);
    let pid = Pid::from_raw(i32::try_from(stuck).expect("a process id"));
    kill(pid, Signal::SIGSTOP).expect("the worker is there");
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.wait_exit().code, Some(0));
    poll(TIMEOUT, || is_gone(stuck).then_some(())).expect("no worker is left");
}

#[test]
fn l15_a_stop_ends_a_worker_that_does_not_drain() {
    let config = Config::example().set("daemon.limits", "drain_timeout", "\"1s\"");
    let daemon = Daemon::start(e2e::binary!(), &config);
    let stuck = worker(&daemon);
    let pid = Pid::from_raw(i32::try_from(stuck).expect("a process id"));
    kill(pid, Signal::SIGSTOP).expect("the worker is there");
    daemon.signal(Signal::SIGTERM);
    let exit = daemon.wait_exit();
    assert_eq!(exit.code, Some(0));
    let told = exit.text().matches("did not end in time").count();
    assert_eq!(told, 1);
    poll(TIMEOUT, || is_gone(stuck).then_some(())).expect("no worker is left");
}

/// The service manager does not listen, so the worker cannot be left to the next monitor.
#[test]
fn l15_a_handover_that_fails_or_is_confirmed_late_becomes_a_stop() {
    let config = Config::example().set("daemon.limits", "drain_timeout", "\"1h\"");
    for late in [false, true] {
        let daemon = Daemon::launch(e2e::binary!())
            .config(&config)
            .env("NOTIFY_SOCKET", "/nonexistent/notify")
            .start();
        let pid = i32::try_from(worker(&daemon)).expect("a process id");
        let pid = Pid::from_raw(pid);
        if late {
            kill(pid, Signal::SIGSTOP).expect("the worker is there");
        }
        daemon.signal(Signal::SIGURG);
        if late {
            daemon.wait_for_message("the worker cannot be handed over");
            kill(pid, Signal::SIGCONT).expect("the worker is there");
        }
        let exit = daemon.wait_exit();
        assert_eq!(exit.code, Some(0), "{}", exit.text());
        let text = exit.text();
        assert!(text.contains("does not keep the worker"), "{text}");
        assert!(!text.contains("violated"), "{text}");
    }
}

#[test]
fn l5_a_new_worker_has_the_settings_in_force_and_not_those_of_the_start() {
    let origin = Origin::start(|_| Answer::text("here"));
    let daemon = Daemon::start(e2e::binary!(), &Config::example());
    daemon.reload_with(&Config::example().allow("blocked.test"));
    end(worker(&daemon));
    let answer = get(&daemon, &origin.url("blocked.test", "/"));
    assert_eq!(answer.status, 200);
}

#[test]
fn l5_nothing_serves_when_the_monitor_is_gone() {
    let daemon = Daemon::start(e2e::binary!(), &Config::example());
    let worker = worker(&daemon);
    end(daemon.pid());
    let gone = poll(TIMEOUT, || is_gone(worker).then_some(()));
    gone.expect("the worker ends with its monitor");
}

#[test]
fn c7_many_reloads_at_once_are_each_answered() {
    let daemon = Daemon::start(e2e::binary!(), &Config::example());
    std::thread::scope(|scope| {
        let reloads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| daemon.reload().status))
            .collect();
        for reload in reloads {
            assert_eq!(reload.join().expect("an answer"), 200);
        }
    });
}

#[test]
fn p11_a_tunnel_does_not_outlive_its_worker() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(e2e::binary!(), &Config::example());
    let mut tunnel = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", origin.addr().port());
    assert_eq!(tunnel.connect(&authority).status, 200);
    end(worker(&daemon));
    tunnel.expect_closed();
}

#[test]
fn c7_a_reload_while_no_worker_lives_is_not_lost() {
    let origin = Origin::start(|_| Answer::text("here"));
    let daemon = Daemon::start(e2e::binary!(), &Config::example());
    // Each death in a row makes the wait for the next worker longer.
    for _ in 0..4 {
        end(worker(&daemon));
    }
    daemon.rewrite_config(&Config::example().deny("allowed.test"));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_log(|line| line.message_starts_with("reloaded"));
    assert_eq!(get(&daemon, &origin.url("allowed.test", "/")).status, 403);
    assert_eq!(daemon.reload().status, 200, "further reloads are answered");
}

#[test]
fn c7_a_reload_that_its_worker_does_not_survive_is_not_lost() {
    let origin = Origin::start(|_| Answer::text("here"));
    let daemon = Daemon::start(e2e::binary!(), &Config::example());
    let first = worker(&daemon);
    daemon.rewrite_config(&Config::example().deny("allowed.test"));
    daemon.signal(Signal::SIGHUP);
    end(first);
    let url = origin.url("allowed.test", "/");
    // A worker that starts on the old settings is ended again, with its open requests.
    let ask = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| get(&daemon, &url)));
    let refused = poll(TIMEOUT, || ask().ok().filter(|answer| answer.status == 403));
    refused.expect("the deny rule comes into force");
}

#[test]
fn l5_the_roles_are_of_one_build_even_when_an_upgrade_replaces_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("codex-network-proxy");
    // Not written by this process, which may be forking at this moment: see ETXTBSY.
    e2e::program::Program::new("cp")
        .arg(e2e::binary!())
        .arg(&copy)
        .run()
        .succeeded();
    let daemon = Daemon::start(&copy, &Config::example());
    std::fs::remove_file(&copy).expect("the copy is there");
    assert_eq!(daemon.reload().status, 200, "a loader starts");
    let first = worker(&daemon);
    end(first);
    let next = poll(TIMEOUT, || {
        Some(worker(&daemon)).filter(|next| *next != first)
    });
    next.expect("another worker starts");
}

#[test]
fn l5_the_worker_gets_nothing_of_the_starters_environment() {
    let daemon = Daemon::launch(e2e::binary!())
        .config(&Config::example())
        .env("SECRET_TOKEN", "not-for-the-worker")
        .start();
    let environment = PathBuf::from("/proc")
        .join(worker(&daemon).to_string())
        .join("environ");
    let environment = std::fs::read(environment);
    if machine::has(Need::Ptrace) {
        let environment = environment.expect("root may look");
        assert!(!String::from_utf8_lossy(&environment).contains("SECRET_TOKEN"));
    } else {
        // The worker cannot be dumped, so other processes may not read it.
        let denied = environment.expect_err("the worker is closed to others");
        assert_eq!(denied.kind(), std::io::ErrorKind::PermissionDenied);
    }
}

#[test]
fn l5_the_other_roles_get_none_of_the_starters_descriptors() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("left-open");
    let wrapped = Wrapped::with_open_file(9, &file);
    let daemon = Daemon::start(wrapped.path(), &Config::example());
    let opened = |pid: u32| -> Vec<PathBuf> {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"));
        let descriptors = descriptors.into_iter().flatten().flatten();
        descriptors
            .filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok())
            .collect()
    };
    // No role can be dumped, so reading them needs privilege.
    if !machine::has(Need::Ptrace) {
        return;
    }
    assert!(opened(daemon.pid()).contains(&file), "the monitor has it");
    assert!(!opened(worker(&daemon)).contains(&file));
    let pipe = start_a_loader_that_waits(&daemon);
    let _pipe = std::fs::File::create(&pipe).expect("a pipe that is read");
    let children = children(&daemon);
    let loader = children
        .iter()
        .find(|pid| command_line(**pid).ends_with("load"));
    let loader = *loader.expect("a loader");
    // The pipe opens for this test a moment before the loader has its descriptor.
    let opened = poll(TIMEOUT, || {
        Some(opened(loader)).filter(|opened| opened.contains(&pipe))
    })
    .expect("the loader reads the pipe");
    assert!(!opened.contains(&file), "{opened:?}");
}

/// A past bug: the reload replaced the worker that was starting, and the service ended.
#[test]
fn c7_a_reload_before_the_first_worker_is_ready_waits_for_it() {
    let daemon = Daemon::launch(e2e::binary!())
        .config(&Config::example())
        .spawn();
    let is_worker = |pid: &u32| command_line(*pid).contains("worker");
    let worker = poll(TIMEOUT, || children(&daemon).into_iter().find(is_worker));
    let worker = Pid::from_raw(worker.expect("a worker").cast_signed());
    kill(worker, Signal::SIGSTOP).expect("our own process");
    daemon.signal(Signal::SIGHUP);
    // Long enough for a load: a reload that does not wait kills the worker after it.
    let is_gone = || !children(&daemon).contains(&worker.as_raw().cast_unsigned());
    let replaced = poll(Duration::from_millis(500), || is_gone().then_some(()));
    assert_eq!(replaced, None, "{:#?}", daemon.logs());
    kill(worker, Signal::SIGCONT).expect("our own process");
    daemon.wait_for_message("reloaded");
}
