//! `proxyctl blocked --follow`: live output until the proxy or `proxyctl` ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use e2e::daemon::{Config, Daemon, Signal};
use e2e::proxyctl::proxyctl_json;
use e2e::shipped;
use e2e::wait::{TIMEOUT, poll};
use serde_json::Value;

use super::be_refused;

/// A running `proxyctl blocked --follow`, line by line.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        let mut child = Command::new(shipped::proxyctl())
            .arg("--socket")
            .arg(daemon.control_socket())
            .args(["blocked", "--follow"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program runs");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(TIMEOUT).expect("a line in time")
    }

    fn exit_code(&mut self) -> Option<i32> {
        let ended = || self.child.try_wait().expect("our own child");
        poll(TIMEOUT, ended).expect("it ends").code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn k1_follow_prints_past_refusals_and_then_each_new_one() {
    let daemon = Daemon::start(&Config::example());
    be_refused(&daemon, "blocked.test");
    let follower = Follower::start(&daemon, &["--json"]);
    let host = || {
        let entry: Value = serde_json::from_str(&follower.line()).expect("a line of JSON");
        entry["host"].as_str().expect("a host").to_owned()
    };
    assert_eq!(host(), "blocked.test");
    for name in ["denied.test", "blocked.test"] {
        be_refused(&daemon, name);
        assert_eq!(host(), name);
    }
}

#[test]
fn k1_follow_in_columns_starts_at_the_given_number() {
    let daemon = Daemon::start(&Config::example());
    be_refused(&daemon, "blocked.test");
    let first = daemon.blocked()[0]["sequence"].as_u64().expect("a number");
    let follower = Follower::start(&daemon, &["--since", &first.to_string()]);
    assert!(follower.line().contains("DESTINATION"));
    be_refused(&daemon, "denied.test");
    let line = follower.line();
    assert!(
        line.starts_with(&format!("{:06} ", (first + 1) % 1_000_000))
            && line.contains("denied.test:80"),
        "{line}"
    );
}

#[test]
fn r1_numbers_and_follow_continue_when_a_worker_is_replaced() {
    let daemon = Daemon::start(&Config::example());
    be_refused(&daemon, "blocked.test");
    be_refused(&daemon, "denied.test");
    let follower = Follower::start(&daemon, &["--json"]);
    let next = || {
        let entry: Value = serde_json::from_str(&follower.line()).expect("a line of JSON");
        let host = entry["host"].as_str().expect("a host").to_owned();
        (host, entry["sequence"].as_u64().expect("a number"))
    };
    let (_, first) = next();
    let (_, second) = next();
    assert_eq!(second, first + 1);
    let mut last = second;
    for host in ["one.test", "two.test"] {
        let worker = proxyctl_json(&daemon, &["status"])["roles"][1]["pid"].clone();
        let worker = i32::try_from(worker.as_i64().expect("a process")).expect("its id");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), Signal::SIGKILL)
            .expect("the worker is there");
        be_refused(&daemon, host);
        let (reported, sequence) = next();
        assert_eq!(reported, host);
        assert!(sequence > last, "{sequence} after {last}");
        // A crash loses the list. A client that asks from an old number on still gets everything
        // newer.
        let asked = proxyctl_json(&daemon, &["blocked", "--since", &last.to_string()]);
        assert_eq!(asked["blocked"][0]["host"], host, "{asked}");
        assert_eq!(asked["dropped"], 0, "{asked}");
        assert_eq!(asked["next"], sequence, "{asked}");
        let polled = daemon.admin("GET", &format!("/blocked?since={last}"), None);
        assert_eq!(polled.json()["blocked"][0]["sequence"], sequence);
        assert_eq!(
            proxyctl_json(&daemon, &["status"])["counters"]["blocked"],
            1
        );
        last = sequence;
    }
}

#[test]
fn k1_follow_ends_with_the_proxy() {
    let daemon = Daemon::start(&Config::example());
    let mut follower = Follower::start(&daemon, &["--since", "0"]);
    follower.line();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(follower.exit_code(), Some(3));
    // A waiting caller does not delay the end of the proxy.
    assert_eq!(daemon.wait_exit().code, Some(0));
}
