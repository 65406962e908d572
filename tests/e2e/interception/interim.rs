//! Interim answers over HTTP/2, to the client and from the origin (SPEC H1, M6; RFC 9110 section 15.2).

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};

use e2e::raw_origin::{read_head, serve_each, serve_one};
use e2e::setup::TlsSetup;
use e2e::tls::{Server, TestCa};
use e2e::wait::TIMEOUT;
use rustls::ServerConfig;

use super::BOTH;
use super::early::writable_setup;
use super::frames::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, field, frame};
use super::resets::{Http2Origin, OK, setup};

/// A status that has no entry in the static table (RFC 7541 section 6.2.2, with the name of
/// entry 8).
fn status(code: &str) -> Vec<u8> {
    [&[0x08, 3], code.as_bytes()].concat()
}

fn head(flags: u8, stream: u32, block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, block)
}

#[test]
fn m6_early_hints_arrive_before_the_final_answer() {
    let (go, wait) = mpsc::channel::<()>();
    let setup = setup(move |mut origin| {
        let stream = origin.next(HEADERS)?.stream;
        let hints = [
            status("103"),
            field("link", "</a.css>; rel=preload"),
            field("link", "</b>"),
            field("x-proxy-error", "blocked-by-denylist"),
        ];
        origin.send(&head(0, stream, &hints.concat()))?;
        // Without it the client gets no answer.
        wait.recv_timeout(TIMEOUT).map_err(io::Error::other)?;
        origin.send(&head(END_STREAM, stream, OK))?;
        origin.next(RST_STREAM).map(|_| ())
    });
    let client = setup.http2();
    let mut exchange = client.begin("GET", &setup.url("/"), &[]);
    let (code, fields) = exchange.interim().expect("the hints");
    assert_eq!(code, 103);
    assert_eq!(fields.all("link"), ["</a.css>; rel=preload", "</b>"]);
    assert_eq!(fields.get("x-proxy-error"), None, "ours to say");
    go.send(()).expect("the origin");
    assert_eq!(exchange.interim(), None);
    assert_eq!(exchange.head().status, 200);
}

#[test]
fn m6_interim_answers_precede_the_final_one() {
    let setup = setup(move |mut origin| {
        loop {
            let stream = origin.next(HEADERS)?.stream;
            let frames = [
                head(0, stream, &status("102")),
                head(0, stream, &status("103")),
                head(END_STREAM, stream, OK),
            ];
            origin.send(&frames.concat())?;
        }
    });
    let client = setup.http2();
    for round in 0..20 {
        let mut exchange = client.begin("GET", &setup.url("/"), &[]);
        let seen: Vec<u16> = std::iter::from_fn(|| exchange.interim())
            .map(|(code, _)| code)
            .collect();
        assert_eq!(seen, [102, 103], "in round {round}");
        assert_eq!(exchange.head().status, 200);
    }
}

/// The client sends no content before `100 Continue`, and the origin has nothing else to
/// wait for.
#[test]
fn m6_content_is_sent_when_the_origin_continues() {
    for protocol in BOTH {
        let ca = TestCa::new();
        let config = Server::of(&ca, &TlsSetup::NAMES).alpn(&[protocol]).config();
        // Over HTTP/1.1 the first connection finds out that there is no HTTP/2.
        let origin = serve_each(move |_, stream| match protocol {
            "h2" => ask_over_http2(stream, Arc::clone(&config)),
            _ => ask_over_http1(stream, Arc::clone(&config)),
        });
        let (_secret, setup) = writable_setup(origin, &ca);
        let client = setup.http2();
        let fields = [("expect", "100-continue"), ("content-length", "4")];
        let mut exchange = client.open("POST", &setup.url("/api/x"), &fields);
        assert_eq!(exchange.interim().expect("to go on").0, 100, "{protocol}");
        exchange.send(b"body");
        exchange.finish(&[]);
        assert_eq!(exchange.head().status, 200, "{protocol}");
        assert_eq!(exchange.read_some(), b"body", "{protocol}");
    }
}

/// Asks for the content of the next request, and answers with it.
fn ask_over_http2(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let mut origin = Http2Origin::accept(stream, config)?;
    let stream = origin.next(HEADERS)?.stream;
    origin.send(&head(0, stream, &status("100")))?;
    let content = origin.next(DATA)?.payload;
    origin.send(&head(0, stream, OK))?;
    origin.send(&frame(DATA, END_STREAM, stream, &content))?;
    origin.next(RST_STREAM).map(|_| ())
}

