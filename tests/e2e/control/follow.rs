//! `proxyctl blocked --follow`: live, until one of the two ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use e2e::daemon::{Daemon, Signal};
use e2e::wait::{PATIENCE, poll};
use serde_json::Value;

use super::{PROXYCTL, be_refused, daemon, socket};

/// A running `proxyctl blocked --follow`, line by line.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        let mut child = Command::new(PROXYCTL)
            .arg("--socket")
            .arg(socket(daemon))
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
        self.lines.recv_timeout(PATIENCE).expect("a line in time")
    }

    fn exit_code(&mut self) -> Option<i32> {
        let ended = || self.child.try_wait().expect("our own child");
        poll(PATIENCE, ended).expect("it ends").code()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn k1_follow_tells_what_was_refused_and_then_each_refusal_as_it_happens() {
    let daemon = daemon();
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
fn k1_follow_for_people_starts_where_it_is_told() {
    let daemon = daemon();
    be_refused(&daemon, "blocked.test");
    let follower = Follower::start(&daemon, &["--since", "1"]);
    assert!(follower.line().contains("DESTINATION"));
    be_refused(&daemon, "denied.test");
    let line = follower.line();
    assert!(
        line.starts_with("2 ") && line.contains("denied.test:80"),
        "{line}"
    );
}

#[test]
fn k1_follow_ends_with_the_proxy() {
    let daemon = daemon();
    let mut follower = Follower::start(&daemon, &["--since", "0"]);
    follower.line();
    daemon.signal(Signal::SIGTERM);
    assert_eq!(follower.exit_code(), Some(3));
    // A caller that waits does not hold the proxy up.
    assert_eq!(daemon.wait_exit().code, Some(0));
}
