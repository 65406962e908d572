//! Questions at every door of a session (SPEC Q2), and refusals that no answer lifts (SPEC Q1).

use e2e::client::Socks5Target;

use super::*;

#[test]
fn q2_a_grant_counts_at_every_door_of_its_session() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms"));
    let forward = DoorKind::Forward {
        host: "blocked.test".to_owned(),
        port,
    };
    let session = Session::open_with(
        &daemon,
        SessionRequest {
            doors: vec![DoorKind::Http, DoorKind::Socks5, forward],
            ..SessionRequest::default()
        },
    );
    let follower = Follower::start(&daemon);
    let socks = || {
        let mut client = Connection::open(session.doors[1]);
        let target = Socks5Target::name("blocked.test", port);
        client.socks5_connect(&target).reply
    };
    let question = || {
        assert_eq!(socks(), 2);
        let line = follower.lines.try_recv().ok()?;
        serde_json::from_str::<Value>(&line).ok()
    };
    let question = poll(TIMEOUT, question).expect("a question");
    assert_eq!(question["protocol"], "socks5");
    proxyctl(
        &daemon,
        &["approve", question["id"].as_str().expect("an id")],
    )
    .succeeded();
    assert_eq!(socks(), 0);
    assert_eq!(get(&session, "blocked.test", port).status, 200);
    let mut forwarded = Connection::open(session.doors[2]);
    let request = "GET / HTTP/1.1\r\nHost: blocked.test\r\n\r\n";
    assert_eq!(forwarded.exchange(request).status, 200);
}

#[test]
fn q2_a_client_without_a_session_is_asked_about_as_its_user() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms"));
    let follower = Follower::start(&daemon);
    let url = format!("http://blocked.test:{port}/");
    let id = poll(TIMEOUT, || asked(&daemon.get(&url))).expect("a question");
    let question = follower.wait_for("blocked.test", "pending");
    assert_eq!(question["uid"], nix::unistd::Uid::effective().as_raw());
    assert!(question.get("session").is_none());
    let refused = proxyctl(&daemon, &["approve", &id, "--session"]);
    refused.failed().says("the client has no session");
    let grant = proxyctl_json(&daemon, &["approve", &id]);
    assert_eq!(grant["scope"], "time");
    assert_eq!(daemon.get(&url).status, 200);
}

#[test]
fn q1_only_what_is_merely_not_allowed_is_asked_about() {
    let origin = text_origin();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms"));
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    ask(&session, "blocked.test", port);
    let denied = get(&session, "denied.test", port).json();
    assert_eq!(
        (&denied["decision"], &denied["reason"]),
        (&"deny".into(), &"denied".into())
    );
    assert!(denied.get("approval_id").is_none());
    // A grant does not lift the protection of local addresses.
    daemon.reload_with(&asking("100ms").set("network", "allow_local_binding", "false"));
    let local = get(&session, "127.0.0.1", port).json();
    assert_eq!(local["reason"], "not_allowed_local");
    let id = ask(&session, "other.test", port);
    proxyctl(&daemon, &["approve", &id]).succeeded();
    let local = get(&session, "other.test", port).json();
    assert_eq!(local["reason"], "not_allowed_local");
}

#[test]
fn q1_without_a_listener_and_by_default_nothing_is_asked() {
    let origin = text_origin();
    let port = origin.addr().port();
    let plain = |session: &Session| {
        let refused = get(session, "blocked.test", port).json();
        assert_eq!(
            (&refused["decision"], &refused["source"]),
            (&"deny".into(), &"baseline_policy".into())
        );
        assert!(refused.get("approval_id").is_none());
    };
    let daemon = Daemon::start(&asking("60s"));
    plain(&Session::open(&daemon));
    let daemon = Daemon::start(&Config::example());
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    let run = proxyctl(&daemon, &["approvals"]);
    run.succeeded().says("the proxy asks no questions");
    plain(&session);
}
