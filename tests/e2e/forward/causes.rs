//! A permitted request that fails: the client and the log get the same text for the cause (SPEC
//! H8).

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use e2e::client::{Connection, Socks5Target, proxy_request};
use e2e::daemon::{Config, Daemon};
use e2e::port::RefusingPort;
use e2e::raw_origin::{read_head, serve_each, serve_one};

/// An origin that answers with these bytes, and closes.
fn saying(bytes: &'static [u8]) -> SocketAddr {
    serve_one(move |mut stream| {
        read_head(&mut stream)?;
        stream.write_all(bytes)
    })
}

fn reset(mut stream: TcpStream) -> io::Result<()> {
    read_head(&mut stream)?;
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}

/// A head with this many fields.
fn fields(mut stream: TcpStream, count: usize, value: usize) -> io::Result<()> {
    read_head(&mut stream)?;
    let field = format!("X: {}\r\n", "x".repeat(value));
    let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", field.repeat(count));
    stream.write_all(head.as_bytes())?;
    // A reset would discard bytes that have not been read yet.
    io::copy(&mut stream, &mut io::sink()).map(|_| ())
}

/// The line for a failed request of this client.
fn failed(daemon: &Daemon, client: &Connection) -> e2e::daemon::LogLine {
    let me = client.local_addr().to_string();
    daemon.wait_for_log(|line| {
        line.field("client.address")
            .is_some_and(|client| *client == *me)
            && line.flow() == Some("upstream_failed")
    })
}

/// Requests `/` and expects a 502 with this text, and the same text in the log.
fn assert_cause(daemon: &Daemon, origin: SocketAddr, words: &str) {
    let authority = format!("allowed.test:{}", origin.port());
    let mut client = Connection::open(daemon.http_addr());
    let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
    assert_eq!(answer.status, 502, "{words}: {}", answer.text());
    let wanted = format!(
        "{authority}: {words}. The proxy allowed the request; the fault lies with the host or the way to it.\n"
    );
    assert_eq!(answer.text(), wanted);
    let line = failed(daemon, &client);
    assert_eq!(line.flow_cause(), Some(words));
    assert!(line.message_contains(words));
    assert_eq!(line.level(), Some("INFO"));
    assert_eq!(line.server(), Some(authority));
    let protocol = line.field("network.transport.protocol");
    assert_eq!(protocol, Some(&"http".into()));
    assert_eq!(line.field("network.flow.fault"), Some(&"host".into()));
}

#[test]
fn h4_an_answer_has_1024_fields_at_most() {
    let daemon = Daemon::start(&Config::example());
    let origin = |count: usize| {
        serve_one(move |mut stream| {
            read_head(&mut stream)?;
            let fields = "X: y\r\n".repeat(count - 1);
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{fields}\r\n");
            stream.write_all(head.as_bytes())?;
            io::copy(&mut stream, &mut io::sink()).map(|_| ())
        })
    };
    let most = origin(1024);
    let authority = format!("allowed.test:{}", most.port());
    let mut client = Connection::open(daemon.http_addr());
    let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let words = "the host answered with too many header fields";
    assert_cause(&daemon, origin(1025), words);
}

#[test]
fn h8_every_unusable_answer_names_its_cause_to_the_client_and_in_the_log() {
    let daemon = Daemon::start(&Config::example());
    for (bytes, words) in [
        (&b""[..], "the host closed the connection without an answer"),
        (
            b"HTTP/1.1 200 OK\r\nX: y",
            "the host closed the connection before its answer was complete",
        ),
        (b"SSH-2.0-x\r\n", "the host did not answer in HTTP"),
        (
            b"220 mail.test ESMTP\r\n",
            "the host did not answer in HTTP",
        ),
        (
            b"\x15\x03\x03\x00\x02\x02\x46",
            "the host did not answer in HTTP",
        ),
        (
            b"HTTP/2.0 200 OK\r\n\r\n",
            "the host answered in a version of HTTP that was not agreed on",
        ),
        (
            b"HTTP/0.9 200 OK\r\n\r\n",
            "the host answered in a version of HTTP that was not agreed on",
        ),
        (
            b"HTTP/1.1 2x0 OK\r\n\r\n",
            "the host answered with an invalid status line",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
            "the host answered with an invalid header field",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "the host answered with an invalid header field",
        ),
    ] {
        assert_cause(&daemon, saying(bytes), words);
    }
    assert_cause(&daemon, serve_one(reset), "the host reset the connection");
    let many = serve_one(|stream| fields(stream, 20_000, 1));
    let words = "the host answered with too many header fields";
    assert_cause(&daemon, many, words);
    let large = serve_one(|stream| fields(stream, 20, 100_000));
    let words = "the host answered with a header section that is too large";
    assert_cause(&daemon, large, words);
}

