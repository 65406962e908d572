//! Origins that return the real value in malformed answers, byte by byte: neither the client nor the log gets it
//! (SPEC B4, B12).

use std::io::Write as _;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::client::Connection;
use e2e::daemon::Daemon;
use e2e::leaks::Leak;
use e2e::proxyctl::exported_ca;
use e2e::raw_origin::{read_head, serve_each};
use e2e::session::Session;
use e2e::tls::{Client, Server, TestCa};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{REAL, config, dummy, session_of};
use crate::interception::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, field, frame,
};
use crate::interception::resets::{Http2Origin, OK};

/// A daemon with a session, whose credential belongs to an origin that the test plays.
struct RawScene {
    daemon: Daemon,
    session: Session,
    authority: String,
    proxy_ca: String,
    /// Kept for its file.
    _ca: TestCa,
}

impl RawScene {
    fn new(
        protocol: &str,
        serve: impl Fn(Arc<ServerConfig>, TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let ca = TestCa::new();
        let server = Server::of(&ca, &["allowed.test"])
            .alpn(&[protocol])
            .config();
        let address = serve_each(move |_, stream| serve(Arc::clone(&server), stream));
        let config = config(address.port()).set("daemon", "log", r#""trace""#);
        let daemon = Daemon::start_trusting(&config, &ca);
        Self {
            session: session_of(&daemon, REAL),
            authority: format!("allowed.test:{}", address.port()),
            proxy_ca: exported_ca(&daemon),
            daemon,
            _ca: ca,
        }
    }

    fn tunnel(&self) -> Connection {
        let mut tunnel = Connection::open(self.session.doors[0]);
        assert_eq!(tunnel.connect(&self.authority).status, 200);
        tunnel
    }
}

#[test]
fn b4_b12_malformed_answers_with_the_value_bring_it_to_no_client_and_no_log() {
    let real = REAL;
    let answers = Arc::new(vec![
        format!("HTTP/1.1 200 {real}\r\nContent-Length: 2\r\n\r\nok"),
        format!("HTTP/1.1 {real} OK\r\nContent-Length: 2\r\n\r\nok"),
        format!("{real}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{real}\r\nContent-Length: 2\r\n\r\nok"),
        format!("HTTP/1.1 200 OK\r\n{real} : x\r\nContent-Length: 2\r\n\r\nok"),
        format!("HTTP/1.1 200 OK\r\nx-a: b\r\n {real}\r\nContent-Length: 2\r\n\r\nok"),
        format!("HTTP/1.1 200 OK\r\nx-a: {real}\x01\r\nContent-Length: 2\r\n\r\nok"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: {real}\r\n\r\nok"),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: {real}\r\n\r\nok"),
        format!("HTTP/1.1 200 OK\r\nContent-Encoding: {real}\r\nContent-Length: 2\r\n\r\nok"),
        format!("HTTP/1.1 101 {real}\r\nConnection: upgrade\r\nUpgrade: {real}\r\n\r\n{real}"),
        format!(
            "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"{real}\"\r\nContent-Length: 0\r\n\r\n"
        ),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x={real}\r\nok\r\n0\r\n\r\n"
        ),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{real}\r\nok\r\n0\r\n\r\n"),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{real}\r\n\r\n"
        ),
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok{real}\r\n0\r\n\r\n"),
        format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 9\r\n\r\n{real}"
        ),
        format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{real}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok{real}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{real}"),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n<{real}>"),
        format!("HTTP/1.0 200 OK\r\n\r\n{real}\r\n"),
        format!("HTTP/1.1 204 {real}\r\n\r\n{real}"),
        format!(
            "HTTP/1.1 100 {real}\r\nx-a: {real}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        ),
        format!(
            "HTTP/1.1 199 {real}\r\nx-a: {real}\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        ),
    ]);
    let count = answers.len();
    let scene = RawScene::new("http/1.1", move |server, stream| {
        let session = ServerConnection::new(server).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(session, stream);
        let head = read_head(&mut stream)?;
        let number = head.split(['/', ' ']).nth(2);
        let number: usize = number.and_then(|text| text.parse().ok()).expect("a number");
        stream.write_all(answers[number].as_bytes())?;
        stream.conn.send_close_notify();
        stream.flush()
    });
    let leak = Leak::of(REAL);
    let bearer = format!("Bearer {}", dummy(&scene.session));
    for number in 0..count {
        for method in ["GET", "HEAD"] {
            let client = Client::trusting_pem(&scene.proxy_ca).alpn(&["http/1.1"]);
            let (mut client, _) = scene.tunnel().secure(&client, "allowed.test");
            client.send(format!(
                "{method} /{number} HTTP/1.1\r\nHost: {}\r\nAuthorization: {bearer}\r\nConnection: close\r\n\r\n",
                scene.authority
            ));
            // Some answers break off.
            let mut all = Vec::new();
            while let Ok(byte) = client.try_read_exact(1) {
                all.extend(byte);
            }
            leak.assert_not_in(&format!("the answer {number} to {method}"), &all);
        }
    }
    leak.assert_not_written_by(&scene.daemon, &[]);
}

