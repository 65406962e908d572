//! Processes outside the jail, and process 1 inside.

use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use e2e::machine::{Need, has};

use crate::fixture::{Ending, Ran, attempts, harness, users};

#[test]
fn j14_processes_outside_are_out_of_reach() {
    for user in users() {
        let target = user.command("sleep").arg("600").spawn().expect("sleep");
        let pid = target.id().to_string();
        let _target = Ending(target);
        let file = format!("/proc/{pid}/environ");
        user.attempt_outside(&["signal", &pid]).is_through();
        user.attempt_outside(&["ptrace", &pid]).is_through();
        user.attempt_outside(&["open", &file]).is_through();
        user.attempt_outside(&["take-descriptor", &pid])
            .is_through();
        for attempt in ["signal", "ptrace", "take-descriptor"] {
            user.attempt(&[attempt, &pid]).is_refused("No such process");
        }
        user.attempt(&["open", &file])
            .is_refused("No such file or directory");
    }
}

/// The command is in the process group of its caller. From Linux 6.12 on, its signals stay in the jail.
#[test]
fn j14_a_signal_to_the_process_group_stays_in_the_jail() {
    if !has(Need::SignalScope) {
        return;
    }
    for user in users() {
        let in_a_group = |program: &[&str]| {
            let script = "trap 'echo got' USR2; \"$@\"; echo end";
            let mut command = user.command("bash");
            command.args(["-c", script, "bash"]).args(program);
            let output = command.process_group(0).output().expect("bash");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let attempts = attempts();
        let outside = in_a_group(&[&attempts, "signal-group"]);
        assert_eq!(outside, "through: signal-group\ngot\nend\n");
        let harness = harness();
        let harness = harness.to_str().expect("a plain path");
        let inside = in_a_group(&[harness, "--", &attempts, "signal-group"]);
        assert_eq!(inside, "through: signal-group\nend\n");
    }
}

/// A limit of its time ends process 1. Programs set limits of their own.
#[test]
fn j6_a_program_sets_limits_of_itself_alone() {
    for user in users() {
        user.attempt(&["limit", "0"]).is_through();
        user.attempt(&["limit", "1"])
            .is_refused("Operation not permitted");
    }
}

/// Four protections refuse a trace: the inner user namespace, the lack of capabilities, a process 1 that cannot be
/// dumped, and the domain of Landlock. The test fails when all of them are taken out. The filter refuses
/// `pidfd_getfd` as well.
#[test]
fn j6_process_1_of_the_jail_can_be_neither_traced_nor_ended() {
    for user in users() {
        for attempt in ["ptrace", "take-descriptor"] {
            user.attempt(&[attempt, "1"])
                .is_refused("Operation not permitted");
        }
        for file in ["mem", "environ", "fd/3", "root/etc"] {
            let file = format!("/proc/1/{file}");
            user.attempt(&["open", &file])
                .is_refused("Permission denied");
        }
        user.attempt(&["kill-init"])
            .is_refused("Operation already in progress");
    }
}

#[test]
fn j6_the_jails_mounts_cannot_be_taken_away() {
    for user in users() {
        for path in ["/proc", "/proc/sys", "/etc/resolv.conf"] {
            user.attempt(&["umount", path])
                .is_refused("Operation not permitted");
        }
        let ran = user.attempt(&["write", "/proc/sys/kernel/core_pattern"]);
        assert!(ran.stdout().starts_with("refused"), "{}", ran.stdout());
    }
}

#[test]
fn j6_the_command_keeps_its_user_and_has_no_capability() {
    for user in users() {
        let outside = user.command("id").arg("-u").output().expect("id");
        let ran = user.jailed(&[], &["id", "-u"]);
        assert_eq!(ran.0.stdout, outside.stdout);
        let ran = user.jailed(
            &[],
            &[
                "grep",
                "-E",
                "^(Cap...|NoNewPrivs|Seccomp):",
                "/proc/self/status",
            ],
        );
        let empty = "0000000000000000";
        let expected =
            ["Inh", "Prm", "Eff", "Bnd", "Amb"].map(|set| format!("Cap{set}:\t{empty}\n"));
        let expected = format!("{}NoNewPrivs:\t1\nSeccomp:\t2\n", expected.concat());
        assert_eq!(ran.stdout(), expected);
        let ran = user.jailed(&[], &["cat", "/etc/resolv.conf"]);
        assert_eq!(ran.stdout(), "nameserver 127.0.0.1\n");
    }
}

#[test]
fn j6_inherited_descriptors_are_closed() {
    for user in users() {
        // The shell opens further ones for the program that it becomes.
        let inherit = |program: &[&str]| {
            let script = "exec 5</dev/null 77</etc/passwd; exec \"$@\"";
            user.command("bash")
                .args(["-c", script, "bash"])
                .args(program)
                .output()
                .expect("bash")
        };
        let attempts = attempts();
        let outside = inherit(&[&attempts, "inherited"]);
        assert_eq!(outside.stdout, b"through: inherited\n");
        let harness = harness();
        let harness = harness.to_str().expect("a plain path");
        let inside = inherit(&[harness, "--", &attempts, "inherited"]);
        let inside = String::from_utf8_lossy(&inside.stdout).into_owned();
        assert!(inside.starts_with("refused: "), "{inside}");
    }
}

/// Standard streams stay the caller's.
#[test]
fn j9_standard_streams_are_the_callers() {
    use std::io::{Read as _, Write as _};
    for user in users() {
        let mut child = user
            .command(harness())
            .args(["--", "sh", "-c", "cat; echo end >&2"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the harness");
        let mut stdin = child.stdin.take().expect("a pipe");
        stdin.write_all(b"some input").expect("a pipe");
        drop(stdin);
        let mut text = String::new();
        let mut stdout = child.stdout.take().expect("a pipe");
        stdout.read_to_string(&mut text).expect("text");
        assert_eq!(text, "some input");
        let ended = child.wait_with_output().expect("our own child");
        assert!(ended.status.success());
        assert_eq!(ended.stderr, b"end\n");
    }
}

/// A socket among them stays in the network that it was made in.
#[test]
fn j6_a_standard_stream_that_leads_out_is_refused() {
    for user in users() {
        let bind = || UdpSocket::bind("127.0.0.1:0").expect("a port");
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let (datagrams, _) = UnixDatagram::pair().expect("a pair");
        let sockets: [OwnedFd; 3] = [bind().into(), tcp.into(), datagrams.into()];
        for socket in sockets {
            let mut command = user.command(harness());
            let ran = Ran(command
                .args(["--", "true"])
                .stdin(socket)
                .output()
                .expect("the harness"));
            assert_eq!(ran.0.status.code(), Some(125));
            let text = ran.stderr();
            assert!(text.contains("standard input is a socket"), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
        let mut command = user.command(harness());
        let output = command
            .args(["--", "true"])
            .stdout(OwnedFd::from(bind()))
            .output();
        assert_eq!(output.expect("the harness").status.code(), Some(125));
        // A connected pair has one other end for good.
        let (one, _other) = UnixStream::pair().expect("a pair");
        let mut command = user.command(harness());
        let output = command
            .args(["--", "true"])
            .stdin(OwnedFd::from(one))
            .output();
        assert_eq!(output.expect("the harness").status.code(), Some(0));
    }
}

/// The directory is in the machine's `/proc`, which the jail's own is mounted over.
#[test]
fn j14_a_directory_of_the_machines_proc_does_not_lead_out() {
    for user in users() {
        let list = ["sh", "-c", "cat 1/comm; echo *"];
        let in_proc = |program: &mut Command| {
            let output = program.args(list).current_dir("/proc").output();
            Ran(output.expect("a list")).stdout()
        };
        let outside = std::process::id().to_string();
        let lists_us = |text: &str| text.split_whitespace().any(|entry| entry == outside);
        assert!(lists_us(&in_proc(&mut user.command("env"))));
        let inside = in_proc(user.command(harness()).arg("--"));
        assert!(!lists_us(&inside) && !inside.is_empty(), "{inside}");
        let proc = std::fs::File::open("/proc").expect("a directory");
        let mut command = user.command(harness());
        let output = command.args(["--", "true"]).stdin(proc).output();
        let ran = Ran(output.expect("the harness"));
        assert_eq!(ran.0.status.code(), Some(125), "{}", ran.stderr());
    }
}
