//! A log that is not read: only lines are lost (SPEC R4; `ARCHITECTURE.md`,
//! "Three roles, one program").

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::port::accepts;
use e2e::wait::{TIMEOUT, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::reload::Reserved;

/// Each allowed request writes a line. Together they are far more than a pipe and the queue before it hold.
const REQUESTS: u64 = 10_000;

/// A proxy whose log is read only by the test.
struct Unread {
    child: Child,
    http: Reserved,
    _directory: TempDir,
    _config: Config,
}

impl Unread {
    /// Starts it with this standard error, behind a shell that runs `first`.
    fn start(first: &str, stderr: Stdio) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let http = Reserved::open();
        let config = Config::example().set("network", "proxy_url", &http.url());
        let file = directory.path().join("config.toml");
        std::fs::write(&file, config.write(directory.path())).expect("a new directory");
        let control = Value::from(directory.path().join("control.sock").to_string_lossy());
        let child = Command::new("sh")
            .args(["-c", &format!("{first}\nexec \"$@\""), "sh"])
            .args([
                e2e::shipped::proxy(),
                "-c",
                &format!("daemon.control.socket={control}"),
            ])
            .arg("--config")
            .arg(&file)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("there is a shell");
        let unread = Self {
            child,
            http,
            _directory: directory,
            _config: config,
        };
        let address = unread.http.address();
        poll(TIMEOUT, || accepts(address).then_some(())).expect("it starts and serves");
        unread
    }

    /// This many allowed requests, each of which is answered. (Refusals beyond a rate share lines.)
    fn allow(&self, requests: u64) {
        let origin = Origin::start(|_| Answer::Echo);
        let authority = format!("allowed.test:{}", origin.addr().port());
        let mut client = Connection::open(self.http.address());
        for _ in 0..requests {
            let request = format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n");
            assert_eq!(client.exchange(&request).status, 200);
        }
    }

    /// Sends this many requests that are refused, and reads each answer.
    fn refuse(&self, requests: u64) {
        let mut client = Connection::open(self.http.address());
        for _ in 0..requests {
            let answer =
                client.exchange("GET http://blocked.test/ HTTP/1.1\r\nHost: blocked.test\r\n\r\n");
            assert_eq!(answer.status, 403);
        }
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.child.id()).expect("a process id");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("our own child");
    }

    fn ends_in_time(&mut self) {
        let ended = poll(TIMEOUT, || self.child.try_wait().expect("our own child"));
        assert_eq!(ended.expect("it ends").code(), Some(0));
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn r4_a_log_that_is_not_read_blocks_neither_requests_nor_shutdown() {
    let mut unread = Unread::start("", Stdio::piped());
    // Held open, and not read.
    let _pipe = unread.child.stderr.take().expect("a piped stderr");
    unread.allow(REQUESTS);
    unread.terminate();
    unread.ends_in_time();
}

#[test]
fn r4_lost_lines_are_counted_in_the_log_when_it_is_read_again() {
    let mut unread = Unread::start("", Stdio::piped());
    let pipe = unread.child.stderr.take().expect("a piped stderr");
    unread.allow(REQUESTS);
    let (mut written, mut lost) = (0, None);
    let mut lines = BufReader::new(pipe).lines();
    while lost.is_none() {
        let line = lines.next().expect("the count comes").expect("a line");
        let line: Value = serde_json::from_str(&line).expect("whole lines");
        let fields = &line["fields"];
        lost = fields["lost"].as_u64();
        match lost {
            None => written += u64::from(fields["message"] != "listening"),
            Some(lost) => {
                let message = format!("{lost} log lines were lost");
                assert_eq!(fields["message"], *message);
                assert_eq!(line["level"], "WARN");
            }
        }
    }
    let (all, lost) = (REQUESTS, lost.unwrap_or_default());
    // Every line is in the log or in the count. A few more are about the start.
    assert!(written + lost >= all, "{written} + {lost}");
    assert!(written + lost < all + 20, "{written} + {lost}");
    assert!(lost > 0 && written > 1000, "{written} + {lost}");
    // All later lines are in the log again.
    unread.refuse(1);
    unread.terminate();
    let rest: Vec<String> = lines.map(|line| line.expect("a line")).collect();
    for part in ["CODEX_NETWORK_POLICY_VIOLATION", "\"stopped\""] {
        assert!(rest.iter().any(|line| line.contains(part)), "{rest:#?}");
    }
    unread.ends_in_time();
}

#[test]
fn r4_a_proxy_without_standard_error_starts_and_serves() {
    let mut unread = Unread::start("exec 2>&-", Stdio::null());
    unread.refuse(3);
    unread.terminate();
    unread.ends_in_time();
}

#[test]
fn r4_a_log_whose_reader_has_gone_blocks_no_request() {
    let mut unread = Unread::start("", Stdio::piped());
    let mut pipe = unread.child.stderr.take().expect("a piped stderr");
    let mut some = [0; 1];
    pipe.read_exact(&mut some).expect("it says something");
    drop(pipe);
    unread.refuse(100);
    unread.terminate();
    unread.ends_in_time();
}
