//! The three roles of the service, seen from outside: what the kernel reports about the worker, and
//! what clients notice when it dies (`ARCHITECTURE.md`, "Three roles, one program").

use std::path::PathBuf;
use std::time::Duration;

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon, Signal, StartScript};
use e2e::machine::{self, Need};
use e2e::origin::{Answer, Origin};
use e2e::process::{command_line, has_ended, kill_process, status_field};
use e2e::wait::{TIMEOUT, poll};
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// Makes the configuration a pipe, and starts a reload: its loader waits until the pipe is opened.
fn start_a_loader_that_waits(daemon: &Daemon) -> PathBuf {
    let pipe = daemon.replace_config_by_pipe();
    daemon.signal(Signal::SIGHUP);
    pipe.to_owned()
}

#[test]
fn l5_the_worker_has_no_privilege_and_cannot_get_any() {
    let daemon = Daemon::start(&Config::example());
    let worker = daemon.worker();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status_field(worker, set), "0000000000000000", "{set}");
    }
    assert_eq!(status_field(worker, "NoNewPrivs"), "1");
    assert_eq!(status_field(worker, "Seccomp"), "2", "a filter");
    let ours = nix::unistd::Uid::effective();
    let uids: Vec<String> = status_field(worker, "Uid")
        .split('\t')
        .map(str::to_owned)
        .collect();
    if machine::is_root() {
        assert_eq!(status_field(worker, "CapBnd"), "0000000000000000");
        assert!(
            uids.iter().all(|uid| uid != "0"),
            "root's worker runs as another user: {uids:?}"
        );
        assert_eq!(status_field(worker, "Groups").trim(), "");
    } else {
        assert!(uids.iter().all(|uid| *uid == ours.to_string()), "{uids:?}");
    }
}

