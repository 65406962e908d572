//! Questions about hosts that are merely not allowed, and their answers, with the real daemon, the shipped
//! `proxyctl` and real sessions (SPEC Q).

mod access;
mod doors;
mod ends;
mod exec;
mod limited;
mod limits;
mod listeners;
mod permanent;
mod temporary;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use codex_network_control::message::{DoorKind, SessionRequest};
use e2e::client::{Connection, Response, proxy_request};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::session::Session;
use e2e::shipped;
use e2e::wait::{TIMEOUT, poll};
use serde_json::Value;

/// The example, with questions: a request waits for this long.
fn asking(hold: &str) -> Config {
    Config::example()
        .host("other.test", std::net::Ipv4Addr::LOCALHOST)
        .set("daemon.approvals", "enabled", "true")
        .set("daemon.approvals", "hold", &format!("{hold:?}"))
}

/// A running `proxyctl approvals --follow --json`.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    /// Starts it. It has printed nothing yet.
    fn start(daemon: &Daemon) -> Self {
        Self::start_with(daemon, &[])
    }

    /// The same with these options.
    fn start_with(daemon: &Daemon, options: &[&str]) -> Self {
        let mut child = Command::new(shipped::proxyctl())
            .arg("--socket")
            .arg(daemon.control_socket())
            .args(["approvals", "--follow", "--json"])
            .args(options)
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

    /// The next change of a question.
    fn question(&self) -> Value {
        let line = self.lines.recv_timeout(TIMEOUT).expect("a line in time");
        serde_json::from_str(&line).expect("JSON")
    }

    /// The next question for this host in this state.
    fn wait_for(&self, host: &str, state: &str) -> Value {
        loop {
            let question = self.question();
            if question["host"] == host && question["state"] == state {
                return question;
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A plain HTTP request through the HTTP door of a session.
fn get(session: &Session, host: &str, port: u16) -> Response {
    let mut client = Connection::open(session.doors[0]);
    let authority = format!("{host}:{port}");
    client.exchange(&proxy_request("GET", &authority, "/", &[]))
}

/// A request on a thread of its own. Refused at once until a follower listens, and then it waits. Gives the status.
fn waiting_request(session: &Session, host: &'static str, port: u16) -> thread::JoinHandle<u16> {
    let door = session.doors[0];
    thread::spawn(move || {
        let request = || {
            let mut client = Connection::open(door);
            let authority = format!("{host}:{port}");
            let response = client.exchange(&proxy_request("GET", &authority, "/", &[]));
            let is_heard = response.status != 403 || !response.text().contains("reload the proxy");
            is_heard.then_some(response.status)
        };
        poll(TIMEOUT, request).expect("an answer")
    })
}

/// Repeats a request until it becomes a question: until then no follower listens. Returns the question's id.
fn ask(session: &Session, host: &str, port: u16) -> String {
    let asked = || asked(&get(session, host, port));
    poll(TIMEOUT, asked).expect("a question")
}

/// The id of the question because of which a request was refused.
fn asked(response: &Response) -> Option<String> {
    let body = (response.status == 403).then(|| response.json())?;
    (body["decision"] == "ask").then_some(())?;
    assert!(response.header("retry-after").is_some(), "{response:?}");
    Some(body["approval_id"].as_str().expect("an id").to_owned())
}

fn text_origin() -> Origin {
    Origin::start(|_| Answer::text("hello"))
}

#[test]
fn q2_an_approved_question_lets_the_retry_of_its_session_through_and_nothing_else() {
    let (origin, elsewhere) = (text_origin(), text_origin());
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms"));
    let (session, other) = (Session::open(&daemon), Session::open(&daemon));
    let follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", port);
    let question = follower.wait_for("blocked.test", "pending");
    assert_eq!(question["id"], id);
    assert_eq!(question["session"], session.opened.id);
    assert_eq!(question["command"], "curl");
    assert_eq!(
        (question["port"].as_u64(), &question["protocol"]),
        (Some(port.into()), &"http".into())
    );
    let listed = proxyctl_json(&daemon, &["approvals"]);
    assert_eq!(listed[0]["id"], id);

    let run = proxyctl(&daemon, &["approve", &id]);
    run.succeeded().says(&format!(
        "approved blocked.test:{port} until the session ends"
    ));
    assert_eq!(follower.wait_for("blocked.test", "granted")["id"], id);
    assert_eq!(get(&session, "blocked.test", port).status, 200);
    let mut tunnel = Connection::open(session.doors[0]);
    assert_eq!(tunnel.connect(&format!("blocked.test:{port}")).status, 200);
    // Not another port, host or session, and no client without a session.
    for (session, host, port) in [
        (&session, "blocked.test", elsewhere.addr().port()),
        (&session, "other.test", port),
        (&other, "blocked.test", port),
    ] {
        assert!(asked(&get(session, host, port)).is_some(), "{host}:{port}");
    }
    assert_ne!(
        daemon.get(&format!("http://blocked.test:{port}/")).status,
        200
    );
    let grants = proxyctl_json(&daemon, &["grants"]);
    assert_eq!(grants[0]["id"], id);
    assert_eq!(grants[0]["uses"], 2);
    assert_eq!(grants[0]["scope"], "session");
    let log = daemon.wait_for_message("a question was approved through the control socket");
    assert!(log.field("uid").is_some() && log.field("pid").is_some());
}

#[test]
fn q2_records_and_explain_show_the_grant() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms"));
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", port);
    let entry = daemon.wait_for_blocked(|entry| entry["decision"] == "ask");
    assert_eq!(entry["approval_id"], id);
    proxyctl(&daemon, &["approve", &id]).succeeded();
    assert_eq!(get(&session, "blocked.test", port).status, 200);
    let allowed = daemon.wait_for_log(|line| {
        let rule = line.field("network.policy.rule").and_then(Value::as_str);
        rule.is_some_and(|rule| rule.starts_with(&format!("grant {id} by ")))
    });
    assert_eq!(
        allowed
            .field("network.policy.source")
            .and_then(Value::as_str),
        Some("decider")
    );
    let url = format!("http://blocked.test:{port}/");
    let explained = session.caller.explain(&url, Some(&session.opened.id));
    let explained = explained.expect("an explanation");
    assert_eq!(explained.decision, "allow");
    assert!(
        explained.because.contains(&format!("grant {id} by ")),
        "{explained:?}"
    );
    let others = session.caller.explain(&url, None).expect("an explanation");
    assert_eq!(others.decision, "deny");
}

#[test]
fn q2_requests_that_wait_share_the_question_and_get_the_answer() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("60s"));
    let session = Session::open(&daemon);
    let follower = Follower::start(&daemon);
    let waits = |host| waiting_request(&session, host, port);
    let waiting = [waits("blocked.test"), waits("blocked.test")];
    let id = follower.wait_for("blocked.test", "pending")["id"].clone();
    let id = id.as_str().expect("an id");
    let both = || {
        let listed = proxyctl_json(&daemon, &["approvals"]);
        (listed[0]["waiting"] == 2).then_some(())
    };
    poll(TIMEOUT, both).expect("both wait for one question");
    proxyctl(&daemon, &["approve", id]).succeeded();
    for request in waiting {
        assert_eq!(request.join().expect("no panic"), 200);
    }
    let denied = waits("other.test");
    let id = follower.wait_for("other.test", "pending")["id"].clone();
    let id = id.as_str().expect("an id");
    proxyctl(&daemon, &["reject", id]).succeeded();
    assert_eq!(denied.join().expect("no panic"), 403);
    // Not asked again, and not held.
    let refused = get(&session, "other.test", port).json();
    assert_eq!(
        (&refused["decision"], &refused["approval_id"]),
        (&"deny".into(), &id.into())
    );
    let late = proxyctl(&daemon, &["approve", id]);
    late.failed().says("no longer open: denied");
}

#[test]
fn q2_a_client_that_gives_up_leaves_the_question_open() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("60s"));
    let session = Session::open(&daemon);
    let follower = Follower::start(&daemon);
    let door = session.doors[0];
    let authority = format!("blocked.test:{port}");
    let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let question = poll(TIMEOUT, || {
        let mut client = Connection::open(door);
        client.send(&request);
        let line = follower.lines.recv_timeout(Duration::from_millis(100));
        // An orderly end of its side alone would not mean that it has gone.
        client.reset();
        line.ok()
    });
    let question: Value = serde_json::from_str(&question.expect("a question")).expect("JSON");
    let id = question["id"].as_str().expect("an id");
    let abandoned = || {
        let listed = proxyctl_json(&daemon, &["approvals"]);
        (listed[0]["waiting"] == 0).then_some(())
    };
    poll(TIMEOUT, abandoned).expect("no request waits");
    proxyctl(&daemon, &["approve", id, "--once"]).succeeded();
    assert_eq!(get(&session, "blocked.test", port).status, 200);
    // It was for one connection.
    let (sender, again) = channel();
    let mut client = Connection::open(door);
    thread::spawn(move || sender.send(client.connect(&authority).status));
    follower.wait_for("blocked.test", "pending");
    assert!(again.try_recv().is_err());
}
