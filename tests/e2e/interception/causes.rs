//! Origins inside interception that do not answer: the client and the log get the same text for
//! the cause (SPEC H8, M6).

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use e2e::daemon::Config;
use e2e::raw_origin::{serve_each, serve_one};
use e2e::setup::{RawTlsSetup, TlsSetup};
use e2e::tls::{Server, TLS12, TLS13, TestCa};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::BOTH;
use super::frames::{END_HEADERS, GOAWAY, HEADERS, RST_STREAM, frame};
use super::origins::raw_setup;
use super::resets::Http2Origin;

/// Requests `/` and expects a 502 with this text, and the same text in the log.
fn assert_cause(setup: &RawTlsSetup, protocol: &str, words: &str) {
    let answer = setup.get(protocol);
    let (status, text) = (answer.status, answer.text());
    assert_eq!(status, 502, "{protocol}: {text}");
    let wanted = format!(
        "{}: {words}. The proxy allowed the request; ",
        setup.authority
    );
    assert!(text.starts_with(&wanted), "{protocol}: {text}");
    let line = setup
        .daemon
        .wait_for_log(|line| line.flow() == Some("upstream_failed"));
    assert_eq!(line.flow_cause(), Some(words), "{protocol}");
    assert_eq!(line.level(), Some("INFO"));
}

/// TLS that the test configures.
fn in_tls(
    config: Arc<ServerConfig>,
    serve: impl Fn(StreamOwned<ServerConnection, TcpStream>) -> io::Result<()> + Send + Sync + 'static,
) -> SocketAddr {
    serve_each(move |_, stream| {
        let session = ServerConnection::new(Arc::clone(&config)).map_err(io::Error::other)?;
        serve(StreamOwned::new(session, stream))
    })
}

/// A server of TLS 1.3 refuses after the handshake, a server of TLS 1.2 during it.
#[test]
fn m6_a_request_for_a_client_certificate_is_named_as_the_cause() {
    for protocol in BOTH {
        for (version, ended) in [
            (&TLS12, "and ended the TLS handshake"),
            (&TLS13, "and ended the connection"),
        ] {
            let ca = TestCa::new();
            let config = Server::of(&ca, &TlsSetup::NAMES)
                .alpn(&[protocol])
                .only(version)
                .wanting_certificates()
                .config();
            let address = in_tls(config, |mut stream| {
                let read = stream.read(&mut [0; 1]);
                // The alert goes out before the connection ends.
                let _ = stream.conn.write_tls(&mut stream.sock);
                read.map(|_| ())
            });
            let setup = raw_setup(address, &ca);
            let answer = setup.get(protocol);
            let (status, text) = (answer.status, answer.text());
            assert_eq!(status, 502, "{text}");
            let words = "asked for a client certificate, which this proxy does not have, ";
            assert!(text.contains(words), "{protocol}: {text}");
            assert!(text.contains(ended), "{protocol}: {text}");
            assert!(
                text.contains("works only where TLS is not intercepted"),
                "{text}"
            );
            setup
                .daemon
                .wait_for_log(|line| line.level() == Some("INFO") && line.message_contains(words));
        }
    }
}

#[test]
fn m6_a_tls_handshake_that_fails_names_its_cause() {
    for protocol in BOTH {
        let not_tls = serve_one(|mut stream| {
            stream.read_exact(&mut [0; 5])?;
            stream.write_all(b"220 mail.test ESMTP\r\n")?;
            io::copy(&mut stream, &mut io::sink()).map(|_| ())
        });
        let closed = serve_one(|mut stream| {
            io::copy(&mut (&mut stream).take(200), &mut io::sink())?;
            stream.shutdown(std::net::Shutdown::Write)?;
            io::copy(&mut stream, &mut io::sink()).map(|_| ())
        });
        let reset = serve_one(|mut stream| {
            stream.read_exact(&mut [0; 5])?;
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
        });
        let alert = serve_one(|mut stream| {
            stream.read_exact(&mut [0; 5])?;
            stream.write_all(b"\x15\x03\x03\x00\x02\x02\x28")?;
            io::copy(&mut stream, &mut io::sink()).map(|_| ())
        });
        for (address, words) in [
            (not_tls, "its answer to the TLS handshake is not TLS"),
            (closed, "it closed the connection during the TLS handshake"),
            (reset, "it reset the connection during the TLS handshake"),
            (
                alert,
                "it ended the TLS handshake with the alert HandshakeFailure",
            ),
        ] {
            let words = format!("no TLS session with the host: {words}");
            assert_cause(&raw_setup(address, &TestCa::new()), protocol, &words);
        }
    }
}

