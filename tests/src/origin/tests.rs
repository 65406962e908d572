//! The origin, reached by the raw client without a proxy between them.

use super::*;
use crate::client::Connection;

const GET: &str = "GET / HTTP/1.1\r\nHost: o\r\n\r\n";

#[test]
fn an_echo_keeps_the_spelling_and_order_of_the_request() {
    let origin = Origin::start(|_| Answer::Echo);
    let mut client = Connection::open(origin.addr());
    let response = client.exchange(
        "PUT /a?b HTTP/1.1\r\nHost: o\r\nX-Two: 2\r\nx-one: 1\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert_eq!(
        response.json(),
        serde_json::json!({
            "method": "PUT", "target": "/a?b", "version": "HTTP/1.1", "body": "hi", "trailers": [],
            "headers": [["Host", "o"], ["X-Two", "2"], ["x-one", "1"], ["Content-Length", "2"]],
        })
    );
    assert!(origin.requests()[0].complete);
}

#[test]
fn connections_are_counted_without_the_origins_own_probes() {
    let origin = Origin::start(|_| Answer::text("here"));
    assert_eq!(origin.connections(), 0);
    let mut one = Connection::open(origin.addr());
    assert_eq!(origin.connections(), 1);
    let mut two = Connection::open(origin.addr());
    one.exchange(GET);
    one.exchange(GET);
    two.exchange(GET);
    assert_eq!(origin.connections(), 2);
    let requests = origin.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0].connection, requests[1].connection);
    assert_ne!(requests[1].connection, requests[2].connection);
}

#[test]
fn chunks_trailers_and_interim_responses_arrive_as_scripted() {
    let origin = Origin::start(|_| {
        let body = Body::Chunked {
            chunks: vec![b"ab".to_vec(), b"c".to_vec()],
            trailers: vec![("X-End".to_owned(), "yes".to_owned())],
        };
        Answer::Reply(Reply::new(200, body).interim(103, &[("Link", "</x>")]))
    });
    let mut client = Connection::open(origin.addr());
    client.send(GET);
    let hints = client.read_response();
    assert_eq!((hints.status, hints.header("link")), (103, Some("</x>")));
    let response = client.read_response();
    assert_eq!(response.text(), "abc");
    assert_eq!(response.trailers.get("x-end"), Some("yes"));
}

#[test]
fn a_stepped_body_arrives_as_it_is_released() {
    let (gate, body) = Gate::new();
    let origin = Origin::start(move |_| Answer::Reply(Reply::new(200, body.clone())));
    let mut client = Connection::open(origin.addr());
    client.send(GET);
    assert!(client.read_head().headers.is_chunked());
    gate.release(b"one");
    assert_eq!(client.read_exact(8), b"3\r\none\r\n");
    gate.release(b"two");
    assert_eq!(client.read_exact(8), b"3\r\ntwo\r\n");
    drop(gate);
    assert_eq!(client.read_exact(5), b"0\r\n\r\n");
}

#[test]
fn an_upload_is_seen_while_it_is_under_way() {
    let origin = Origin::start(|_| Answer::text("thanks"));
    let mut client = Connection::open(origin.addr());
    client.send("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    let first = origin.wait_for("the first chunk", |requests| {
        requests
            .first()
            .filter(|first| first.body == b"abc")
            .cloned()
    });
    assert!(!first.complete);
    client.send("0\r\nX-End: yes\r\n\r\n");
    assert_eq!(client.read_response().text(), "thanks");
    assert_eq!(origin.requests()[0].trailers.get("x-end"), Some("yes"));
}

#[test]
fn an_expectation_is_answered_before_the_body() {
    let origin = Origin::answering(|_| Answer::text("done"))
        .before_body(|request| (request.target == "/no").then(|| Answer::status(417)))
        .start();
    let head = "HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let mut client = Connection::open(origin.addr());
    client.send(format!("POST /yes {head}"));
    assert_eq!(client.read_response().status, 100);
    client.send("hi");
    assert_eq!(client.read_response().text(), "done");
    client.send(format!("POST /no {head}"));
    assert_eq!(client.read_response().status, 417);
    client.expect_closed();
}

#[test]
fn raw_bytes_silence_a_close_and_a_reset_behave_as_named() {
    let origin = Origin::start(|request| match request.target.as_str() {
        "/raw" => Answer::Raw(b"not HTTP".to_vec()),
        "/silence" => Answer::Silence,
        "/close" => Answer::Close,
        _ => Answer::Reset,
    });
    let ask = |target: &str| {
        let mut client = Connection::open(origin.addr());
        client.send(format!("GET {target} HTTP/1.1\r\n\r\n"));
        client
    };
    assert_eq!(ask("/raw").read_to_end(), b"not HTTP");
    ask("/close").expect_closed();
    ask("/reset").expect_reset();
    let mut silent = ask("/silence");
    silent.finish_sending();
    silent.expect_closed();
}

#[test]
fn an_upgraded_connection_sends_every_byte_back() {
    let upgrade = vec![("Upgrade".to_owned(), "echo".to_owned())];
    let origin = Origin::start(move |_| Answer::Upgrade(upgrade.clone()));
    let mut client = Connection::open(origin.addr());
    client.send("GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly");
    let response = client.read_response();
    assert_eq!(response.status, 101);
    assert_eq!(response.header("upgrade"), Some("echo"));
    assert_eq!(client.read_exact(5), b"early");
    client.send("late");
    assert_eq!(client.read_exact(4), b"late");
}

#[test]
fn a_tls_origin_is_trusted_by_its_own_authority_for_its_own_names() {
    let ca = TestCa::new();
    let origin = Origin::answering(|_| Answer::text("secret"))
        .tls(&ca, &["allowed.test", "127.0.0.1"])
        .start();
    for name in ["allowed.test", "127.0.0.1"] {
        let mut client = Connection::open(origin.addr()).start_tls(&ca, name);
        assert_eq!(client.exchange(GET).text(), "secret");
    }
    let mut stranger = Connection::open(origin.addr()).start_tls(&TestCa::new(), "allowed.test");
    assert!(stranger.try_send(GET).is_err());
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn an_echo_of_bytes_ends_when_the_peer_has_finished() {
    let origin = Origin::echoing_bytes().start();
    let mut client = Connection::open(origin.addr());
    client.send("ping");
    assert_eq!(client.read_exact(4), b"ping");
    client.finish_sending();
    client.expect_closed();
    drop(client);
    origin.wait_until_idle();
}

#[test]
fn a_dropped_origin_hangs_up() {
    let origin = Origin::start(|_| Answer::Silence);
    let mut client = Connection::open(origin.addr());
    client.send(GET);
    origin.wait_for("the request", |requests| requests.first().map(|_| ()));
    drop(origin);
    client.expect_closed();
}
