//! Connections to origins: reuse, expiry, retries, and the answer if there is no connection (SPEC H8,
//! C7).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::client::{Connection, proxy_request};
use e2e::daemon::{Config, Daemon, Signal};
use e2e::origin::{Answer, Body, Origin, Reply};
use e2e::port::{RefusingPort, StalledPort};
use e2e::proxyctl::proxyctl_json;
use e2e::resolver::StubResolver;
use e2e::setup::PlainSetup;
use e2e::wait::{TIMEOUT, poll};

#[test]
fn h1_a_connection_to_an_origin_is_reused() {
    let setup = PlainSetup::on_one_core(&Config::example(), Origin::start(|_| Answer::Echo));
    let mut client = setup.client();
    for _ in 0..5 {
        client.exchange(&setup.get("allowed.test", "/"));
    }
    // It belongs to the proxy, not to one client.
    setup.ask("GET", "allowed.test", "/", &[]);
    assert_eq!(setup.origin.requests().len(), 6);
    assert_eq!(setup.origin.connections(), 1);
}

#[test]
fn h1_a_connection_is_not_reused_for_another_name_of_the_same_address() {
    let config = Config::example()
        .allow("other.test")
        .host("other.test", std::net::Ipv4Addr::LOCALHOST);
    let setup = PlainSetup::on_one_core(&config, Origin::start(|_| Answer::Echo));
    for host in ["allowed.test", "other.test", "allowed.test", "other.test"] {
        setup.ask("GET", host, "/", &[]);
    }
    assert_eq!(setup.origin.used_connections(), [0, 1, 0, 1]);
}

#[test]
fn c7_kept_connections_are_not_reused_after_a_reload() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    for connection in 0..3 {
        for _ in 0..2 {
            client.exchange(&setup.get("allowed.test", "/"));
            let requests = setup.origin.requests();
            let last = requests.last().expect("a request");
            assert_eq!(last.connection, connection);
        }
        assert_eq!(setup.daemon.reload().status, 200);
    }
}

#[test]
fn h1_a_closed_upstream_connection_is_replaced() {
    let setup = PlainSetup::new(Origin::start(|request| match &*request.target {
        "/says-so" => Answer::Reply(Reply::new(200, Body::UntilClose(b"ok".to_vec()))),
        _ => Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
    }));
    let mut client = setup.client();
    for path in ["/says-so", "/just-does", "/says-so", "/just-does"] {
        assert_eq!(
            client.exchange(&setup.get("allowed.test", path)).text(),
            "ok"
        );
    }
    assert_eq!(setup.origin.requests().len(), 4);
}

/// An origin that closes at the second request of every connection, as one does that closes an idle
/// connection just when a request comes.
fn forgetful(ending: Answer) -> PlainSetup {
    let last = AtomicUsize::new(usize::MAX);
    PlainSetup::new(Origin::start(move |request| {
        if last.swap(request.connection, Ordering::SeqCst) == request.connection {
            return ending.clone();
        }
        Answer::Echo
    }))
}

#[test]
fn h1_a_request_lost_on_a_closing_connection_is_sent_again() {
    for ending in [Answer::Close, Answer::Reset] {
        let setup = forgetful(ending);
        let mut client = setup.client();
        for method in ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE"] {
            client.exchange(&setup.get("allowed.test", "/first"));
            let path = format!("/{method}");
            let answer = client.exchange(&setup.message(method, "allowed.test", &path, &[]));
            assert_eq!(answer.status, 200, "{method}: {}", answer.text());
            let tries = setup.paths().iter().filter(|seen| **seen == path).count();
            assert_eq!(tries, 2, "{method}");
            // The next round begins with a connection that has not been used.
            setup.daemon.reload();
        }
    }
}

