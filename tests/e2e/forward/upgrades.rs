//! Changes of protocol over plain HTTP: offers, the answers of origins, and the tunnels that follow
//! (SPEC H9, P11). WebSocket has its own tests, with interception.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use e2e::client::{Connection, proxy_request};
use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::raw_origin::{read_head, serve_one};
use e2e::setup::PlainSetup;

/// Changes to the protocol in the path; answers anything else with the request.
fn origin() -> Origin {
    Origin::start(|request| match request.target.strip_prefix("/to/") {
        Some(protocols) => {
            let protocols = protocols.replace('+', ", ");
            Answer::Upgrade(vec![("Upgrade".into(), protocols)])
        }
        None => Answer::Echo,
    })
}

fn setup(config: &Config) -> PlainSetup {
    PlainSetup::with(config, origin())
}

fn offer(setup: &PlainSetup, method: &str, path: &str, protocols: &str, fields: &[&str]) -> String {
    let upgrade = format!("Upgrade: {protocols}");
    let fields = [&["Connection: Upgrade", upgrade.as_str()], fields].concat();
    setup.message(method, "allowed.test", path, &fields)
}

/// A request like that of `docker attach`.
fn attached(setup: &PlainSetup) -> Connection {
    let mut client = setup.client();
    client.send(offer(setup, "POST", "/to/tcp", "tcp", &[]));
    assert_eq!(client.read_head().status, 101);
    client
}

fn assert_alive(client: &mut Connection) {
    let bytes = "\0 not HTTP \u{ff}";
    client.send(bytes);
    assert_eq!(client.read_exact(bytes.len()), bytes.as_bytes());
}

#[test]
fn h9_any_protocol_that_both_sides_agree_on_passes() {
    let setup = setup(&Config::example());
    for (method, offered, taken, fields, body) in [
        // kubectl exec
        (
            "POST",
            "SPDY/3.1",
            "SPDY/3.1",
            &["Content-Length: 0"][..],
            "",
        ),
        (
            "POST",
            "SPDY/3.1",
            "SPDY/3.1",
            &["X-Stream-Protocol-Version: v4.channel.k8s.io"],
            "",
        ),
        // docker attach, docker exec
        ("POST", "tcp", "tcp", &["Content-Type: text/plain"], ""),
        (
            "POST",
            "tcp",
            "tcp",
            &["Content-Type: application/json", "Content-Length: 12"],
            "{\"Tty\":true}",
        ),
        (
            "POST",
            "tcp",
            "TCP",
            &["Transfer-Encoding: chunked"],
            "2\r\n{}\r\n0\r\n\r\n",
        ),
        ("GET", "websocket, foo/2", "foo/2", &[], ""),
        ("GET", "bar, h2c, foo/2", "foo/2, bar", &[], ""),
    ] {
        let mut client = setup.client();
        let path = format!("/to/{}", taken.replace(", ", "+"));
        client.send(offer(&setup, method, &path, offered, fields) + body);
        let head = client.read_head();
        assert_eq!(head.status, 101, "{offered}");
        assert_eq!(head.header("upgrade"), Some(taken));
        assert_eq!(head.header("connection"), Some("upgrade"));
        let seen = setup.origin.requests().pop().expect("a request");
        assert!(seen.complete, "{offered}");
        let offered = offered.replace(", h2c", "");
        assert_eq!(seen.header("upgrade"), Some(&*offered));
        let option = seen.header("connection").unwrap_or_default();
        assert!(option.eq_ignore_ascii_case("upgrade"), "{option}");
        assert_alive(&mut client);
        client.finish_sending();
        assert_eq!(client.read_to_end(), b"", "the end goes through too");
    }
}

#[test]
fn h9_an_offer_that_the_origin_ignores_is_an_ordinary_request() {
    let setup = setup(&Config::example());
    let mut client = setup.client();
    for (method, offered, fields, body) in [
        ("GET", "TLS/1.0", &[][..], ""),
        ("GET", "h2c, foo", &["HTTP2-Settings: AAMAAABk"], ""),
        ("POST", "websocket", &["Content-Length: 2"], "hi"),
        ("DELETE", "websocket", &[], ""),
        (
            "PUT",
            "foo",
            &["Transfer-Encoding: chunked"],
            "2\r\nhi\r\n0\r\n\r\n",
        ),
    ] {
        let answer = client.exchange(&(offer(&setup, method, "/", offered, fields) + body));
        assert_eq!(answer.status, 200, "{offered}: {}", answer.text());
        let wanted = if body.is_empty() { "" } else { "hi" };
        assert_eq!(answer.json()["body"], wanted, "{offered}");
    }
}

#[test]
fn h9_a_switch_to_a_protocol_that_was_not_offered_is_a_502() {
    let setup = setup(&Config::example());
    for (offered, path) in [
        ("tcp", "/to/websocket"),
        ("tcp", "/to/tcp+websocket"),
        ("tcp, h2c", "/to/h2c"),
        ("SPDY/3.1", "/to/SPDY"),
        ("h2c", "/to/h2c"),
    ] {
        let mut client = setup.client();
        client.send(offer(&setup, "GET", path, offered, &[]));
        assert_eq!(client.read_final_response().status, 502, "{offered} {path}");
    }
}

/// The rest of the request would be read as the other protocol.
#[test]
fn h9_a_switch_before_the_end_of_the_request_is_a_502() {
    let origin = Origin::answering(|_| Answer::Echo)
        .before_body(|_| Some(Answer::Upgrade(vec![("Upgrade".into(), "tcp".into())])))
        .start();
    let setup = PlainSetup::new(origin);
    let mut client = setup.client();
    client.send(offer(&setup, "POST", "/", "tcp", &["Content-Length: 10"]) + "half");
    assert_eq!(client.read_final_response().status, 502);
}

/// The proxy has read them as HTTP, before the origin agreed.
#[test]
fn h9_bytes_sent_before_the_switch_end_with_a_reset() {
    let setup = setup(&Config::example());
    let mut client = setup.client();
    client.send(offer(&setup, "GET", "/to/websocket", "websocket", &[]) + "\0early");
    let mut all = Vec::new();
    let end = loop {
        match client.try_read_exact(1) {
            Ok(byte) => all.extend(byte),
            Err(error) => break error.kind(),
        }
    };
    let text = String::from_utf8_lossy(&all).into_owned();
    assert_eq!(end, std::io::ErrorKind::ConnectionReset, "{text}");
}

/// An orderly close would tell the client that it has received everything.
#[test]
fn h9_a_reset_upstream_is_a_reset_for_the_client() {
    let address = serve_one(|mut stream| {
        read_head(&mut stream)?;
        stream.write_all(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
        )?;
        // The client has seen the answer.
        stream.read_exact(&mut [0])?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    });
    let setup = setup(&Config::example());
    let authority = format!("allowed.test:{}", address.port());
    let mut client = setup.client();
    let fields = ["Connection: Upgrade", "Upgrade: tcp"];
    client.send(proxy_request("GET", &authority, "/", &fields));
    assert_eq!(client.read_head().status, 101);
    client.send("x");
    client.expect_reset();
}

#[test]
fn p11_a_stricter_policy_ends_upgraded_connections() {
    let config = Config::example();
    let setup = setup(&config);
    let mut client = attached(&setup);
    assert_alive(&mut client);
    setup.daemon.reload_with(&config.deny("allowed.test"));
    client.expect_closed();
    setup.origin.wait_until_idle();

    let setup = PlainSetup::with(&Config::example(), origin());
    let mut client = attached(&setup);
    setup.daemon.set_mode("limited");
    client.expect_closed();
}
