//! Hosts that people allow, over HTTPS in limited mode: the monitor issues certificates for them, and for no denied one
//! (SPEC M4).

use codex_network_control::message::Narrowing;
use e2e::setup::TlsSetup;
use e2e::tls::Server;

use super::*;

/// Limited mode, with questions.
fn limited() -> TlsSetup {
    let config = asking("0s").set("network", "mode", "\"limited\"");
    let origin = Origin::answering(|_| Answer::text("read"));
    TlsSetup::serving(&config, origin, |ca| Server::of(ca, &["other.test"]))
}

/// The answer to CONNECT through a session.
fn connect(setup: &TlsSetup, session: &Session, host: &str) -> (Connection, Response) {
    let mut client = Connection::open(session.doors[0]);
    let answer = client.connect(&setup.authority(host));
    (client, answer)
}

/// The statuses of GET and POST inside TLS.
fn read_and_write(setup: &TlsSetup, session: &Session) -> [u16; 2] {
    ["GET", "POST"].map(|method| {
        let (client, answer) = connect(setup, session, "other.test");
        assert_eq!(answer.status, 200, "{answer:?}");
        let (mut client, _) = client.secure(&setup.client(&["http/1.1"]), "other.test");
        let answer = client.exchange(&setup.message(method, "other.test", "/", &[]));
        answer.status
    })
}

/// The log has a line for the certificate, and no alarm.
fn assert_logged(setup: &TlsSetup) {
    let daemon = &setup.daemon;
    let line = daemon.wait_for_message("a certificate of a host that no list has");
    assert_eq!(line.field("host"), Some(&"other.test".into()));
    let is_alarm =
        |line: &e2e::daemon::LogLine| line.message_contains("do not permit intercepting");
    assert!(!daemon.logs().iter().any(is_alarm));
    assert_eq!(setup.origin.requests().len(), 1, "the POST does not arrive");
}

#[test]
fn m4_an_approved_host_may_be_read_over_https_in_limited_mode() {
    let setup = limited();
    let session = Session::open(&setup.daemon);
    let follower = Follower::start(&setup.daemon);
    let is_asked = || {
        let (_, answer) = connect(&setup, &session, "other.test");
        answer.header("retry-after").map(|_| ())
    };
    poll(TIMEOUT, is_asked).expect("a question");
    let question = follower.wait_for("other.test", "pending");
    let id = question["id"].as_str().expect("an id");
    proxyctl(&setup.daemon, &["approve", id]).succeeded();
    assert_eq!(read_and_write(&setup, &session), [200, 403]);
    assert_logged(&setup);
}

#[test]
fn m4_a_host_that_a_session_allows_or_learns_may_be_read_over_https_in_limited_mode() {
    let allowing = Narrowing {
        allow: vec!["other.test".to_owned()],
        ..Narrowing::default()
    };
    let learning = Narrowing {
        report: true,
        ..Narrowing::default()
    };
    for narrowing in [allowing, learning] {
        let setup = limited();
        let request = SessionRequest {
            narrowing,
            ..SessionRequest::default()
        };
        let session = Session::open_with(&setup.daemon, request);
        assert_eq!(read_and_write(&setup, &session), [200, 403]);
        assert_logged(&setup);
        let (_, denied) = connect(&setup, &session, "denied.test");
        assert_eq!(denied.status, 403);
    }
}

/// The share of one user. The client has a rate too, which is small beside it.
#[test]
fn m4_a_session_that_learns_very_many_hosts_is_told_so_and_the_state_of_the_proxy_shows_it() {
    const SHARE: usize = 512;
    let names = || (0..SHARE).map(|number| format!("n{number}.test"));
    let config = asking("0s").set("network", "mode", "\"limited\"");
    let here = std::net::Ipv4Addr::LOCALHOST;
    let config = names().fold(config, |config, name| config.host(&name, here));
    let origin = Origin::answering(|_| Answer::text("read"));
    let setup = TlsSetup::serving(&config, origin, |ca| Server::of(ca, &["other.test"]));
    let request = SessionRequest {
        narrowing: Narrowing {
            report: true,
            ..Narrowing::default()
        },
        ..SessionRequest::default()
    };
    let session = Session::open_with(&setup.daemon, request);
    let answer = |host: &str| {
        let answered = || {
            let answer = Connection::open(session.doors[0]).connect(&format!("{host}:1"));
            (!answer.text().contains("requested at once")).then_some(answer)
        };
        poll(TIMEOUT, answered).expect("an answer")
    };
    for name in names() {
        // It has a certificate, and nothing listens there.
        let answer = answer(&name);
        assert_eq!(answer.status, 502, "{name}: {answer:?}");
    }
    let status = || {
        proxyctl(&setup.daemon, &["status"])
            .succeeded()
            .stdout
            .clone()
    };
    assert!(!status().contains("certificates"), "{}", status());
    let refused = answer("more.test");
    assert_eq!(refused.status, 503);
    let words = refused.text();
    assert!(words.contains("add the hosts to the allow list"), "{words}");
    assert!(
        status().contains("hosts that no list has get no certificates"),
        "{}",
        status()
    );
    setup
        .daemon
        .wait_for_message("certificates of too many hosts");
    // Hosts of the configuration have no bound.
    let (_, listed) = connect(&setup, &session, "allowed.test");
    assert_eq!(listed.status, 200);
}
