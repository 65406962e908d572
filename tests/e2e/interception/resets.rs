//! Streams that are reset: the other side gets a reset too, and the rest of the connection goes on
//! (RFC 9113 section 5.4.2).

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, mpsc};

use e2e::client::Exchange;
use e2e::raw_origin::serve_one;
use e2e::setup::{RawTlsSetup, TlsSetup};
use e2e::tls::{Server, TestCa};
use e2e::wait::TIMEOUT;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::early::writable_setup;
use super::frames::{
    DATA, END_HEADERS, END_STREAM, Frame, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, frame,
    header,
};
use super::origins::raw_setup;

/// `:status: 200`, of the static table (RFC 7541 appendix A).
pub(crate) const OK: &[u8] = &[0x88];
/// CANCEL (RFC 9113 section 7).
const CANCEL: u32 = 8;

/// An origin's end of HTTP/2, by hand.
pub(crate) struct Http2Origin(StreamOwned<ServerConnection, TcpStream>);

impl Http2Origin {
    pub(crate) fn accept(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<Self> {
        let session = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, stream);
        stream.read_exact(&mut [0; PREFACE.len()])?;
        let mut origin = Self(stream);
        origin.send(&frame(SETTINGS, 0, 0, &[]))?;
        origin.send(&frame(SETTINGS, 1, 0, &[]))?;
        Ok(origin)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// The next frame of this kind.
    pub(crate) fn next(&mut self, kind: u8) -> io::Result<Frame> {
        self.find(|frame| frame.kind == kind)
    }

    /// Reads up to the next frame for which the condition holds.
    pub(super) fn find(&mut self, is_like_this: impl Fn(&Frame) -> bool) -> io::Result<Frame> {
        loop {
            let mut head = [0; 9];
            self.0.read_exact(&mut head)?;
            let (mut frame, length) = header(head);
            frame.payload = vec![0; length];
            self.0.read_exact(&mut frame.payload)?;
            if is_like_this(&frame) {
                return Ok(frame);
            }
        }
    }

    /// Answers the next request with all of a body or the beginning of one.
    pub(super) fn answer(&mut self, body: &[u8], flags: u8) -> io::Result<u32> {
        let stream = self.next(HEADERS)?.stream;
        self.send(&frame(HEADERS, END_HEADERS, stream, OK))?;
        self.send(&frame(DATA, flags, stream, body))?;
        Ok(stream)
    }
}

pub(super) fn setup(
    serve: impl FnOnce(Http2Origin) -> io::Result<()> + Send + 'static,
) -> RawTlsSetup {
    let ca = TestCa::new();
    let config = Server::of(&ca, &TlsSetup::NAMES).alpn(&["h2"]).config();
    let address = serve_one(move |stream| serve(Http2Origin::accept(stream, config)?));
    raw_setup(address, &ca)
}

/// Sends a request and reads this first part of the body of its answer.
fn begun(client: &e2e::client::Http2, setup: &RawTlsSetup, body: &[u8]) -> Exchange {
    let mut exchange = client.begin("GET", &setup.url("/"), &[]);
    assert_eq!(exchange.head().status, 200);
    assert_eq!(exchange.read_some(), body);
    exchange
}

#[test]
fn m6_a_client_reset_of_a_stream_is_passed_upstream_alone() {
    let (sender, reset) = mpsc::channel();
    let setup = setup(move |mut origin| {
        let first = origin.answer(b"first", 0)?;
        let second = origin.answer(b"second", 0)?;
        let reset = origin.next(RST_STREAM)?;
        origin.send(&frame(DATA, END_STREAM, second, b"rest"))?;
        let code = u32::from_be_bytes(reset.payload.try_into().expect("four bytes"));
        let _ = sender.send((reset.stream == first, code));
        origin.next(RST_STREAM).map(|_| ())
    });
    let client = setup.http2();
    let first = begun(&client, &setup, b"first");
    let mut second = begun(&client, &setup, b"second");
    drop(first);
    let reset = reset.recv_timeout(TIMEOUT).expect("a reset upstream");
    assert_eq!(reset, (true, CANCEL));
    assert_eq!(second.read_some(), b"rest");
    assert_eq!(second.read_some(), b"");
}

#[test]
fn m6_an_origin_reset_of_a_stream_is_passed_to_the_client_alone() {
    let setup = setup(|mut origin| {
        let first = origin.answer(b"first", 0)?;
        let second = origin.answer(b"second", 0)?;
        origin.send(&frame(RST_STREAM, 0, first, &CANCEL.to_be_bytes()))?;
        origin.send(&frame(DATA, END_STREAM, second, b"rest"))?;
        origin.answer(b"third", END_STREAM)?;
        origin.next(RST_STREAM).map(|_| ())
    });
    let client = setup.http2();
    let mut first = begun(&client, &setup, b"first");
    let mut second = begun(&client, &setup, b"second");
    let error = first.try_read_some().expect_err("a break, and no end");
    assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
    assert_eq!(second.read_some(), b"rest");
    assert_eq!(second.read_some(), b"");
    let mut third = begun(&client, &setup, b"third");
    assert_eq!(third.read_some(), b"");
}

/// The origin gets the reset even if it has answered and reads no more of the request.
#[test]
fn m6_a_client_reset_is_passed_upstream_while_the_origin_reads_nothing() {
    for ends in [0, END_STREAM] {
        let ca = TestCa::new();
        let config = Server::of(&ca, &TlsSetup::NAMES).alpn(&["h2"]).config();
        let (sender, reset) = mpsc::channel();
        let origin = serve_one(move |stream| {
            let mut origin = Http2Origin::accept(stream, config)?;
            let stream = origin.next(HEADERS)?.stream;
            let mut taken = 0;
            // As much as its window permits.
            while taken < 65_535 {
                taken += origin.next(DATA)?.payload.len();
            }
            origin.send(&frame(HEADERS, END_HEADERS | ends, stream, OK))?;
            let reset = origin.next(RST_STREAM)?;
            let code = u32::from_be_bytes(reset.payload.try_into().expect("four bytes"));
            let _ = sender.send((reset.stream == stream, code));
            Ok(())
        });
        let (_secret, setup) = writable_setup(origin, &ca);
        let client = setup.http2();
        let mut exchange = client.open("POST", &setup.url("/api/x"), &[]);
        exchange.send(&vec![0; 200_000]);
        assert_eq!(exchange.head().status, 200);
        drop(exchange);
        assert_eq!(reset.recv_timeout(TIMEOUT), Ok((true, CANCEL)), "{ends}");
    }
}

/// `NO_ERROR` does not make content complete.
#[test]
fn m6_content_cut_by_a_reset_without_error_is_incomplete() {
    // A reset overtakes what a connection has not sent yet, so it waits until the client has the head.
    let (go, gone) = mpsc::channel::<()>();
    let setup = setup(move |mut origin| {
        let stream = origin.answer(b"part", 0)?;
        gone.recv().map_err(io::Error::other)?;
        origin.send(&frame(RST_STREAM, 0, stream, &[0; 4]))?;
        origin.next(RST_STREAM).map(|_| ())
    });
    let client = setup.http2();
    let mut exchange = client.begin("GET", &setup.url("/"), &[]);
    assert_eq!(exchange.head().status, 200);
    go.send(()).expect("the origin");
    let error = loop {
        match exchange.try_read_some() {
            Ok(part) => assert_eq!(part, b"part", "an end"),
            Err(error) => break error,
        }
    };
    assert!(!format!("{error:?}").contains("NO_ERROR"), "{error:?}");
}

#[test]
fn m6_a_closing_origin_leaves_bodies_incomplete() {
    let (go, gone) = mpsc::channel::<()>();
    let setup = setup(move |mut origin| {
        origin.answer(b"first", 0)?;
        gone.recv().map_err(io::Error::other)
    });
    let client = setup.http2();
    let mut first = begun(&client, &setup, b"first");
    go.send(()).expect("the origin");
    first.try_read_some().expect_err("a break, and no end");
}

/// The work that an origin can cause at no cost is limited too: endless interim answers (a
/// HEADERS frame each), SETTINGS, PING.
#[test]
fn m6_many_empty_frames_of_an_origin_end_its_connection() {
    for part in [
        // `:status: 103` (RFC 7541 section 6.2.2, with the name of the static table's entry 8).
        None,
        Some(frame(SETTINGS, 0, 0, &[])),
        Some(frame(PING, 0, 0, &[0; 8])),
    ] {
        let (sender, ended) = mpsc::channel();
        let setup = setup(move |mut origin| {
            let stream = origin.next(HEADERS)?.stream;
            let interim = frame(HEADERS, END_HEADERS, stream, b"\x08\x03103");
            let batch = part.unwrap_or(interim).repeat(100);
            let broken = std::iter::repeat_with(|| origin.send(&batch)).find_map(Result::err);
            let _ = sender.send(broken.is_some());
            Ok(())
        });
        let client = setup.http2();
        let mut exchange = client.begin("GET", &setup.url("/"), &[]);
        assert_eq!(exchange.head().status, 502);
        assert!(ended.recv_timeout(TIMEOUT).expect("the connection ends"));
    }
}
