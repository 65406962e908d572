//! Who may see and answer questions (SPEC Q5).

use e2e::machine::{self, Need};

use super::*;
use crate::control::callers::as_nobody;
#[cfg(target_os = "linux")]
use crate::run::Installed;

#[test]
fn q5_observers_see_questions_and_users_only_their_own_and_neither_answers_others() {
    if !machine::has(Need::Root) {
        return;
    }
    let origin = text_origin();
    let port = origin.addr().port();
    let with = |list: &str, own: &str| {
        asking("100ms")
            .set("daemon.control", list, r#"["nobody"]"#)
            .set("daemon.approvals", "own", own)
    };
    let daemon = Daemon::start(&with("observers", "true"));
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", port);
    as_nobody(&daemon, &["approvals"]).succeeded().says(&id);
    for call in ["approve", "reject"] {
        let run = as_nobody(&daemon, &[call, &id]);
        assert_eq!(run.code, Some(4), "{run:?}");
    }
    daemon.reload_with(&with("users", "true"));
    let run = as_nobody(&daemon, &["approvals"]);
    run.succeeded().says("there is no open question");
    for call in ["approve", "reject"] {
        let run = as_nobody(&daemon, &[call, &id]);
        run.failed().says("there is no question");
    }
    proxyctl(&daemon, &["approve", &id]).succeeded();
    as_nobody(&daemon, &["grants"])
        .succeeded()
        .says("there is no grant");
    as_nobody(&daemon, &["revoke", &id])
        .failed()
        .says("there is no grant");
}

/// Listens, asks and approves as the user who opened the session does.
const OWN: &str = r#"
    ask() { curl -sS --max-time 10 -o /dev/null -D - "$1" | tr -d '\r'; }
    "$0" --socket "$2" approvals --follow --json > /dev/null &
    follower=$!
    for attempt in $(seq 200); do
        id=$(ask "$1" | sed -n 's/.*"approval_id":"\([0-9a-f]*\)".*/\1/p')
        [ -n "$id" ] && break
    done
    "$0" --socket "$2" approve "$id"
    echo "approve: $?"
    ask "$1" | head -n 1
    kill $follower
"#;

#[test]
fn q5_a_user_answers_the_questions_of_its_own_sessions_only_if_the_settings_permit_it() {
    if !machine::has(Need::Root) {
        return;
    }
    let origin = text_origin();
    let url = format!("http://blocked.test:{}/", origin.addr().port());
    for (own, wanted) in [
        ("true", "approve: 0\nHTTP/1.1 200 OK"),
        ("false", "approve: 4\nHTTP/1.1 403"),
    ] {
        let config = asking("100ms")
            .set("daemon.control", "users", r#"["nobody"]"#)
            .set("daemon.approvals", "own", own);
        let daemon = Daemon::start(&config);
        // Without it, only an administrator counts as a listener.
        let _follower = Follower::start(&daemon);
        let socket = daemon.control_socket();
        let program = daemon.directory().join("proxyctl");
        let run = as_nobody(
            &daemon,
            &[
                "run",
                "--service",
                "--isolation",
                "env",
                "--",
                "sh",
                "-c",
                OWN,
                program.to_str().expect("a path"),
                &url,
                socket.to_str().expect("a path"),
            ],
        );
        run.says(wanted);
    }
}

#[test]
fn j12_a_user_sees_the_refusals_of_its_own_sessions_only() {
    if !machine::has(Need::Root) {
        return;
    }
    let config = asking("100ms").set("daemon.control", "users", r#"["nobody"]"#);
    let daemon = Daemon::start(&config);
    // A session of the administrator, and a client without a session.
    let session = Session::open(&daemon);
    assert_eq!(get(&session, "root.test", 80).status, 403);
    let mut outside = Connection::open(daemon.http_addr());
    let refused = outside.exchange(&proxy_request("GET", "outside.test", "/", &[]));
    assert_eq!(refused.status, 403);
    let as_user = |arguments: &[&str]| as_nobody(&daemon, arguments);
    let program = "curl -sS --max-time 10 -o /dev/null http://own.test/";
    let run = ["run", "--service", "--isolation", "env", "--", "sh", "-c"];
    as_user(&[&run[..], &[program]].concat()).succeeded();

    let hosts = |output: &str| {
        let answer: Value = serde_json::from_str(output).expect("JSON");
        let entries = answer["blocked"].as_array().expect("a list").iter();
        let hosts = entries.map(|entry| entry["host"].as_str().expect("a host").to_owned());
        hosts.collect::<Vec<_>>()
    };
    let own = as_user(&["blocked", "--json"]);
    assert_eq!(hosts(&own.succeeded().stdout), ["own.test"]);
    let suggested = as_user(&["suggest"]);
    assert!(!suggested.stdout.contains("root.test"), "{suggested:?}");
    suggested.says("own.test");
    let all = proxyctl(&daemon, &["blocked", "--json"]);
    assert_eq!(
        hosts(&all.succeeded().stdout),
        ["root.test", "outside.test", "own.test"]
    );
}

/// A program in a jail has no way to the control socket, so it cannot answer its own question.
#[cfg(target_os = "linux")]
#[test]
fn q5_a_program_in_a_jail_cannot_answer() {
    if !machine::has(Need::UserNamespaces) {
        return;
    }
    let (origin, installed) = (text_origin(), Installed::new());
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms").set("daemon.approvals", "own", "true"));
    let follower = Follower::start(&daemon);
    let socket = daemon.control_socket();
    let socket = socket.to_str().expect("a path");
    // It asks, waits until the question is known outside, and tries to answer.
    let script = format!(
        "for attempt in $(seq 200); do \
           curl -sS --max-time 10 --noproxy '*' http://blocked.test:{port}/ | grep -q approval_id && break; \
         done; \
         {} --socket {socket} approvals; echo \"list: $?\"",
        shipped::proxyctl()
    );
    let run = installed
        .at_service(socket)
        .args(["--", "sh", "-c", &script])
        .run();
    run.says_one_of(&["list: 3", "list: 4"]);
    let question = follower.wait_for("blocked.test", "pending");
    assert_eq!(question["protocol"], "transparent");
}
