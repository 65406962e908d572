//! The private proxy of a session (SPEC J3).

use std::collections::BTreeSet;
use std::io::{PipeWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use e2e::daemon::Config;
use e2e::machine::{Need, has};
use e2e::program::Program;
use e2e::wait::{TIMEOUT, poll};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Installed;

#[test]
fn j3_without_a_service_a_private_proxy_serves_one_session_and_leaves_nothing() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let script = "ls -d \"$XDG_RUNTIME_DIR\"/codex-network-proxy-run-*; \
                  curl -sS --max-time 10 http://blocked.test/";
    let run = installed
        .private(&Config::example())
        .args(["--", "sh", "-c", script])
        .run();
    run.succeeded()
        .says("proxyctl: uses a private proxy (process ")
        .says("blocked.test is not on the allow list of the network policy")
        .says("add it to allowed_domains");
    assert!(
        run.stdout.contains("/codex-network-proxy-run-"),
        "its directory exists meanwhile: {run:#?}"
    );
    assert_eq!(installed.left_over(), [""; 0]);
}

/// Other users of the machine could use an address, past the rules of the session.
#[test]
fn j3_a_private_proxy_listens_on_no_address_of_the_machine() {
    if !has(Need::UserNamespaces) || !has(Need::Ptrace) {
        return;
    }
    let installed = Installed::new();
    let (mut child, _) = super::life::started(&installed, "echo -; exec tail -f /dev/null");
    let mut inodes = BTreeSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let table = std::fs::read_to_string(table).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            if fields[3] == "0A" {
                inodes.insert(format!("socket:[{}]", fields[9]));
            }
        }
    }
    let processes = e2e::process::descendants(child.id());
    assert!(processes.len() > 4, "{processes:?}");
    for process in processes {
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{process}/fd")) else {
            continue;
        };
        for descriptor in descriptors.flatten() {
            let link = std::fs::read_link(descriptor.path()).unwrap_or_default();
            let link = link.to_string_lossy().into_owned();
            let program = e2e::process::command_line(process);
            assert!(!inodes.contains(&link), "{link} of {program}");
        }
    }
    child.kill().expect("our own child");
    child.wait().expect("our own child");
}

/// The program runs as the user of the proxy, who is its administrator.
#[test]
fn j3_a_program_with_unix_sockets_cannot_reach_its_private_proxy() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let script = "for directory in \"$XDG_RUNTIME_DIR\"/codex-network-proxy-run-*; do \
                  \"$XDG_RUNTIME_DIR/proxyctl\" --socket \"$directory/control.sock\" reload; \
                  echo \"reload: $?\"; done";
    let run = installed
        .private(&Config::example())
        .args(["--allow-unix-sockets", "--", "sh", "-c", script])
        .run();
    run.succeeded().says("control.sock");
    assert_eq!(run.stdout, "reload: 3\n", "{run:#?}");
}

/// The jail does not confine files, so its program can move the directory away and listen at the path that `run` named.
#[test]
fn q6_a_program_in_a_jail_cannot_take_the_path_of_its_private_proxy() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let listener = "use Socket; socket(S, AF_UNIX, SOCK_STREAM, 0); bind(S, sockaddr_un($ARGV[0])); listen(S, 9); \
         while (accept(C, S)) { open(H, \">\", \"heard\") if sysread(C, $b, 1) }";
    let script = format!(
        "cd \"$XDG_RUNTIME_DIR\"; taken=$(echo codex-network-proxy-run-*); mv $taken away; mkdir -m 700 $taken; \
         perl -e '{listener}' $taken/control.sock & until [ -e end ]; do sleep 0.02; done; kill $!"
    );
    let program = installed
        .private(&Config::example())
        .args(["-c", "daemon.approvals.enabled=true"])
        .args(["--", "sh", "-c", &script]);
    thread::scope(|scope| {
        let run = scope.spawn(|| program.run());
        let taken = || {
            let taken = installed.left_over().pop()?;
            let moved = installed.path().join("away").exists();
            let socket = installed.path().join(taken).join("control.sock");
            UnixStream::connect(&socket).ok().filter(|_| moved)?;
            Some(socket)
        };
        let socket = poll(TIMEOUT, taken).expect("the program listens at the path");
        let socket = socket.to_str().expect("a text");
        let named = ["--socket", socket, "approvals"];
        let named = installed.proxyctl().args(named).run();
        assert_eq!(named.failed().code, Some(4), "{named:#?}");
        named.says("this is not the private proxy of a running `proxyctl run`");
        let found = installed.proxyctl().args(["approvals"]).run();
        assert_eq!(found.failed().code, Some(3), "{found:#?}");
        let variable = installed.proxyctl().args(["approvals"]);
        let variable = variable.env("CODEX_NETWORK_PROXY_CONTROL", socket).run();
        assert_eq!(variable.failed().code, Some(4), "{variable:#?}");
        assert!(!installed.path().join("heard").exists(), "nothing was sent");
        // The real one answers where it is now.
        let away = installed.path().join("away/control.sock");
        let away = away.to_str().expect("a text");
        let real = ["--socket", away, "approvals"];
        installed.proxyctl().args(real).run().succeeded();
        std::fs::write(installed.path().join("end"), "").expect("our own directory");
        run.join().expect("it ends").succeeded();
    });
}

