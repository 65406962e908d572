//! Bodies stream both ways, with backpressure and trailers, and an incomplete one stays incomplete
//! (SPEC H1).

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use e2e::client::{Connection, proxy_request};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Body, Gate, Origin, Reply};
use e2e::process::memory;
use e2e::raw_origin::{answer_ok, read_head, serve_one};
use e2e::setup::PlainSetup;
use e2e::wait::{TIMEOUT, poll};
use e2e::wire::noise;

#[test]
fn h1_a_request_body_reaches_the_origin_while_it_is_being_sent() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    client.send(setup.message("POST", "allowed.test", "/", &["Content-Length: 10"]));
    for (part, so_far) in [("first", "first"), ("after", "firstafter")] {
        client.send(part);
        setup.origin.wait_for("a part of the body", |requests| {
            requests
                .first()
                .filter(|request| request.text() == so_far)?;
            Some(())
        });
    }
    assert_eq!(client.read_final_response().json()["body"], "firstafter");
}

#[test]
fn h1_a_chunk_reaches_the_origin_while_the_body_is_being_sent() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    client.send(setup.message("POST", "allowed.test", "/", &["Transfer-Encoding: chunked"]));
    client.send("3\r\none\r\n");
    setup.origin.wait_for("the first chunk", |requests| {
        requests.first().filter(|request| request.text() == "one")?;
        Some(())
    });
    client.send("3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(client.read_final_response().json()["body"], "onetwo");
}

#[test]
fn h1_an_answer_is_streamed_to_the_client() {
    let (gate, body) = Gate::new();
    let body = Mutex::new(Some(body));
    let setup = PlainSetup::new(Origin::start(move |_| {
        let body = body.lock().expect("the lock").take().expect("one request");
        Answer::Reply(Reply::new(200, body))
    }));
    let mut client = setup.client();
    client.send(setup.get("allowed.test", "/"));
    let head = client.read_head();
    assert!(head.headers.is_chunked());
    gate.release(b"first");
    assert_eq!(client.read_some(), b"5\r\nfirst\r\n");
    gate.release(b"second");
    assert_eq!(client.read_some(), b"6\r\nsecond\r\n");
    drop(gate);
    assert_eq!(client.read_some(), b"0\r\n\r\n");
}

#[test]
fn h1_a_large_body_is_streamed_unchanged() {
    let setup = PlainSetup::new(Origin::start(|request| {
        Answer::bytes("application/octet-stream", &request.body)
    }));
    let sent = noise(1, 8 * 1024 * 1024);
    let mut client = setup.client();
    let length = format!("Content-Length: {}", sent.len());
    client.send(setup.message("PUT", "allowed.test", "/", &[&length]));
    client.send(&sent);
    let answer = client.read_final_response();
    assert!(answer.body == sent, "{} bytes came back", answer.body.len());
}

/// The origin reads nothing and the client sends all it can: the kernel's buffers fill up, but the
/// daemon's memory must not.
#[test]
fn h1_an_origin_that_does_not_read_stops_the_client() {
    const PART: usize = 1024 * 1024;
    const PARTS: usize = 96;
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin = Origin::answering(|_| Answer::text("done")).before_body(move |_| {
        // It ends when the test drops its end.
        let _: Result<(), mpsc::RecvError> = wait.lock().expect("the lock").recv();
        None
    });
    let setup = PlainSetup::new(origin.start());
    let before = memory(setup.daemon.worker()).resident;
    let progress = Arc::new(AtomicUsize::new(0));
    let mut client = setup.client();
    let length = format!("Content-Length: {}", PART * PARTS);
    client.send(setup.message("PUT", "allowed.test", "/", &[&length]));
    let sender = thread::spawn({
        let progress = Arc::clone(&progress);
        move || {
            let part = vec![7; PART];
            for _ in 0..PARTS {
                client.send(&part);
                progress.fetch_add(1, Ordering::SeqCst);
            }
            client
        }
    });
    // Until no more bytes are accepted.
    let (mut last, mut since) = (0, Instant::now());
    poll(TIMEOUT, || {
        let now = progress.load(Ordering::SeqCst);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        (now > 0 && since.elapsed() > Duration::from_millis(300)).then_some(())
    })
    .expect("the sender stalls or has finished");
    let grown = memory(setup.daemon.worker())
        .resident
        .saturating_sub(before);
    assert!(grown < 16 * 1024, "the daemon took {grown} KiB more");
    drop(go);
    let mut client = sender.join().expect("the sender");
    assert_eq!(client.read_final_response().text(), "done");
    assert_eq!(setup.origin.requests()[0].body.len(), PART * PARTS);
}