#[test]
fn l5_ps_names_the_roles() {
    let daemon = Daemon::start(&Config::example());
    let short = |pid: u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.expect("the process is there").trim_end().to_owned()
    };
    let worker = daemon.worker();
    assert_eq!(command_line(worker), "codex-network-proxy: worker work");
    assert_eq!(short(worker), "codex-np-worker");
    let _pipe = start_a_loader_that_waits(&daemon);
    let loader = poll(TIMEOUT, || {
        let others = daemon.children().into_iter();
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
        drop(Daemon::start(&config));
        return;
    }
    let config = Config::example().set("daemon", "user", r#""nobody-by-this-name""#);
    let exit = Daemon::launch()
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
fn l5_the_worker_cannot_run_as_root() {
    // For others the key has no effect.
    if !machine::has(Need::Root) {
        return;
    }
    for user in ["root", "nobody"] {
        let config = Config::example().set("daemon", "user", &format!("\"{user}\""));
        let started = Daemon::launch().config(&config).try_start();
        match started {
            Ok(daemon) => {
                assert_eq!(user, "nobody");
                assert!(!status_field(daemon.worker(), "Uid").starts_with("0\t"));
            }
            Err(exit) => {
                assert_eq!((user, exit.code), ("root", Some(78)), "{}", exit.text());
                assert!(exit.text().contains("the worker cannot be root"));
            }
        }
    }
}

#[test]
fn l5_clients_wait_for_the_next_worker() {
    let origin = Origin::start(|_| Answer::text("here"));
    let daemon = Daemon::start(&Config::example());
    let first = daemon.worker();
    kill_process(first);
    // At once: clients that connect now wait in the kernel's queue for the next worker.
    for _ in 0..20 {
        let answer = daemon.get(&origin.url("allowed.test", "/"));
        assert_eq!(answer.status, 200);
    }
    assert_ne!(daemon.worker(), first);
    let reported = daemon.wait_for_log(|line| line.message_starts_with("the worker is gone"));
    assert_eq!(
        reported
            .field("restarts")
            .and_then(serde_json::Value::as_u64),
        Some(1)
    );
}

/// The monitor handles signals, reloads and the end, whatever a worker does.
#[test]
fn l5_a_stuck_worker_is_replaced_without_blocking_the_monitor() {
    let daemon = Daemon::launch()
        .config(&Config::example())
        // The monitor pings its worker at an interval that it derives from the watchdog. A stuck
        // worker gets half of this time; a sound one on a loaded machine needs less.
        .env("WATCHDOG_USEC", "8000000")
        .start();
    let stuck = daemon.worker();
    let pid = Pid::from_raw(i32::try_from(stuck).expect("a process id"));
    kill(pid, Signal::SIGSTOP).expect("the worker is there");
    daemon.rewrite_config(&Config::example().deny("allowed.test"));
    for _ in 0..50 {
        daemon.signal(Signal::SIGHUP);
    }
    daemon.wait_for_message("does not answer");
    assert_eq!(daemon.get("http://allowed.test/").status, 403);
    assert_ne!(daemon.worker(), stuck);
    // A worker's death is reported as a death.
    let distrusted = daemon
        .logs()
        .iter()
        .any(|line| line.raw.contains("trusted"));
    assert!(!distrusted);
    let stuck = daemon.worker();
    let pid = Pid::from_raw(i32::try_from(stuck).expect("a process id"));
    kill(pid, Signal::SIGSTOP).expect("the worker is there");
    daemon.signal(Signal::SIGTERM);
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.wait_exit().code, Some(0));
    poll(TIMEOUT, || has_ended(stuck).then_some(())).expect("no worker is left");
}

#[test]
fn l15_a_stop_ends_a_worker_that_does_not_drain() {
    let config = Config::example().set("daemon.limits", "drain_timeout", "\"1s\"");
    let daemon = Daemon::start(&config);
    let stuck = daemon.worker();
    let pid = Pid::from_raw(i32::try_from(stuck).expect("a process id"));
    kill(pid, Signal::SIGSTOP).expect("the worker is there");
    daemon.signal(Signal::SIGTERM);
    let exit = daemon.wait_exit();
    assert_eq!(exit.code, Some(0));
    let reported = exit.text().matches("did not end in time").count();
    assert_eq!(reported, 1);
    poll(TIMEOUT, || has_ended(stuck).then_some(())).expect("no worker is left");
}

/// The service manager does not listen, so the worker cannot be left to the next monitor.
#[test]
fn l15_a_handover_that_fails_or_is_confirmed_late_becomes_a_stop() {
    let config = Config::example().set("daemon.limits", "drain_timeout", "\"1h\"");
    for late in [false, true] {
        let daemon = Daemon::launch()
            .config(&config)
            .env("NOTIFY_SOCKET", "/nonexistent/notify")
            .start();
        // The worker logs that it is ready before it reports that to the monitor, which leaves only a
        // ready worker. An answer to a reload shows that the monitor has the report.
        assert_eq!(daemon.reload().status, 200);
        let pid = i32::try_from(daemon.worker()).expect("a process id");
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
fn l5_a_new_worker_gets_the_settings_in_force() {
    let origin = Origin::start(|_| Answer::text("here"));
    let daemon = Daemon::start(&Config::example());
    daemon.reload_with(&Config::example().allow("blocked.test"));
    kill_process(daemon.worker());
    let answer = daemon.get(&origin.url("blocked.test", "/"));
    assert_eq!(answer.status, 200);
}

#[test]
fn l5_the_worker_ends_with_the_monitor() {
    let daemon = Daemon::start(&Config::example());
    let worker = daemon.worker();
    kill_process(daemon.pid());
    let gone = poll(TIMEOUT, || has_ended(worker).then_some(()));
    gone.expect("the worker ends with its monitor");
}

#[test]
fn c7_many_reloads_at_once_are_each_answered() {
    let daemon = Daemon::start(&Config::example());
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
    let daemon = Daemon::start(&Config::example());
    let mut tunnel = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", origin.addr().port());
    assert_eq!(tunnel.connect(&authority).status, 200);
    kill_process(daemon.worker());
    tunnel.expect_closed();
}

#[test]
fn c7_a_reload_while_no_worker_lives_is_not_lost() {
    let origin = Origin::start(|_| Answer::text("here"));
    let daemon = Daemon::start(&Config::example());
    // Each further death lengthens the wait for the next worker.
    for _ in 0..4 {
        kill_process(daemon.worker());
    }
    daemon.rewrite_config(&Config::example().deny("allowed.test"));
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for_log(|line| line.message_starts_with("reloaded"));
    assert_eq!(daemon.get(&origin.url("allowed.test", "/")).status, 403);
    assert_eq!(daemon.reload().status, 200, "further reloads are answered");
}

#[test]
fn c7_a_reload_survives_the_death_of_its_worker() {
    let origin = Origin::start(|_| Answer::text("here"));
    let daemon = Daemon::start(&Config::example());
    let first = daemon.worker();
    daemon.rewrite_config(&Config::example().deny("allowed.test"));
    daemon.signal(Signal::SIGHUP);
    kill_process(first);
    let url = origin.url("allowed.test", "/");
    // A worker that starts on the old settings is ended again, with its open requests.
    let ask = || std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| daemon.get(&url)));
    let refused = poll(TIMEOUT, || ask().ok().filter(|answer| answer.status == 403));
    refused.expect("the deny rule comes into force");
}

#[test]
fn l5_all_roles_run_the_same_build_after_an_upgrade_of_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let copy = directory.path().join("codex-network-proxy");
    // Another program writes the file: this process may be forking at this moment (ETXTBSY).
    e2e::program::Program::new("cp")
        .arg(e2e::shipped::proxy())
        .arg(&copy)
        .run()
        .succeeded();
    let daemon = Daemon::launch()
        .program(&copy)
        .config(&Config::example())
        .start();
    std::fs::remove_file(&copy).expect("the copy is there");
    assert_eq!(daemon.reload().status, 200, "a loader starts");
    let first = daemon.worker();
    kill_process(first);
    let next = poll(TIMEOUT, || {
        Some(daemon.worker()).filter(|next| *next != first)
    });
    next.expect("another worker starts");
}

