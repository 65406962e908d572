//! Answers inside that come before the request is complete (SPEC M6).

use std::io::Write as _;

use e2e::client::{Connection, Http2};
use e2e::daemon::Daemon;
use e2e::proxyctl::exported_ca;
use e2e::raw_origin::{read_head, serve_each};
use e2e::setup::TlsSetup;
use e2e::tls::{Client, Server, TestCa};
use rustls::{ServerConnection, StreamOwned};

use super::frames::{END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame};
use super::hooks::{hooked, secret};
use super::resets::Http2Origin;
use crate::forward::early::upload;

/// `:status: 413` (RFC 7541 section 6.2.2, with the name of the static table's entry 8).
const TOO_MUCH: &[u8] = b"\x08\x03413";

/// A daemon with a host that may be written to.
pub(super) struct Writable {
    daemon: Daemon,
    client: Client,
    authority: String,
    _secret: tempfile::TempDir,
}

impl Writable {
    pub(super) fn new(port: u16, ca: &TestCa) -> Self {
        let (directory, file) = secret();
        let daemon = Daemon::start_trusting(&hooked(&file), ca);
        Self {
            client: Client::trusting_pem(&exported_ca(&daemon)),
            daemon,
            authority: format!("hooked.test:{port}"),
            _secret: directory,
        }
    }

    fn tunnel(&self) -> Connection {
        let mut tunnel = Connection::open(self.daemon.http_addr());
        assert_eq!(tunnel.connect(&self.authority).status, 200);
        tunnel
    }

    /// HTTP/2 inside intercepted TLS.
    pub(super) fn http2(&self) -> Http2 {
        let client = self.client.clone().alpn(&["h2"]);
        self.tunnel().into_http2(&client, "hooked.test")
    }

    pub(super) fn url(&self) -> String {
        format!("https://{}/api/x", self.authority)
    }
}

#[test]
fn m6_an_answer_is_read_inside_though_writing_the_body_broke() {
    let ca = TestCa::new();
    let config = Server::of(&ca, &TlsSetup::NAMES)
        .alpn(&["http/1.1"])
        .config();
    let origin = serve_each(move |_, stream| {
        let session = ServerConnection::new(config.clone()).map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(session, stream);
        read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nmuch")?;
        stream.conn.send_close_notify();
        stream.flush()
    });
    let setup = Writable::new(origin.port(), &ca);
    // This client cannot read any more after a failed write, so the proxy must read everything.
    for size in [1024, 64 * 1024, 192 * 1024] {
        for _ in 0..15 {
            let client = setup.client.clone().alpn(&["http/1.1"]);
            let (mut client, _) = setup.tunnel().secure(&client, "hooked.test");
            client.send(format!(
                "POST /api/x HTTP/1.1\r\nHost: {}\r\nContent-Length: {size}\r\n\r\n",
                setup.authority
            ));
            upload(&mut client, size);
            let answer = client.read_final_response();
            assert_eq!((answer.status, &*answer.text()), (413, "much"), "{size}");
        }
    }
}

/// RFC 9113 section 8.1: a whole answer, and then a reset without an error.
#[test]
fn m6_an_answer_over_http2_is_read_though_the_stream_is_reset_behind_it() {
    let ca = TestCa::new();
    let config = Server::of(&ca, &TlsSetup::NAMES).alpn(&["h2"]).config();
    let origin = serve_each(move |_, stream| {
        let mut origin = Http2Origin::accept(stream, config.clone())?;
        loop {
            let stream = origin.next(HEADERS)?.stream;
            let mut frames = frame(HEADERS, END_HEADERS | END_STREAM, stream, TOO_MUCH);
            frames.extend(frame(RST_STREAM, 0, stream, &[0; 4]));
            origin.send(&frames)?;
        }
    });
    let setup = Writable::new(origin.port(), &ca);
    let client = setup.http2();
    let url = setup.url();
    for size in [1024, 64 * 1024, 1 << 20] {
        for _ in 0..10 {
            let mut exchange = client.open("POST", &url, &[]);
            exchange.send(&vec![0; size]);
            assert_eq!(exchange.head().status, 413, "{size}");
        }
    }
}
