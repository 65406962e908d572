//! `proxyctl allow HOST --for TIME`: a permission without a question, and without a change of a file (SPEC W3).

use e2e::machine::{self, Need};

use super::*;
use crate::control::callers::as_nobody;

#[test]
fn w3_an_administrator_allows_a_host_for_a_time_for_every_client() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms"));
    let before = std::fs::read_to_string(daemon.config_path()).expect("the test's own file");
    let (one, two) = (Session::open(&daemon), Session::open(&daemon));
    let url = format!("http://blocked.test:{port}/");
    assert_eq!(get(&one, "blocked.test", port).status, 403);
    let allowed = proxyctl(&daemon, &["allow", "Blocked.test", "--for", "10m"]);
    allowed.succeeded().says("allowed blocked.test:* until 20");
    allowed.says(" for every client");
    // No follower listens: nothing is asked, and the grant counts all the same.
    for session in [&one, &two] {
        assert_eq!(get(session, "blocked.test", port).status, 200);
        assert_eq!(get(session, "other.test", port).status, 403);
    }
    assert_eq!(daemon.get(&url).status, 200);
    let grants = proxyctl_json(&daemon, &["grants"]);
    let grant = &grants[0];
    assert_eq!(grant["whom"], "everyone");
    assert_eq!(grant["scope"], "time");
    assert_eq!(grant["uses"], 3, "{grant}");
    let session = &one.opened.id;
    let explained = proxyctl(&daemon, &["explain", &url, "--session", session]);
    explained.succeeded().says("grant ");
    let without_session = || proxyctl(&daemon, &["explain", &url]);
    without_session().succeeded().says("grant ");
    let after = std::fs::read_to_string(daemon.config_path()).expect("the test's own file");
    assert_eq!(before, after);
    let id = grant["id"].as_str().expect("an id");
    proxyctl(&daemon, &["revoke", id]).succeeded();
    assert_eq!(get(&one, "blocked.test", port).status, 403);
    assert_eq!(daemon.get(&url).status, 403);
    assert!(!without_session().succeeded().stdout.contains("grant "));
}

#[test]
fn w3_a_permission_for_one_session_is_for_no_other_one() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms"));
    let (one, two) = (Session::open(&daemon), Session::open(&daemon));
    let id = &*one.opened.id;
    let allow = |session| {
        let arguments = [
            "allow",
            "blocked.test",
            "--for",
            "10m",
            "--session",
            session,
        ];
        proxyctl(&daemon, &arguments)
    };
    allow(id).succeeded().says(&format!("for session {id}"));
    assert_eq!(get(&one, "blocked.test", port).status, 200);
    assert_eq!(get(&two, "blocked.test", port).status, 403);
    allow("none").failed().says("there is no session \"none\"");
    drop(one);
    let none = || {
        let grants = proxyctl_json(&daemon, &["grants"]);
        (grants == serde_json::json!([])).then_some(())
    };
    poll(TIMEOUT, none).expect("it ends with the session");
}

#[test]
fn w3_a_permission_for_a_time_lifts_nothing_but_a_miss() {
    let daemon = Daemon::start(&asking("100ms"));
    let allow = |host, time| proxyctl(&daemon, &["allow", host, "--for", time]);
    let refused = |host, words: &str| {
        allow(host, "1h").failed().says(words);
    };
    refused("denied.test", "does not leave denied.test to people");
    refused("allowed.test", "allows allowed.test already");
    refused(
        "*.blocked.test",
        "--for allows one host, not a pattern; `proxyctl allow '*.blocked.test'`",
    );
    for time in ["500ms", "25h"] {
        let run = allow("blocked.test", time);
        run.failed().says("at least one second and at most 1d");
    }
    for option in [&["--dry-run"][..], &["--reason", "why"]] {
        let arguments = [&["allow", "blocked.test", "--for", "1h"], option].concat();
        assert_eq!(proxyctl(&daemon, &arguments).code, Some(2));
    }
    // A reload that denies the host ends it.
    allow("blocked.test", "1h").succeeded();
    daemon.reload_with(&asking("100ms").deny("blocked.test"));
    assert_eq!(proxyctl_json(&daemon, &["grants"]), serde_json::json!([]));
    daemon.reload_with(&Config::example());
    refused("blocked.test", "`[daemon.approvals] enabled = true`");
}

#[test]
fn w3_a_user_allows_hosts_only_for_its_own_sessions_and_only_if_it_may_answer() {
    if !machine::has(Need::Root) {
        return;
    }
    let origin = text_origin();
    let port = origin.addr().port();
    let with = |own: &str| {
        asking("100ms")
            .set("daemon.control", "users", r#"["nobody"]"#)
            .set("daemon.approvals", "own", own)
    };
    let daemon = Daemon::start(&with("false"));
    let session = Session::open(&daemon);
    let arguments = ["allow", "blocked.test", "--for", "10m"];
    assert_eq!(as_nobody(&daemon, &arguments).code, Some(4));
    daemon.reload_with(&with("true"));
    let allowed = as_nobody(&daemon, &arguments);
    allowed.succeeded().says("for the sessions of ");
    // The session is root's.
    assert_eq!(get(&session, "blocked.test", port).status, 403);
    let of_root = [&arguments[..], &["--session", &session.opened.id]].concat();
    let run = as_nobody(&daemon, &of_root);
    run.failed().says("there is no session");
    let grants = as_nobody(&daemon, &["--json", "grants"]);
    grants.succeeded().says("\"whom\": \"sessions\"");
    // Those of others are not seen.
    proxyctl(&daemon, &["allow", "other.test", "--for", "10m"]).succeeded();
    let grants = as_nobody(&daemon, &["grants"]);
    assert!(!grants.stdout.contains("other.test"), "{grants:?}");
}
