//! The connection of a client after a CONNECT that got no tunnel (SPEC H8; RFC 9110 section 9.3.6, RFC
//! 9931): open for the next request of a client that waits, and closed for any other.

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::port::{RefusingPort, StalledPort};
use e2e::setup::PlainSetup;

/// The head of a CONNECT with these lines behind `Host`, each with its end.
fn head(authority: &str, version: &str, lines: &str) -> String {
    format!("CONNECT {authority} HTTP/{version}\r\nHost: {authority}\r\n{lines}\r\n")
}

#[test]
fn h8_a_refused_connect_leaves_the_connection_to_the_next_request() {
    let setup = PlainSetup::new(Origin::echoing_bytes().start());
    let mut client = setup.client();
    for lines in ["", "Proxy-Connection: close\r\n", "Content-Length: 0\r\n"] {
        client.send(head(&setup.authority("blocked.test"), "1.1", lines));
        let answer = client.read_final_response();
        assert_eq!(answer.status, 403, "{lines}");
        assert!(!answer.headers.closes(), "{:?}", answer.headers);
        let blocked = client.exchange(&setup.get("blocked.test", "/"));
        assert_eq!(blocked.status, 403, "{lines}");
    }
    assert_eq!(setup.origin.connections(), 0);
    // A whole tunnel, from its first byte.
    let answer = client.connect(&setup.authority("allowed.test"));
    assert_eq!(answer.status, 200);
    client.send("hello");
    assert_eq!(client.read_exact(5), b"hello");
}

#[test]
fn h8_a_failed_connect_leaves_the_connection_to_the_next_request() {
    let (refusing, stalled) = (RefusingPort::open(), StalledPort::open());
    let config = Config::example().set("daemon.limits", "connect_timeout", r#""300ms""#);
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let mut client = setup.client();
    for (address, status) in [(refusing.addr(), 502), (stalled.addr(), 504)] {
        let answer = client.connect(&format!("allowed.test:{}", address.port()));
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(!answer.headers.closes(), "{:?}", answer.headers);
        let answer = client.exchange(&setup.get("allowed.test", "/next"));
        assert_eq!(answer.status, 200);
    }
    assert_eq!(setup.paths(), ["/next", "/next"]);
}

#[test]
fn h8_a_client_that_wants_no_further_request_gets_a_close() {
    let setup = PlainSetup::echoing();
    let target = setup.authority("blocked.test");
    for (version, lines) in [
        ("1.1", "Connection: close\r\n"),
        ("1.0", ""),
        ("1.0", "Proxy-Connection: keep-alive\r\n"),
    ] {
        let mut client = setup.client();
        client.send(head(&target, version, lines));
        assert_eq!(client.read_final_response().status, 403, "{lines}");
        client.expect_closed();
    }
}

/// The bytes behind a CONNECT were meant for the tunnel. A request among them is not one of the client.
#[test]
fn h4_a_request_behind_a_failed_connect_is_never_served() {
    let stalled = StalledPort::open();
    let config = Config::example().set("daemon.limits", "connect_timeout", r#""300ms""#);
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let hidden = setup.get("allowed.test", "/hidden");
    let stalled = format!("allowed.test:{}", stalled.addr().port());
    for (target, status) in [(setup.authority("blocked.test"), 403), (stalled, 504)] {
        // In one packet with the head, and a byte of it behind the head.
        for length in [hidden.len(), 1] {
            let mut client = setup.client();
            let head = head(&target, "1.1", "");
            client.send(format!("{head}{}", &hidden[..length]));
            let answer = client.read_final_response();
            assert_eq!(answer.status, status);
            assert!(answer.headers.closes(), "{:?}", answer.headers);
            let _ = client.try_send(&hidden[length..]);
            client.expect_closed();
        }
    }
    assert_eq!(setup.origin.connections(), 0);
}

/// The bytes come while the proxy dials.
#[test]
fn h4_a_request_sent_before_the_answer_to_a_connect_is_never_served() {
    let stalled = StalledPort::open();
    let config = Config::example().set("daemon.limits", "connect_timeout", r#""300ms""#);
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let target = format!("allowed.test:{}", stalled.addr().port());
    for lines in ["", "Connection: upgrade\r\nUpgrade: websocket\r\n"] {
        let mut client = setup.client();
        client.send(head(&target, "1.1", lines));
        client.send(setup.get("allowed.test", "/hidden"));
        assert_eq!(client.read_final_response().status, 504, "{lines}");
        client.expect_closed();
    }
    assert_eq!(setup.origin.connections(), 0);
}

/// A client that does not wait for the answer, and whose bytes arrive after it. They get no answer: the
/// client would take it for bytes of its tunnel.
#[test]
fn h4_bytes_of_a_tunnel_behind_a_refusal_close_the_connection_without_an_answer() {
    let daemon = Daemon::start(&Config::example());
    for bytes in [
        &[22, 3, 1, 2, 0, 1][..],
        b"SSH-2.0-OpenSSH\r\n",
        b"\0",
        b"\n",
    ] {
        let mut client = Connection::open(daemon.http_addr());
        let me = client.local_addr().to_string();
        assert_eq!(client.connect("blocked.test:443").status, 403);
        client.send(bytes);
        client.expect_closed();
        assert!(daemon.logs().iter().all(|line| {
            !line.message_contains("malformed")
                || line.field("client").is_none_or(|client| *client != *me)
        }));
    }
}
