//! Plain HTTP: requests, answers, and connections (SPEC H1).

mod blocked;
mod bodies;
mod causes;
pub(crate) mod early;
mod fields;
mod half_close;
mod interim;
mod lenient;
mod targets;
mod upgrades;
mod upstream;

use std::net::SocketAddr;

use e2e::client::Connection;
use e2e::origin::{Answer, Body, Origin, Reply};
use e2e::setup::PlainSetup;
use serde_json::Value;

#[test]
fn h1_a_get_in_absolute_form_reaches_the_origin_in_origin_form() {
    let setup = PlainSetup::new(Origin::start(|_| Answer::text("hello")));
    let answer = setup.ask("GET", "allowed.test", "/a/b?c=d&e", &[]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    let seen = &setup.origin.requests()[0];
    assert_eq!(
        [&*seen.method, &*seen.target, &*seen.version],
        ["GET", "/a/b?c=d&e", "HTTP/1.1"]
    );
    assert_eq!(seen.header("host"), Some(&*setup.authority("allowed.test")));
    assert!(seen.body.is_empty());
}

#[test]
fn h1_an_empty_path_is_the_root() {
    let setup = PlainSetup::echoing();
    setup.ask("GET", "allowed.test", "", &[]);
    setup.ask("GET", "allowed.test", "?q", &[]);
    assert_eq!(setup.paths(), ["/", "/?q"]);
}

#[test]
fn h1_full_mode_passes_any_method_unchanged() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    let methods = [
        "POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "BREW", "get", "M-SEARCH",
    ];
    for method in methods {
        let answer = client.exchange(&setup.message(method, "allowed.test", "/", &[]));
        assert_eq!(answer.status, 200, "{method}: {}", answer.text());
        assert_eq!(answer.json()["method"], method);
    }
}

#[test]
fn h1_bodies_of_either_framing_arrive_whole() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    let sized = setup.message("POST", "allowed.test", "/", &["Content-Length: 5"]);
    let answer = client.exchange(&format!("{sized}hello"));
    assert_eq!(answer.json()["body"], "hello");
    let chunked = setup.message("PUT", "allowed.test", "/", &["Transfer-Encoding: chunked"]);
    let answer = client.exchange(&format!("{chunked}3;x=y\r\nhel\r\n002\r\nlo\r\n0\r\n\r\n"));
    assert_eq!(answer.json()["body"], "hello");
    let empty = setup.message("POST", "allowed.test", "/", &["Content-Length: 0"]);
    assert_eq!(client.exchange(&empty).json()["body"], "");
    let seen = setup.origin.requests();
    assert_eq!(seen[0].header("content-length"), Some("5"));
    assert_eq!(seen[1].header("transfer-encoding"), Some("chunked"));
    assert_eq!(seen[2].header("content-length"), Some("0"));
    assert!(seen.iter().all(|request| request.complete));
}

#[test]
fn h1_an_answer_to_head_has_a_length_and_no_body() {
    let setup = PlainSetup::new(Origin::start(|_| Answer::text("hello")));
    let mut client = setup.client();
    let answer = client.exchange(&setup.message("HEAD", "allowed.test", "/", &[]));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-length"), Some("5"));
    let next = client.exchange(&setup.get("allowed.test", "/"));
    assert_eq!(next.text(), "hello");
}

#[test]
fn h1_answers_without_content_leave_the_connection_usable() {
    let setup = PlainSetup::new(Origin::start(|request| match &*request.target {
        "/204" => Answer::Reply(Reply::new(204, Body::Sized(Vec::new()))),
        "/304" => Answer::Reply(
            Reply::new(304, Body::Sized(b"not sent".to_vec())).header("ETag", "\"v1\""),
        ),
        _ => Answer::text("content"),
    }));
    let mut client = setup.client();
    for (path, status) in [("/204", 204), ("/304", 304), ("/200", 200)] {
        let answer = client.exchange(&setup.get("allowed.test", path));
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("transfer-encoding"), None, "{path}");
        if status == 304 {
            assert_eq!(answer.header("etag"), Some("\"v1\""));
        }
    }
    assert_eq!(setup.origin.connections(), 1);
}

#[test]
fn h1_status_and_reason_phrase_are_the_origins() {
    let raw = b"HTTP/1.1 299 Quite Well\r\nContent-Length: 0\r\n\r\n";
    let setup = PlainSetup::new(Origin::start(|_| Answer::Raw(raw.to_vec())));
    let answer = setup.ask("GET", "allowed.test", "/", &[]);
    assert_eq!(answer.start, "HTTP/1.1 299 Quite Well");
}

