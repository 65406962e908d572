//! Bytes that are not a request, or could be read as two: answered, closed, and never passed on
//! (SPEC H4, "Bad input").

mod slow;

use std::fmt::Write as _;

use e2e::client::{Connection, Socks5Target};
use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::setup::PlainSetup;

use crate::forward::assert_bad_request;

/// The path that a hostile request tries to smuggle.
const SMUGGLED: &str = "/smuggled";

/// Sends bytes on a new connection and checks that they get this status and a close. Returns the
/// client's address.
fn assert_answered(setup: &PlainSetup, what: &str, bytes: impl AsRef<[u8]>, status: u16) -> String {
    let mut client = setup.client();
    client.send(bytes);
    let answer = client.read_final_response();
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    assert!(answer.headers.closes(), "{what}: {:?}", answer.headers);
    assert_ne!(answer.text(), "", "{what}: every answer has words");
    // A reset could overtake the answer.
    assert_eq!(client.read_to_end(), b"", "{what}");
    client.local_addr().to_string()
}

/// The same, and checks that one log line reports it.
fn assert_refused(setup: &PlainSetup, what: &str, bytes: impl AsRef<[u8]>, status: u16) {
    let me = assert_answered(setup, what, bytes, status);
    let line = setup
        .daemon
        .wait_for_log(|line| line.field("client").is_some_and(|client| *client == *me));
    assert_eq!(line.level(), Some("INFO"), "{what}");
    assert!(line.message_contains("malformed"), "{what}: {}", line.raw);
}

/// Checks that nothing was passed on and that the proxy still works.
fn assert_unharmed(setup: &PlainSetup) {
    assert_eq!(setup.origin.connections(), 0);
    let answer = setup.ask("GET", "allowed.test", "/fine", &[]);
    assert_eq!(answer.status, 200);
}

/// A request with these lines after `Host`, followed by another one.
fn with_lines(setup: &PlainSetup, version: &str, lines: &str) -> String {
    let authority = setup.authority("allowed.test");
    format!(
        "POST http://{authority}/ HTTP/{version}\r\nHost: {authority}\r\n{lines}\r\n\r\n\
         0\r\n\r\nGET http://{authority}{SMUGGLED} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    )
}

#[test]
fn h4_every_way_to_frame_a_request_twice_is_refused() {
    let setup = PlainSetup::echoing();
    for lines in [
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\ncontent-LENGTH: 0",
        "Content-Length: 5, 5",
        "Content-Length: 5 5",
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5.0",
        "Content-Length: five",
        "Content-Length:",
        "Content-Length: 18446744073709551616",
        "Content-Length: 99999999999999999999999999",
        "Content-Length: 5;",
        "Content-Length: \"5\"",
    ] {
        let bytes = with_lines(&setup, "1.1", lines);
        assert_refused(&setup, lines, bytes, 400);
    }
    assert_unharmed(&setup);
}

#[test]
fn h4_a_transfer_coding_that_is_not_just_chunked_is_refused() {
    let setup = PlainSetup::echoing();
    for lines in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked,",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked\u{b}",
        "Transfer-Encoding:",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\n chunked",
    ] {
        let bytes = with_lines(&setup, "1.1", lines);
        assert_refused(&setup, lines, bytes, 400);
    }
    let bytes = with_lines(&setup, "1.0", "Transfer-Encoding: chunked");
    assert_refused(&setup, "HTTP/1.0 with chunks", bytes, 400);
    assert_unharmed(&setup);
}

#[test]
fn h4_a_field_line_that_two_parsers_could_read_differently_is_refused() {
    let setup = PlainSetup::echoing();
    for lines in [
        "Content-Length : 5",
        "Content-Length\t: 5",
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "X: 1\r\n folded",
        "X: 1\r\n\tfolded",
        "X: 1\r\n \r\nY: 2",
        "X: a\nTransfer-Encoding: chunked",
        "X: a\rTransfer-Encoding: chunked",
        "X: a\r\r\nY: b",
        "X: a\0b",
        "X: a\u{7f}b",
        "X: a\u{1b}[31m",
        "X\0: 1",
        "X Y: 1",
        "X\u{e9}: 1",
        "(X): 1",
        ": empty",
        "no colon",
        "Content-Length",
        "\u{b}Content-Length: 5",
    ] {
        let bytes = with_lines(&setup, "1.1", lines);
        assert_refused(&setup, lines, bytes, 400);
    }
    assert_unharmed(&setup);
}

