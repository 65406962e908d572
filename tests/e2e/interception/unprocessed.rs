//! Requests that an HTTP/2 origin reports as not processed: sent again, or refused with the same
//! error (SPEC M6; RFC 9113 sections 6.8 and 8.7).

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

use e2e::client::{Exchange, Http2};
use e2e::daemon::LogLine;
use e2e::raw_origin::serve_each;
use e2e::setup::{RawTlsSetup, TlsSetup};
use e2e::tls::{Server, TestCa};
use e2e::wait::{TIMEOUT, poll};

use super::early::writable_setup;
use super::frames::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS, WINDOW_UPDATE, frame,
};
use super::resets::{Http2Origin, OK};

/// `REFUSED_STREAM` (RFC 9113 section 7).
const REFUSED: u32 = 7;

/// An origin's end of HTTP/2 that counts requests.
struct CountingOrigin {
    origin: Http2Origin,
    requests: Arc<AtomicUsize>,
}

impl CountingOrigin {
    /// The next request: its stream, and whether the stream has ended.
    fn request(&mut self) -> io::Result<(u32, bool)> {
        let head = self.origin.next(HEADERS)?;
        self.requests.fetch_add(1, Ordering::SeqCst);
        Ok((head.stream, head.flags & END_STREAM != 0))
    }

    /// Refuses a request.
    fn refuse(&mut self, stream: u32) -> io::Result<()> {
        let reset = frame(RST_STREAM, 0, stream, &REFUSED.to_be_bytes());
        self.origin.send(&reset)
    }

    fn refuse_next(&mut self) -> io::Result<()> {
        let (stream, _) = self.request()?;
        self.refuse(stream)
    }

    /// Answers the next request with its content.
    fn echo(&mut self) -> io::Result<()> {
        let (stream, mut ended) = self.request()?;
        let mut content = Vec::new();
        while !ended {
            let part = self.origin.next(DATA)?;
            if part.stream == stream {
                content.extend(part.payload);
                ended = part.flags & END_STREAM != 0;
            }
        }
        let mut answer = frame(HEADERS, END_HEADERS, stream, OK);
        answer.extend(frame(DATA, END_STREAM, stream, &content));
        self.origin.send(&answer)
    }

    /// Refuses streams above this one from now on.
    fn say_goodbye(&mut self, last: u32) -> io::Result<()> {
        let payload = [last.to_be_bytes(), [0; 4]].concat();
        self.origin.send(&frame(GOAWAY, 0, 0, &payload))
    }

    /// Waits until the proxy has closed.
    fn linger(&mut self) -> io::Result<()> {
        self.origin.next(u8::MAX).map(|_| ())
    }
}

struct CountingSetup {
    tls: RawTlsSetup,
    url: String,
    requests: Arc<AtomicUsize>,
    _secret: tempfile::TempDir,
}

impl CountingSetup {
    /// With an origin that serves each of its connections like this.
    fn new(
        serve: impl Fn(usize, &mut CountingOrigin) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let ca = TestCa::new();
        let config = Server::of(&ca, &TlsSetup::NAMES).alpn(&["h2"]).config();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let origin = serve_each(move |number, stream| {
            let mut origin = CountingOrigin {
                origin: Http2Origin::accept(stream, Arc::clone(&config))?,
                requests: Arc::clone(&counter),
            };
            serve(number, &mut origin)
        });
        let (directory, tls) = writable_setup(origin, &ca);
        Self {
            url: tls.url("/api/x"),
            tls,
            requests,
            _secret: directory,
        }
    }

    /// With an origin that serves its first connection like this, which may wait there for the test to send
    /// something, and answers one request on each later one.
    fn held(
        serve: impl Fn(&mut CountingOrigin, &Receiver<()>) -> io::Result<()> + Send + 'static,
    ) -> (Sender<()>, Self) {
        let (go, gone) = mpsc::channel();
        let first = Mutex::new((serve, gone));
        let setup = Self::new(move |number, origin| {
            if number > 0 {
                origin.echo()?;
                return origin.linger();
            }
            let first = first.lock().expect("the lock");
            (first.0)(origin, &first.1)
        });
        (go, setup)
    }

