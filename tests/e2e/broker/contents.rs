//! A dummy in the content of a request or in its trailer section (SPEC B8, B11): no real value takes its place, and
//! at another host the request is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::forms::{assert_recorded, percent, scene};
use super::{BOTH, REAL, Way, dummy, session_of};

/// The bytes of content that are searched (SPEC B11).
const SEARCHED: usize = 64 << 10;

/// Content with a dummy in it, which is refused elsewhere.
fn contents(dummy: &str) -> Vec<String> {
    let fill = |length: usize| "-".repeat(length);
    vec![
        dummy.to_owned(),
        format!("key={}&x=1", percent(dummy)),
        format!(
            "{{\"auth\": \"{}\"}}",
            STANDARD.encode(format!("me:{dummy}"))
        ),
        format!(
            "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"env\"\r\n\r\nKEY={dummy}\r\n--b--\r\n"
        ),
        format!("{}{dummy}", fill(SEARCHED - dummy.len())),
    ]
}

#[test]
fn b11_elsewhere_a_dummy_in_content_is_refused_wherever_the_content_is_split() {
    let scene = scene();
    let dummy = scene.dummy();
    let host = scene.authority("blocked.test");
    let mut refused = 0;
    for content in contents(dummy) {
        let size = if content.len() < 1000 { 3 } else { 10_007 };
        let mut client = scene.secured("blocked.test");
        let mut message =
            format!("POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\n")
                .into_bytes();
        for chunk in content.as_bytes().chunks(size) {
            message.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            message.extend([chunk, b"\r\n"].concat());
        }
        message.extend(b"0\r\n\r\n");
        let _ = client.try_send(message);
        let answer = client.read_final_response();
        assert_eq!(answer.status, 403, "{}", answer.text());
        let client = scene.http2("blocked.test");
        let mut exchange = client.open("POST", &format!("https://{host}/"), &[]);
        for chunk in content.as_bytes().chunks(size) {
            exchange.send(chunk);
        }
        exchange.finish(&[]);
        assert_eq!(exchange.head().status, 403);
        refused += 2;
    }
    assert_recorded(&scene, "dummy_in_body", refused);
    for request in scene.origin.requests() {
        assert!(
            !request.complete && !request.text().contains(dummy),
            "{request:?}"
        );
    }
}

#[test]
fn b11_elsewhere_a_dummy_in_a_trailer_is_refused() {
    let scene = scene();
    let dummy = scene.dummy();
    let host = scene.authority("blocked.test");
    let mut client = scene.secured("blocked.test");
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTrailer: x-late\r\n\r\n1\r\na\r\n0\r\nx-late: {dummy}\r\n\r\n"
    ));
    assert_eq!(client.read_final_response().status, 403);
    let client = scene.http2("blocked.test");
    let mut exchange = client.open("POST", &format!("https://{host}/"), &[]);
    exchange.send(b"a");
    exchange.finish(&[("x-late", dummy)]);
    assert_eq!(exchange.head().status, 403);
    assert_recorded(&scene, "dummy_in_body", 2);
    for request in scene.origin.requests() {
        assert!(!request.complete, "{request:?}");
    }
}

#[test]
fn b11_content_beyond_64_kib_is_not_searched_and_has_no_value() {
    let scene = scene();
    let dummy = scene.dummy();
    let content = format!("{}{dummy}", "-".repeat(SEARCHED));
    for protocol in BOTH {
        for host in ["allowed.test", "blocked.test"] {
            let asked = ("POST", host, "/");
            let way = (Way::Connect, protocol);
            let answer = scene.ask_over(&scene.session, way, asked, &[], content.as_bytes());
            assert_eq!(answer.status, 200, "{protocol} {host}");
        }
    }
    scene.assert_the_origin_has_no_real_value();
}

#[test]
fn b8_in_the_content_and_in_a_trailer_no_dummy_becomes_the_value() {
    let scene = scene();
    let dummy = scene.dummy();
    let host = scene.authority("allowed.test");
    let bearer = format!("Bearer {dummy}");
    for content in contents(dummy) {
        for protocol in BOTH {
            let asked = ("POST", "allowed.test", "/v1");
            let (way, fields) = ((Way::Connect, protocol), [("authorization", &*bearer)]);
            let answer = scene.ask_over(&scene.session, way, asked, &fields, content.as_bytes());
            assert_eq!(answer.status, 200, "{protocol}");
        }
    }
    let mut client = scene.secured("allowed.test");
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nTrailer: authorization\r\n\r\n1\r\na\r\n0\r\nauthorization: {bearer}\r\n\r\n"
    ));
    assert_eq!(client.read_final_response().status, 200);
    let client = scene.http2("allowed.test");
    let mut exchange = client.open("POST", &format!("https://{host}/"), &[]);
    exchange.send(b"a");
    exchange.finish(&[("authorization", &bearer)]);
    assert_eq!(exchange.head().status, 200);
    for request in scene.origin.requests() {
        assert!(!request.text().contains(REAL), "{request:?}");
        assert!(
            !format!("{:?}", request.trailers).contains(REAL),
            "{request:?}"
        );
    }
}

#[test]
fn b11_content_that_waits_for_100_is_searched() {
    let scene = scene();
    let dummy = scene.dummy();
    let host = scene.authority("blocked.test");
    let mut client = scene.secured("blocked.test");
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        dummy.len()
    ));
    assert_eq!(client.read_response().status, 100);
    client.send(dummy);
    assert_eq!(client.read_final_response().status, 403);
    let client = scene.http2("blocked.test");
    let mut exchange = client.open(
        "POST",
        &format!("https://{host}/"),
        &[("expect", "100-continue")],
    );
    assert_eq!(exchange.interim().map(|(status, _)| status), Some(100));
    exchange.send(dummy.as_bytes());
    exchange.finish(&[]);
    assert_eq!(exchange.head().status, 403);
    assert_recorded(&scene, "dummy_in_body", 2);
    for request in scene.origin.requests() {
        assert!(request.body.is_empty(), "{request:?}");
    }
}

#[test]
fn b11_the_dummy_of_a_session_that_begins_during_an_upload_is_found() {
    let scene = scene();
    let host = scene.authority("blocked.test");
    let mut client = scene.secured("blocked.test");
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    ));
    // The request is on its way.
    assert_eq!(client.read_response().status, 100);
    let later = session_of(&scene.daemon, REAL);
    let dummy = dummy(&later);
    let _ = client.try_send(format!("{:x}\r\n{dummy}\r\n0\r\n\r\n", dummy.len()));
    assert_eq!(client.read_final_response().status, 403);
    assert_recorded(&scene, "dummy_in_body", 1);
}