#[test]
fn h4_a_malformed_request_line_is_refused() {
    let setup = PlainSetup::echoing();
    let url = format!("http://{}{SMUGGLED}", setup.authority("allowed.test"));
    for (line, status) in [
        (format!("GET  {url} HTTP/1.1\r\n"), 400),
        (format!("GET {url}  HTTP/1.1\r\n"), 400),
        (format!("GET\t{url}\tHTTP/1.1\r\n"), 400),
        (format!(" GET {url} HTTP/1.1\r\n"), 400),
        (format!("GET {url} HTTP/1.1 \r\n"), 400),
        (format!("GET {url} HTTP/1.1\n"), 400),
        (format!("GET {url} HTTP/1.1\r\r\n"), 400),
        (format!("GET {url} http/1.1\r\n"), 400),
        (format!("GET {url} HTTP/1.10\r\n"), 400),
        (format!("GET {url} HTTP/1.\r\n"), 400),
        (format!("GET {url} HTTP/01.1\r\n"), 505),
        (format!("GET {url} HTTPS/1.1\r\n"), 400),
        (format!("GET {url} x HTTP/1.1\r\n"), 400),
        (format!("GET {url}\r\n"), 400),
        (format!("{url} HTTP/1.1\r\n"), 400),
        ("GET HTTP/1.1\r\n".to_owned(), 400),
        (format!("G(T {url} HTTP/1.1\r\n"), 400),
        (format!("G\0T {url} HTTP/1.1\r\n"), 400),
        (format!("GET {url}\u{1} HTTP/1.1\r\n"), 400),
        (format!("GET {url}\u{e9} HTTP/1.1\r\n"), 400),
        (format!("GET {url} HTTP/1.2\r\n"), 505),
        (format!("GET {url} HTTP/2.0\r\n"), 505),
        (format!("GET {url} HTTP/0.9\r\n"), 505),
        (format!("\r\n\r\n\r\n\r\n\r\nGET {url} HTTP/1.1\r\n"), 400),
        (format!("\nGET {url} HTTP/1.1\r\n"), 400),
    ] {
        let bytes = format!("{line}Host: x\r\n\r\n");
        assert_refused(&setup, &line, bytes, status);
    }
    assert_unharmed(&setup);
}

/// Well framed, but not a valid URI.
const NO_URIS: [&str; 5] = [
    "http://allowed.test/<x>",
    "http://allowed.test/`x`",
    "http://allowed.test\\x/",
    "http://{allowed.test}/",
    "1http://allowed.test/",
];

#[test]
fn h4_an_invalid_target_is_refused() {
    let setup = PlainSetup::echoing();
    for target in NO_URIS {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: allowed.test\r\n\r\n");
        assert_answered(&setup, target, bytes, 400);
    }
    assert_unharmed(&setup);
}

/// Heads that need a larger limit than the default, and numbers that hyper rejects.
#[test]
fn h4_requests_that_hyper_would_refuse_get_an_explanation() {
    let config = Config::example().set("daemon.limits", "max_header_bytes", "300000");
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let authority = setup.authority("allowed.test");
    let long = "x".repeat(70_000);
    for (what, head, status) in [
        (
            "target",
            format!("GET http://{authority}/{long} HTTP/1.1\r\n\r\n"),
            414,
        ),
        (
            "name",
            format!("GET http://{authority}/ HTTP/1.1\r\n{long}: 1\r\n\r\n"),
            431,
        ),
        (
            "length",
            format!(
                "POST http://{authority}/ HTTP/1.1\r\nContent-Length: {}\r\n\r\n",
                u64::MAX
            ),
            400,
        ),
    ] {
        assert_refused(&setup, what, head, status);
    }
    assert_unharmed(&setup);
}

/// "Bad input": a request refused for its target is logged like one refused for its framing.
#[test]
fn h4_an_invalid_target_is_logged() {
    let setup = PlainSetup::echoing();
    for target in NO_URIS {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: allowed.test\r\n\r\n");
        assert_refused(&setup, target, bytes, 400);
    }
}

