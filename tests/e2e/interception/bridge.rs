//! A client that has only HTTP/1.1 before an origin that has only HTTP/2 (SPEC M6; RFC 9113 section 8).
//! `negotiation` has the other way round.

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::origin::{Answer, Body, Origin, Reply};
use e2e::raw_origin::serve_each;
use e2e::setup::TlsSetup;
use e2e::tls::{Server, TestCa};

use super::bodies::writable;
use super::early::writable_setup;
use super::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, field, frame};
use super::resets::{Http2Origin, OK};

fn post(client: &mut Connection, setup: &TlsSetup, fields: &[(&str, &str)], content: &str) {
    client.send(setup.message("POST", "hooked.test", "/api/x", fields));
    client.send(content);
}

#[test]
fn m6_an_http_1_only_client_is_served_from_an_http2_only_origin() {
    let setup = TlsSetup::echoing(&Config::limited(), &["h2"]);
    let mut client = setup.http1("allowed.test");
    let fields = [
        ("Connection", "x-mine, te, keep-alive"),
        ("X-Mine", "1"),
        ("Keep-Alive", "timeout=5"),
        ("TE", "trailers, gzip"),
        ("Cookie", "a=1; b=2"),
        ("X-Upper", "Kept"),
    ];
    for path in ["/1", "/2?q"] {
        client.send(setup.message("GET", "allowed.test", path, &fields));
        let answer = client.read_response();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["target"], path);
    }
    let seen = setup.origin.requests();
    assert_eq!(seen.len(), 2);
    for request in &seen {
        assert_eq!(request.version, "HTTP/2.0");
        assert_eq!(request.header("te"), Some("trailers"));
        assert_eq!(request.header("x-upper"), Some("Kept"));
        assert_eq!(request.headers.all("cookie").join("; "), "a=1; b=2");
        for name in ["connection", "keep-alive", "x-mine", "transfer-encoding"] {
            assert_eq!(request.header(name), None, "{name}");
        }
    }
    assert_eq!(seen[0].connection, seen[1].connection);
    let refused = setup.message("POST", "allowed.test", "/", &[("Content-Length", "0")]);
    assert_eq!(setup.http1("allowed.test").exchange(&refused).status, 403);
}

#[test]
fn m6_answers_of_an_http2_only_origin_keep_their_framing() {
    let setup = TlsSetup::new(&Config::limited(), &["h2"], |request| {
        match request.target.as_str() {
            "/204" => Answer::Reply(Reply::new(204, Body::Sized(Vec::new()))),
            "/304" => {
                Answer::Reply(Reply::new(304, Body::Sized(Vec::new())).header("etag", "\"x\""))
            }
            "/parts" => Answer::Reply(Reply::new(
                200,
                Body::Chunked {
                    chunks: vec![b"one".to_vec(), b"two".to_vec()],
                    trailers: Vec::new(),
                },
            )),
            _ => Answer::text("twelve bytes"),
        }
    });
    let mut client = setup.http1("allowed.test");
    let head = client.exchange(&setup.message("HEAD", "allowed.test", "/", &[]));
    assert_eq!(
        (head.header("content-length"), &*head.text()),
        (Some("12"), "")
    );
    for (path, status, coding, text) in [
        ("/204", 204, None, ""),
        ("/304", 304, None, ""),
        ("/parts", 200, Some("chunked"), "onetwo"),
        ("/", 200, None, "twelve bytes"),
    ] {
        let answer = client.exchange(&setup.message("GET", "allowed.test", path, &[]));
        assert_eq!((answer.status, &*answer.text()), (status, text), "{path}");
        assert_eq!(answer.header("transfer-encoding"), coding, "{path}");
    }
    setup.assert_no_crash();
}

