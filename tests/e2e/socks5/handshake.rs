//! Clients of another protocol, silent clients, and slow clients.

use e2e::client::{Connection, Response, Socks5Target};
use e2e::daemon::{Config, Daemon};
use e2e::origin::Origin;
use e2e::setup::PlainSetup;

use super::client;

/// Sends bytes as the first of a connection and expects a close without an answer.
fn is_hung_up_on(daemon: &Daemon, bytes: &[u8]) {
    let mut client = client(daemon);
    client.send(bytes);
    client.expect_closed();
}

/// Waits for the one line that names the client's error.
fn is_logged(daemon: &Daemon, words: &str) {
    let line = daemon.wait_for_message(words);
    let wanted = "refused a malformed request: ";
    assert!(line.message_starts_with(wanted));
    assert_eq!(line.level(), Some("INFO"));
    assert_eq!(line.field("door"), Some(&"socks5".into()));
}

/// The answer to bytes at both doors that serve HTTP, which must be the same.
#[track_caller]
fn same_answer(daemon: &Daemon, bytes: &str) -> Response {
    let [at_http, at_socks5] = [daemon.http_addr(), daemon.socks_addr()].map(|door| {
        let mut client = Connection::open(door);
        client.send(bytes);
        client.read_final_response()
    });
    assert_eq!(at_socks5.status, at_http.status, "{bytes:?}");
    assert_eq!(at_socks5.text(), at_http.text(), "{bytes:?}");
    at_socks5
}

#[test]
fn s1_an_http_client_is_served_as_at_the_http_door() {
    let setup = PlainSetup::echoing();
    let daemon = &setup.daemon;
    let echoed = same_answer(daemon, &setup.get("allowed.test", "/path"));
    assert_eq!(echoed.status, 200);
    assert_eq!(
        same_answer(daemon, &setup.get("other.test", "/")).status,
        403
    );
    let connect = |host: &str| format!("CONNECT {} HTTP/1.1\r\n\r\n", setup.authority(host));
    assert_eq!(same_answer(daemon, &connect("other.test")).status, 403);
    let malformed = [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ];
    for (request, status) in malformed {
        assert_eq!(same_answer(daemon, request).status, status);
    }
    let mut tunnel = Connection::open(daemon.socks_addr());
    // A byte at a time: the first one decides.
    for byte in connect("allowed.test").bytes() {
        tunnel.send([byte]);
    }
    assert_eq!(tunnel.read_head().status, 200);
    let through = tunnel.exchange("GET /in HTTP/1.1\r\nHost: allowed.test\r\n\r\n");
    assert_eq!(through.status, 200);
    assert_eq!(setup.paths(), ["/path", "/path", "/in"]);
    let refused = daemon.blocked();
    let both = |protocol: &str| {
        let of_it = refused.iter().filter(|entry| entry["protocol"] == protocol);
        of_it.filter(|entry| entry["host"] == "other.test").count()
    };
    assert_eq!((both("http"), both("http-connect")), (2, 2), "{refused:?}");
}

#[test]
fn s1_a_socks4_client_is_refused_in_socks4() {
    let daemon = Daemon::start(&Config::example());
    let mut client = client(&daemon);
    client.send(b"\x04\x01\x00\x50\x7f\x00\x00\x01user\x00");
    assert_eq!(client.read_exact(8), [0, 91, 0, 0, 0, 0, 0, 0]);
    client.expect_closed();
    is_logged(
        &daemon,
        "the client speaks SOCKS4, and this port speaks SOCKS5",
    );
}

#[test]
fn s1_a_tls_client_is_named_in_the_log() {
    let daemon = Daemon::start(&Config::example());
    is_hung_up_on(&daemon, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    is_logged(
        &daemon,
        "the client speaks TLS, and this port speaks SOCKS5",
    );
}

#[test]
fn s1_clients_of_other_protocols_are_disconnected_with_one_log_line() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    let before = daemon.logs().len();
    let others: [&[u8]; 3] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00\x00\x00\x00",
        &[0xff; 4096],
    ];
    for bytes in others {
        is_hung_up_on(&daemon, bytes);
    }
    // This request is logged after the others.
    daemon.socks5_tunnel("allowed.test", origin.addr().port());
    let refused = |number: usize| {
        let logs = daemon.logs();
        let reported = logs[before..]
            .iter()
            .filter(|line| line.message_starts_with("refused a malformed request"));
        (reported.count() >= number).then_some(())
    };
    e2e::wait::poll(e2e::wait::TIMEOUT, || refused(others.len())).expect("a line for each");
    assert!(daemon.blocked().is_empty(), "nothing was judged");
}

#[test]
fn s1_a_client_without_an_acceptable_method_gets_0xff() {
    let daemon = Daemon::start(&Config::example());
    let mut client = client(&daemon);
    assert_eq!(client.socks5_greet(&[1, 0x80]), 0xff);
    client.expect_closed();
    is_hung_up_on(&daemon, &[5, 0]);
}

#[test]
fn s1_a_wrong_version_in_the_request_ends_the_connection() {
    let daemon = Daemon::start(&Config::example());
    let mut client = client(&daemon);
    assert_eq!(client.socks5_greet(&[2]), 2);
    client.send(b"\x05\x01a\x01b");
    client.expect_closed();
    let mut client = super::client(&daemon);
    assert_eq!(client.socks5_greet(&[0]), 0);
    client.send([4, 1, 0, 1, 127, 0, 0, 1, 0, 80]);
    client.expect_closed();
}

#[test]
fn s1_clients_that_disconnect_during_the_handshake_do_no_harm() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    let whole = [
        &b"\x05\x02\x00\x02\x01\x05alice\x01b"[..],
        &target.request(1),
    ]
    .concat();
    for length in 0..whole.len() {
        let mut client = client(&daemon);
        client.send(&whole[..length]);
        if length % 2 == 0 {
            client.reset();
        } else {
            client.finish_sending();
            client.read_to_end();
        }
    }
    assert_eq!(origin.connections(), 0);
    let mut client = daemon.socks5_tunnel("allowed.test", origin.addr().port());
    client.send("still there");
    assert_eq!(client.read_exact(11), b"still there");
}

#[test]
fn c5_a_slow_handshake_times_out_even_if_bytes_keep_coming() {
    let daemon =
        Daemon::start(&Config::example().set("daemon.limits", "header_timeout", r#""300ms""#));
    let mut silent = client(&daemon);
    let mut half = client(&daemon);
    half.send([5]);
    let mut greeted = client(&daemon);
    assert_eq!(greeted.socks5_greet(&[0]), 0);
    let mut dripping = client(&daemon);
    dripping.send(b"\x05\x01\x02\x01\xff");
    // One byte of the user name after the other, each of them in time.
    let ended = e2e::wait::poll(e2e::wait::TIMEOUT, || dripping.try_send(b"x").err());
    assert!(ended.is_some(), "a dripping client is not served for ever");
    for client in [&mut silent, &mut half, &mut greeted] {
        client.expect_closed();
    }
    daemon.wait_for_log(|line| {
        line.message() == Some("gave up on a request that did not arrive in time")
    });
}
