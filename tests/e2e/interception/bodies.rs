//! Bodies inside TLS: streaming both ways, with trailers, in HTTP/1.1 and HTTP/2, and the effect on one
//! side when the other disconnects (SPEC M6, H1).

use std::sync::Mutex;

use e2e::client::{Connection, Exchange, Http2};
use e2e::daemon::Config;
use e2e::origin::{Answer, Body, Gate, Origin, Reply};
use e2e::process::memory;
use e2e::setup::TlsSetup;
use e2e::wire::noise;

use super::BOTH;
use super::hooks::{hooked, secret};

/// A setup in full mode, in which `hooked.test` is intercepted and accepts writes.
pub(super) struct Writable {
    setup: TlsSetup,
    _secret: tempfile::TempDir,
}

impl std::ops::Deref for Writable {
    type Target = TlsSetup;

    fn deref(&self) -> &TlsSetup {
        &self.setup
    }
}

pub(super) fn writable(protocol: &str, origin: e2e::origin::Builder) -> Writable {
    let (directory, file) = secret();
    Writable {
        setup: TlsSetup::with(&hooked(&file), &[protocol], origin),
        _secret: directory,
    }
}

/// Answers the first request with a body that a gate releases.
fn gated() -> (Gate, e2e::origin::Builder) {
    let (gate, body) = Gate::new();
    let body = Mutex::new(Some(body));
    let origin = Origin::answering(move |_| {
        let body = body.lock().expect("the lock").take();
        body.map_or_else(
            || Answer::text("another"),
            |body| {
                let reply = Reply::new(200, body).header("content-type", "text/event-stream");
                Answer::Reply(reply)
            },
        )
    });
    (gate, origin)
}

/// Begins a request with a chunked body over HTTP/1.1.
fn upload(setup: &TlsSetup, fields: &[(&str, &str)]) -> Connection {
    let mut client = setup.http1("hooked.test");
    let fields = [fields, &[("Transfer-Encoding", "chunked")]].concat();
    client.send(setup.message("POST", "hooked.test", "/api/x", &fields));
    client
}

fn upload_http2(setup: &TlsSetup) -> (Http2, Exchange) {
    let client = setup.http2("hooked.test");
    let exchange = client.open("POST", &setup.url("hooked.test", "/api/x"), &[]);
    (client, exchange)
}

/// Waits until the origin has this much of the first body.
fn arrived(setup: &TlsSetup, body: &str) {
    setup.origin.wait_for("a part of the body", |requests| {
        let request = requests.first()?;
        (request.text() == body && !request.complete).then_some(())
    });
}

#[test]
fn m6_an_event_arrives_before_the_next_is_sent() {
    for protocol in BOTH {
        let (gate, origin) = gated();
        let setup = TlsSetup::with(&Config::limited(), &[protocol], origin);
        let events = ["data: one\n\n", "data: two\n\n", "data: three\n\n"];
        if protocol == "h2" {
            let client = setup.http2("allowed.test");
            let mut exchange = client.begin("GET", &setup.url("allowed.test", "/"), &[]);
            assert_eq!(exchange.head().status, 200);
            for event in events {
                gate.release(event.as_bytes());
                assert_eq!(exchange.read_some(), event.as_bytes());
            }
            drop(gate);
            assert_eq!(exchange.read_some(), b"");
        } else {
            let mut client = setup.http1("allowed.test");
            client.send(setup.message("GET", "allowed.test", "/", &[]));
            assert_eq!(client.read_head().status, 200);
            for event in events {
                gate.release(event.as_bytes());
                let chunk = format!("{:X}\r\n{event}\r\n", event.len());
                let got = client.read_exact(chunk.len());
                assert_eq!(
                    String::from_utf8_lossy(&got).to_uppercase(),
                    chunk.to_uppercase()
                );
            }
            drop(gate);
            assert_eq!(client.read_exact(5), b"0\r\n\r\n");
        }
    }
}

#[test]
fn m6_a_request_body_is_streamed() {
    let setup = writable("http/1.1", Origin::answering(|_| Answer::Echo));
    let mut client = upload(&setup, &[]);
    client.send("3\r\none\r\n");
    arrived(&setup, "one");
    client.send("3\r\ntwo\r\n");
    arrived(&setup, "onetwo");
    client.send("0\r\n\r\n");
    assert_eq!(client.read_final_response().json()["body"], "onetwo");

    let setup = writable("h2", Origin::answering(|_| Answer::Echo));
    let (_client, mut exchange) = upload_http2(&setup);
    exchange.send(b"one");
    arrived(&setup, "one");
    exchange.send(b"two");
    arrived(&setup, "onetwo");
    exchange.finish(&[]);
    assert_eq!(exchange.head().status, 200);
}

