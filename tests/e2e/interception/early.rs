//! Answers inside that come before the request is complete (SPEC M6).

use std::io::Write as _;
use std::net::SocketAddr;

use e2e::raw_origin::{read_head, serve_each};
use e2e::setup::{RawTlsSetup, TlsSetup};
use e2e::tls::{Server, TestCa};
use rustls::{ServerConnection, StreamOwned};
use tempfile::TempDir;

use super::frames::{END_HEADERS, END_STREAM, HEADERS, RST_STREAM, frame};
use super::hooks::{hooked, secret};
use super::resets::Http2Origin;
use crate::forward::early::upload;

/// `:status: 413` (RFC 7541 section 6.2.2, with the name of the static table's entry 8).
const TOO_MUCH: &[u8] = b"\x08\x03413";

/// An origin at this address whose host has a hook and may be written to; and the hook's secret.
pub(super) fn writable_setup(address: SocketAddr, ca: &TestCa) -> (TempDir, RawTlsSetup) {
    let (directory, file) = secret();
    let setup = RawTlsSetup::new(&hooked(&file), "hooked.test", address, ca);
    (directory, setup)
}

#[test]
fn m6_an_early_answer_is_read_after_writing_the_body_failed() {
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
    let (_secret, setup) = writable_setup(origin, &ca);
    // This client cannot read after a failed write, so the proxy must read everything.
    for size in [1024, 64 * 1024, 192 * 1024] {
        for _ in 0..15 {
            let mut client = setup.http1();
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
fn m6_an_early_http2_answer_is_read_before_the_reset_after_it() {
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
    let (_secret, setup) = writable_setup(origin, &ca);
    let client = setup.http2();
    let url = setup.url("/api/x");
    for size in [1024, 64 * 1024, 1 << 20] {
        for _ in 0..10 {
            let mut exchange = client.open("POST", &url, &[]);
            exchange.send(&vec![0; size]);
            assert_eq!(exchange.head().status, 413, "{size}");
        }
    }
}