#[test]
fn h1_trailers_of_a_request_reach_the_origin() {
    let setup = PlainSetup::echoing();
    let fields = ["Transfer-Encoding: chunked", "Trailer: X-Sum, X-Note"];
    let request = setup.message("POST", "allowed.test", "/", &fields);
    let answer = setup.client().exchange(&format!(
        "{request}2\r\nab\r\n0\r\nX-Sum: 42\r\nX-Note: n\r\n\r\n"
    ));
    assert_eq!(answer.json()["body"], "ab");
    let seen = &setup.origin.requests()[0];
    assert_eq!(seen.header("trailer"), Some("X-Sum, X-Note"));
    assert_eq!(seen.trailers.get("x-sum"), Some("42"));
    assert_eq!(seen.trailers.get("x-note"), Some("n"));
}

#[test]
fn h1_trailers_of_an_answer_reach_a_client_that_takes_them() {
    let setup = PlainSetup::new(Origin::start(|_| {
        let (chunks, trailers) = (
            vec![b"ab".to_vec()],
            vec![
                ("X-Sum".into(), "42".into()),
                ("X-Proxy-Error".into(), "blocked-by-denylist".into()),
            ],
        );
        let reply = Reply::new(200, Body::Chunked { chunks, trailers });
        Answer::Reply(reply.header("Trailer", "X-Sum, X-Proxy-Error"))
    }));
    let fields = ["TE: trailers", "Connection: TE"];
    let answer = setup.ask("GET", "allowed.test", "/", &fields);
    assert_eq!(answer.text(), "ab");
    assert_eq!(answer.trailers.get("x-sum"), Some("42"));
    assert_eq!(answer.trailers.get("x-proxy-error"), None, "ours to say");
    let seen = &setup.origin.requests()[0];
    assert_eq!(seen.header("te"), Some("trailers"));
}

/// Fields that are removed from the header section are removed from trailers too.
#[test]
fn h3_hop_by_hop_fields_are_removed_from_trailers() {
    let setup = PlainSetup::echoing();
    let names = "Proxy-Authorization, X-Forwarded-For, Via, X-Unix-Socket, Forwarded, X-Good";
    let fields = ["Transfer-Encoding: chunked", &format!("Trailer: {names}")];
    let request = setup.message("POST", "allowed.test", "/", &fields);
    let trailers = "Proxy-Authorization: Basic eDp5\r\nX-Forwarded-For: 192.0.2.1\r\nVia: 1.1 x\r\n\
                    X-Unix-Socket: /x\r\nForwarded: for=_x\r\nX-Good: 1\r\n";
    let answer = setup
        .client()
        .exchange(&format!("{request}0\r\n{trailers}\r\n"));
    assert_eq!(answer.status, 200);
    let seen = &setup.origin.requests()[0];
    let names: Vec<_> = seen.trailers.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["x-good"]);
}