#[test]
fn l5_the_worker_gets_nothing_of_the_starters_environment() {
    let daemon = Daemon::launch()
        .config(&Config::example())
        .env("SECRET_TOKEN", "not-for-the-worker")
        .start();
    let environment = PathBuf::from("/proc")
        .join(daemon.worker().to_string())
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
    let wrapped = StartScript::with_open_file(9, &file);
    let daemon = Daemon::launch()
        .program(wrapped.path())
        .config(&Config::example())
        .start();
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
    assert!(!opened(daemon.worker()).contains(&file));
    let pipe = start_a_loader_that_waits(&daemon);
    let _pipe = std::fs::File::create(&pipe).expect("a pipe that is read");
    let children = daemon.children();
    let loader = children
        .iter()
        .find(|pid| command_line(**pid).ends_with("load"));
    let loader = *loader.expect("a loader");
    // This test can open the pipe a moment before the loader has its descriptor.
    let opened = poll(TIMEOUT, || {
        Some(opened(loader)).filter(|opened| opened.contains(&pipe))
    })
    .expect("the loader reads the pipe");
    assert!(!opened.contains(&file), "{opened:?}");
}

/// A past bug: the reload replaced the worker that was starting, and the service ended.
#[test]
fn c7_a_reload_before_the_first_worker_is_ready_waits_for_it() {
    let daemon = Daemon::launch().config(&Config::example()).spawn();
    let is_worker = |pid: &u32| command_line(*pid).contains("worker");
    let worker = poll(TIMEOUT, || daemon.children().into_iter().find(is_worker));
    let worker = Pid::from_raw(worker.expect("a worker").cast_signed());
    kill(worker, Signal::SIGSTOP).expect("our own process");
    daemon.signal(Signal::SIGHUP);
    // Long enough for a load: a reload that does not wait kills the worker after it.
    let is_gone = || !daemon.children().contains(&worker.as_raw().cast_unsigned());
    let replaced = poll(Duration::from_millis(500), || is_gone().then_some(()));
    assert_eq!(replaced, None, "{:#?}", daemon.logs());
    kill(worker, Signal::SIGCONT).expect("our own process");
    daemon.wait_for_message("reloaded");
}