#[test]
fn m6_trailers_and_interim_answers_pass_from_http_1_to_http2_and_back() {
    let setup = writable(
        "h2",
        Origin::answering(|_| {
            let body = Body::Chunked {
                chunks: vec![b"done".to_vec()],
                trailers: vec![("x-end".into(), "2".into())],
            };
            let reply = Reply::new(200, body).header("trailer", "x-end");
            Answer::Reply(reply.interim(103, &[("link", "</a.css>")]))
        }),
    );
    let mut client = setup.http1("hooked.test");
    let fields = [
        ("Transfer-Encoding", "chunked"),
        ("Trailer", "X-Sum"),
        ("TE", "trailers"),
    ];
    post(
        &mut client,
        &setup,
        &fields,
        "4\r\nbody\r\n0\r\nX-Sum: 1\r\n\r\n",
    );
    let hints = client.read_response();
    assert_eq!(
        (hints.status, hints.header("link")),
        (103, Some("</a.css>"))
    );
    let answer = client.read_response();
    assert_eq!((answer.status, &*answer.text()), (200, "done"));
    assert_eq!(answer.trailers.get("x-end"), Some("2"));
    let seen = setup.origin.requests().pop().expect("a request");
    assert_eq!(seen.text(), "body");
    assert_eq!(seen.trailers.get("x-sum"), Some("1"));
}

/// HTTP/2 has no upgrade, and the proxy sends no extended CONNECT (RFC 8441).
#[test]
fn m6_websocket_to_an_http2_only_origin_is_refused() {
    let setup = writable("h2", Origin::answering(|_| Answer::Echo));
    let fields = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    let mut client = setup.http1("hooked.test");
    let answer = client.exchange(&setup.message("GET", "hooked.test", "/api/x", &fields));
    assert_eq!(answer.status, 502);
    assert!(
        answer.text().contains("WebSocket needs HTTP/1.1"),
        "{}",
        answer.text()
    );
    assert_eq!(setup.origin.requests().len(), 0);
    // Other offers are ignored, as a server may do.
    let fields = [("Connection", "Upgrade"), ("Upgrade", "foo/2")];
    let answer = client.exchange(&setup.message("GET", "hooked.test", "/api/x", &fields));
    assert_eq!(answer.status, 200);
    assert_eq!(setup.origin.requests()[0].header("upgrade"), None);
}

/// Fields of one connection, and a length that the content does not have (RFC 9113 sections 8.1.1 and
/// 8.2.2).
#[test]
fn m6_malformed_answers_of_an_http2_only_origin_are_not_passed_on() {
    let head = |fields: &[(&str, &str)]| {
        let fields = fields.iter().flat_map(|(name, value)| field(name, value));
        [OK, &fields.collect::<Vec<_>>()].concat()
    };
    for (fields, content, length) in [
        (&[("connection", "close")][..], &b"x"[..], None),
        (
            &[("transfer-encoding", "chunked")],
            b"1\r\nx\r\n0\r\n\r\n",
            None,
        ),
        (&[("keep-alive", "timeout=5")], b"x", None),
        (&[("upgrade", "websocket")], b"x", None),
        (&[("content-length", "9")], b"x", Some(9)),
        (&[("content-length", "1")], b"xyz", Some(1)),
    ] {
        let ca = TestCa::new();
        let config = Server::of(&ca, &TlsSetup::NAMES).alpn(&["h2"]).config();
        let head = head(fields);
        let origin = serve_each(move |_, stream| {
            let mut origin = Http2Origin::accept(stream, config.clone())?;
            let stream = origin.next(HEADERS)?.stream;
            origin.send(&frame(HEADERS, END_HEADERS, stream, &head))?;
            origin.send(&frame(DATA, END_STREAM, stream, content))?;
            origin.next(RST_STREAM).map(|_| ())
        });
        let (_directory, setup) = writable_setup(origin, &ca);
        let mut client = setup.http1();
        let host = &setup.authority;
        client.send(format!("GET /api/x HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let Some(length) = length else {
            assert_eq!(client.read_head().status, 502, "{fields:?}");
            continue;
        };
        let mut answer = Vec::new();
        while let Ok(byte) = client.try_read_exact(1) {
            answer.extend(byte);
        }
        let answer = String::from_utf8_lossy(&answer);
        let content = answer.split_once("\r\n\r\n").map_or("", |it| it.1);
        assert!(content.len() < length, "{fields:?}: {answer}");
    }
}
