//! The cost of checking how requests are framed (SPEC H4), beside that of hyper's parser for the same
//! bytes, which runs after it. Quote ratios.
//!
//! - `head`: a small head, one like a browser's, and the small one in pieces of 16 bytes, for which the
//!   parser begins anew with each piece. `httparse` is the parser.
//! - `content`: 64 KiB of content with a length, in chunks of 4 KiB, and in chunks of 16 bytes. A copy of
//!   the bytes is the twin.

// Private to the engine, so compiled here.
#[path = "../src/http"]
mod http {
    #[expect(unused, reason = "the module's tests are not measured")]
    pub(crate) mod framing;
}

#[path = "../src/http_bytes.rs"]
mod http_bytes;

#[path = "../src/client_protocol.rs"]
#[expect(unused_imports, reason = "of the module's tests")]
mod client_protocol;

use std::fmt::Write as _;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use self::http::framing::{Framing, Position};

const MAX_HEAD_BYTES: usize = 64 * 1024;
const CONTENT: usize = 64 * 1024;
const SMALL: &str = "GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n";

/// A head like a browser's: fifteen fields, of which one is long.
fn browser() -> String {
    let mut head =
        "GET http://origin.test/search?q=framing&page=2 HTTP/1.1\r\nHost: origin.test\r\n\
        User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
        Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\n\
        Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate\r\nDNT: 1\r\n\
        Connection: keep-alive\r\nReferer: http://origin.test/search?q=framing\r\n"
            .to_owned();
    for number in 0..6 {
        let _infallible = write!(head, "X-Field-{number}: value {number} of the field\r\n");
    }
    let _infallible = write!(head, "Cookie: session={}\r\n\r\n", "0123abcd".repeat(64));
    head
}

/// Scans one message in pieces. The scanner is kept, as on a connection.
fn scan(scanner: &mut Framing, message: &[u8], piece: usize) {
    for piece in message.chunks(piece) {
        scanner.scan(piece).expect("a valid message");
    }
    assert_eq!(scanner.position(), Position::BetweenMessages);
    drop(scanner.take_pathless());
}

/// Parses the head until it is complete, with one more piece each time.
fn parse(head: &[u8], piece: usize) {
    let mut length = 0;
    loop {
        length = (length + piece).min(head.len());
        let mut fields = [httparse::EMPTY_HEADER; 100];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(&head[..length]).expect("a valid head");
        if parsed.is_complete() {
            black_box(request.method);
            return;
        }
    }
}

fn heads(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    let browser = browser();
    for (name, head, piece) in [
        ("small", SMALL, usize::MAX),
        ("browser", browser.as_str(), usize::MAX),
        ("small_in_pieces", SMALL, 16),
    ] {
        let piece = piece.min(head.len());
        group.throughput(Throughput::Bytes(head.len() as u64));
        let mut scanner = Framing::new(MAX_HEAD_BYTES);
        group.bench_function(format!("{name}/scanner"), |bencher| {
            bencher.iter(|| scan(&mut scanner, black_box(head.as_bytes()), piece));
        });
        group.bench_function(format!("{name}/httparse"), |bencher| {
            bencher.iter(|| parse(black_box(head.as_bytes()), piece));
        });
    }
    group.finish();
}

/// A request with its content in chunks of this size, or with a length.
fn request(chunk: Option<usize>) -> Vec<u8> {
    let mut request = b"POST http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n".to_vec();
    let content = vec![b'x'; CONTENT];
    let Some(chunk) = chunk else {
        request.extend(format!("Content-Length: {CONTENT}\r\n\r\n").bytes());
        request.extend(content);
        return request;
    };
    request.extend(b"Transfer-Encoding: chunked\r\n\r\n");
    for piece in content.chunks(chunk) {
        request.extend(format!("{:x}\r\n", piece.len()).bytes());
        request.extend(piece);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

fn contents(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("content");
    for (name, chunk) in [
        ("length", None),
        ("chunks_of_4096", Some(4096)),
        ("chunks_of_16", Some(16)),
    ] {
        let request = request(chunk);
        group.throughput(Throughput::Bytes(request.len() as u64));
        let mut scanner = Framing::new(MAX_HEAD_BYTES);
        group.bench_function(format!("{name}/scanner"), |bencher| {
            bencher.iter(|| scan(&mut scanner, black_box(&request), 16 * 1024));
        });
        let mut copy = vec![0; request.len()];
        group.bench_function(format!("{name}/copy"), |bencher| {
            bencher.iter(|| black_box(&mut copy).copy_from_slice(black_box(&request)));
        });
    }
    group.finish();
}

criterion_group!(benches, heads, contents);
criterion_main!(benches);