#[test]
fn b4_b12_frames_of_http2_with_the_value_bring_it_to_no_client_and_no_log() {
    let requests = AtomicUsize::new(0);
    let scene = RawScene::new("h2", move |server, stream| {
        let mut origin = Http2Origin::accept(stream, server)?;
        loop {
            let stream = origin.next(HEADERS)?.stream;
            let goodbye = [&0_u32.to_be_bytes(), &11_u32.to_be_bytes(), REAL.as_bytes()].concat();
            let fields = [OK, &field("x-a", REAL), &field(&REAL.to_lowercase(), "x")].concat();
            let answers = [
                // Its own debug data (RFC 9113 section 6.8).
                frame(GOAWAY, 0, 0, &goodbye),
                // A field whose name has upper-case letters is malformed (RFC 9113 section 8.2).
                frame(
                    HEADERS,
                    END_HEADERS | END_STREAM,
                    stream,
                    &[OK, &field(REAL, REAL)].concat(),
                ),
                [
                    frame(HEADERS, END_HEADERS, stream, &fields),
                    frame(DATA, END_STREAM, stream, REAL.as_bytes()),
                ]
                .concat(),
                [
                    frame(HEADERS, END_HEADERS, stream, &fields),
                    frame(DATA, 0, stream, REAL.as_bytes()),
                    frame(RST_STREAM, 0, stream, &2_u32.to_be_bytes()),
                ]
                .concat(),
                // An unknown type, and one that is not of this form.
                frame(0xee, 0, stream, REAL.as_bytes()),
                frame(HEADERS, END_HEADERS, stream, REAL.as_bytes()),
            ];
            let number = requests.fetch_add(1, Ordering::Relaxed) % answers.len();
            origin.send(&answers[number])?;
            if number == 4 {
                origin.send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, OK))?;
            }
        }
    });
    let leak = Leak::of(REAL);
    let bearer = format!("Bearer {}", dummy(&scene.session));
    let url = format!("https://{}/", scene.authority);
    for _ in 0..12 {
        let client = Client::trusting_pem(&scene.proxy_ca).alpn(&["h2"]);
        let client = scene.tunnel().into_http2(&client, "allowed.test");
        let mut exchange = client.begin("GET", &url, &[("authorization", &bearer)]);
        let Ok(head) = exchange.try_head() else {
            continue;
        };
        leak.assert_not_in_answer("the head", &head);
        while let Ok(piece) = exchange.try_read_some() {
            leak.assert_not_in("the content", &piece);
            if piece.is_empty() {
                break;
            }
        }
    }
    leak.assert_not_written_by(&scene.daemon, &[]);
}
