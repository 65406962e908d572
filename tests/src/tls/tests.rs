//! Both sides of TLS, without a proxy between them: what an origin shows and records, and what a
//! client accepts.

use super::*;
use crate::client::Connection;
use crate::origin::{Answer, Origin};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

fn origin(server: &Server<'_>) -> Origin {
    Origin::answering(|_| Answer::text("here"))
        .tls_as(server)
        .start()
}

fn refusal(server: &Server<'_>, client: &Client, name: &str) -> String {
    let origin = origin(server);
    let connection = Connection::open(origin.addr());
    match connection.try_secure(client, name) {
        Ok((_, session)) => panic!("the handshake ended well: {session:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_origin_records_each_handshake_and_its_result() {
    let ca = TestCa::new();
    let origin = origin(&Server::of(&ca, &["a.test"]).alpn(&["http/1.1"]));
    let client = Client::trusting(&ca).alpn(&["h2", "http/1.1"]);
    let (mut connection, session) = Connection::open(origin.addr()).secure(&client, "a.test");
    assert_eq!(session.alpn.as_deref(), Some("http/1.1"));
    assert_eq!(session.certificates.len(), 1);
    assert_eq!(connection.exchange(GET).text(), "here");
    let [handshake] = &origin.handshakes()[..] else {
        panic!("one handshake");
    };
    assert_eq!(handshake.connection, 0);
    assert_eq!(handshake.server_name.as_deref(), Some("a.test"));
    assert_eq!(handshake.offered, ["h2", "http/1.1"]);
    let theirs = handshake.session.as_ref().expect("it ended well");
    assert_eq!(theirs.alpn, session.alpn);
    assert_eq!(origin.requests()[0].connection, 0);
}

#[test]
fn certificates_are_refused_each_for_its_own_reason() {
    let ca = TestCa::new();
    let client = Client::trusting(&ca);
    let sound = Server::of(&ca, &["a.test"]);
    for (server, name, reason) in [
        (sound.clone().expired(), "a.test", "expired"),
        (sound.clone(), "b.test", "not valid for name"),
        (sound.clone().self_signed(), "a.test", "UnknownIssuer"),
        (
            Server::of(&TestCa::new(), &["a.test"]),
            "a.test",
            "UnknownIssuer",
        ),
    ] {
        let refusal = refusal(&server, &client, name);
        assert!(refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn versions_and_protocols_without_a_match_end_the_handshake() {
    let ca = TestCa::new();
    let server = Server::of(&ca, &["a.test"]);
    let client = Client::trusting(&ca);
    for (one, other) in [(&TLS12, &TLS13), (&TLS13, &TLS12)] {
        refusal(
            &server.clone().only(one),
            &client.clone().only(other),
            "a.test",
        );
        let both = origin(&server.clone().only(one));
        let (_, session) = Connection::open(both.addr()).secure(&client, "a.test");
        assert_eq!(session.version, one.version);
    }
    let refusal = refusal(&server.alpn(&["http/1.1"]), &client.alpn(&["h2"]), "a.test");
    assert!(refusal.contains("NoApplicationProtocol"), "{refusal}");
}

#[test]
fn sessions_resume_unless_the_client_forgets_them() {
    let ca = TestCa::new();
    for version in [&TLS12, &TLS13] {
        let origin = origin(&Server::of(&ca, &["a.test"]));
        let remembering = Client::trusting(&ca).only(version);
        let forgetful = remembering.clone().without_resumption();
        for (client, expected) in [(&remembering, true), (&forgetful, false)] {
            let resumed = [(); 2].map(|()| {
                let opened = Connection::open(origin.addr());
                let (mut connection, session) = opened.secure(client, "a.test");
                // With TLS 1.3 the ticket comes after the handshake.
                connection.exchange(GET);
                session.resumed
            });
            assert_eq!(resumed, [false, expected]);
        }
    }
}

#[test]
fn the_server_name_is_sent_only_if_wanted() {
    let ca = TestCa::new();
    let origin = origin(&Server::of(&ca, &["a.test"]));
    let client = Client::trusting(&ca).without_server_name();
    Connection::open(origin.addr()).secure(&client, "a.test");
    assert_eq!(origin.handshakes()[0].server_name, None);
}

#[test]
fn a_hello_may_arrive_alone_and_byte_by_byte() {
    let ca = TestCa::new();
    let origin = origin(&Server::of(&ca, &["a.test"]));
    let client = Client::trusting(&ca).trickling();
    let (mut connection, _) = Connection::open(origin.addr()).secure(&client, "a.test");
    assert_eq!(connection.exchange(GET).status, 200);
    let mut raw = Connection::open(origin.addr());
    raw.trickle(&client.hello("a.test"));
    assert_eq!(
        raw.read_exact(1),
        [0x16],
        "the server answers with a handshake record"
    );
    let handshakes = origin.handshakes();
    assert!(handshakes[0].session.is_some() && handshakes[1].session.is_none());
}