#[test]
fn m6_trailers_go_both_ways() {
    let reply = || {
        let body = Body::Chunked {
            chunks: vec![b"body".to_vec()],
            trailers: vec![
                ("grpc-status".into(), "0".into()),
                ("x-proxy-error".into(), "not the origin's to say".into()),
            ],
        };
        Answer::Reply(Reply::new(200, body).header("Trailer", "grpc-status, x-proxy-error"))
    };
    let setup = writable("http/1.1", Origin::answering(move |_| reply()));
    let mut client = upload(&setup, &[("Trailer", "X-Sum"), ("TE", "trailers")]);
    client.send("1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n");
    let answer = client.read_final_response();
    assert_eq!((answer.status, &*answer.text()), (200, "body"));
    assert_eq!(answer.trailers.get("grpc-status"), Some("0"));
    assert_eq!(answer.trailers.len(), 1);
    let seen = setup.origin.requests().pop().expect("a request");
    assert_eq!(seen.trailers.get("x-sum"), Some("1"));

    let setup = writable("h2", Origin::answering(move |_| reply()));
    let (_client, mut exchange) = upload_http2(&setup);
    exchange.send(b"a");
    exchange.finish(&[
        ("x-sum", "1"),
        ("x-api-key", "stripped"),
        ("via", "stripped"),
    ]);
    assert_eq!(exchange.head().status, 200);
    assert_eq!(exchange.read_some(), b"body");
    assert_eq!(exchange.read_some(), b"");
    let trailers: Vec<_> = exchange.trailers().iter().collect();
    assert_eq!(trailers, [("grpc-status", "0")]);
    let seen = setup.origin.requests().pop().expect("a request");
    let trailers: Vec<_> = seen.trailers.iter().collect();
    assert_eq!(trailers, [("x-sum", "1")]);
}

/// Like gRPC: each message is answered before the request has ended.
#[test]
fn m6_both_bodies_stream_at_once_over_http2() {
    let mirror = Origin::answering(|_| Answer::Echo).before_body(|_| Some(Answer::Mirror));
    let setup = writable("h2", mirror);
    let client = setup.http2("hooked.test");
    let url = setup.url("hooked.test", "/api/Service/Method");
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let mut calls: Vec<Exchange> = (0..8).map(|_| client.open("POST", &url, &fields)).collect();
    for call in &mut calls {
        call.send(b"hello");
        assert_eq!(call.head().status, 200);
        assert_eq!(call.read_some(), b"hello");
    }
    for message in [&b"one"[..], b"two", b"three"] {
        for call in &mut calls {
            call.send(message);
            assert_eq!(call.read_some(), message);
        }
    }
    for call in &mut calls {
        call.finish(&[("grpc-status", "0")]);
        assert_eq!(call.read_some(), b"");
        assert_eq!(call.trailers().get("grpc-status"), Some("0"));
    }
    let seen = setup.origin.requests();
    assert!(
        seen.iter()
            .all(|call| call.header("te") == Some("trailers"))
    );
    assert_eq!(setup.origin.handshakes().len(), 1, "over one connection");
}

#[test]
fn m6_answers_without_content_gain_none() {
    for protocol in BOTH {
        let setup = TlsSetup::new(&Config::limited(), &[protocol], |request| {
            match request.target.as_str() {
                "/204" => Answer::Reply(Reply::new(204, Body::Sized(Vec::new()))),
                "/304" => {
                    Answer::Reply(Reply::new(304, Body::Sized(Vec::new())).header("etag", "\"x\""))
                }
                _ => Answer::text("twelve bytes"),
            }
        });
        let head = setup.ask(protocol, "HEAD", "allowed.test", "/", &[]);
        assert_eq!(head.header("content-length"), Some("12"), "{protocol}");
        assert_eq!(head.text(), "");
        for (path, status) in [("/204", 204), ("/304", 304)] {
            let answer = setup.ask(protocol, "GET", "allowed.test", path, &[]);
            assert_eq!((answer.status, &*answer.text()), (status, ""));
            assert_eq!(answer.header("transfer-encoding"), None);
        }
        assert_eq!(setup.status_over(protocol, "allowed.test"), 200);
    }
}

#[test]
fn m6_expectations_and_interim_answers_pass_inside() {
    let origin = Origin::answering(|_| {
        let reply = Reply::new(200, Body::Sized(b"done".to_vec()));
        Answer::Reply(reply.interim(103, &[("link", "</a.css>")]))
    });
    let setup = writable("http/1.1", origin);
    let mut client = setup.http1("hooked.test");
    let fields = [("Expect", "100-continue"), ("Content-Length", "4")];
    client.send(setup.message("POST", "hooked.test", "/api/x", &fields));
    assert_eq!(client.read_response().status, 100);
    assert_eq!(
        setup.origin.requests()[0].text(),
        "",
        "nothing was sent yet"
    );
    client.send("body");
    let hints = client.read_response();
    assert_eq!(
        (hints.status, hints.header("link")),
        (103, Some("</a.css>"))
    );
    let answer = client.read_response();
    assert_eq!((answer.status, &*answer.text()), (200, "done"));
    assert_eq!(setup.origin.requests()[0].text(), "body");
}

