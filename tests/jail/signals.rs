//! Signals of hostile programs, of debuggers, and of a terminal that closes.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, ChildStdout, Stdio};

use e2e::machine::{Need, can, has};
use e2e::process::children;
use e2e::wait::{TIMEOUT, poll};
use nix::fcntl::OFlag;
use nix::libc;
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::fixture::{Ending, Ran, User, harness, users};
use crate::life::has_signal;
use crate::programs::programs;

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a process number");
    kill(Pid::from_raw(pid), signal).expect("our own child");
}

/// The first line of a program in a jail, and the rest.
fn started(child: &mut Child) -> BufReader<ChildStdout> {
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("text");
    assert_eq!(line, "ready\n");
    stdout
}

/// A process that asks to be traced by its parent, process 1, stops at every signal.
#[test]
fn j9_a_traced_command_does_not_end_proxyctl_with_a_signal_of_its_choice() {
    for user in users() {
        for signal in [Signal::SIGUSR1, Signal::SIGTRAP, Signal::SIGTERM] {
            let ran = user.jailed(&[], &[&programs(), "traced", &(signal as i32).to_string()]);
            assert_eq!(ran.stdout(), "stopped\n", "{}", ran.stderr());
            assert_eq!(ran.0.status.code(), Some(128 + 9), "{:?}", ran.0.status);
        }
    }
}

#[test]
fn j9_a_signal_arrives_while_the_command_sends_the_same_to_process_1() {
    for user in users() {
        for kind in ["plain", "forged"] {
            // With Landlock, process 1 gets no signal from inside.
            let child = user
                .command(programs())
                .arg("without-landlock")
                .arg(harness())
                .args(["--", &programs(), "flood", kind])
                .stdout(Stdio::piped())
                .spawn();
            let mut child = Ending(child.expect("the harness"));
            let mut stdout = started(&mut child.0);
            send(&child.0, Signal::SIGUSR2);
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).expect("text");
            assert_eq!(rest, "got it\n", "{kind}");
        }
    }
}

/// A command in a jail whose `proxyctl` leads the session of a terminal.
fn jailed_in_terminal(user: User, command: &[&str]) -> (Ending, BufReader<ChildStdout>, PtyMaster) {
    let harness = harness();
    let harness = harness.to_str().expect("a plain path");
    in_terminal(user, &[&[harness, "--"], command].concat())
}

/// A command that leads the session of a terminal, after its first line "ready".
fn in_terminal(user: User, command: &[&str]) -> (Ending, BufReader<ChildStdout>, PtyMaster) {
    // The jail must not inherit the other end.
    let options = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let master = posix_openpt(options).expect("a terminal");
    grantpt(&master).expect("our own terminal");
    unlockpt(&master).expect("our own terminal");
    let path = ptsname_r(&master).expect("its name");
    let slave = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(path);
    let slave = slave.expect("our own terminal");
    let stdio = || Stdio::from(slave.try_clone().expect("a copy"));
    let child = user
        .command("setsid")
        .arg("--ctty")
        .args(command)
        .stdin(stdio())
        .stdout(Stdio::piped())
        .stderr(stdio())
        .spawn();
    let mut child = Ending(child.expect("setsid"));
    let stdout = started(&mut child.0);
    (child, stdout, master)
}

/// Standard output closes only when every process of the jail has ended.
#[test]
fn j9_when_the_terminal_closes_nothing_of_the_jail_is_left() {
    let script = "(trap '' HUP; setsid sleep 600 &) ; (trap '' HUP; exec sleep 600 &) ; echo ready; \
                  while read -r line || true; do echo line >&2; done";
    let programs = programs();
    for user in users() {
        for command in [
            &["sh", "-c", script] as &[&str],
            // The kernel hangs up the leader of the session and the group in the foreground alone.
            &[&programs, "own-group"],
        ] {
            let (mut child, mut stdout, terminal) = jailed_in_terminal(user, command);
            drop(terminal);
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).expect("text");
            let status = child.0.wait().expect("our own child");
            assert_eq!(status.code(), Some(128 + 1), "{command:?}");
        }
    }
}

#[test]
fn j9_a_terminal_that_closes_hangs_up_the_command_once() {
    let script = "trap 'count=$((count+1))' HUP; echo ready; for wait in 1 2 3 4 5; do sleep 0.2; done; \
                  echo $count";
    for user in users() {
        let (_child, mut stdout, terminal) = jailed_in_terminal(user, &["sh", "-c", script]);
        drop(terminal);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, "1\n");
    }
}

/// Its process group then has no process that the kernel could stop.
#[test]
fn j9_a_terminal_stops_proxyctl_before_the_command_has_begun() {
    for user in users() {
        let harness = harness();
        let run = format!(
            "{} --pause -- sh -c 'echo begun; exit 7'",
            harness.display()
        );
        let script = format!("set -m; {run}; echo stopped $?; fg >/dev/null; echo ended $?");
        let (mut shell, mut stdout, mut terminal) = in_terminal(user, &["bash", "-c", &script]);
        // Ctrl-Z, and the end of the pause.
        terminal.write_all(b"\x1a\n").expect("our own terminal");
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).expect("text");
        // The line of the harness comes before or after that of the command.
        assert_eq!(
            rest.replace("started\n", ""),
            "stopped 148\nbegun\nended 7\n"
        );
        shell.0.wait().expect("our own child");
    }
}