    fn http2(&self) -> Http2 {
        self.tls.http2()
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn wait_for_requests(&self, count: usize) {
        poll(TIMEOUT, || (self.requests() == count).then_some(())).expect("the requests come");
    }

    /// Waits until the proxy has decided about this many `POST` requests.
    fn wait_for_decisions(&self, count: usize) {
        let judged = || {
            let lines = self.tls.daemon.logs();
            let is_post = |line: &&LogLine| {
                line.target() == Some("codex_otel.network_proxy") && line.raw.contains("\"POST\"")
            };
            (lines.iter().filter(is_post).count() >= count).then_some(())
        };
        poll(TIMEOUT, judged).expect("the decisions are logged");
    }
}

/// The client gets `REFUSED_STREAM`.
fn assert_refused(exchange: &mut Exchange) {
    let error = exchange.try_head().expect_err("a refusal");
    assert!(format!("{error:?}").contains("REFUSED_STREAM"), "{error:?}");
}

/// Methods and content of requests.
const REQUESTS: [(&str, &[u8]); 3] = [("GET", b""), ("POST", b""), ("POST", b"content")];

#[test]
fn m6_a_stream_that_the_origin_refuses_is_sent_again() {
    for (method, content) in REQUESTS {
        let setup = CountingSetup::new(|_, origin| {
            origin.refuse_next()?;
            origin.echo()?;
            origin.linger()
        });
        let answer = setup.http2().request(method, &setup.url, &[], content);
        assert_eq!(answer.status, 200, "{method}");
        assert_eq!(answer.body, content, "{method}");
        assert_eq!(setup.requests(), 2);
    }
}

#[test]
fn m6_a_request_after_goaway_is_sent_again_on_a_new_connection() {
    for (method, content) in REQUESTS {
        let setup = CountingSetup::new(|number, origin| {
            if number == 0 {
                origin.request()?;
                return origin.say_goodbye(0);
            }
            origin.echo()?;
            origin.echo()?;
            origin.linger()
        });
        let client = setup.http2();
        for _ in 0..2 {
            let answer = client.request(method, &setup.url, &[], content);
            assert_eq!(answer.status, 200, "{method}: {}", answer.text());
            assert_eq!(answer.body, content, "{method}");
        }
        assert_eq!(setup.requests(), 3);
    }
}

/// The origin keeps the old connection open for the streams that it has accepted.
#[test]
fn m6_goaway_does_not_affect_earlier_streams() {
    let (go, setup) = CountingSetup::held(|origin, gone| {
        let (first, _) = origin.request()?;
        origin.request()?;
        origin.say_goodbye(first)?;
        gone.recv().map_err(io::Error::other)?;
        let answer = frame(HEADERS, END_HEADERS | END_STREAM, first, OK);
        origin.origin.send(&answer)?;
        origin.linger()
    });
    let client = setup.http2();
    let mut first = client.begin("POST", &setup.url, &[]);
    // The two may overtake each other on the way.
    setup.wait_for_requests(1);
    let mut second = client.begin("POST", &setup.url, &[]);
    assert_eq!(second.head().status, 200);
    go.send(()).expect("the origin");
    assert_eq!(first.head().status, 200);
    assert_eq!(setup.requests(), 3);
}

#[test]
fn m6_a_stream_refused_again_is_refused_to_the_client() {
    for (method, content) in REQUESTS {
        let setup = CountingSetup::new(|_, origin| {
            for _ in 0..4 {
                origin.refuse_next()?;
            }
            origin.echo()?;
            origin.linger()
        });
        let client = setup.http2();
        let mut exchange = if content.is_empty() {
            client.begin(method, &setup.url, &[])
        } else {
            let mut exchange = client.open(method, &setup.url, &[]);
            exchange.send(content);
            exchange.finish(&[]);
            exchange
        };
        assert_refused(&mut exchange);
        assert_eq!(setup.requests(), 4, "{method}");
        // The refusal affected one stream only.
        assert_eq!(client.request("GET", &setup.url, &[], b"").status, 200);
    }
}

#[test]
fn m6_content_too_large_to_keep_is_refused_to_the_client() {
    let setup = CountingSetup::new(|_, origin| {
        // SETTINGS_INITIAL_WINDOW_SIZE, and as much for the connection.
        origin
            .origin
            .send(&frame(SETTINGS, 0, 0, &[0, 4, 0, 16, 0, 0]))?;
        origin
            .origin
            .send(&frame(WINDOW_UPDATE, 0, 0, &[0, 16, 0, 0]))?;
        let (stream, _) = origin.request()?;
        let mut had = 0;
        while had <= 65_535 {
            had += origin.origin.next(DATA)?.payload.len();
        }
        origin.refuse(stream)?;
        origin.linger()
    });
    let client = setup.http2();
    let mut exchange = client.open("POST", &setup.url, &[]);
    exchange.send(&vec![7; 200 * 1024]);
    assert_refused(&mut exchange);
    assert_eq!(setup.requests(), 1);
}

#[test]
fn m6_requests_that_may_have_been_processed_are_not_sent_again() {
    for content in [&b""[..], b"content"] {
        let setup = CountingSetup::new(|_, origin| {
            let (stream, _) = origin.request()?;
            origin.say_goodbye(stream)
        });
        let answer = setup.http2().request("POST", &setup.url, &[], content);
        assert_eq!(answer.status, 502);
        assert_eq!(setup.requests(), 1);
    }
}

/// It waits in the proxy for the one stream that the origin permits.
#[test]
fn m6_a_request_that_waits_for_a_stream_survives_its_connection() {
    let (go, setup) = CountingSetup::held(|origin, gone| {
        // SETTINGS_MAX_CONCURRENT_STREAMS.
        origin
            .origin
            .send(&frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]))?;
        origin.request()?;
        gone.recv().map_err(io::Error::other)
    });
    let client = setup.http2();
    let mut first = client.begin("POST", &setup.url, &[]);
    setup.wait_for_requests(1);
    let mut second = client.open("POST", &setup.url, &[("x-second", "1")]);
    second.send(b"content");
    second.finish(&[]);
    setup.wait_for_decisions(2);
    go.send(()).expect("the origin");
    assert_eq!(first.head().status, 502);
    assert_eq!(second.head().status, 200);
    assert_eq!(second.read_some(), b"content");
}
