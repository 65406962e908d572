//! The real value in the processes of a machine: in the command's none, in the proxy's only while a session has it
//! (SPEC B3, B4, B9). `/proc` says what a process holds.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use e2e::daemon::Daemon;
use e2e::leaks::Leak;
use e2e::machine::{Need, has};
use e2e::origin::{Answer, Origin};
use e2e::process::command_line;
use e2e::proxyctl::proxyctl;
use e2e::tls::{Server, TestCa};
use e2e::wait::{TIMEOUT, poll};
use parking_lot::Mutex;

use super::sources::{self, TokenFile};
use super::{BOTH, REAL, Scene, VARIABLE, Way, config};
use crate::run::Installed;

/// One process, and where it has the value.
#[derive(Debug)]
struct Holder {
    name: String,
    /// The file name of the program.
    program: String,
    command_line: bool,
    environment: bool,
    memory: Vec<String>,
    max_core_size: String,
}

/// The processes that have a directory in their environment, or whose program is in it.
fn processes_of(directory: &Path) -> Vec<Holder> {
    let leak = Leak::of(REAL);
    let all = fs::read_dir("/proc").expect("a Linux machine").flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let name = directory.to_str().expect("text");
    let holder = |pid: u32| {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let environment = read("environ");
        let program = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let is_one = program.starts_with(directory) || super::contains(&environment, name);
        let limits = String::from_utf8_lossy(&read("limits")).into_owned();
        let mut limits = limits
            .lines()
            .filter_map(|line| line.strip_prefix("Max core file size"));
        is_one.then(|| Holder {
            name: String::from_utf8_lossy(read("comm").trim_ascii()).into_owned(),
            program: program
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            command_line: leak.find(command_line(pid).as_bytes()).is_some(),
            environment: leak.find(&environment).is_some(),
            memory: leak.in_memory(pid),
            max_core_size: limits.next().unwrap_or_default().trim().to_owned(),
        })
    };
    all.filter_map(holder).collect()
}

#[test]
fn b4_no_process_of_the_command_has_the_value() {
    if !has(Need::UserNamespaces) || !has(Need::Ptrace) {
        return;
    }
    let (ca, installed) = (TestCa::new(), Installed::new());
    let found = Arc::<Mutex<Vec<Holder>>>::default();
    let (directory, seen) = (installed.path().to_owned(), Arc::clone(&found));
    let server = Server::of(&ca, &["allowed.test"]).alpn(&["h2", "http/1.1"]);
    // The command waits for the answer meanwhile.
    let origin = Origin::answering(move |_| {
        seen.lock().extend(processes_of(&directory));
        Answer::text("ok")
    });
    let origin = origin.tls_as(&server).start();
    let url = format!("https://allowed.test:{}/v1", origin.addr().port());
    let script =
        format!("curl -sS --max-time 60 -H \"Authorization: Bearer ${VARIABLE}\" {url}; true");
    let run = installed
        .private(&config(origin.addr().port()))
        .args(["--", "sh", "-c", &script])
        .env("SSL_CERT_FILE", ca.file())
        .env("SSL_CERT_DIR", "/nonexistent")
        .env(VARIABLE, REAL)
        .run();
    run.succeeded();
    assert_eq!(run.stdout, "ok", "{run:#?}");
    let found = found.lock();
    let named = |name: &str| {
        found
            .iter()
            .filter(|one| one.name == name)
            .collect::<Vec<_>>()
    };
    assert!(
        !named("curl").is_empty() && !named("sh").is_empty(),
        "{found:#?}"
    );
    for one in found.iter() {
        assert!(!one.command_line, "{one:#?}");
        let is_proxy = one.program.contains("codex-network-proxy");
        assert!(!is_proxy || one.max_core_size.starts_with("0 "), "{one:#?}");
        let may_have_it = one.program == "proxyctl";
        if !may_have_it {
            assert!(!one.environment, "{one:#?}");
        }
        // The launcher sends the value to the worker.
        if !may_have_it && one.name != "codex-np-worker" {
            assert!(one.memory.is_empty(), "{one:#?}");
        }
    }
    // The search finds it where it is.
    let holders = found.iter().filter(|one| !one.memory.is_empty());
    let holders: Vec<&str> = holders.map(|one| &*one.name).collect();
    assert!(holders.contains(&"codex-np-worker"), "{found:#?}");
}

#[test]
fn b9_the_worker_forgets_the_value_with_the_session() {
    if !has(Need::Ptrace) {
        return;
    }
    let scene = Scene::new(|_| Answer::text("ok"));
    let bearer = format!("Bearer {}", scene.dummy());
    for protocol in BOTH {
        let asked = ("GET", "allowed.test", "/");
        let fields = [("authorization", &*bearer)];
        let way = (Way::Connect, protocol);
        assert_eq!(
            scene
                .ask_over(&scene.session, way, asked, &fields, b"")
                .status,
            200
        );
    }
    let leak = Leak::of(REAL);
    // The origin keeps its connections open.
    let Scene {
        session,
        daemon,
        origin: _origin,
        ..
    } = scene;
    assert!(
        !leak.in_memory(daemon.worker()).is_empty(),
        "the search finds it"
    );
    drop(session);
    let mut left = Vec::new();
    let is_forgotten = || {
        left = leak.in_memory(daemon.worker());
        left.is_empty().then_some(())
    };
    assert!(poll(TIMEOUT, is_forgotten).is_some(), "{left:#?}");
    assert_monitor_has_no(&leak, &daemon);
}

#[test]
fn b4_the_monitor_forgets_a_value_that_was_read_again() {
    if !has(Need::Ptrace) {
        return;
    }
    // Its end is in memory that smaller blocks do not use again.
    let end = "REALreal0123456789abcdefABCDEF-_x";
    let digits: Vec<String> = (0..600).map(|at| format!("{:x}", at * at * 977)).collect();
    let middle = digits.concat();
    let token = TokenFile::new(&format!("sk-proj-{middle}{end}"));
    let daemon = Daemon::start(&sources::config(443, &sources::of_file(&token.path), ""));
    let leak = Leak::of(end);
    assert!(
        !leak.in_memory(daemon.pid()).is_empty(),
        "it has the settings for the next worker"
    );
    token.write("sk-proj-RENEWEDrenewed6789abcdefABCDEF-_y");
    proxyctl(&daemon, &["reload"]).succeeded();
    let mut left = Vec::new();
    let is_forgotten = || {
        left = leak.in_memory(daemon.pid());
        left.is_empty().then_some(())
    };
    assert!(poll(TIMEOUT, is_forgotten).is_some(), "{left:#?}");
}

#[track_caller]
fn assert_monitor_has_no(leak: &Leak, daemon: &Daemon) {
    let found = leak.in_memory(daemon.pid());
    assert!(found.is_empty(), "the monitor: {found:#?}");
}
