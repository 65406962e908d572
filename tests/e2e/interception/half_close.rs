//! Clients that close their sending side of TLS after a request and wait for the answer (SPEC H1,
//! M6).

use std::sync::Mutex;
use std::sync::mpsc;

use e2e::daemon::Config;
use e2e::origin::Answer;
use e2e::setup::TlsSetup;
use e2e::wait::TIMEOUT;

#[test]
fn m6_a_client_that_sends_close_notify_gets_its_answer() {
    for says_so in [true, false] {
        let (let_answer, held) = mpsc::channel();
        let held = Mutex::new(held);
        let setup = TlsSetup::new(&Config::limited(), &["http/1.1"], move |_| {
            let held = held.lock().expect("the lock").recv_timeout(TIMEOUT);
            held.expect("the test lets the origin answer");
            Answer::Echo
        });
        let mut client = setup.http1("allowed.test");
        client.send(setup.message("GET", "allowed.test", "/a", &[]));
        if says_so {
            client.close_notify();
        } else {
            // Like programs that only close the socket.
            client.finish_sending();
        }
        setup.origin.wait_for("the request", |requests| {
            requests.first().filter(|request| request.complete)?;
            Some(())
        });
        let_answer.send(()).expect("the origin waits");
        let answer = client.read_final_response();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["target"], "/a");
    }
}

#[test]
fn m6_a_client_reset_cancels_its_request() {
    let setup = TlsSetup::new(&Config::limited(), &["http/1.1"], |_| Answer::Silence);
    let mut client = setup.http1("allowed.test");
    client.send(setup.message("GET", "allowed.test", "/", &[]));
    client.close_notify();
    setup
        .origin
        .wait_for("the request", |requests| requests.first().map(|_| ()));
    client.reset();
    setup.origin.wait_until_idle();
}
