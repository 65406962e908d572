//! Answers that come before the request is complete (SPEC H1; RFC 9112 section 9.3).

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::client::{Connection, proxy_request};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::raw_origin::{read_head, serve_each};
use e2e::setup::PlainSetup;

/// Reads a head, answers 413, and closes: with unread bytes, that is a reset.
fn hasty() -> (SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let address = serve_each(move |_, mut stream| {
        read_head(&mut stream)?;
        count.fetch_add(1, Ordering::SeqCst);
        stream.write_all(
            b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\nConnection: close\r\n\r\nmuch",
        )
    });
    (address, asked)
}

/// Sends this many bytes, or as many as the peer accepts.
pub(crate) fn upload(client: &mut Connection, size: usize) {
    let part = vec![0; size.min(64 * 1024)];
    for _ in 0..size / part.len() {
        if client.try_send(&part).is_err() {
            break;
        }
    }
}

#[test]
fn h1_an_early_answer_is_read_after_writing_the_body_failed() {
    let (origin, asked) = hasty();
    let daemon = Daemon::start(&Config::example());
    let authority = format!("allowed.test:{}", origin.port());
    let mut rounds = 0;
    for size in [1024, 64 * 1024, 1 << 20, 16 << 20] {
        for _ in 0..25 {
            rounds += 1;
            let mut client = Connection::open(daemon.http_addr());
            let length = format!("Content-Length: {size}");
            client.send(proxy_request("POST", &authority, "/", &[&length]));
            upload(&mut client, size);
            let answer = client.read_final_response();
            assert_eq!((answer.status, &*answer.text()), (413, "much"), "{size}");
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), rounds);
}

#[test]
fn h1_after_an_early_answer_both_connections_end() {
    let origin = Origin::answering(|request| match &*request.target {
        "/" => Answer::text("whole"),
        target => panic!("{target} came"),
    });
    let origin = origin.leaving_unread(|request| request.header("content-length") == Some("9"));
    let setup = PlainSetup::on_one_core(&Config::example(), origin.start());
    for _ in 0..2 {
        let mut client = setup.client();
        client.send(setup.message("POST", "allowed.test", "/", &["Content-Length: 9"]));
        let answer = client.read_final_response();
        assert_eq!((answer.status, &*answer.text()), (200, "whole"));
        assert!(answer.headers.closes(), "{:?}", answer.headers);
        // Bytes after the answer belong to no request.
        let _ = client.try_send("GET /late ");
        drop(client);
        let answer = setup.ask("POST", "allowed.test", "/", &["Content-Length: 0"]);
        assert_eq!(answer.status, 200);
        assert!(!answer.headers.closes(), "{:?}", answer.headers);
    }
    assert_eq!(setup.origin.used_connections(), [0, 1, 1, 2]);
}
