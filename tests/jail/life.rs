//! How a jail ends, and signals.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use e2e::wait::{TIMEOUT, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::fixture::{User, attempts, harness, users};

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a process number"))
}

/// Starts a script in a jail, in a process group of its own, and waits for its first line.
fn start(user: User, script: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    start_command(user, &["sh", "-c", script])
}

fn start_command(user: User, command: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = user
        .command(harness())
        .arg("--")
        .args(command)
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("the harness");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    stdout.read_line(&mut line).expect("text");
    assert_eq!(line, "ready\n");
    (child, stdout)
}

#[test]
fn j9_exit_statuses_are_those_of_a_shell() {
    for user in users() {
        for (command, code) in [
            (&["sh", "-c", "exit 3"] as &[&str], 3),
            (&["sh", "-c", "kill -9 $$"], 128 + 9),
            (&["sh", "-c", "kill -USR1 $$"], 128 + 10),
            (&["sh", "-c", "kill -64 $$"], 128 + 64),
            (&["no-such-program-anywhere"], 127),
            (&["/etc/passwd"], 126),
            (&["true"], 0),
        ] {
            let ran = user.jailed(&[], command);
            assert_eq!(
                ran.0.status.code(),
                Some(code),
                "{command:?}: {}",
                ran.stderr()
            );
        }
    }
}

/// The leftover would hold standard output open.
#[test]
fn j9_nothing_is_left_when_the_command_ends() {
    for user in users() {
        user.attempt(&["leave-child"]).is_through();
    }
}

/// Standard output closes only when every process of the jail has ended.
#[test]
fn j9_when_proxyctl_is_killed_everything_in_the_jail_ends() {
    for user in users() {
        let script =
            "trap '' HUP INT TERM; (setsid sleep 600 &) ; (sleep 600 &) ; echo ready; sleep 600";
        let (mut child, mut stdout) = start(user, script);
        child.kill().expect("our own child");
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, "");
        child.wait().expect("our own child");
    }
}

#[test]
fn j9_a_signal_to_proxyctl_goes_on_to_the_command() {
    for user in users() {
        for signal in [
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGUSR2,
        ] {
            // A shell does not trap what its caller ignores, for instance SIGINT of a job in the background.
            if has_signal("self", "SigIgn", signal) {
                continue;
            }
            let script = "trap 'echo got; exit 9' TERM INT HUP USR2; echo ready; while :; do read -r line </dev/zero; done";
            let script = script.replace("read -r line </dev/zero", "sleep 0.05");
            let (mut child, mut stdout) = start(user, &script);
            kill(pid(&child), signal).expect("our own child");
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).expect("text");
            assert_eq!(rest, "got\n", "{signal}");
            assert_eq!(child.wait().expect("our own child").code(), Some(9));
        }
    }
}

/// The command is in the group too, so the signal is not passed on a second time.
#[test]
fn j9_a_signal_to_the_process_group_reaches_the_command_once() {
    for user in users() {
        let (mut child, mut stdout) = start_command(user, &[&attempts(), "count-signals"]);
        let mut line = String::new();
        let mut gets = |count: u32| {
            line.clear();
            stdout.read_line(&mut line).expect("text");
            assert_eq!(line, format!("got {count}\n"));
        };
        // Two pending signals of one number are one, so a second one may go unseen. It does not each time.
        for round in 0..20 {
            killpg(pid(&child), Signal::SIGUSR2).expect("our own children");
            gets(2 * round + 1);
            let child_pid = child.id().to_string();
            let taken = || (!has_signal(&child_pid, "ShdPnd", Signal::SIGUSR2)).then_some(());
            poll(TIMEOUT, taken).expect("the first one is taken");
            // Messages keep their order, so a second one would arrive before this.
            kill(pid(&child), Signal::SIGUSR2).expect("our own child");
            gets(2 * round + 2);
        }
        kill(pid(&child), Signal::SIGTERM).expect("our own child");
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, "through: count-signals\n");
        child.wait().expect("our own child");
    }
}

#[test]
fn j9_proxyctl_stops_and_goes_on_with_the_command() {
    for user in users() {
        let script = "trap 'echo on' CONT; echo ready; kill -STOP $$; echo after";
        let (child, mut stdout) = start(user, script);
        let status = waitpid(pid(&child), Some(WaitPidFlag::WUNTRACED)).expect("our own child");
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
        killpg(pid(&child), Signal::SIGCONT).expect("our own children");
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).expect("text");
        assert_eq!(rest, "on\nafter\n");
        let status = waitpid(pid(&child), None).expect("our own child");
        assert_eq!(status, WaitStatus::Exited(pid(&child), 0));
    }
}

/// Whether a set of signals in `/proc/PID/status` has this one.
pub(crate) fn has_signal(process: &str, set: &str, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix(set));
    let bits = line.expect("the set").trim_start_matches(':').trim();
    let bits = u64::from_str_radix(bits, 16).expect("hexadecimal digits");
    bits & (1 << (signal as u32 - 1)) != 0
}