/// A terminal may stop a child before it begins its program. A parent that waits in `vfork` does not stop.
#[test]
fn j9_proxyctl_waits_in_no_vfork() {
    if !has(Need::Strace) {
        return;
    }
    for user in users() {
        let mut strace = user.command("strace");
        let calls = ["-e", "trace=clone,clone3,fork,vfork"];
        strace.args(calls).arg(harness()).args(["--", "true"]);
        let ran = Ran(strace.output().expect("strace"));
        let calls: Vec<String> = ran
            .stderr()
            .lines()
            .filter(|line| line.starts_with("clone") || line.contains("fork("))
            .map(str::to_owned)
            .collect();
        assert!(!calls.is_empty(), "{}", ran.stderr());
        let vfork = calls
            .iter()
            .find(|call| call.to_lowercase().contains("vfork"));
        assert_eq!(vfork, None);
    }
}

/// Process 1 is held up after `proxyctl` has asked it to begin the command.
#[test]
fn j9_a_signal_that_comes_just_before_the_command_begins_reaches_it() {
    let harness = harness();
    let harness = harness.to_str().expect("a plain path");
    for user in users() {
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            // A job in the background ignores SIGINT, and what it starts too.
            let as_usual = ["env", "--default-signal=INT", harness];
            let command = [&as_usual[..], &["--pause", "--", "sleep", "600"]].concat();
            let (mut child, mut stdout, mut terminal) = in_terminal(user, &command);
            let pid = |number: u32| Pid::from_raw(i32::try_from(number).expect("a process number"));
            let init = poll(TIMEOUT, || {
                let stage = *children(child.0.id()).first()?;
                children(stage).first().copied()
            });
            let init = init.expect("process 1 of the jail");
            kill(pid(init), Signal::SIGSTOP).expect("our own process");
            terminal.write_all(b"\n").expect("our own terminal");
            let mut line = String::new();
            stdout.read_line(&mut line).expect("text");
            assert_eq!(line, "started\n");
            if signal == Signal::SIGINT {
                terminal.write_all(b"\x03").expect("our own terminal");
            } else {
                killpg(pid(child.0.id()), signal).expect("our own processes");
            }
            let arrived = || has_signal(&init.to_string(), "ShdPnd", signal).then_some(());
            poll(TIMEOUT, arrived).expect("a pending signal");
            kill(pid(init), Signal::SIGCONT).expect("our own process");
            let status = poll(TIMEOUT, || child.0.try_wait().expect("our own child"));
            let code = status.and_then(|status| status.code());
            assert_eq!(code, Some(128 + signal as i32), "{signal}");
        }
    }
}

/// The reason is that the kernel cannot confine signals.
#[test]
fn j14_where_signals_leave_the_jail_proxyctl_says_so() {
    for user in users() {
        let words = "can signal the processes of its process group outside";
        let harness = harness();
        let harness = harness.to_str().expect("a plain path");
        let mut without = user.command(programs());
        without.args(["without-landlock", harness, "--", "true"]);
        let ran = Ran(without.output().expect("the programs"));
        assert!(ran.stderr().contains(words), "{}", ran.stderr());
        assert_eq!(ran.0.status.code(), Some(0));
        if has(Need::SignalScope) {
            let ran = user.jailed(&[], &["true"]);
            assert!(!ran.stderr().contains(words), "{}", ran.stderr());
        }
    }
}

/// The filter refuses calls that lead out, and debuggers work.
#[test]
fn j6_rare_calls_that_lead_out_are_refused_and_debuggers_work() {
    let calls = [
        ("open_tree_attr", 467, "0"),
        ("pidfd_getfd", 438, "-1"),
        ("quotactl_fd", 443, "-1"),
    ];
    for user in users() {
        for (name, number, argument) in calls {
            let number = number.to_string();
            let ran = user.jailed(&[], &[&programs(), "call", &number, argument]);
            assert_eq!(ran.stdout(), "Operation not permitted\n", "{name}");
            let mut outside = user.command(programs());
            outside.args(["call", &number, argument]);
            let ran = Ran(outside.output().expect("the programs"));
            assert_ne!(ran.stdout(), "Operation not permitted\n", "{name}");
        }
        let ran = user.jailed(&[], &[&programs(), "debugs"]);
        assert_eq!(ran.stdout(), "traced\n", "{}", ran.stderr());
        if can(Need::Strace) {
            let ran = user.jailed(&[], &["strace", "-f", "-o", "/dev/null", "echo", "done"]);
            assert_eq!(ran.stdout(), "done\n", "{}", ran.stderr());
        }
    }
}