#[test]
fn j3_a_configuration_with_errors_is_shown_and_the_command_does_not_start() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let run = installed
        .private(&Config::example().set("network", "mode", "\"half\""))
        .args(["--", "echo", "started"])
        .run();
    assert_eq!(run.failed().code, Some(125));
    run.says("the private proxy did not start:")
        .says("config.toml:")
        .says("half");
    assert!(!run.stdout.contains("started"), "{run:#?}");
    assert_eq!(installed.left_over(), [""; 0]);
}

#[test]
fn j3_values_of_the_command_line_reach_the_private_proxy() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let run = installed
        .private(&Config::example())
        .args(["-c", "network.mode=\"half\"", "--", "true"])
        .run();
    assert_eq!(run.failed().code, Some(125));
    run.says("half");
}

#[test]
fn j3_service_insists_on_the_service() {
    let installed = Installed::new();
    let run = installed
        .proxyctl()
        .args(["--socket", "/nonexistent/control.sock"])
        .args(["run", "--service", "--", "echo", "started"])
        .run();
    assert_eq!(run.failed().code, Some(125));
    run.says("no proxy answers")
        .says("/nonexistent/control.sock");
    assert!(!run.stdout.contains("started"), "{run:#?}");
}

/// The proxy of this test never answers.
#[test]
fn j9_a_signal_ends_run_while_a_private_proxy_starts() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let program = installed.path().join("codex-network-proxy");
    let started = installed.path().join("started");
    std::fs::remove_file(&program).expect("our own link");
    let script = format!("#!/bin/sh\n: > {}\nexec sleep 600\n", started.display());
    std::fs::write(&program, script).expect("our own directory");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("our own");
    let script = format!(
        // Before it prepares the jail, signals end it as any program.
        "\"$@\" & until [ -e {} ] && grep -q '^SigBlk:.*[1-9a-f]' /proc/$!/status; do :; done; \
         kill -TERM $!; wait $!",
        started.display()
    );
    let run = Program::new("bash")
        .args(["-c", &script, "bash"])
        .arg(installed.path().join("proxyctl"))
        .args(["run", "--private", "--", "echo", "begun"])
        .env("XDG_RUNTIME_DIR", installed.path())
        .run();
    assert_eq!((run.code, run.stdout.as_str()), (Some(143), ""), "{run:#?}");
    // A process of its own may remove the directory, after the end of `run`.
    poll(TIMEOUT, || installed.left_over().is_empty().then_some(())).expect("its directory");
}

/// A service manager of a container may leave a killed proxy unreaped for seconds. Nothing waits for that.
#[test]
fn j3_the_directory_of_a_killed_proxy_goes_before_anybody_reaps_it() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let of_proxy = directory.path().join("run");
    std::fs::create_dir(&of_proxy).expect("our own directory");
    let mut proxy = Command::new("sleep").arg("600").spawn().expect("sleep");
    let mut cleanup = Command::new(e2e::shipped::proxyctl())
        .arg("__private-cleanup")
        .arg(&of_proxy)
        .stdin(Stdio::piped())
        .spawn()
        .expect("proxyctl");
    let mut stdin = cleanup.stdin.take().expect("its standard input");
    writeln!(stdin, "{}", proxy.id()).expect("it reads");
    drop(stdin);
    // It waits for the proxy's end alone now.
    proxy.kill().expect("our own child");
    // It gives a proxy ten seconds to end.
    let gone = poll(Duration::from_secs(8), || {
        (!of_proxy.exists()).then_some(())
    });
    proxy.wait().expect("our own child");
    assert_eq!(gone, Some(()));
    assert!(cleanup.wait().expect("our own child").success());
}