#[test]
fn p7_limited_mode_removes_method_overrides_from_trailers() {
    let config = Config::limited();
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let fields = [
        "Transfer-Encoding: chunked",
        "Trailer: X-HTTP-Method-Override",
    ];
    let request = setup.message("OPTIONS", "allowed.test", "/", &fields);
    let answer = setup.client().exchange(&format!(
        "{request}0\r\nX-HTTP-Method-Override: DELETE\r\n\r\n"
    ));
    // Limited mode permits no content, and so no trailers.
    assert_eq!(answer.status, 403);
    assert_eq!(setup.origin.connections(), 0);
}

/// A search with `GET` and content (as in Elasticsearch) is rare and allowed: it must not become
/// another request on the way.
#[test]
fn h1_a_get_with_content_keeps_it() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    let sized = setup.message("GET", "allowed.test", "/", &["Content-Length: 5"]);
    let answer = client.exchange(&format!("{sized}hello"));
    assert_eq!(answer.json()["body"], "hello");
    let chunked = setup.message("GET", "allowed.test", "/", &["Transfer-Encoding: chunked"]);
    let answer = client.exchange(&format!("{chunked}5\r\nhello\r\n0\r\n\r\n"));
    assert_eq!(answer.json()["body"], "hello");
    // The bytes after the body are the next request.
    let answer = client.exchange(&setup.get("allowed.test", "/next"));
    assert_eq!(answer.json()["target"], "/next");
}

/// The origin refuses before it has read the body. The client gets that answer at once.
#[test]
fn h1_an_early_answer_reaches_a_client_that_is_still_sending() {
    const PART: usize = 64 * 1024;
    const PARTS: usize = 256;
    let origin = Origin::answering(|_| panic!("the body was read to its end"));
    let origin = origin.before_body(|_| Some(Answer::status(413)));
    let setup = PlainSetup::new(origin.start());
    let mut client = setup.client();
    let length = format!("Content-Length: {}", PART * PARTS);
    client.send(setup.message("PUT", "allowed.test", "/", &[&length]));
    let part = vec![0; PART];
    let sent = (0..PARTS)
        .take_while(|_| client.try_send(&part).is_ok())
        .count();
    let answer = client.read_final_response();
    assert_eq!(answer.status, 413, "after {sent} parts");
}

fn cut_short(answer: &'static str) -> PlainSetup {
    PlainSetup::new(Origin::start(move |_| Answer::Raw(answer.into())))
}

