//! Clients that close their sending side after a request and wait for the answer, like `nc -N`
//! (SPEC H1), and how the proxy notices a client that is gone.

use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::setup::PlainSetup;
use e2e::wait::{TIMEOUT, poll};
use e2e::wire::noise;

/// An origin that answers when the test permits it.
fn held(answer: Answer) -> (PlainSetup, Sender<()>) {
    let (sender, receiver) = mpsc::channel();
    let receiver = Mutex::new(receiver);
    let setup = PlainSetup::new(Origin::start(move |_| {
        let held = receiver.lock().expect("the lock").recv_timeout(TIMEOUT);
        held.expect("the test lets the origin answer");
        answer.clone()
    }));
    (setup, sender)
}

/// Waits until this many requests have arrived completely.
fn arrived(setup: &PlainSetup, number: usize) {
    setup.origin.wait_for("the request", |requests| {
        (requests.len() == number && requests[number - 1].complete).then_some(())
    });
}

/// The state and the timer of the daemon's end of a connection, from Linux.
#[cfg(target_os = "linux")]
fn kernel_says(daemon: &Daemon, client: &Connection) -> Option<(String, String)> {
    let port = |address: std::net::SocketAddr| format!(":{:04X}", address.port());
    let (local, remote) = (port(daemon.http_addr()), port(client.local_addr()));
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    table.lines().find_map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        let ends = (columns.next()?, columns.next()?);
        if !ends.0.ends_with(&local) || !ends.1.ends_with(&remote) {
            return None;
        }
        let state = columns.next()?.to_owned();
        let timer = columns.nth(1)?.split(':').next()?.to_owned();
        Some((state, timer))
    })
}

#[test]
fn h1_a_client_that_half_closes_after_a_request_gets_its_answer() {
    let (setup, let_answer) = held(Answer::Echo);
    let authority = setup.authority("allowed.test");
    for (number, (request, body)) in [
        (setup.get("allowed.test", "/"), ""),
        (format!("GET http://{authority}/ HTTP/1.0\r\n\r\n"), ""),
        (
            setup.message("POST", "allowed.test", "/", &["Content-Length: 4"]) + "four",
            "four",
        ),
        (
            setup.message("PUT", "allowed.test", "/", &["Transfer-Encoding: chunked"])
                + "4\r\nfour\r\n0\r\n\r\n",
            "four",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = setup.client();
        client.send(&request);
        client.finish_sending();
        arrived(&setup, number + 1);
        let_answer.send(()).expect("the origin waits");
        let answer = client.read_final_response();
        assert_eq!(answer.status, 200, "{request}");
        assert_eq!(answer.json()["body"], body, "{request}");
        client.expect_closed();
    }
}

#[test]
fn h1_every_request_before_a_half_close_is_answered() {
    let (setup, let_answer) = held(Answer::Echo);
    let mut client = setup.client();
    client.send(setup.get("allowed.test", "/1") + &setup.get("allowed.test", "/2"));
    client.finish_sending();
    for number in 1..=2 {
        arrived(&setup, number);
        let_answer.send(()).expect("the origin waits");
        let target = client.read_final_response().json()["target"].clone();
        assert_eq!(target, format!("/{number}"));
    }
    client.expect_closed();
}

/// A half-close must not end the connection while the answer
/// still waits for room.
#[test]
fn h1_a_large_answer_after_a_half_close_arrives_whole() {
    let sent = noise(7, 16 * 1024 * 1024);
    let (setup, let_answer) = held(Answer::bytes("application/octet-stream", &sent));
    let mut client = setup.client();
    client.send(setup.get("allowed.test", "/"));
    client.finish_sending();
    arrived(&setup, 1);
    let_answer.send(()).expect("the origin waits");
    // The origin has finished before the client reads the last bytes.
    let head = client.read_head();
    let answer = client.read_body_of(head);
    assert!(answer.body == sent, "{} bytes arrived", answer.body.len());
    client.expect_closed();
}

#[test]
fn h8_bytes_and_a_half_close_right_after_connect_pass_the_tunnel() {
    let setup = PlainSetup::new(Origin::echoing_bytes().start());
    let authority = setup.authority("allowed.test");
    for behind in ["quit\r\n", ""] {
        let mut client = setup.client();
        client.send(format!("CONNECT {authority} HTTP/1.1\r\n\r\n{behind}"));
        client.finish_sending();
        assert_eq!(client.read_head().status, 200);
        assert_eq!(client.read_to_end(), behind.as_bytes());
    }
}

#[test]
fn a1_the_admin_api_answers_a_client_that_half_closes() {
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.admin_addr());
    client.send("POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n");
    client.finish_sending();
    assert_eq!(client.read_final_response().status, 200);
    client.expect_closed();
}

/// The bytes after such a request are not read until it is answered.
const UPGRADE: &str = "Connection: upgrade\r\nUpgrade: tcp\r\n";

#[test]
fn h1_a_client_reset_cancels_its_request() {
    for (ends_first, offer) in [(true, ""), (false, ""), (false, UPGRADE)] {
        let setup = PlainSetup::new(Origin::start(|_| Answer::Silence));
        let mut client = setup.client();
        let request = setup.get("allowed.test", "/");
        client.send(request.replacen("\r\n", &format!("\r\n{offer}"), 1));
        if ends_first {
            client.finish_sending();
        }
        arrived(&setup, 1);
        client.reset();
        setup.origin.wait_until_idle();
    }
}

/// A client that has closed its socket looks like one that waits, until its host forgets the
/// connection. Then the kernel's probe gets a reset.
#[cfg(target_os = "linux")]
#[test]
fn h1_a_half_closed_client_gets_tcp_keepalive() {
    const CLOSE_WAIT: &str = "08";
    const KEEPALIVE: &str = "02";
    let setup = PlainSetup::new(Origin::start(|_| Answer::Silence));
    let mut client = setup.client();
    client.send(setup.get("allowed.test", "/"));
    arrived(&setup, 1);
    client.finish_sending();
    poll(TIMEOUT, || {
        let (state, timer) = kernel_says(&setup.daemon, &client)?;
        (state == CLOSE_WAIT && timer == KEEPALIVE).then_some(())
    })
    .expect("a half-closed connection with a keep-alive timer");
    client.reset();
    setup.origin.wait_until_idle();
}
