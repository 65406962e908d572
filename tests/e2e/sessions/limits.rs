//! The limits of sessions (SPEC J13).

use std::io::ErrorKind;

use codex_network_control::message::{DoorKind, SessionRequest};
use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::session::{Caller, Session, sockets};
use e2e::wait::{TIMEOUT, poll};

fn request() -> SessionRequest {
    let doors = vec![DoorKind::Http];
    let (_, given) = sockets(&doors);
    SessionRequest {
        command: "curl".to_owned(),
        doors,
        sockets: given.into(),
        ..SessionRequest::default()
    }
}

#[test]
fn j13_a_user_has_so_many_sessions_and_a_place_is_free_again_at_the_end_of_one() {
    let config = Config::example().set("daemon.sessions", "max_per_user", "20");
    let daemon = Daemon::start(&config);
    // More than the connections of one user that are served at once.
    let mut open: Vec<Session> = (0..20).map(|_| Session::open(&daemon)).collect();
    let more = Caller::connect(&daemon);
    let refused = more.open(request()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "this user has 20 sessions, and [daemon.sessions] max_per_user permits no more"
    );
    assert_eq!(more.sessions().sessions.len(), 20);
    open.pop();
    poll(TIMEOUT, || more.open(request()).ok()).expect("a place is free");
}

#[test]
fn j13_connections_beyond_the_limit_of_a_session_are_reset_and_others_are_served() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let url = format!("http://allowed.test:{}/", origin.addr().port());
    let config = Config::example().set("daemon.sessions", "max_connections", "2");
    let daemon = Daemon::start(&config);
    let session = Session::open(&daemon);
    let authority = format!("allowed.test:{}", origin.addr().port());
    let mut tunnels: Vec<_> = (0..2)
        .map(|_| {
            let mut tunnel = Connection::open(session.doors[0]);
            assert_eq!(tunnel.connect(&authority).status, 200);
            tunnel
        })
        .collect();
    match Connection::try_open(session.doors[0]) {
        Ok(mut more) => more.expect_reset(),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    let other = Session::open(&daemon);
    let mut tunnel = Connection::open(other.doors[0]);
    assert_eq!(tunnel.connect(&authority).status, 200);
    assert_eq!(daemon.get(&url).status, 200);
    tunnels.pop();
    poll(TIMEOUT, || {
        let mut tunnel = Connection::try_open(session.doors[0]).ok()?;
        let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        tunnel.try_send(connect).ok()?;
        let first = tunnel.try_read_exact(12).ok()?;
        (first == b"HTTP/1.1 200").then_some(())
    })
    .expect("there is room again");
}

#[test]
fn j13_without_sessions_none_is_opened() {
    let daemon = Daemon::start(&Config::example().set("daemon.sessions", "max", "0"));
    let refused = Caller::connect(&daemon).open(request()).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "there are 0 sessions, and [daemon.sessions] max permits no more"
    );
}