#[test]
fn m6_an_origin_that_refuses_an_expectation_is_not_sent_the_body() {
    let origin = Origin::answering(|_| Answer::Echo).before_body(|_| Some(Answer::status(417)));
    let setup = writable("http/1.1", origin);
    let mut client = setup.http1("hooked.test");
    let fields = [("Expect", "100-continue"), ("Content-Length", "4")];
    client.send(setup.message("POST", "hooked.test", "/api/x", &fields));
    assert_eq!(client.read_response().status, 417);
    assert_eq!(setup.origin.requests()[0].text(), "");
}

#[test]
fn m6_big_bodies_arrive_as_they_were_sent() {
    const SIZE: usize = 8 << 20;
    for protocol in BOTH {
        let setup = writable(
            protocol,
            Origin::answering(|request| Answer::bytes("application/octet-stream", &request.body)),
        );
        let body = noise(7, SIZE);
        let answer = if protocol == "h2" {
            let client = setup.http2("hooked.test");
            client.request("POST", &setup.url("hooked.test", "/api/x"), &[], &body)
        } else {
            let mut client = setup.http1("hooked.test");
            let length = SIZE.to_string();
            let fields = [("Content-Length", &*length)];
            client.send(setup.message("POST", "hooked.test", "/api/x", &fields));
            client.send(&body);
            client.read_final_response()
        };
        assert_eq!(answer.status, 200);
        assert!(answer.body == body, "{protocol}");
    }
}

#[test]
fn m6_a_client_that_does_not_read_stops_the_origin_and_costs_bounded_memory() {
    const SIZE: usize = 96 << 20;
    for protocol in BOTH {
        let body = noise(3, SIZE);
        let setup = TlsSetup::new(&Config::limited(), &[protocol], move |request| {
            if request.target == "/big" {
                Answer::bytes("application/octet-stream", &body)
            } else {
                Answer::text("small")
            }
        });
        assert_eq!(setup.status_over(protocol, "allowed.test"), 200);
        let before = memory(setup.daemon.worker()).resident;
        let _unread: Box<dyn std::any::Any> = if protocol == "h2" {
            let client = setup.http2("allowed.test");
            let mut exchange = client.begin("GET", &setup.url("allowed.test", "/big"), &[]);
            assert_eq!(exchange.head().status, 200);
            Box::new((client, exchange))
        } else {
            let mut client = setup.http1("allowed.test");
            client.send(setup.message("GET", "allowed.test", "/big", &[]));
            assert_eq!(client.read_head().status, 200);
            Box::new(client)
        };
        for _ in 0..5 {
            assert_eq!(setup.status_over(protocol, "allowed.test"), 200);
        }
        let after = memory(setup.daemon.worker()).resident;
        assert!(
            after < before + 32 * 1024,
            "{protocol}: {before} to {after} KiB"
        );
    }
}

#[test]
fn m6_a_client_that_disconnects_ends_the_request_upstream() {
    let setup = writable("http/1.1", Origin::answering(|_| Answer::Echo));
    let mut client = upload(&setup, &[]);
    client.send("3\r\none\r\n");
    arrived(&setup, "one");
    drop(client);
    setup.origin.wait_until_idle();
    assert!(!setup.origin.requests()[0].complete, "it was cut off");

    let (gate, origin) = gated();
    let setup = TlsSetup::with(&Config::limited(), &["http/1.1"], origin);
    let mut client = setup.http1("allowed.test");
    client.send(setup.message("GET", "allowed.test", "/", &[]));
    assert_eq!(client.read_head().status, 200);
    drop(client);
    // An origin notices it at its next write.
    let writing = std::thread::spawn(move || {
        for _ in 0..1000 {
            gate.release(&[0; 16 * 1024]);
        }
    });
    setup.origin.wait_until_idle();
    writing.join().expect("the gate");
}

/// An orderly end would tell the client that it has received everything.
#[test]
fn m6_an_incomplete_answer_does_not_end_orderly() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort";
    let setup = TlsSetup::new(&Config::limited(), &["http/1.1"], move |_| {
        Answer::Raw(head.into())
    });
    let mut client = setup.http1("allowed.test");
    client.send(setup.message("GET", "allowed.test", "/", &[]));
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.read_exact(5), b"short");
    client.expect_closed();
}
