//! Sessions of the real daemon, in its real sandbox, over real sockets (SPEC J2, J4, J12, J13).

#![expect(
    clippy::disallowed_methods,
    reason = "a test is the client, which dials as it pleases; only the proxy may not"
)]

mod limits;
mod loops;
mod other_sockets;
mod sockets;

use std::net::TcpStream;

use codex_network_control::ControlError;
use codex_network_control::message::{DoorKind, Isolation, Narrowing, SessionRequest};
use e2e::client::{Connection, Socks5Target, proxy_request};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::session::{Caller, Session};
use e2e::wait::{TIMEOUT, poll};

/// The status of a request through the HTTP door of a session.
fn status(session: &Session, host: &str, port: u16) -> u16 {
    let mut client = Connection::open(session.doors[0]);
    let authority = format!("{host}:{port}");
    client
        .exchange(&proxy_request("GET", &authority, "/", &[]))
        .status
}

fn narrowed(narrowing: Narrowing) -> SessionRequest {
    SessionRequest {
        narrowing,
        ..SessionRequest::default()
    }
}

fn patterns(patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|text| (*text).to_owned()).collect()
}

fn refuses(address: std::net::SocketAddr) -> bool {
    TcpStream::connect(address).is_err()
}

#[test]
fn j2_a_session_is_judged_by_the_settings_in_force_and_ends_with_its_connection() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let port = origin.addr().port();
    let daemon = Daemon::start(&Config::example());
    let session = Session::open(&daemon);
    assert_eq!(status(&session, "allowed.test", port), 200);
    assert_eq!(status(&session, "blocked.test", port), 403);
    let socks = |name: &str| {
        let mut client = Connection::open(session.doors[1]);
        client.socks5_connect(&Socks5Target::name(name, port)).reply
    };
    assert_eq!(socks("allowed.test"), 0);
    assert_eq!(socks("blocked.test"), 2);
    // A change of the settings counts for it too, and the doors of others are unaffected.
    daemon.reload_with(&Config::example().allow("blocked.test"));
    assert_eq!(status(&session, "blocked.test", port), 200);
    let mut tunnel = Connection::open(session.doors[0]);
    assert_eq!(tunnel.connect(&format!("allowed.test:{port}")).status, 200);
    let doors = session.doors.clone();
    drop(session);
    tunnel.expect_closed();
    for door in doors {
        poll(TIMEOUT, || refuses(door).then_some(())).expect("the door closes");
    }
    let url = format!("http://allowed.test:{port}/");
    assert_eq!(daemon.get(&url).status, 200);
}

#[test]
fn p11_a_reload_ends_the_tunnels_of_a_session_that_it_forbids() {
    let origin = Origin::echoing_bytes().start();
    let authority = format!("allowed.test:{}", origin.addr().port());
    let daemon = Daemon::start(&Config::example());
    let session = Session::open(&daemon);
    let mut tunnel = Connection::open(session.doors[0]);
    assert_eq!(tunnel.connect(&authority).status, 200);
    daemon.reload_with(&Config::example().deny("allowed.test"));
    tunnel.expect_closed();
}

#[test]
fn j4_a_session_may_be_narrowed_and_others_are_not() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let port = origin.addr().port();
    let config = Config::example().allow("blocked.test");
    let daemon = Daemon::start(&config);
    let denying = Session::open_with(
        &daemon,
        narrowed(Narrowing {
            deny: patterns(&["blocked.test"]),
            ..Narrowing::default()
        }),
    );
    let only = Session::open_with(
        &daemon,
        narrowed(Narrowing {
            only: patterns(&["blocked.test"]),
            ..Narrowing::default()
        }),
    );
    let plain = Session::open(&daemon);
    for (session, allowed, blocked) in [(&denying, 200, 403), (&only, 403, 200), (&plain, 200, 200)]
    {
        // A connection that another session or the proxy keeps is not used.
        assert_eq!(status(session, "allowed.test", port), allowed);
        assert_eq!(status(session, "blocked.test", port), blocked);
    }
    let limited = Session::open_with(
        &daemon,
        narrowed(Narrowing {
            limited: true,
            ..Narrowing::default()
        }),
    );
    assert_eq!(limited.opened.mode, "limited");
    let mut client = Connection::open(limited.doors[0]);
    let writing = proxy_request(
        "POST",
        &format!("allowed.test:{port}"),
        "/",
        &["Content-Length: 0"],
    );
    assert_eq!(client.exchange(&writing).status, 403);
    let url = format!("http://blocked.test:{port}/");
    assert_eq!(daemon.get(&url).status, 200);
}

#[test]
fn m5_a_session_with_interception_has_the_ca_of_a_service_that_intercepts_nothing() {
    let daemon = Daemon::start(&Config::example());
    let bundle = |session: &Session| {
        let mut variables = session.opened.environment.iter();
        let found = variables.find(|(name, _)| name == "SSL_CERT_FILE");
        found.map(|(_, path)| path.clone())
    };
    assert_eq!(bundle(&Session::open(&daemon)), None);
    let limited = Session::open_with(
        &daemon,
        narrowed(Narrowing {
            limited: true,
            ..Narrowing::default()
        }),
    );
    assert_eq!(limited.opened.warnings, [""; 0]);
    let path = bundle(&limited).expect("the variable");
    let bundle = std::fs::read_to_string(path).expect("a bundle");
    assert!(bundle.contains("-----BEGIN CERTIFICATE-----"));
}