#[test]
fn m6_an_origin_that_ends_a_session_names_its_cause() {
    for protocol in BOTH {
        let ca = TestCa::new();
        let config = Server::of(&ca, &TlsSetup::NAMES).alpn(&[protocol]).config();
        let closed = in_tls(config, |mut stream| {
            stream.read_exact(&mut [0; 16])?;
            stream.conn.send_close_notify();
            stream.flush()
        });
        let words = "the host closed the connection without an answer";
        assert_cause(&raw_setup(closed, &ca), protocol, words);
    }
}

fn http2(serve: impl Fn(Http2Origin) -> io::Result<()> + Send + Sync + 'static) -> RawTlsSetup {
    let ca = TestCa::new();
    let config = Server::of(&ca, &TlsSetup::NAMES).alpn(&["h2"]).config();
    let address =
        serve_each(move |_, stream| serve(Http2Origin::accept(stream, Arc::clone(&config))?));
    raw_setup(address, &ca)
}

#[test]
fn m6_an_http2_origin_that_gives_up_names_its_cause() {
    let reset = http2(|mut origin| {
        let stream = origin.next(HEADERS)?.stream;
        origin.send(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 2]))?;
        origin.next(GOAWAY).map(|_| ())
    });
    let words = "the host reset the HTTP/2 stream (RST_STREAM, INTERNAL_ERROR)";
    assert_cause(&reset, "h2", words);
    let malformed = http2(|mut origin| {
        let stream = origin.next(HEADERS)?.stream;
        // An index that no table has.
        origin.send(&frame(HEADERS, END_HEADERS, stream, &[0xff, 0xff, 0x7f]))?;
        origin.next(GOAWAY).map(|_| ())
    });
    let words = "the host broke the rules of HTTP/2 (PROTOCOL_ERROR)";
    assert_cause(&malformed, "h2", words);
}

/// Go's server answers like this where HTTP/2 was negotiated by mistake.
#[test]
fn m6_an_http_1_answer_on_an_http_2_connection_is_named_as_the_cause() {
    let ca = TestCa::new();
    let config = Server::of(&ca, &TlsSetup::NAMES).alpn(&["h2"]).config();
    let address = in_tls(config, |mut stream| {
        stream.read_exact(&mut [0; 16])?;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
        stream.flush()?;
        io::copy(&mut stream, &mut io::sink()).map(|_| ())
    });
    let words = "the host answered in a version of HTTP that was not agreed on";
    assert_cause(&raw_setup(address, &ca), "h2", words);
}

#[test]
fn m6_an_incomplete_answer_is_logged_with_its_cause() {
    let (go, seen) = mpsc::channel::<()>();
    let setup = super::resets::setup(move |mut origin| {
        let stream = origin.answer(b"first", 0)?;
        seen.recv().map_err(io::Error::other)?;
        origin.send(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 2]))?;
        origin.next(GOAWAY).map(|_| ())
    });
    let client = setup.http2();
    let mut exchange = client.begin("GET", &setup.url("/"), &[]);
    assert_eq!(exchange.head().status, 200);
    assert_eq!(exchange.read_some(), b"first");
    go.send(()).expect("the origin");
    exchange.try_read_some().expect_err("a break, and no end");
    let wanted = "the host reset the HTTP/2 stream (RST_STREAM, INTERNAL_ERROR)";
    setup
        .daemon
        .wait_for_log(|line| line.flow_cause() == Some(wanted));
}

/// RFC 9112 section 3.2.
#[test]
fn m7_a_request_over_http_1_1_without_host_is_a_400() {
    let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    for (head, wanted) in [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            format!("GET {} HTTP/1.1\r\n\r\n", setup.url("allowed.test", "/")),
            400,
        ),
        ("GET / HTTP/1.0\r\n\r\n".to_owned(), 200),
    ] {
        let answer = setup.http1("allowed.test").exchange(&head);
        assert_eq!(answer.status, wanted, "{head}: {}", answer.text());
        if wanted == 400 {
            assert!(answer.text().contains("needs a Host field"), "{head}");
        }
    }
    assert_eq!(setup.origin.requests().len(), 1);
    let line = setup.daemon.wait_for_message("refused a malformed request");
    assert_eq!(line.field("door"), Some(&"https".into()));
}

/// hyper alone would answer without a body.
#[test]
fn h4_an_invalid_target_is_explained_inside_tls_too() {
    let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    let authority = setup.authority("allowed.test");
    let head = format!("GET /<x> HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let answer = setup.http1("allowed.test").exchange(&head);
    assert_eq!(answer.status, 400);
    assert!(
        answer.text().contains("request-target"),
        "{}",
        answer.text()
    );
}