/// The client can no longer get an error: its answer has begun.
#[test]
fn h8_an_incomplete_answer_is_logged_with_its_cause() {
    let daemon = Daemon::start(&Config::example());
    for (bytes, words) in [
        (
            &b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"[..],
            "the host closed the connection before its answer was complete",
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nno number\r\n",
            "the host sent a malformed chunk in its answer",
        ),
    ] {
        let authority = format!("allowed.test:{}", saying(bytes).port());
        let mut client = Connection::open(daemon.http_addr());
        client.send(proxy_request("GET", &authority, "/", &[]));
        assert_eq!(client.read_head().status, 200);
        let line = failed(&daemon, &client);
        assert_eq!(line.flow_cause(), Some(words));
        assert_eq!(line.level(), Some("INFO"));
        assert_eq!(line.server(), Some(authority));
    }
}

#[test]
fn h8_s2_a_failed_tunnel_is_one_log_line() {
    let daemon = Daemon::start(&Config::example());
    let refusing = RefusingPort::open();
    let port = refusing.addr().port();
    let wanted = "the connection was refused";
    let mut client = Connection::open(daemon.http_addr());
    let answer = client.connect(&format!("allowed.test:{port}"));
    assert_eq!(answer.status, 502);
    let line = failed(&daemon, &client);
    assert_eq!(line.flow_cause(), Some(wanted));
    let protocol = line.field("network.transport.protocol");
    assert_eq!(protocol, Some(&"https_connect".into()));
    let mut client = Connection::open(daemon.socks_addr());
    let bound = client.socks5_connect(&Socks5Target::name("allowed.test", port));
    assert_eq!(bound.reply, 5);
    let line = failed(&daemon, &client);
    assert_eq!(line.flow_cause(), Some(wanted));
    let protocol = line.field("network.transport.protocol");
    assert_eq!(protocol, Some(&"socks5_tcp".into()));
    let mut client = Connection::open(daemon.http_addr());
    client.connect("missing.test:443");
    // The example allows no such name. A refusal has its own line.
    let refused = daemon.wait_for_blocked(|entry| entry["host"] == "missing.test");
    assert_eq!(refused["reason"], "not_allowed");
    let failures = |line: &&e2e::daemon::LogLine| line.flow().is_some();
    assert_eq!(daemon.logs().iter().filter(failures).count(), 2);
}

/// With `identity`, the length decides when the content is complete.
#[test]
fn h8_identity_content_shorter_than_its_length_is_logged() {
    let origin =
        saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 9\r\n\r\nshort");
    let daemon = Daemon::start(&Config::example());
    let authority = format!("allowed.test:{}", origin.port());
    let mut client = Connection::open(daemon.http_addr());
    client.send(proxy_request("GET", &authority, "/", &[]));
    let wanted = "the host closed the connection before its answer was complete";
    assert_eq!(failed(&daemon, &client).flow_cause(), Some(wanted));
}

/// An origin that answers has read the request. So even an idempotent one is not sent again.
#[test]
fn h1_a_malformed_answer_on_a_kept_connection_is_not_retried() {
    let (sender, asked) = mpsc::channel();
    let origin = serve_each(move |number, mut stream| {
        let answers: [&[u8]; 2] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        ];
        for answer in answers {
            read_head(&mut stream)?;
            let _ = sender.send(number);
            stream.write_all(answer)?;
        }
        io::copy(&mut stream, &mut io::sink()).map(|_| ())
    });
    let daemon = Daemon::start(&Config::example());
    let authority = format!("allowed.test:{}", origin.port());
    let mut client = Connection::open(daemon.http_addr());
    for status in [200, 502] {
        let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
        assert_eq!(answer.status, status);
    }
    assert_eq!(asked.try_iter().collect::<Vec<_>>(), [0, 0]);
}