#[test]
fn h1_a_request_that_may_have_been_processed_is_not_sent_again() {
    let setup = forgetful(Answer::Close);
    let mut client = setup.client();
    for (method, fields, body) in [
        ("POST", &["Content-Length: 4"][..], "body"),
        ("POST", &["Content-Length: 0"], ""),
        (
            "PATCH",
            &["Transfer-Encoding: chunked"],
            "1\r\nx\r\n0\r\n\r\n",
        ),
        ("PUT", &["Content-Length: 4"], "body"),
    ] {
        client.exchange(&setup.get("allowed.test", "/first"));
        let before = setup.paths().len();
        let request = setup.message(method, "allowed.test", "/once", fields);
        let answer = client.exchange(&(request + body));
        assert_eq!(answer.status, 502, "{method}");
        assert_eq!(setup.paths().len(), before + 1, "{method}");
    }
}

/// How many connections two requests needed, this long after each other. `hint` is the origin's
/// `Keep-Alive` in the first answer.
fn connections(hint: &'static str, pause: Duration) -> usize {
    let setup = PlainSetup::new(Origin::start(move |_| {
        let reply = Reply::new(200, Body::Sized(b"ok".to_vec()));
        Answer::Reply(reply.header("Keep-Alive", hint))
    }));
    let mut client = setup.client();
    let request = setup.message("POST", "allowed.test", "/", &["Content-Length: 0"]);
    assert_eq!(client.exchange(&request).status, 200);
    // The test is about time: the connection must reach this age.
    std::thread::sleep(pause);
    assert_eq!(client.exchange(&request).status, 200);
    setup.origin.connections()
}

#[test]
fn h1_a_connection_is_not_reused_shortly_before_its_keep_alive_ends() {
    let pause = Duration::from_millis(600);
    assert_eq!(connections("timeout=1, max=100", pause), 2);
    assert_eq!(connections("Timeout=2", pause * 2), 2);
    assert_eq!(connections("timeout=0", Duration::ZERO), 2);
    assert_eq!(connections("max=100", Duration::ZERO), 1);
    assert_eq!(connections("timeout=60", pause), 1);
}

/// How many connections are kept, as `status` shows it.
fn kept(setup: &PlainSetup) -> u64 {
    let status = proxyctl_json(&setup.daemon, &["status"]);
    let kept = &status["counters"]["idle_upstream"];
    kept.as_u64().expect("a number")
}

#[test]
fn h1_a_kept_connection_is_closed_when_it_expires() {
    let setup = PlainSetup::new(Origin::start(|_| {
        let reply = Reply::new(200, Body::Sized(b"ok".to_vec()));
        Answer::Reply(reply.header("Keep-Alive", "timeout=1"))
    }));
    let mut client = setup.client();
    let answer = client.exchange(&setup.get("allowed.test", "/"));
    assert_eq!(answer.status, 200);
    // The origin itself never closes.
    setup.origin.wait_until_idle();
    poll(TIMEOUT, || (kept(&setup) == 0).then_some(())).expect("none is kept");
    // Later ones are closed too.
    let answer = client.exchange(&setup.get("allowed.test", "/"));
    assert_eq!(answer.status, 200);
    assert_eq!(setup.origin.connections(), 2);
    setup.origin.wait_until_idle();
}

#[test]
fn h1_a_kept_connection_closed_by_its_origin_is_dropped_at_once() {
    let setup = PlainSetup::new(Origin::start(|_| Answer::text("ok")));
    let mut client = setup.client();
    let answer = client.exchange(&setup.get("allowed.test", "/"));
    assert_eq!(answer.status, 200);
    poll(TIMEOUT, || (kept(&setup) == 1).then_some(())).expect("it is kept");
    // It closes all connections.
    let PlainSetup { origin, daemon, .. } = setup;
    drop(origin);
    let kept = || proxyctl_json(&daemon, &["status"])["counters"]["idle_upstream"].clone();
    poll(TIMEOUT, || (kept() == 0).then_some(())).expect("it is forgotten");
}