#[test]
fn h2_a_request_that_contradicts_itself_is_logged() {
    let setup = PlainSetup::echoing();
    let authority = setup.authority("allowed.test");
    for head in [
        format!("GET http://{authority}/ HTTP/1.1\r\nHost: denied.test\r\n\r\n"),
        format!("GET http://user@{authority}/ HTTP/1.1\r\n\r\n"),
        format!("CONNECT {authority} HTTP/1.1\r\nHost: denied.test\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
    ] {
        assert_refused(&setup, &head, &head, 400);
    }
}

#[test]
fn h4_clients_of_other_protocols_are_answered_that_this_is_http_1() {
    let setup = PlainSetup::echoing();
    let hello = [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        &[0x41; 520],
    ]
    .concat();
    for (bytes, words) in [
        (
            &hello[..],
            "the client speaks TLS, and this port speaks plain HTTP",
        ),
        (
            b"\x05\x01\x00",
            "the client speaks SOCKS5, and this port speaks HTTP",
        ),
        (
            b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00",
            "the client speaks SOCKS4, and this port speaks HTTP",
        ),
    ] {
        assert_bad_request(setup.daemon.http_addr(), bytes, words);
        setup.daemon.wait_for_log(|line| {
            line.message_contains("malformed") && line.message_contains(words)
        });
    }
    for (what, bytes, status) in [
        ("TLS", &hello[..], 400),
        ("SOCKS5", b"\x05\x01\x00", 400),
        ("SOCKS4", b"\x04\x01\x00\x50\x7f\x00\x00\x01\x00", 400),
        (
            "HTTP/2",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
            505,
        ),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n", 400),
        ("HTTP/0.9", b"GET /\r\n", 400),
        ("an answer", b"HTTP/1.1 200 OK\r\n\r\n", 400),
        ("zeroes", &[0; 64], 400),
        (
            "PROXY protocol",
            b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
            400,
        ),
        ("PROXY protocol 2", b"\r\n\r\n\0\r\nQUIT\n", 400),
    ] {
        assert_refused(&setup, what, bytes, status);
    }
    assert_unharmed(&setup);
}

#[test]
fn h4_requests_beyond_a_limit_get_the_status_of_that_limit() {
    let config = Config::example().set("daemon.limits", "max_header_bytes", "8192");
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let authority = setup.authority("allowed.test");
    let begin = format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n");
    let long = "x".repeat(9000);
    let many = "x: 1\r\n".repeat(101);
    assert_refused(
        &setup,
        "a long value",
        format!("{begin}X: {long}\r\n\r\n"),
        431,
    );
    assert_refused(
        &setup,
        "a long name",
        format!("{begin}{long}: 1\r\n\r\n"),
        431,
    );
    assert_refused(&setup, "many fields", format!("{begin}{many}\r\n"), 431);
    let target = format!("GET http://{authority}/{long} HTTP/1.1\r\n\r\n");
    assert_refused(&setup, "a long target", target, 414);
    // The rest of the request need not be sent.
    assert_refused(
        &setup,
        "a value without an end",
        format!("{begin}X: {long}"),
        431,
    );
    assert_refused(
        &setup,
        "a target without an end",
        format!("GET {long}"),
        414,
    );
    assert_unharmed(&setup);
    // Just below the limit.
    let room = 8192 - begin.len() - "X: \r\n\r\n".len();
    let fits = format!("{begin}X: {}\r\n\r\n", "x".repeat(room));
    assert_eq!(setup.client().exchange(&fits).status, 200);
}

#[test]
fn h4_malformed_chunks_never_complete_a_request() {
    let setup = PlainSetup::echoing();
    let authority = setup.authority("allowed.test");
    let next = format!("GET http://{authority}{SMUGGLED} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    for content in [
        "zz\r\n",
        "-1\r\n",
        "0x2\r\nab\r\n0\r\n\r\n",
        " 2\r\nab\r\n0\r\n\r\n",
        "2 \r\nab\r\n0\r\n\r\n",
        "2 ;x\r\nab\r\n0\r\n\r\n",
        "2\nab\r\n0\r\n\r\n",
        "2\r\nab\n0\r\n\r\n",
        "2\r\nabc\r\n0\r\n\r\n",
        "2\r\nab0\r\n\r\n",
        "2;a\nb\r\nab\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        ";x\r\n",
        "10000000000000000\r\n",
        "fffffffffffffffff\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nHost: denied.test\r\n\r\n",
        "0\r\nX : 1\r\n\r\n",
        "0\r\nX: 1\r\n folded\r\n\r\n",
        "0\r\nX: 1\n\r\n",
        "0\r\n\n",
        "00000000000000000\r\n\r\n",
    ] {
        let mut client = setup.client();
        let fields = ["Transfer-Encoding: chunked"];
        let head = setup.message("POST", "allowed.test", "/broken", &fields);
        client.send(format!("{head}{content}{next}"));
        let answer = client.read_final_response();
        assert_eq!(answer.status, 400, "{content:?}: {}", answer.text());
    }
    setup.origin.wait_until_idle();
    for request in setup.origin.requests() {
        assert_eq!(request.target, "/broken");
        assert!(!request.complete, "{request:?}");
    }
}

/// A second answer would be taken for that to the next request.
#[test]
fn h4_broken_content_gets_one_answer() {
    let setup = PlainSetup::echoing();
    let fields = ["Transfer-Encoding: chunked"];
    let head = setup.message("POST", "allowed.test", "/broken", &fields);
    for content in ["zz\r\n", "2\r\nabc\r\n0\r\n\r\n", "0\r\nX : 1\r\n\r\n"] {
        let mut client = setup.client();
        client.send(format!("{head}{content}"));
        let output = String::from_utf8(client.read_to_end()).expect("text");
        assert_eq!(output.matches("HTTP/1.1 ").count(), 1, "{output}");
    }
}

#[test]
fn h4_a_bad_request_pipelined_after_a_good_one_is_refused() {
    let setup = PlainSetup::echoing();
    let authority = setup.authority("allowed.test");
    let good = setup.get("allowed.test", "/good");
    for bad in [
        format!("GET http://{authority}{SMUGGLED} HTTP/1.1\nHost: {authority}\n\n"),
        with_lines(
            &setup,
            "1.1",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
        ),
        with_lines(&setup, "1.1", "X : 1"),
        format!("\0GET http://{authority}{SMUGGLED} HTTP/1.1\r\nHost: {authority}\r\n\r\n"),
    ] {
        let mut client = setup.client();
        client.send(good.clone() + &bad);
        // The first request may or may not have been answered.
        let output = String::from_utf8(client.read_to_end()).expect("text");
        let answers = output.matches("HTTP/1.1 ").count();
        let good_ones = output.matches("HTTP/1.1 200 OK").count();
        let bad_ones = output.matches("HTTP/1.1 400 Bad Request").count();
        assert_eq!(answers, good_ones + bad_ones, "{output}");
        assert!(
            good_ones <= 1 && bad_ones <= 1 && answers > 0,
            "{bad:?}: {output:?}"
        );
    }
    assert!(setup.paths().iter().all(|path| path == "/good"));
}

/// Each request of a connection is checked.
#[test]
fn h4_a_bad_request_later_on_a_connection_is_refused() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    for _ in 0..3 {
        assert_eq!(
            client.exchange(&setup.get("allowed.test", "/good")).status,
            200
        );
    }
    client.send(with_lines(
        &setup,
        "1.1",
        "Content-Length: 1\r\nContent-Length: 1",
    ));
    assert_eq!(client.read_final_response().status, 400);
    client.expect_closed();
    assert_eq!(setup.paths(), ["/good"; 3]);
}