#[test]
fn j4_allow_widens_what_is_not_listed_and_nothing_else() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let port = origin.addr().port();
    let daemon = Daemon::start(&Config::example());
    let session = Session::open_with(
        &daemon,
        narrowed(Narrowing {
            allow: patterns(&["blocked.test", "denied.test"]),
            ..Narrowing::default()
        }),
    );
    assert_eq!(status(&session, "blocked.test", port), 200);
    assert_eq!(status(&session, "denied.test", port), 403);
    let url = format!("http://blocked.test:{port}/");
    assert_eq!(daemon.get(&url).status, 403);
}

#[test]
fn j4_a_profile_judges_the_session_that_chose_it() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let port = origin.addr().port();
    let config = Config::example().append(
        "[permissions.build.network]\nenabled = true\nallow_local_binding = true\n\
         [permissions.build.network.domains]\n\"blocked.test\" = \"allow\"\n",
    );
    let daemon = Daemon::start(&config);
    let request = || SessionRequest {
        profile: Some("build".to_owned()),
        ..SessionRequest::default()
    };
    let session = Session::open_with(&daemon, request());
    assert_eq!(status(&session, "blocked.test", port), 200);
    assert_eq!(status(&session, "allowed.test", port), 403);
    let unknown = SessionRequest {
        command: "curl".to_owned(),
        profile: Some("biuld".to_owned()),
        ..SessionRequest::default()
    };
    let refused = Caller::connect(&daemon).open(unknown).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "there is no permission profile \"biuld\" for this user; this user may choose build"
    );
    // A reload without its profile ends the session, and its opener gets the cause.
    let other = Session::open(&daemon);
    daemon.reload_with(&Config::example());
    let why = session.caller.end_of_session();
    assert_eq!(why, "its permission profile is no longer defined");
    session.caller.wait_for_the_end();
    poll(TIMEOUT, || refuses(session.doors[0]).then_some(())).expect("the door closes");
    assert_eq!(status(&other, "allowed.test", port), 200);
}

#[test]
fn j4_explain_judges_as_a_session_is_judged() {
    let daemon = Daemon::start(&Config::example());
    let request = narrowed(Narrowing {
        deny: patterns(&["allowed.test"]),
        ..Narrowing::default()
    });
    let session = Session::open_with(&daemon, request);
    let reason = |session: Option<&str>| {
        let explained = Caller::connect(&daemon).explain("https://allowed.test/", session);
        explained.map(|explained| (explained.decision, explained.source))
    };
    let words = |decision: &str, source: &str| Ok((decision.to_owned(), source.to_owned()));
    assert_eq!(reason(Some(&session.opened.id)), words("deny", "session"));
    assert_eq!(reason(None), words("allow", "baseline_policy"));
    let unknown = reason(Some("0")).unwrap_err();
    assert_eq!(unknown.to_string(), "there is no session \"0\"");
}

#[test]
fn j11_the_bytes_of_an_open_tunnel_count() {
    let origin = Origin::echoing_bytes().start();
    let authority = format!("allowed.test:{}", origin.addr().port());
    let daemon = Daemon::start(&Config::example());
    let session = Session::open(&daemon);
    let mut tunnel = Connection::open(session.doors[0]);
    assert_eq!(tunnel.connect(&authority).status, 200);
    tunnel.send("12345");
    assert_eq!(tunnel.read_exact(5), b"12345");
    poll(TIMEOUT, || {
        let sessions = session.caller.sessions().sessions;
        ((sessions[0].bytes_up, sessions[0].bytes_down) == (5, 5)).then_some(())
    })
    .expect("the bytes are counted");
}

#[test]
fn j12_records_name_the_session_its_user_and_its_command() {
    let shown = Config::example().set("daemon.admin", "show_sessions", "true");
    let daemon = Daemon::start(&shown);
    let session = Session::open(&daemon);
    assert_eq!(status(&session, "blocked.test", 80), 403);
    let id = &session.opened.id;
    let event = daemon.wait_for_log(|line| {
        line.field("session")
            .is_some_and(|text| text == id.as_str())
            && line.field("command").is_some()
            && line.field("server.address").is_some()
    });
    assert_eq!(
        event.field("command").and_then(|text| text.as_str()),
        Some("curl")
    );
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective());
    let user = user.expect("a user database").expect("an account").name;
    assert_eq!(
        event.field("user").and_then(|text| text.as_str()),
        Some(user.as_str())
    );
    let blocked = daemon.blocked();
    let entry = blocked.last().expect("an entry");
    assert_eq!(entry["session"], id.as_str());
    assert_eq!(entry["user"], user.as_str());
}

