//! Heads that take too long, and silent connections (SPEC C5, "Bad input").

use std::thread;
use std::time::{Duration, Instant};

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::descriptors::Descriptors;
use e2e::origin::{Answer, Origin};
use e2e::setup::PlainSetup;
use e2e::wait::TIMEOUT;

use super::assert_unharmed;

fn quick_headers() -> PlainSetup {
    let config = Config::example().set("daemon.limits", "header_timeout", r#""400ms""#);
    PlainSetup::with(&config, Origin::start(|_| Answer::Echo))
}

#[test]
fn c5_an_incomplete_head_is_408() {
    let setup = quick_headers();
    let mut client = setup.client();
    let begun = Instant::now();
    client.send("GET http://allowed.test/ HTTP/1.1\r\nX: ");
    let answer = client.read_final_response();
    assert_eq!(answer.status, 408);
    assert!(answer.headers.closes());
    assert!(begun.elapsed() >= Duration::from_millis(400));
    client.expect_closed();
    setup.daemon.wait_for_message("did not arrive in time");
    assert_unharmed(&setup);
}

/// The limit is for the whole head: a byte now and then does not extend it. The test is about time:
/// the bytes must come slowly.
#[test]
fn c5_a_head_that_arrives_too_slowly_is_408() {
    let setup = quick_headers();
    let mut client = setup.client();
    let begun = Instant::now();
    client.send("GET http://allowed.test/ HTTP/1.1\r\nX: ");
    while begun.elapsed() < TIMEOUT && client.try_send("x").is_ok() {
        thread::sleep(Duration::from_millis(50));
    }
    assert!(begun.elapsed() < TIMEOUT, "it went on for ever");
    assert_eq!(client.read_final_response().status, 408);
}

#[test]
fn c5_every_later_request_has_the_same_timeout() {
    let setup = quick_headers();
    let mut client = setup.client();
    assert_eq!(client.exchange(&setup.get("allowed.test", "/")).status, 200);
    // The test is about time: an idle connection may wait for longer than a head may take.
    thread::sleep(Duration::from_millis(600));
    assert_eq!(client.exchange(&setup.get("allowed.test", "/")).status, 200);
    client.send("GET ");
    assert_eq!(client.read_final_response().status, 408);
    client.expect_closed();
}

#[test]
fn c5_a_silent_connection_is_closed() {
    let setup = quick_headers();
    setup.client().expect_closed();
}

/// Empty lines are not a request: they do not extend the limit (RFC 9112 section 2.2 requires them
/// to be skipped).
#[test]
fn c5_empty_lines_do_not_extend_the_header_timeout() {
    let setup = quick_headers();
    for lines in ["\r\n", "\r\n\r\n", "\r\n\r\n\r"] {
        let mut client = setup.client();
        client.send(lines);
        client.expect_closed();
    }
    let mut client = setup.client();
    client.send("\r\n\r\nGET ");
    assert_eq!(client.read_final_response().status, 408);
    assert_unharmed(&setup);
}

/// Many slow clients do not delay other clients.
#[test]
fn c5_slow_clients_do_not_delay_others() {
    let Some(_reserved) = Descriptors::reserve(230) else {
        return;
    };
    let setup = PlainSetup::echoing();
    let mut slow: Vec<Connection> = (0..200).map(|_| setup.client()).collect();
    for client in &mut slow {
        client.send("GET http://allowed.test/ HTTP/1.1\r\nX: ");
    }
    let answer = setup.ask("GET", "allowed.test", "/", &[]);
    assert_eq!(answer.status, 200);
}