/// Without a terminal, a log is all that people see. Clients rarely show the words of a refusal.
#[test]
fn j11_without_a_terminal_a_refusal_is_explained_at_the_end() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let run = |url: &str| {
        let script = format!("curl -sS --max-time 10 {url}; true");
        installed
            .private(&Config::example())
            .args(["--", "sh", "-c", &script])
            .run()
    };
    run("https://blocked.test/")
        .succeeded()
        .says("refused blocked.test:443 (once, not_allowed)")
        .says("To allow what was not allowed");
    let quiet = run("http://127.0.0.1:9/");
    assert!(!quiet.stderr.contains(" refused"), "{quiet:#?}");
}

/// A reader that reads no more holds up what `run` says, and nothing else.
#[test]
fn j9_a_signal_ends_run_while_nobody_reads_its_errors() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    fill(&writer);
    let mut child = Command::new(installed.path().join("proxyctl"))
        .args(["run", "--private", "--", "sleep", "600"])
        .env("XDG_RUNTIME_DIR", installed.path())
        .stderr(writer)
        .spawn()
        .expect("proxyctl");
    // Before that, a signal ends it as any program.
    let status = format!("/proc/{}/status", child.id());
    let blocks = || {
        let status = std::fs::read_to_string(&status).expect("our own child");
        let mut lines = status.lines();
        let set = lines.find_map(|line| line.strip_prefix("SigBlk:"));
        set.is_some_and(|set| !set.trim().trim_start_matches('0').is_empty())
    };
    poll(TIMEOUT, || blocks().then_some(())).expect("blocked signals");
    let pid = i32::try_from(child.id()).expect("a process number");
    kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our own child");
    let ended = poll(TIMEOUT, || child.try_wait().expect("our own child"));
    let _ = child.kill();
    assert_eq!(ended.and_then(|status| status.code()), Some(143));
    child.wait().expect("our own child");
    poll(TIMEOUT, || installed.left_over().is_empty().then_some(())).expect("no directory");
}

/// Writes until the pipe takes no more. Later writers wait.
fn fill(writer: &PipeWriter) {
    let flags = |flags| fcntl(writer, FcntlArg::F_SETFL(flags)).expect("our own pipe");
    flags(OFlag::O_NONBLOCK);
    let mut out = writer;
    while out.write(&[b'-'; 4096]).is_ok() {}
    flags(OFlag::empty());
}

/// The signal comes as soon as the directory exists.
#[test]
fn j3_however_early_run_ends_the_directory_goes() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    for signal in [Signal::SIGKILL, Signal::SIGTERM].repeat(4) {
        let mut child = Command::new(installed.path().join("proxyctl"))
            .args(["run", "--private", "--", "sleep", "600"])
            .env("XDG_RUNTIME_DIR", installed.path())
            .spawn()
            .expect("proxyctl");
        while installed.left_over().is_empty() {
            let ended = child.try_wait().expect("our own child");
            assert_eq!(ended, None);
        }
        let pid = i32::try_from(child.id()).expect("a process number");
        kill(Pid::from_raw(pid), signal).expect("our own child");
        child.wait().expect("our own child");
        poll(TIMEOUT, || installed.left_over().is_empty().then_some(())).expect("no directory");
    }
}

#[test]
fn j3_without_the_program_of_the_proxy_run_says_where_it_looked() {
    let installed = Installed::new();
    std::fs::remove_file(installed.path().join("codex-network-proxy")).expect("our own link");
    if Path::new("/usr/bin/codex-network-proxy").exists() {
        return;
    }
    let run = installed
        .proxyctl()
        .args(["run", "--private", "--", "echo", "started"])
        .env("PATH", "/nonexistent")
        .run();
    assert_eq!(run.failed().code, Some(125));
    run.says("codex-network-proxy is neither beside proxyctl nor in PATH");
    assert_eq!(installed.left_over(), [""; 0]);
}