#[test]
fn h1_an_http_1_0_client_is_served_and_disconnected() {
    let setup = PlainSetup::new(Origin::start(|request| {
        assert_eq!(request.version, "HTTP/1.1");
        let (chunks, trailers) = (vec![b"hel".to_vec(), b"lo".to_vec()], Vec::new());
        Answer::Reply(Reply::new(200, Body::Chunked { chunks, trailers }))
    }));
    let mut client = setup.client();
    let authority = setup.authority("allowed.test");
    let answer = client.exchange(&format!("GET http://{authority}/ HTTP/1.0\r\n\r\n"));
    // HTTP/1.0 knows no chunks: the body ends with the connection.
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    client.expect_closed();
    let seen = &setup.origin.requests()[0];
    assert_eq!(seen.header("host"), Some(&*authority));
}

#[test]
fn h1_an_http_1_0_client_may_ask_to_keep_the_connection() {
    let setup = PlainSetup::new(Origin::start(|_| Answer::text("hello")));
    let mut client = setup.client();
    let authority = setup.authority("allowed.test");
    let request = format!("GET http://{authority}/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    for _ in 0..3 {
        let answer = client.exchange(&request);
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    }
    assert_eq!(setup.origin.requests().len(), 3);
}

#[test]
fn h1_connection_close_is_obeyed() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    let request = setup.message("GET", "allowed.test", "/", &["Connection: close"]);
    let answer = client.exchange(&request);
    assert_eq!(answer.status, 200);
    client.expect_closed();
}

#[test]
fn h1_each_request_of_a_connection_is_decided_by_itself() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    for round in 0..20 {
        for (host, status) in [
            ("allowed.test", 200),
            ("blocked.test", 403),
            ("denied.test", 403),
        ] {
            let answer = client.exchange(&setup.get(host, &format!("/{round}")));
            assert_eq!(answer.status, status, "{host} in round {round}");
        }
    }
    let seen = setup.origin.requests();
    assert_eq!(seen.len(), 20);
    let wanted = setup.authority("allowed.test");
    assert!(
        seen.iter()
            .all(|request| request.header("host") == Some(&*wanted))
    );
}

#[test]
fn h1_pipelined_requests_are_answered_in_their_order() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    let hosts = ["allowed.test", "blocked.test"];
    let burst: String = (0..10)
        .map(|n| {
            let body = ["Content-Length: 1"];
            setup.message("POST", hosts[n % 2], &format!("/{n}"), &body) + &n.to_string()
        })
        .collect();
    client.send(burst);
    for n in 0..10 {
        let answer = client.read_final_response();
        if n % 2 == 1 {
            assert_eq!(answer.json()["host"], "blocked.test", "number {n}");
            continue;
        }
        assert_eq!(answer.json()["target"], format!("/{n}"));
        assert_eq!(answer.json()["body"], n.to_string());
    }
    assert_eq!(setup.paths(), ["/0", "/2", "/4", "/6", "/8"]);
}

#[test]
fn h1_a_request_may_arrive_byte_by_byte() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    let chunked = setup.message("POST", "allowed.test", "/", &["Transfer-Encoding: chunked"]);
    for byte in format!("\r\n{chunked}2\r\nab\r\n0\r\n\r\n").bytes() {
        client.send([byte]);
    }
    assert_eq!(client.read_final_response().json()["body"], "ab");
}

#[test]
fn h1_a_request_in_origin_form_is_answered_that_this_is_a_proxy() {
    let setup = PlainSetup::echoing();
    let authority = setup.authority("allowed.test");
    for line in [
        "GET / HTTP/1.1",
        "GET /http://allowed.test/ HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "POST / HTTP/1.0",
    ] {
        let mut client = setup.client();
        let answer = client.exchange(&format!("{line}\r\nHost: {authority}\r\n\r\n"));
        assert_eq!(answer.status, 400, "{line}");
        assert!(
            answer.text().contains("this is a proxy"),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("content-type"), Some("text/plain"));
    }
    assert_eq!(setup.origin.connections(), 0);
}

/// A web page's own request to this port has origin-form, so it never gets further.
#[test]
fn h1_the_answer_to_origin_form_names_no_policy() {
    let setup = PlainSetup::echoing();
    let answer = setup
        .client()
        .exchange("GET /index.html HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    assert_eq!(answer.header("x-network-policy-decision"), None);
    assert_eq!(setup.daemon.blocked(), Vec::<Value>::new());
}

/// Sends bytes on a new connection. The answer must be 400 with a text that begins like this, and the
/// connection must end.
#[track_caller]
pub(crate) fn assert_bad_request(door: SocketAddr, bytes: impl AsRef<[u8]>, words: &str) {
    let bytes = bytes.as_ref();
    let mut client = Connection::open(door);
    client.send(bytes);
    let answer = client.read_final_response();
    let sent = bytes.escape_ascii();
    assert_eq!(answer.status, 400, "{sent}");
    assert_eq!(answer.header("content-type"), Some("text/plain"), "{sent}");
    assert!(
        answer.text().starts_with(words),
        "{sent}: {}",
        answer.text()
    );
    client.expect_closed();
}
