//! Which callers count as listeners (SPEC Q1), and what tells that none does.

use codex_network_control::message::ApprovalsQuery;
use e2e::session::Caller;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

/// Waits until the request to this host is refused without a question.
fn until_unasked(session: &Session, host: &str) {
    let refused = || (get(session, host, 1).json()["decision"] == "deny").then_some(());
    poll(TIMEOUT, refused).expect("a refusal without a question");
}

#[test]
fn q1_a_follower_that_reads_no_more_is_no_listener() {
    let daemon = Daemon::start(&asking("0s"));
    let session = Session::open(&daemon);
    let follower = Follower::start(&daemon);
    ask(&session, "first.test", 1);
    follower.wait_for("first.test", "pending");
    let pid = i32::try_from(follower.child.id()).expect("a process id");
    kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("our own child");
    // The call that it waits in gets one more question at most.
    ask(&session, "second.test", 1);
    until_unasked(&session, "second.test");
    kill(Pid::from_raw(pid), Signal::SIGCONT).expect("our own child");
    ask(&session, "third.test", 1);
}

#[test]
fn q1_a_caller_that_waits_for_changes_of_the_future_gets_the_next_question() {
    let daemon = Daemon::start(&asking("0s"));
    let session = Session::open(&daemon);
    let caller = Caller::connect(&daemon);
    let waits = thread::spawn(move || {
        caller.approvals(ApprovalsQuery {
            since: u64::MAX,
            wait: 30,
            ..ApprovalsQuery::default()
        })
    });
    let id = ask(&session, "blocked.test", 1);
    let found = waits.join().expect("no panic");
    assert_eq!(found.approvals.len(), 1, "{found:?}");
    assert_eq!(found.approvals[0].id, id);
}

#[test]
fn q1_status_and_doctor_tell_whether_a_listener_answers() {
    let daemon = Daemon::start(&asking("100ms"));
    let session = Session::open(&daemon);
    let status = || proxyctl_json(&daemon, &["status"])["questions"].clone();
    assert_eq!(status()["open"], 0);
    assert_eq!(status()["is_heard"], false);
    let doctor = || proxyctl(&daemon, &["doctor", "settings"]);
    doctor().says("no listener answers questions");
    let follower = Follower::start(&daemon);
    ask(&session, "blocked.test", 1);
    assert_eq!(status()["open"], 1);
    assert_eq!(status()["is_heard"], true);
    let text = proxyctl(&daemon, &["status"]);
    text.succeeded().says("questions").says("1 open");
    assert!(!doctor().stdout.contains("no listener"), "{:?}", doctor());
    drop(follower);
    let unheard = || (status()["is_heard"] == false).then_some(());
    poll(TIMEOUT, unheard).expect("no listener");
    let text = proxyctl(&daemon, &["status"]);
    text.succeeded().says("proxyctl approvals --follow");
}

#[test]
fn h5_a_refusal_and_explain_name_the_command_that_approves() {
    let daemon = Daemon::start(&asking("100ms"));
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", 1);
    let message = get(&session, "blocked.test", 1).json()["message"].to_string();
    assert!(
        message.contains(&format!("`proxyctl approve {id}`")),
        "{message}"
    );
    let notes = |session_id: Option<&str>| {
        let explained = session.caller.explain("http://blocked.test:1/", session_id);
        explained.expect("an explanation").notes.join("; ")
    };
    let command = format!("`proxyctl approve {id}` allows it");
    assert!(notes(Some(&session.opened.id)).contains(&command));
    // It is the question of another client.
    assert!(!notes(None).contains(&id));
    proxyctl(&daemon, &["reject", &id]).succeeded();
    let denied = notes(Some(&session.opened.id));
    assert!(
        denied.contains(&format!("has denied it (question {id})")),
        "{denied}"
    );
}
