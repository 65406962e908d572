//! Malformed answers. The proxy repairs an answer that no client can misread, as curl and browsers
//! do, and refuses any other (SPEC H4; RFC 9112 sections 5.1, 5.2, 6.1 and 7).

use std::io::{Read as _, Write as _};

use e2e::client::{Connection, proxy_request};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::raw_origin::{read_head, serve_one};
use e2e::setup::PlainSetup;

fn answering(raw: &[u8]) -> PlainSetup {
    let raw = raw.to_vec();
    PlainSetup::new(Origin::start(move |_| Answer::Raw(raw.clone())))
}

/// An answer with this line among others.
fn with_line(line: &str) -> PlainSetup {
    let raw = format!("HTTP/1.1 200 OK\r\n{line}\r\nX-Last: 1\r\nContent-Length: 2\r\n\r\nok");
    answering(raw.as_bytes())
}

#[test]
fn h4_an_answer_may_have_a_thousand_fields() {
    for count in [101, 150, 1000] {
        let fields: Vec<_> = (0..count)
            .map(|number| format!("Set-Cookie: c{number}=v\r\n"))
            .collect();
        let fields = fields.concat();
        let raw = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
        let answer = answering(raw.as_bytes()).ask("GET", "allowed.test", "/", &[]);
        assert_eq!((answer.status, &*answer.text()), (200, "ok"), "{count}");
        let cookies = answer.headers.all("set-cookie");
        assert_eq!(cookies.len(), count);
        assert_eq!(cookies.last(), Some(&&*format!("c{}=v", count - 1)));
    }
}

#[test]
fn h4_more_fields_than_an_answer_may_have_are_the_origins_fault() {
    let fields = "X-Field: v\r\n".repeat(2000);
    let raw = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
    let answer = answering(raw.as_bytes()).ask("GET", "allowed.test", "/", &[]);
    assert_eq!(answer.status, 502);
}

#[test]
fn h4_odd_lines_of_an_answer_are_repaired() {
    for (line, wanted) in [
        ("X-Odd : 1", Some("1")),
        ("X-Odd \t : 1", Some("1")),
        ("X-Odd: a\r\n b", Some("a b")),
        ("X-Odd: a\r\n\t  b\r\n c", Some("a b c")),
        ("X-Odd:\r\n a", Some("a")),
        (
            "X-Odd: a\r\n Content-Length: 9",
            Some("a Content-Length: 9"),
        ),
        // Lines that are not fields are left out.
        (" X-Odd: 1", None),
        ("X Odd: 1", None),
        ("X-Odd", None),
        (": 1", None),
        ("X@Odd: 1", None),
        ("X-Odd: a\u{1}b", None),
        ("Transfer-Encoding: \u{b}chunked", None),
        ("Content Length: 9", None),
    ] {
        let answer = with_line(line).ask("GET", "allowed.test", "/", &[]);
        assert_eq!((answer.status, &*answer.text()), (200, "ok"), "{line:?}");
        assert_eq!(answer.header("x-odd"), wanted, "{line:?}");
        assert_eq!(answer.header("x-last"), Some("1"), "{line:?}");
        assert_eq!(answer.header("content-length"), Some("2"), "{line:?}");
        assert_eq!(answer.headers.len(), 2 + usize::from(wanted.is_some()));
    }
}

