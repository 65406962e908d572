//! Answers that become entries of the configuration (SPEC Q4).

use e2e::program::Program;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::*;

fn content(daemon: &Daemon) -> String {
    std::fs::read_to_string(daemon.config_path()).expect("the test's own file")
}

#[test]
fn q4_a_permanent_approval_is_an_entry_for_every_client_and_outlives_the_worker() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("60s"));
    let (session, other) = (Session::open(&daemon), Session::open(&daemon));
    let follower = Follower::start(&daemon);
    let waits = waiting_request(&session, "blocked.test", port);
    let id = follower.wait_for("blocked.test", "pending")["id"].clone();
    let id = id.as_str().expect("an id");
    let arguments = [
        "approve",
        id,
        "--permanent",
        "--reason",
        "the build needs it",
    ];
    let run = proxyctl(&daemon, &arguments);
    let comment = format!(": question {id} from \"curl\": the build needs it");
    run.succeeded()
        .says("this allows blocked.test on every port, to every client of this proxy")
        .says("+    \"blocked.test\", # 20")
        .says(&comment);
    // The request that waits is served, and so is every other client.
    assert_eq!(waits.join().expect("no panic"), 200);
    assert_eq!(follower.wait_for("blocked.test", "granted")["id"], id);
    assert_eq!(get(&other, "blocked.test", port).status, 200);
    let url = format!("http://blocked.test:{port}/");
    assert_eq!(daemon.get(&url).status, 200);
    assert_eq!(proxyctl_json(&daemon, &["grants"]), serde_json::json!([]));
    for command in ["patterns", "config"] {
        proxyctl(&daemon, &[command]).succeeded().says(&comment);
    }
    let worker = i32::try_from(daemon.worker()).expect("a process id");
    kill(Pid::from_raw(worker), Signal::SIGKILL).expect("our own daemon");
    let again = || (daemon.get(&url).status == 200).then_some(());
    poll(TIMEOUT, again).expect("the next worker allows it");
}

#[test]
fn q4_an_approval_that_cannot_be_written_is_a_denial() {
    let daemon = Daemon::start(&asking("100ms"));
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", 1);
    let before = content(&daemon);
    // No file may grow beyond nothing, and the write fails instead of ending the program.
    let limited =
        "trap '' XFSZ; ulimit -f 0; exec \"$0\" --socket \"$1\" approve \"$2\" --permanent";
    let run = Program::new("bash")
        .args(["-c", limited])
        .arg(shipped::proxyctl())
        .arg(daemon.control_socket())
        .arg(&id)
        .run();
    assert_eq!(run.failed().code, Some(1));
    run.says("nothing was changed")
        .says("the approval could not be written, so the question was denied");
    assert_eq!(content(&daemon), before);
    let refused = get(&session, "blocked.test", 1).json();
    assert_eq!(
        (&refused["decision"], &refused["approval_id"]),
        (&"deny".into(), &id.as_str().into())
    );
}

#[test]
fn q4_a_pattern_widens_the_entry_and_must_cover_the_host() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon =
        Daemon::start(&asking("100ms").host("www.blocked.test", std::net::Ipv4Addr::LOCALHOST));
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", port);
    let other = proxyctl(
        &daemon,
        &["approve", &id, "--permanent", "--pattern", "*.other.test"],
    );
    other.failed().says("does not cover blocked.test");
    let wide = proxyctl(
        &daemon,
        &[
            "approve",
            &id,
            "--permanent",
            "--pattern",
            "**.blocked.test",
        ],
    );
    wide.succeeded()
        .says("this allows **.blocked.test on every port");
    assert_eq!(get(&session, "www.blocked.test", port).status, 200);
}

#[test]
fn q4_a_permanent_denial_is_an_entry_of_the_deny_list() {
    let daemon = Daemon::start(&asking("100ms"));
    let (session, other) = (Session::open(&daemon), Session::open(&daemon));
    let _follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", 1);
    let run = proxyctl(&daemon, &["reject", &id, "--permanent"]);
    run.succeeded()
        .says("denied blocked.test:1")
        .says("+    \"blocked.test\", # 20");
    for session in [&session, &other] {
        assert_eq!(get(session, "blocked.test", 1).json()["reason"], "denied");
    }
}

/// A jail confines the network and not the files, so its program can edit the configuration. An answer must not put
/// that in force.
#[test]
fn q4_an_answer_puts_no_other_change_of_the_file_in_force() {
    let origin = text_origin();
    let port = origin.addr().port();
    let config = asking("100ms");
    let daemon = Daemon::start(&config);
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", port);
    daemon.rewrite_config(&config.clone().allow("other.test").set(
        "network",
        "allow_local_binding",
        "false",
    ));
    let edited = content(&daemon);
    let generation = proxyctl_json(&daemon, &["status"])["generation"].clone();
    let approved = proxyctl(&daemon, &["approve", &id, "--permanent"]);
    approved
        .failed()
        .says("+ allow other.test; ")
        .says("allow_local_binding: true -> false")
        .says("`proxyctl reload` puts them in force")
        .says("the question is still open");
    for command in ["allow", "deny"] {
        let changed = proxyctl(&daemon, &[command, "third.test"]);
        changed.failed().says("+ allow other.test; ");
    }
    proxyctl(&daemon, &["unset", "allowed.test"])
        .failed()
        .says("+ allow other.test; ");
    assert_eq!(content(&daemon), edited);
    assert_eq!(get(&session, "other.test", port).status, 403);
    let status = proxyctl_json(&daemon, &["status"]);
    assert_eq!(status["generation"], generation);
    // The configuration has no fault to report.
    assert_eq!(status["last_reload"], Value::Null, "{status}");
    // A person who has looked puts it in force, and then the answer has its effect alone.
    proxyctl(&daemon, &["reload"]).succeeded();
    assert_eq!(
        get(&session, "other.test", port).status,
        403,
        "a local address"
    );
    proxyctl(&daemon, &["approve", &id, "--permanent"]).succeeded();
}

#[test]
fn q4_a_permanent_denial_counts_where_the_file_has_other_changes() {
    let config = asking("100ms");
    let daemon = Daemon::start(&config);
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", 1);
    daemon.rewrite_config(&config.clone().allow("other.test"));
    proxyctl(&daemon, &["reject", &id, "--permanent"])
        .failed()
        .says("denied blocked.test:1")
        .says("+ allow other.test")
        .says("the entry could not be written, so the denial ends as one without --permanent does");
    assert_eq!(get(&session, "blocked.test", 1).json()["decision"], "deny");
    assert_eq!(get(&session, "other.test", 1).status, 403);
}

/// The worker ends while the reload waits for the stopped monitor, so the outcome of the reload is unknown.
#[test]
fn q4_an_approval_whose_reload_has_no_outcome_is_not_called_unwritten() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let port = text_origin().addr().port();
    let daemon = Daemon::start(&asking("0s"));
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", port);
    daemon.signal(Signal::SIGSTOP);
    let run = thread::scope(|scope| {
        let approve = scope.spawn(|| proxyctl(&daemon, &["approve", &id, "--permanent"]));
        let written = || content(&daemon).contains("blocked.test").then_some(());
        poll(TIMEOUT, written).expect("the entry");
        let worker = i32::try_from(daemon.worker()).expect("a process id");
        kill(Pid::from_raw(worker), Signal::SIGKILL).expect("our worker");
        approve.join().expect("it ends")
    });
    daemon.signal(Signal::SIGCONT);
    run.failed().says("the entry is written");
    assert!(!run.stderr.contains("could not be written"), "{run:?}");
    assert!(content(&daemon).contains("blocked.test"));
}