#[test]
fn j11_the_report_of_a_session_has_its_destinations_and_bytes() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let port = origin.addr().port();
    let daemon = Daemon::start(&Config::example());
    let session = Session::open(&daemon);
    for _ in 0..2 {
        status(&session, "allowed.test", port);
        status(&session, "blocked.test", port);
    }
    let report = session.caller.report();
    let one = |all: &[codex_network_control::message::SessionDestination]| {
        let [one] = all else { panic!("{all:?}") };
        (one.host.clone(), one.port, one.count)
    };
    assert_eq!(one(&report.allowed), ("allowed.test".to_owned(), port, 2));
    assert_eq!(one(&report.refused), ("blocked.test".to_owned(), port, 2));
    assert_eq!((report.allowed_total, report.refused_total), (2, 2));
    poll(TIMEOUT, || {
        (session.caller.report().bytes_down > 0).then_some(())
    })
    .expect("the bytes are counted");
}

#[test]
fn j11_sessions_are_listed_and_can_be_ended() {
    let daemon = Daemon::start(&Config::example());
    let session = Session::open_with(
        &daemon,
        SessionRequest {
            command: "make".to_owned(),
            pid: 4711,
            isolation: Isolation::Jail,
            ..SessionRequest::default()
        },
    );
    let other = Caller::connect(&daemon);
    let listed = other.sessions().sessions;
    let [entry] = listed.as_slice() else {
        panic!("{listed:?}")
    };
    assert_eq!(entry.id, session.opened.id);
    assert_eq!((entry.command.as_str(), entry.pid), ("make", 4711));
    assert_eq!(entry.isolation, Isolation::Jail);
    let unknown = other.end("0").unwrap_err();
    assert_eq!(unknown.to_string(), "there is no session \"0\"");
    other.end(&session.opened.id).expect("it is there");
    session.caller.wait_for_the_end();
    poll(TIMEOUT, || refuses(session.doors[0]).then_some(())).expect("the door closes");
    poll(TIMEOUT, || {
        other.sessions().sessions.is_empty().then_some(())
    })
    .expect("it is gone");
}

#[test]
fn j2_the_doors_of_a_jail_are_served() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let port = origin.addr().port();
    let daemon = Daemon::start(&Config::example());
    let forward = |host: &str| DoorKind::Forward {
        host: host.to_owned(),
        port,
    };
    let session = Session::open_with(
        &daemon,
        SessionRequest {
            doors: vec![
                DoorKind::Http,
                DoorKind::DnsUdp,
                DoorKind::DnsTcp,
                DoorKind::Transparent,
                forward("allowed.test"),
                forward("blocked.test"),
            ],
            ..SessionRequest::default()
        },
    );
    let get = "GET / HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n\r\n";
    let mut client = Connection::open(session.doors[4]);
    assert_eq!(client.exchange(get).status, 200);
    let mut client = Connection::open(session.doors[5]);
    assert_eq!(client.exchange(get).status, 403);
    // A query for `allowed.test`, type A.
    let query =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07allowed\x04test\x00\x00\x01\x00\x01";
    let asks = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
    asks.set_read_timeout(Some(TIMEOUT)).expect("a timeout");
    asks.send_to(query, session.doors[1]).expect("a door");
    let mut answer = [0; 512];
    let (length, _) = asks.recv_from(&mut answer).expect("an answer");
    let [first, second, ..] = answer[length - 4..length] else {
        panic!("it is short")
    };
    assert!(first == 198 && (second == 18 || second == 19), "{answer:?}");
}

#[test]
fn j5_the_variables_lead_to_the_doors_of_the_session() {
    let daemon = Daemon::start(&Config::example());
    let session = Session::open(&daemon);
    let value = |name: &str| {
        let mut all = session.opened.environment.iter();
        let found = all.find(|(variable, _)| variable == name);
        found.map(|(_, value)| value.clone()).expect("a variable")
    };
    assert_eq!(value("https_proxy"), format!("http://{}", session.doors[0]));
    assert_eq!(
        value("ALL_PROXY"),
        format!("socks5h://{}", session.doors[1])
    );
}

#[test]
fn j2_a_connection_has_one_session() {
    let daemon = Daemon::start(&Config::example());
    let session = Session::open(&daemon);
    let again = session.caller.open(SessionRequest {
        command: "curl".to_owned(),
        ..SessionRequest::default()
    });
    let wanted = ControlError::Invalid {
        message: "this connection has a session already".to_owned(),
    };
    assert_eq!(again.unwrap_err(), wanted);
}

#[test]
fn j2_a_replaced_worker_takes_its_sessions_with_it() {
    let daemon = Daemon::start(&Config::example());
    let session = Session::open(&daemon);
    e2e::process::kill_process(daemon.worker());
    session.caller.wait_for_the_end();
    poll(TIMEOUT, || refuses(session.doors[0]).then_some(())).expect("the door closes");
    // The next worker serves new ones.
    poll(TIMEOUT, || {
        let answers = std::os::unix::net::UnixStream::connect(daemon.control_socket());
        answers.ok().map(|_| ())
    });
    let next = Session::open(&daemon);
    assert_eq!(status(&next, "blocked.test", 80), 403);
}