fn ask_over_http1(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let session = rustls::ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = rustls::StreamOwned::new(session, stream);
    read_head(&mut stream)?;
    stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    let mut content = [0; 4];
    stream.read_exact(&mut content)?;
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")?;
    stream.write_all(&content)?;
    stream.flush()?;
    stream.read_exact(&mut [0])
}

/// An answer in place of `100` means that the origin does not want the content. When the client resets
/// its stream, the stream to the origin ends too.
#[test]
fn m6_content_is_not_sent_after_a_final_answer() {
    let ca = TestCa::new();
    let config = Server::of(&ca, &TlsSetup::NAMES).alpn(&["h2"]).config();
    let (sender, next) = mpsc::channel();
    let origin = serve_one(move |stream| {
        let mut origin = Http2Origin::accept(stream, config)?;
        let stream = origin.next(HEADERS)?.stream;
        origin.send(&head(END_STREAM, stream, &status("417")))?;
        let next = origin.find(|frame| frame.stream == stream)?;
        let _ = sender.send(next.kind);
        Ok(())
    });
    let (_secret, setup) = writable_setup(origin, &ca);
    let client = setup.http2();
    let fields = [("expect", "100-continue"), ("content-length", "4")];
    let mut exchange = client.open("POST", &setup.url("/api/x"), &fields);
    assert_eq!(exchange.interim(), None);
    assert_eq!(exchange.head().status, 417);
    drop(exchange);
    assert_eq!(next.recv_timeout(TIMEOUT), Ok(RST_STREAM));
}

/// RFC 9113 section 8.6: HTTP/2 has no 101.
#[test]
fn h9_an_origin_that_switches_protocols_over_http2_is_a_502() {
    let setup = setup(move |mut origin| {
        let stream = origin.next(HEADERS)?.stream;
        origin.send(&head(0, stream, &status("101")))?;
        origin.next(RST_STREAM).map(|_| ())
    });
    let answer = setup.http2().request("GET", &setup.url("/"), &[], b"");
    assert_eq!(answer.status, 502);
    let text = answer.text();
    assert!(text.contains("switched protocols"), "{text}");
}

/// RFC 9110 section 8.6 forbids it there, and clients would read it as the answer's length.
#[test]
fn h1_an_interim_answer_has_no_length() {
    let ca = TestCa::new();
    let config = Server::of(&ca, &TlsSetup::NAMES)
        .alpn(&["http/1.1"])
        .config();
    let origin = serve_each(move |_, stream| {
        let session =
            rustls::ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        let mut stream = rustls::StreamOwned::new(session, stream);
        read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n")?;
        stream.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        )?;
        stream.flush()?;
        stream.read_exact(&mut [0])
    });
    let (_secret, setup) = writable_setup(origin, &ca);
    let client = setup.http2();
    let mut exchange = client.open("POST", &setup.url("/api/x"), &[]);
    exchange.finish(&[]);
    let (code, fields) = exchange.interim().expect("the hints");
    assert_eq!((code, fields.get("content-length")), (103, None));
    assert_eq!(exchange.head().status, 200);
    assert_eq!(exchange.read_some(), b"body");
}

/// Interim answers wait for the client, so the proxy drops those beyond 16 KiB. It keeps the answer.
#[test]
fn m6_interim_answers_to_one_request_are_bounded() {
    const COUNT: usize = 200;
    const SIZE: usize = 1000;
    let setup = setup(move |mut origin| {
        let stream = origin.next(HEADERS)?.stream;
        let hints = [status("103"), field("link", &"x".repeat(SIZE))].concat();
        for _ in 0..COUNT {
            origin.send(&head(0, stream, &hints))?;
        }
        origin.send(&head(END_STREAM, stream, OK))?;
        origin.next(RST_STREAM).map(|_| ())
    });
    let client = setup.http2();
    let mut exchange = client.begin("GET", &setup.url("/"), &[]);
    let seen = std::iter::from_fn(|| exchange.interim()).count();
    assert!((1..=16).contains(&seen), "{seen}");
    assert_eq!(exchange.head().status, 200);
}