#[test]
fn h4_white_space_does_not_hide_the_framing_of_an_answer() {
    for (line, body) in [
        ("Content-Length : 2", "ok"),
        ("Content-Length:\r\n 2", "ok"),
        ("Content-Length: 2\r\nContent-Length: 2", "ok"),
        ("Transfer-Encoding : chunked", "2\r\nok\r\n0\r\n\r\n"),
        ("Transfer-Encoding:\r\n\tchunked", "2\r\nok\r\n0\r\n\r\n"),
    ] {
        let setup =
            answering(format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n{body}and more").as_bytes());
        let answer = setup.ask("GET", "allowed.test", "/", &[]);
        assert_eq!((answer.status, &*answer.text()), (200, "ok"), "{line:?}");
        assert_eq!(answer.headers.len(), 1, "{line:?}: {:?}", answer.headers);
        // Bytes after the answer are not the beginning of the next one.
        let answer = setup.ask("GET", "allowed.test", "/", &[]);
        assert_eq!((answer.status, &*answer.text()), (200, "ok"), "{line:?}");
    }
}

#[test]
fn h4_ambiguous_framing_of_an_answer_is_refused() {
    for head in [
        "1.1 200 OK\r\nX-Odd: a\0b\r\nContent-Length: 2",
        "1.1 200 OK\r\nX-Odd: a\rContent-Length: 3\r\nContent-Length: 2",
        "1.1 200 OK\r\nX-Odd\r: a\r\nContent-Length: 2",
        "1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3",
        "1.1 200 OK\r\nContent-Length: 2\r\nContent-Length : 3",
        "1.1 200 OK\r\nContent-Length: 2, 3",
        "1.1 200 OK\r\nContent-Length: 2\r\n 3",
        "1.1 200 OK\r\nContent-Length: +2",
        "1.1 200 OK\r\nContent-Length: ",
        "1.1 200 OK\r\nTransfer-Encoding: chunked, chunked",
        "1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "1.1 200 OK\r\nTransfer-Encoding: chunked, gzip",
        "1.1 200 OK\r\nTransfer-Encoding: chunked, identity",
        "1.1 200 OK\r\nTransfer-Encoding: chunked,",
        "1.1 200 OK\r\nTransfer-Encoding: \"chunked\"",
        "1.1 200 OK\r\nTransfer-Encoding: chunked;a=b",
        "1.1 200 OK\r\nTransfer-Encoding:",
        "1.0 200 OK\r\nTransfer-Encoding: chunked",
    ] {
        let setup = answering(format!("HTTP/{head}\r\n\r\nok").as_bytes());
        let answer = setup.ask("GET", "allowed.test", "/", &[]);
        assert_eq!(answer.status, 502, "{head:?}");
        let text = answer.text();
        assert!(text.contains("the fault lies with the host"), "{text}");
    }
}

/// The coding stays on the content, and its name is passed to the client.
#[test]
fn h4_another_transfer_coding_keeps_its_name() {
    for (coding, body, wanted) in [
        (
            "gzip, chunked",
            "2\r\nab\r\n0\r\n\r\n",
            Some("gzip, chunked"),
        ),
        (
            "gzip,x-own\r\nTransfer-Encoding: chunked",
            "2\r\nab\r\n0\r\n\r\n",
            Some("gzip, x-own, chunked"),
        ),
        ("gzip", "ab", Some("gzip, chunked")),
        ("identity, chunked", "2\r\nab\r\n0\r\n\r\n", Some("chunked")),
    ] {
        let setup = answering(
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: {coding}\r\nContent-Length: 1\r\n\r\n{body}"
            )
            .as_bytes(),
        );
        let answer = setup.ask("GET", "allowed.test", "/", &[]);
        assert_eq!((answer.status, &*answer.text()), (200, "ab"), "{coding}");
        assert_eq!(answer.header("transfer-encoding"), wanted, "{coding}");
        assert_eq!(answer.header("content-length"), None, "{coding}");
    }
}

/// An origin that sends `identity` and a length does not close, and clients do not wait for a
/// close.
#[test]
fn h4_beside_identity_a_length_ends_the_content() {
    let origin = serve_one(|mut stream| {
        read_head(&mut stream)?;
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
        )?;
        stream.read(&mut [0]).map(|_| ())
    });
    let daemon = Daemon::start(&Config::example());
    let authority = format!("allowed.test:{}", origin.port());
    let mut client = Connection::open(daemon.http_addr());
    let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
    assert_eq!((answer.status, &*answer.text()), (200, "ok"));
    assert_eq!(answer.header("content-length"), Some("2"));
}

/// HTTP/1.0 has no transfer codings, and without the name of its coding the content would be
/// meaningless.
#[test]
fn h4_a_transfer_coding_that_http_1_0_cannot_carry_is_explained() {
    let setup = answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    );
    let authority = setup.authority("allowed.test");
    let mut client = setup.client();
    let answer = client.exchange(&format!("GET http://{authority}/ HTTP/1.0\r\n\r\n"));
    assert_eq!(answer.status, 502);
    assert!(
        answer.text().contains("transfer codings"),
        "{}",
        answer.text()
    );
}

#[test]
fn h4_codings_of_an_answer_without_content_do_not_matter() {
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
        let raw = format!("HTTP/1.1 {status} X\r\nTransfer-Encoding: gzip, chunked\r\n\r\n");
        let setup = answering(raw.as_bytes());
        let answer = setup.ask(method, "allowed.test", "/", &[]);
        assert_eq!((answer.status, &*answer.text()), (status, ""));
        assert_eq!(
            answer.header("transfer-encoding"),
            None,
            "{method} {status}"
        );
    }
}

/// RFC 9110 section 8.6.
#[test]
fn h4_equal_repeated_lengths_are_merged() {
    let raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok";
    let answer = answering(raw).ask("GET", "allowed.test", "/", &[]);
    assert_eq!((answer.status, &*answer.text()), (200, "ok"));
    assert_eq!(answer.headers.all("content-length"), ["2"]);
}
