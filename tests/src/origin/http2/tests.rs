//! HTTP/2 from client to origin, with no proxy between them.

use crate::client::{Connection, Http2};
use crate::origin::{Answer, Body, Builder, Gate, Origin, Reply};
use crate::tls::{Client, Server, TestCa};

/// An origin that speaks both, and a client of `h2` connected to it.
fn connected(builder: Builder) -> (Origin, Http2) {
    let ca = TestCa::new();
    let origin = builder
        .tls_as(&Server::of(&ca, &["a.test"]).alpn(&["h2", "http/1.1"]))
        .start();
    let client = Client::trusting(&ca).alpn(&["h2"]);
    let http2 = Connection::open(origin.addr()).into_http2(&client, "a.test");
    (origin, http2)
}

#[test]
fn alpn_chooses_the_protocol_of_an_origin() {
    let ca = TestCa::new();
    let origin = Origin::answering(|_| Answer::Echo)
        .tls_as(&Server::of(&ca, &["a.test"]).alpn(&["h2", "http/1.1"]))
        .start();
    let open = || Connection::open(origin.addr());
    let h2 = open().into_http2(&Client::trusting(&ca).alpn(&["http/1.1", "h2"]), "a.test");
    assert_eq!(h2.session().alpn.as_deref(), Some("h2"));
    let echo = h2.request(
        "PUT",
        "https://a.test/x?y",
        &[("x-a", "1"), ("x-a", "2")],
        b"hi",
    );
    assert_eq!(
        echo.json(),
        serde_json::json!({
            "method": "PUT", "target": "/x?y", "version": "HTTP/2.0", "body": "hi", "trailers": [],
            "headers": [
                [":scheme", "https"], [":authority", "a.test"], ["x-a", "1"], ["x-a", "2"],
            ],
        })
    );
    for client in [
        Client::trusting(&ca),
        Client::trusting(&ca).alpn(&["http/1.1"]),
    ] {
        let (mut h1, _) = open().secure(&client, "a.test");
        let echo = h1.exchange("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(echo.json()["version"], "HTTP/1.1");
    }
    let refused = open().try_into_http2(&Client::trusting(&ca).alpn(&["http/1.1"]), "a.test");
    assert!(refused.is_err());
    assert_eq!(origin.connections(), 4);
}

#[test]
fn a_grpc_call_streams_both_ways_and_ends_with_trailers() {
    let mirror = Origin::answering(|_| Answer::Close).before_body(|_| Some(Answer::Mirror));
    let (origin, http2) = connected(mirror);
    let mut call = http2.open(
        "POST",
        "https://a.test/package.Service/Call",
        &[("te", "trailers")],
    );
    assert_eq!(call.head().status, 200);
    for message in [b"one", b"two"] {
        call.send(message);
        assert_eq!(call.read_some(), message);
    }
    call.finish(&[("grpc-status", "0")]);
    assert_eq!(call.read_some(), b"");
    assert_eq!(call.trailers().get("grpc-status"), Some("0"));
    origin.wait_for("the end of the call", |requests| {
        (requests[0].complete && requests[0].trailers.get("grpc-status") == Some("0")).then_some(())
    });
}

#[test]
fn a_sized_answer_may_have_trailers() {
    let (_origin, http2) = connected(Origin::answering(|_| {
        Answer::Reply(Reply::new(
            200,
            Body::Chunked {
                chunks: vec![b"ab".to_vec(), b"c".to_vec()],
                trailers: vec![("grpc-status".to_owned(), "7".to_owned())],
            },
        ))
    }));
    let response = http2.request("GET", "https://a.test/", &[], b"");
    assert_eq!(response.text(), "abc");
    assert_eq!(response.trailers.get("grpc-status"), Some("7"));
}

#[test]
fn streams_are_served_concurrently() {
    let (gate, body) = Gate::new();
    let (origin, http2) = connected(Origin::answering(move |request| {
        if request.target != "/events" {
            return Answer::text("at once");
        }
        let reply = Reply::new(200, body.clone());
        Answer::Reply(reply.header("content-type", "text/event-stream"))
    }));
    let mut events = http2.open("GET", "https://a.test/events", &[]);
    events.finish(&[]);
    assert_eq!(
        events.head().header("content-type"),
        Some("text/event-stream")
    );
    gate.release(b"data: 1\n\n");
    assert_eq!(events.read_some(), b"data: 1\n\n");
    assert_eq!(
        http2.request("GET", "https://a.test/", &[], b"").text(),
        "at once"
    );
    gate.release(b"data: 2\n\n");
    assert_eq!(events.read_some(), b"data: 2\n\n");
    drop(gate);
    assert_eq!(events.read_some(), b"");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn big_bodies_pass_both_ways() {
    let (origin, http2) = connected(Origin::answering(|request| {
        Answer::bytes("application/octet-stream", &request.body)
    }));
    let body = vec![b'x'; 3 << 20];
    let response = http2.request("POST", "https://a.test/", &[], &body);
    assert_eq!(response.header("content-length"), Some("3145728"));
    assert!(response.body == body && origin.requests()[0].body == body);
}

#[test]
fn a_stream_can_be_reset_from_either_side_alone() {
    let (origin, http2) = connected(Origin::answering(|request| match request.target.as_str() {
        "/reset" => Answer::Reset,
        "/silence" => Answer::Silence,
        _ => Answer::text("here"),
    }));
    let mut reset = http2.open("GET", "https://a.test/reset", &[]);
    reset.finish(&[]);
    assert!(reset.try_head().is_err());
    // As fast as a client can open streams and give them up.
    for _ in 0..10 {
        let mut given_up = http2.open("GET", "https://a.test/silence", &[]);
        given_up.finish(&[]);
    }
    assert_eq!(
        http2.request("GET", "https://a.test/", &[], b"").text(),
        "here"
    );
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_close_ends_every_stream() {
    let (_origin, mut http2) = connected(Origin::answering(|_| Answer::Close));
    let mut exchange = http2.open("GET", "https://a.test/", &[]);
    exchange.finish(&[]);
    assert!(exchange.try_head().is_err());
    http2.wait_until_closed();
}