#[test]
fn h1_an_incomplete_sized_answer_stays_incomplete() {
    let setup = cut_short("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    let mut client = setup.client();
    client.send(setup.get("allowed.test", "/"));
    assert_eq!(client.read_head().header("content-length"), Some("10"));
    assert_eq!(client.read_exact(4), b"half");
    client.expect_closed();
}

#[test]
fn h1_an_incomplete_chunked_answer_stays_incomplete() {
    let setup = cut_short("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    let mut client = setup.client();
    client.send(setup.get("allowed.test", "/"));
    assert!(client.read_head().headers.is_chunked());
    assert_eq!(client.read_exact(9), b"4\r\nhalf\r\n");
    client.expect_closed();
}

/// For HTTP/1.0 the end of the connection is the end of the body, so only a reset can show that the
/// body was cut.
#[test]
fn h1_an_incomplete_answer_stays_incomplete_for_http_1_0() {
    let setup = cut_short("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
    let mut client = setup.client();
    let authority = setup.authority("allowed.test");
    client.send(format!("GET http://{authority}/ HTTP/1.0\r\n\r\n"));
    assert_eq!(client.read_head().status, 200);
    // The bytes before the reset may or may not arrive.
    let body = catch_unwind(AssertUnwindSafe(|| client.read_to_end()));
    assert!(body.is_err(), "an orderly end after {body:?}");
}

/// RFC 9112 section 6.3: the transfer coding overrides the length, which must not be passed on.
#[test]
fn h1_an_answer_with_both_framings_is_never_cut_by_its_length() {
    let setup = cut_short(
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
         6\r\nabcdef\r\n0\r\n\r\n",
    );
    let answer = setup.ask("GET", "allowed.test", "/", &[]);
    match answer.status {
        200 => assert_eq!(answer.text(), "abcdef"),
        status => assert_eq!(status, 502),
    }
}

#[test]
fn h1_an_answer_with_two_lengths_is_the_origins_fault() {
    let setup =
        cut_short("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 6\r\n\r\nabcdef");
    let answer = setup.ask("GET", "allowed.test", "/", &[]);
    assert_eq!(answer.status, 502, "{}", answer.text());
}

#[test]
fn h1_an_incomplete_request_body_stays_incomplete() {
    let setup = PlainSetup::echoing();
    for (field, body) in [
        ("Content-Length: 10", "half"),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n"),
    ] {
        let mut client = setup.client();
        client.send(setup.message("POST", "allowed.test", "/", &[field]) + body);
        setup.origin.wait_for("half a body", |requests| {
            requests.last().filter(|request| request.text() == "half")?;
            Some(())
        });
        drop(client);
        setup.origin.wait_until_idle();
        let requests = setup.origin.requests();
        assert!(!requests.last().expect("a request").complete, "{field}");
    }
}

#[test]
fn h1_a_client_that_disconnects_ends_the_answer_upstream() {
    let (ended, end) = mpsc::channel();
    let origin = serve_one(move |mut stream| {
        read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
        // Only a write notices the end.
        while stream.write_all(&[0; 8 * 1024]).is_ok() {}
        ended.send(()).map_err(std::io::Error::other)
    });
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", origin.port());
    client.send(proxy_request("GET", &authority, "/", &[]));
    assert_eq!(client.read_head().status, 200);
    drop(client);
    end.recv_timeout(TIMEOUT)
        .expect("the connection to the origin ends");
}

fn impatient() -> Config {
    Config::example().set("daemon.limits", "idle_timeout", r#""1s""#)
}

/// The limit is for silence, not for size. The test is about time: each pause is shorter than the
/// limit, and all together are longer.
#[test]
fn h1_a_slow_download_is_not_idle() {
    let origin = serve_one(|mut stream| {
        read_head(&mut stream)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")?;
        for _ in 0..8 {
            thread::sleep(Duration::from_millis(250));
            stream.write_all(b"x")?;
        }
        Ok(())
    });
    let daemon = Daemon::start(&impatient());
    let mut client = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", origin.port());
    let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
    assert_eq!(answer.text(), "xxxxxxxx");
}

/// The test is about time, as above.
#[test]
fn h1_a_slow_upload_is_not_idle() {
    let origin = serve_one(|mut stream| {
        read_head(&mut stream)?;
        stream.read_exact(&mut [0; 8])?;
        answer_ok(&mut stream)
    });
    let daemon = Daemon::start(&impatient());
    let mut client = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", origin.port());
    client.send(proxy_request(
        "POST",
        &authority,
        "/",
        &["Content-Length: 8"],
    ));
    for _ in 0..8 {
        thread::sleep(Duration::from_millis(250));
        client.send("x");
    }
    let answer = client.read_final_response();
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[test]
fn h8_an_origin_that_never_answers_times_out_after_idle_timeout() {
    let setup = PlainSetup::with(&impatient(), Origin::start(|_| Answer::Silence));
    for _ in 0..3 {
        let answer = setup.ask("GET", "allowed.test", "/", &[]);
        assert_eq!(answer.status, 504, "{}", answer.text());
        assert!(answer.text().contains("did not answer in time"));
    }
    setup.origin.wait_until_idle();
}

#[test]
fn h1_a_connection_without_requests_ends_after_idle_timeout() {
    let setup = PlainSetup::with(&impatient(), Origin::start(|_| Answer::Echo));
    let mut client = setup.client();
    let answer = client.exchange(&setup.get("allowed.test", "/"));
    assert_eq!(answer.status, 200);
    client.expect_closed();
}
