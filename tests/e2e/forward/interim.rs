//! `Expect: 100-continue` from end to end, and the other 1xx answers (SPEC H1; RFC 9110 section 15.2).

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use e2e::client::{Connection, proxy_request};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Body, Origin, Reply};
use e2e::raw_origin::{read_head, serve_one};
use e2e::setup::PlainSetup;
use e2e::wait::TIMEOUT;

const EXPECTING: [&str; 2] = ["Expect: 100-continue", "Content-Length: 4"];

#[test]
fn h1_100_continue_of_the_origin_reaches_the_client() {
    let continued = Arc::new(AtomicBool::new(false));
    let origin = Origin::answering(|request| Answer::text(&request.text()));
    let setup = PlainSetup::new(
        origin
            .before_body({
                let continued = Arc::clone(&continued);
                move |_| {
                    continued.store(true, Ordering::SeqCst);
                    None
                }
            })
            .start(),
    );
    let mut client = setup.client();
    for _ in 0..3 {
        continued.store(false, Ordering::SeqCst);
        client.send(setup.message("POST", "allowed.test", "/", &EXPECTING));
        let interim = client.read_response();
        assert_eq!(interim.status, 100);
        assert!(
            continued.load(Ordering::SeqCst),
            "the 100 is not the origin's"
        );
        client.send("body");
        assert_eq!(client.read_response().text(), "body");
    }
}

#[test]
fn h1_a_final_answer_before_100_stops_the_body() {
    for status in [417, 403] {
        let origin = Origin::answering(|_| panic!("the body was read"));
        let setup = PlainSetup::new(
            origin
                .before_body(move |_| Some(Answer::status(status)))
                .start(),
        );
        let mut client = setup.client();
        client.send(setup.message("PUT", "allowed.test", "/", &EXPECTING));
        let answer = client.read_response();
        assert_eq!((answer.status, answer.text()), (status, status.to_string()));
        setup.origin.wait_until_idle();
        assert!(setup.origin.requests()[0].body.is_empty());
    }
}

#[test]
fn h1_a_refused_request_gets_no_100_continue() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    client.send(setup.message("POST", "blocked.test", "/", &EXPECTING));
    assert_eq!(client.read_response().status, 403);
}

/// An origin that does not know `Expect` waits for the body, and the client waits for the origin.
#[test]
fn h1_a_silent_origin_gets_the_body_after_about_a_second() {
    let (go, wait) = mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let origin =
        Origin::answering(|request| Answer::text(&request.text())).before_body(move |_| {
            let _: Result<(), _> = wait.lock().expect("the lock").recv_timeout(TIMEOUT);
            None
        });
    let setup = PlainSetup::new(origin.start());
    let mut client = setup.client();
    let begun = Instant::now();
    client.send(setup.message("POST", "allowed.test", "/", &EXPECTING));
    assert_eq!(client.read_response().status, 100);
    assert!(begun.elapsed() > Duration::from_millis(900));
    client.send("body");
    drop(go);
    assert_eq!(client.read_final_response().text(), "body");
}

#[test]
fn h1_a_client_that_does_not_wait_may_send_its_body_at_once() {
    let setup = PlainSetup::echoing();
    let request = setup.message("POST", "allowed.test", "/", &EXPECTING);
    let mut client = setup.client();
    for _ in 0..5 {
        let answer = client.exchange(&format!("{request}body"));
        assert_eq!(answer.json()["body"], "body");
    }
}

#[test]
fn h1_early_hints_arrive_before_the_final_answer() {
    let (go, wait) = mpsc::channel::<()>();
    let origin = serve_one(move |mut stream| {
        read_head(&mut stream)?;
        stream.write_all(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b>\r\n\
              X-Proxy-Error: blocked-by-denylist\r\n\r\n",
        )?;
        // Without it the client gets no answer.
        wait.recv_timeout(TIMEOUT).map_err(io::Error::other)?;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    });
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", origin.port());
    client.send(proxy_request("GET", &authority, "/", &[]));
    let hints = client.read_response();
    assert_eq!(hints.status, 103);
    assert_eq!(hints.headers.all("link"), ["</a.css>; rel=preload", "</b>"]);
    assert_eq!(hints.headers.get("x-proxy-error"), None, "ours to say");
    go.send(()).expect("the origin");
    assert_eq!(client.read_response().text(), "ok");
}

/// Interim answers come before the final one even if the origin sends all of them in one segment.
#[test]
fn h1_interim_answers_precede_the_final_one() {
    const ANSWER: &str = "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
                          HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let setup = PlainSetup::new(Origin::start(|_| Answer::Raw(ANSWER.into())));
    let mut client = setup.client();
    for round in 0..20 {
        client.send(setup.get("allowed.test", "/"));
        let mut seen = Vec::new();
        let last = loop {
            let answer = client.read_response();
            if answer.status / 100 != 1 {
                break answer;
            }
            seen.push(answer.status);
        };
        assert_eq!(last.text(), "ok");
        assert_eq!(seen, [102, 103], "in round {round}");
    }
}

/// RFC 9110 section 15.2: an HTTP/1.0 client would take it for the final answer.
#[test]
fn h1_an_http_1_0_client_gets_no_interim_answer() {
    let setup = PlainSetup::new(Origin::start(|_| {
        let reply = Reply::new(200, Body::Sized(b"ok".to_vec()));
        Answer::Reply(reply.interim(103, &[("Link", "</a>")]))
    }));
    let authority = setup.authority("allowed.test");
    for _ in 0..10 {
        let mut client = setup.client();
        client.send(format!("GET http://{authority}/ HTTP/1.0\r\n\r\n"));
        let answer = client.read_response();
        assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
        client.expect_closed();
    }
}

#[test]
fn h1_an_unrequested_101_is_the_origins_fault() {
    let upgrade = vec![("Upgrade".to_owned(), "irc".to_owned())];
    let setup = PlainSetup::new(Origin::start(move |_| Answer::Upgrade(upgrade.clone())));
    let fields = ["Connection: Upgrade", "Upgrade: websocket"];
    for fields in [&fields[..], &["Upgrade: websocket"], &[]] {
        let answer = setup.ask("GET", "allowed.test", "/", fields);
        assert_eq!(answer.status, 502);
        assert!(
            answer.text().contains("switched protocols unasked"),
            "{}",
            answer.text()
        );
        assert_eq!(answer.header("upgrade"), None);
    }
    setup.origin.wait_until_idle();
}

#[test]
fn h1_endless_interim_answers_are_the_origins_fault() {
    let (sender, ended) = mpsc::channel();
    let address = serve_one(move |mut stream| {
        read_head(&mut stream)?;
        let batch = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(100);
        let broken = std::iter::repeat_with(|| stream.write_all(&batch)).find_map(Result::err);
        let _ = sender.send(broken);
        Ok(())
    });
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", address.port());
    let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("interim"), "{}", answer.text());
    let broken = ended.recv_timeout(TIMEOUT).expect("the connection ends");
    assert!(broken.is_some());
}

#[test]
fn h1_many_interim_answers_are_permitted() {
    let reply = (0..200).fold(
        Reply::new(200, Body::Sized(b"late".to_vec())),
        |reply, _| reply.interim(102, &[]),
    );
    let setup = PlainSetup::new(Origin::start(move |_| Answer::Reply(reply.clone())));
    let answer = setup.ask("GET", "allowed.test", "/", &[]);
    assert_eq!((answer.status, &*answer.text()), (200, "late"));
}
