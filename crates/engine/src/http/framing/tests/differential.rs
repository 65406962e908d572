//! The scanner against generated streams: splits make no difference, requests end where they were
//! built to end, and httparse and hyper agree about everything that passes.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::{Request, Response, Uri, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::streams::{SOUND, flawed_streams, latin1};
use super::{Framing, LIMIT, MAX_FIELDS, Position, feed, verdict};

/// The pieces of attacks on framing.
const FRAGMENTS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    " ",
    "\t",
    "\0",
    "\x0b",
    "\x7f",
    "\u{e9}",
    ":",
    ";",
    ",",
    "+",
    "-",
    "0",
    "5",
    "f",
    "0x",
    "0\r\n\r\n",
    "GET ",
    "CONNECT ",
    "/",
    "HTTP/1.1",
    "HTTP/1.0",
    "X: y\r\n",
    "Content-Length: 5\r\n",
    "content-length:",
    "Transfer-Encoding: chunked\r\n",
    "chunked",
    "gzip",
    "hello",
    "GET /inner HTTP/1.1\r\n\r\n",
];

/// Sound messages in a row, into which fragments are put, over some of the bytes or between them.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<Index>(), 0..4_usize, select(FRAGMENTS));
    (vec(select(SOUND), 1..4), vec(edit, 0..4)).prop_map(|(messages, edits)| {
        let mut stream = latin1(&messages.concat());
        for (at, over, fragment) in edits {
            let at = at.index(stream.len() + 1);
            let end = stream.len().min(at + over);
            stream.splice(at..end, latin1(fragment));
        }
        stream
    })
}

fn fragments() -> impl Strategy<Value = Vec<u8>> {
    vec(select(FRAGMENTS), 0..40).prop_map(|fragments| latin1(&fragments.concat()))
}

fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let malformed: Vec<_> = flawed_streams().map(|(stream, _, _)| stream).collect();
    prop_oneof![
        4 => mangled(),
        1 => select(malformed),
        1 => fragments(),
        1 => vec(any::<u8>(), 0..200),
    ]
}