/// A method may be any token; a record of it must not be as large as a head.
#[test]
fn r1_the_recorded_part_of_a_request_is_bounded() {
    let setup = PlainSetup::echoing();
    let method = "M".repeat(50_000);
    let answer = setup.ask(&method, "blocked.test", "/", &[]);
    assert_eq!(answer.status, 403);
    let entry = setup.daemon.wait_for_blocked(|_| true);
    let recorded = entry["method"].as_str().expect("a method");
    assert!(recorded.len() < 1000, "{} bytes", recorded.len());
    for line in setup.daemon.logs() {
        assert!(line.raw.len() < 4000, "{} bytes in a line", line.raw.len());
    }
}

#[test]
fn r2_bytes_from_outside_are_escaped_and_stay_on_one_line() {
    let setup = PlainSetup::echoing();
    let names: [&[u8]; 4] = [
        b"evil\n{\"level\":\"ERROR\"}\n.test",
        b"\x1b[31mred\x07\0.test",
        b"\"quoted\\\".test\r\n",
        &[0xff, 0xfe, 0x80, b'.', b't'],
    ];
    for name in names {
        let mut client = Connection::open(setup.daemon.socks_addr());
        assert_eq!(client.socks5_greet(&[0]), 0);
        let length = u8::try_from(name.len()).expect("a short name");
        client.send([&[5, 1, 0, 3, length], name, &[0, 80]].concat());
        assert_eq!(client.socks5_reply().reply, 2);
    }
    // HTTP: all bytes that a request line can hold.
    for host in ["a%0ab", "a\"b", "a$(b)`c`"] {
        let mut client = setup.client();
        client.send(format!("GET http://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(matches!(client.read_final_response().status, 400 | 403));
    }
    let blocked = setup.daemon.blocked();
    assert!(blocked.len() >= names.len());
    let mut seen = String::new();
    for entry in &blocked {
        assert_eq!(entry["reason"], "invalid_host");
        let host = entry["host"].as_str().expect("a host");
        writeln!(seen, "{host}").expect("a string takes text");
        assert!(
            host.bytes()
                .all(|byte| byte.is_ascii_graphic() || byte == b' '),
            "{host:?}"
        );
    }
    assert!(seen.contains(r"evil\n"), "{seen}");
    assert!(seen.contains(r"\x1b[31mred\x07\x00.test"), "{seen}");
    assert!(seen.contains(r"\xff\xfe\x80.t"), "{seen}");
    for line in setup.daemon.logs() {
        assert!(line.level().is_some(), "not one JSON line: {:?}", line.raw);
        assert!(
            line.raw.bytes().all(|byte| (b' '..0x7f).contains(&byte)),
            "{:?}",
            line.raw
        );
    }
    let socks = Connection::open(setup.daemon.socks_addr()).socks5_connect(&Socks5Target::name(
        "allowed.test",
        setup.origin.addr().port(),
    ));
    assert_eq!(socks.reply, 0);
}