#[test]
fn h8_a_malformed_answer_is_the_origins_fault() {
    for answer in [
        Answer::Close,
        Answer::Reset,
        Answer::Raw(b"\x15\x03\x03\x00\x02\x02\x28".to_vec()),
        Answer::Raw(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        Answer::Raw(b"HTTP/1.1 20".to_vec()),
        Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_vec()),
        Answer::Raw(b"HTTP/2 200\r\n\r\n".to_vec()),
        Answer::Raw(b"HTTP/1.1 200 OK\r\nContent-Len".to_vec()),
    ] {
        let setup = PlainSetup::new(Origin::start(move |_| answer.clone()));
        let mut client = setup.client();
        let answer = client.exchange(&setup.get("allowed.test", "/secret"));
        assert_eq!(answer.status, 502);
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        let text = answer.text();
        assert!(text.starts_with(&setup.authority("allowed.test")), "{text}");
        assert!(text.contains("the fault lies with the host"), "{text}");
        assert!(!text.contains("secret"), "{text}");
        // It concerned one request only.
        let answer = client.exchange(&setup.get("blocked.test", "/"));
        assert_eq!(answer.status, 403);
    }
}

#[test]
fn h8_a_refused_connection_is_502() {
    let port = RefusingPort::open();
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", port.addr().port());
    for _ in 0..2 {
        let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
        assert_eq!(answer.status, 502);
        let wanted = format!("{authority}: the connection was refused.");
        assert!(answer.text().starts_with(&wanted), "{}", answer.text());
        assert_eq!(answer.header("x-proxy-error"), None, "it is not a block");
    }
    assert!(daemon.blocked().is_empty());
}

#[test]
fn h8_a_connection_that_stalls_is_504_after_connect_timeout() {
    let port = StalledPort::open();
    let config = Config::example().set("daemon.limits", "connect_timeout", r#""300ms""#);
    let daemon = Daemon::start(&config);
    let mut client = Connection::open(daemon.http_addr());
    let authority = format!("allowed.test:{}", port.addr().port());
    let begun = Instant::now();
    let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
    assert_eq!(answer.status, 504);
    assert!(
        answer.text().contains("the connection timed out"),
        "{}",
        answer.text()
    );
    assert!(begun.elapsed().as_millis() >= 300);
}

#[test]
fn p4_a_name_that_does_not_resolve_is_a_failure_and_no_block() {
    let dns = StubResolver::start();
    dns.servfail("broken.test");
    dns.silent("silent.test");
    dns.answer("empty.test", []);
    let config = Config::new()
        .allow("**.test")
        .nameserver(dns.address())
        .set("daemon.resolver", "timeout", r#""500ms""#);
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let mut client = setup.client();
    for (host, status) in [
        ("missing.test", 502),
        ("empty.test", 502),
        ("broken.test", 502),
        ("silent.test", 504),
    ] {
        let answer = client.exchange(&setup.get(host, "/"));
        assert_eq!(answer.status, status, "{host}: {}", answer.text());
        assert!(answer.text().contains("dns_failure"), "{}", answer.text());
        assert!(!answer.text().contains("127.0.0.1"), "{}", answer.text());
        assert!(!answer.text().contains("private"), "{}", answer.text());
    }
    assert!(setup.daemon.blocked().is_empty());
    assert_eq!(setup.origin.connections(), 0);
}

/// An idle connection to an origin is not a running request.
#[test]
fn h1_kept_connections_do_not_delay_shutdown() {
    let PlainSetup { origin, daemon } = PlainSetup::echoing();
    let authority = format!("allowed.test:{}", origin.addr().port());
    let mut client = Connection::open(daemon.http_addr());
    let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
    assert_eq!(answer.status, 200);
    drop(client);
    let begun = Instant::now();
    daemon.signal(Signal::SIGTERM);
    let exit = daemon.wait_exit();
    assert_eq!(exit.code, Some(0));
    // Far less than `drain_timeout`, after which the connection is cut.
    assert!(begun.elapsed().as_secs() < 10, "{}", exit.text());
}