/// A message, and whether it was built with chunks. It ends with its bytes.
fn built_message() -> impl Strategy<Value = Vec<u8>> {
    let fields = vec("[a-zA-Z]{1,20}x: [!-~ \t]{0,20}\r\n", 0..4);
    let body = vec(vec(any::<u8>(), 1..40), 0..4);
    (fields, body, any::<bool>(), 0..4_usize).prop_map(|(fields, body, chunked, empty_lines)| {
        let start = format!(
            "{}POST /{} HTTP/1.1\r\n",
            "\r\n".repeat(empty_lines),
            fields.len()
        );
        let mut message = (start + &fields.concat()).into_bytes();
        if chunked {
            message.extend(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body {
                message.extend(format!("{:X}\r\n", chunk.len()).bytes());
                message.extend(chunk);
                message.extend(b"\r\n");
            }
            message.extend(b"0\r\n");
            message.extend(fields.concat().bytes());
        } else {
            let body = body.concat();
            message.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
            message.extend(body);
            return message;
        }
        message.extend(b"\r\n");
        message
    })
}

/// The offsets at which the scanner, fed byte by byte, sees a head begin and end.
fn heads(stream: &[u8]) -> Vec<(usize, usize)> {
    let mut framing = Framing::new(LIMIT);
    let mut heads = Vec::new();
    let mut start = None;
    for (at, byte) in stream.iter().enumerate() {
        if framing.scan(&[*byte]).is_err() {
            break;
        }
        match (framing.position(), start) {
            (Position::InHead, None) => start = Some(at),
            (Position::InHead, Some(_)) | (_, None) => {}
            (_, Some(begun)) => {
                heads.push((begun, at + 1));
                start = None;
            }
        }
    }
    heads
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn h4_splits_make_no_difference_to_any_stream(
        stream in any_stream(),
        ends in vec(any::<Index>(), 0..20),
    ) {
        let whole = verdict(&stream);
        let mut ends: Vec<_> = ends.iter().map(|end| end.index(stream.len() + 1)).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        let mut start = 0;
        let pieces = ends.into_iter().map(|end| &stream[std::mem::replace(&mut start, end)..end]);
        prop_assert_eq!(feed(pieces, LIMIT), whole);
    }

    #[test]
    fn h1_requests_end_where_they_were_built_to_end(messages in vec(built_message(), 1..5)) {
        let mut framing = Framing::new(LIMIT);
        for message in &messages {
            let (last, rest) = message.split_last().unwrap();
            prop_assert_eq!(framing.scan(rest), Ok(()));
            prop_assert_ne!(framing.position(), Position::BetweenMessages);
            prop_assert_eq!(framing.scan(&[*last]), Ok(()));
            prop_assert_eq!(framing.position(), Position::BetweenMessages);
        }
    }

    #[test]
    fn h4_httparse_ends_every_head_where_the_scanner_does(stream in any_stream()) {
        for (start, end) in heads(&stream) {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut request = httparse::Request::new(&mut fields);
            let parsed = request.parse(&stream[start..]);
            prop_assert_eq!(parsed, Ok(httparse::Status::Complete(end - start)));
        }
    }

    #[test]
    fn h4_hyper_sees_the_requests_that_the_scanner_sees(stream in mangled()) {
        let released = &stream[..feed([&stream[..]], LIMIT).accepted];
        assert_hyper_agrees(released);
    }
}

/// The request that a head begins with, in the form that `serve` reports it: `Uri` normalises a
/// little.
fn request(head: &[u8]) -> String {
    let head = String::from_utf8_lossy(head);
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let target: Uri = target.parse().unwrap();
    format!("{method} {target}")
}

/// hyper finds the same requests and answers none itself: its own answers have no text.
fn assert_hyper_agrees(released: &[u8]) {
    let heads = heads(released);
    let (seen, outcome) = serve(released);
    let text = released.escape_ascii();
    assert!(seen.len() <= heads.len(), "hyper sees {seen:?} in {text}");
    let answers = matches!(&outcome, Err(error) if error.is_parse());
    assert!(!answers, "hyper answers {outcome:?} to {text}");
    for (seen, (start, end)) in seen.iter().zip(&heads) {
        assert_eq!(*seen, request(&released[*start..*end]), "in {text}");
    }
    // The connection ends after HTTP/1.0, and where the stream is cut in a message.
    let lasts = !released.windows(8).any(|bytes| bytes == b"HTTP/1.0");
    let complete = feed([released], LIMIT).position == Position::BetweenMessages;
    if lasts && complete && outcome.is_ok() {
        assert_eq!(seen.len(), heads.len(), "hyper sees {seen:?} in {text}");
    }
}

/// Serves the bytes with hyper as the daemon does, and returns the requests that it found.
fn serve(stream: &[u8]) -> (Vec<String>, hyper::Result<()>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&seen);
    let service = service_fn(move |request: Request<Incoming>| {
        let record = Arc::clone(&record);
        async move {
            let found = format!("{} {}", request.method(), request.uri());
            record.lock().unwrap().push(found);
            let _ = request.into_body().collect().await;
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let outcome = runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let serving = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(server), service);
        let client = async {
            // The server may hang up first, when it refuses something.
            let _ = client.write_all(stream).await;
            let _ = client.shutdown().await;
            let _ = client.read_to_end(&mut Vec::new()).await;
        };
        tokio::join!(serving, client).0
    });
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    (seen, outcome)
}

/// Why the scanner exists, and a check of the comparison above: hyper serves both requests of
/// streams that the scanner cuts.
#[test]
fn h4_without_the_scanner_hyper_is_lenient() {
    for malformed in [
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nA: b\n\n",
    ] {
        let unguarded = format!("{malformed}{}", SOUND[0]);
        assert_ne!(verdict(unguarded.as_bytes()).error, None, "{malformed:?}");
        let (seen, _) = serve(unguarded.as_bytes());
        assert_eq!(seen.len(), 2, "hyper sees {seen:?} in {malformed:?}");
    }
}
