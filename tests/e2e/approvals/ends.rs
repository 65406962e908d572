//! The ends of grants, and of the connections that they permitted (SPEC P11, Q3).

use super::*;

/// A session with a tunnel that a grant permits.
struct Granted {
    session: Session,
    tunnel: Connection,
    id: String,
    _follower: Follower,
}

fn granted(daemon: &Daemon, port: u16, arguments: &[&str]) -> Granted {
    let session = Session::open(daemon);
    let follower = Follower::start(daemon);
    let id = ask(&session, "blocked.test", port);
    let arguments = [&["approve", id.as_str()], arguments].concat();
    proxyctl(daemon, &arguments).succeeded();
    let mut tunnel = Connection::open(session.doors[0]);
    assert_eq!(tunnel.connect(&format!("blocked.test:{port}")).status, 200);
    tunnel.send("ping");
    assert_eq!(tunnel.read_exact(4), b"ping");
    Granted {
        session,
        tunnel,
        id,
        _follower: follower,
    }
}

#[test]
fn q3_a_revoked_grant_ends_the_tunnels_that_it_permitted() {
    let origin = Origin::echoing_bytes().start();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms"));
    let mut granted = granted(&daemon, port, &[]);
    let mut listed = Connection::open(granted.session.doors[0]);
    assert_eq!(listed.connect(&format!("allowed.test:{port}")).status, 200);
    proxyctl(&daemon, &["revoke", &granted.id]).succeeded();
    granted.tunnel.expect_closed();
    listed.send("ping");
    assert_eq!(listed.read_exact(4), b"ping");
    assert_eq!(proxyctl_json(&daemon, &["grants"]), serde_json::json!([]));
    let again = proxyctl(&daemon, &["revoke", &granted.id]);
    again.failed().says("there is no grant");
}

#[test]
fn q3_a_denial_after_the_approval_ends_them_too() {
    let origin = Origin::echoing_bytes().start();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms"));
    let mut granted = granted(&daemon, port, &[]);
    proxyctl(&daemon, &["reject", &granted.id]).succeeded();
    granted.tunnel.expect_closed();
    assert_eq!(
        get(&granted.session, "blocked.test", port).json()["decision"],
        "deny"
    );
}

#[test]
fn q3_a_denial_ends_what_the_grant_of_another_question_permitted() {
    let (origin, other) = (Origin::echoing_bytes().start(), text_origin());
    let (port, other) = (origin.addr().port(), other.addr().port());
    let daemon = Daemon::start(&asking("100ms"));
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", port);
    let wide = ask(&session, "blocked.test", other);
    proxyctl(&daemon, &["approve", &wide, "--any-port"]).succeeded();
    let mut tunnel = Connection::open(session.doors[0]);
    assert_eq!(tunnel.connect(&format!("blocked.test:{port}")).status, 200);
    tunnel.send("ping");
    assert_eq!(tunnel.read_exact(4), b"ping");
    proxyctl(&daemon, &["reject", &id]).succeeded();
    tunnel.expect_closed();
    assert_eq!(
        get(&session, "blocked.test", port).json()["decision"],
        "deny"
    );
}

#[test]
fn q3_a_grant_for_a_time_ends_its_tunnels_with_the_time() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&asking("100ms"));
    let mut granted = granted(&daemon, origin.addr().port(), &["--for", "2s"]);
    granted.tunnel.expect_closed();
}

#[test]
fn p11_a_grant_ends_with_a_reload_that_denies_its_host_and_does_not_come_back() {
    let origin = Origin::echoing_bytes().start();
    let port = origin.addr().port();
    let config = asking("100ms");
    let daemon = Daemon::start(&config);
    let mut granted = granted(&daemon, port, &[]);
    let pending = ask(&granted.session, "other.test", port);
    daemon.reload_with(&config.clone().deny("blocked.test").deny("other.test"));
    granted.tunnel.expect_closed();
    let refused = proxyctl(&daemon, &["approve", &pending]);
    refused.failed().says("no longer open: abandoned");
    daemon.reload_with(&config);
    assert!(asked(&get(&granted.session, "blocked.test", port)).is_some());
}

#[test]
fn p11_a_reload_that_lists_the_host_leaves_its_tunnels_and_one_without_questions_ends_them() {
    let origin = Origin::echoing_bytes().start();
    let port = origin.addr().port();
    let config = asking("100ms");
    let daemon = Daemon::start(&config);
    let mut kept = granted(&daemon, port, &[]);
    daemon.reload_with(&config.clone().allow("blocked.test"));
    kept.tunnel.send("ping");
    assert_eq!(kept.tunnel.read_exact(4), b"ping");
    daemon.reload_with(&config);
    kept.tunnel.expect_closed();
    let mut ended = granted(&daemon, port, &[]);
    daemon.reload_with(&config.set("daemon.approvals", "enabled", "false"));
    ended.tunnel.expect_closed();
}

#[test]
fn q3_a_grant_and_its_questions_end_with_the_session() {
    let origin = Origin::echoing_bytes().start();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms"));
    let Granted {
        session,
        mut tunnel,
        _follower: follower,
        ..
    } = granted(&daemon, port, &[]);
    let pending = ask(&session, "other.test", port);
    drop(session);
    tunnel.expect_closed();
    follower.wait_for("other.test", "abandoned");
    assert_eq!(proxyctl_json(&daemon, &["grants"]), serde_json::json!([]));
    let late = proxyctl(&daemon, &["approve", &pending]);
    late.failed().says("no longer open: abandoned");
}

#[test]
fn q3_a_request_under_way_ends_with_its_grant() {
    let origin = Origin::answering(|_| Answer::Silence).start();
    let port = origin.addr().port();
    let daemon = Daemon::start(&asking("100ms"));
    let session = Session::open(&daemon);
    let _follower = Follower::start(&daemon);
    let id = ask(&session, "blocked.test", port);
    proxyctl(&daemon, &["approve", &id]).succeeded();
    let mut client = Connection::open(session.doors[0]);
    client.send(proxy_request(
        "GET",
        &format!("blocked.test:{port}"),
        "/",
        &[],
    ));
    origin.wait_for("the request", |requests| {
        (!requests.is_empty()).then_some(())
    });
    proxyctl(&daemon, &["revoke", &id]).succeeded();
    client.expect_closed();
}
