//! Intercepted connections when something changes: the policy, the settings, the worker, the
//! daemon's end (SPEC P9, P11, M1, C7).

use std::sync::Mutex;
use std::time::{Duration, Instant};

use e2e::client::{Connection, Http2, proxy_request};
use e2e::daemon::{Config, Signal};
use e2e::origin::{Answer, Builder, Gate, Origin, Reply};
use e2e::proxyctl::exported_ca;
use e2e::setup::TlsSetup;
use e2e::tls::{Client, Server};
use e2e::wait::TIMEOUT;

use super::BOTH;
use super::frames::{END_HEADERS, END_STREAM, FrameConnection, GOAWAY, HEADERS, SETTINGS, frame};
use super::hooks::{hooked, secret, unhooked};

/// An intercepted connection on which one request has been answered.
enum Intercepted {
    Http1(Connection),
    Http2(Http2),
}

fn inside(setup: &TlsSetup, protocol: &str, host: &str) -> Intercepted {
    let mut inside = if protocol == "h2" {
        Intercepted::Http2(setup.http2(host))
    } else {
        Intercepted::Http1(setup.http1(host))
    };
    assert_eq!(inside.get(setup, host, "/api/x"), 200);
    inside
}

impl Intercepted {
    fn get(&mut self, setup: &TlsSetup, host: &str, path: &str) -> u16 {
        match self {
            Self::Http1(client) => {
                client
                    .exchange(&setup.message("GET", host, path, &[]))
                    .status
            }
            Self::Http2(client) => {
                client
                    .request("GET", &setup.url(host, path), &[], b"")
                    .status
            }
        }
    }

    fn expect_closed(&mut self) {
        match self {
            Self::Http1(client) => client.expect_closed(),
            Self::Http2(client) => client.wait_until_closed(),
        }
    }
}

/// Fails unless `wait` returns within the second of SPEC P11.
fn within_a_second(wait: impl FnOnce()) {
    let begun = Instant::now();
    wait();
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn m3_a_reload_keeps_the_ca_and_the_connections_and_the_sessions() {
    for protocol in BOTH {
        let setup = TlsSetup::echoing(&Config::limited(), &[protocol]);
        let mut kept = inside(&setup, protocol, "allowed.test");
        setup
            .daemon
            .reload_with(&Config::limited().allow("another.test"));
        assert_eq!(kept.get(&setup, "allowed.test", "/"), 200);
        assert_eq!(exported_ca(&setup.daemon), setup.proxy_ca);
    }
    let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    let client = setup.client(&["http/1.1"]);
    for resumed in [false, true] {
        let (mut inside, session) = setup.tunnel("allowed.test").secure(&client, "allowed.test");
        assert_eq!(session.resumed, resumed);
        inside.exchange(&setup.message("GET", "allowed.test", "/", &[]));
        setup
            .daemon
            .reload_with(&Config::limited().allow("another.test"));
    }
}

#[test]
fn p11_connections_that_a_reload_forbids_end_within_a_second_and_are_logged() {
    let here = std::net::Ipv4Addr::LOCALHOST;
    for (what, tighter) in [
        ("denied", Config::limited().deny("allowed.test")),
        (
            "no longer allowed",
            Config::new()
                .set("network", "mode", r#""limited""#)
                .host("allowed.test", here),
        ),
        ("its address is denied", Config::limited().deny("127.0.0.1")),
        (
            "interception is forbidden",
            Config::limited().set("network", "mitm", "false"),
        ),
        (
            "disabled",
            Config::limited().set("network", "enabled", "false"),
        ),
    ] {
        for protocol in BOTH {
            let setup = TlsSetup::echoing(&Config::limited(), &[protocol]);
            let mut doomed = inside(&setup, protocol, "allowed.test");
            setup.daemon.reload_with(&tighter);
            within_a_second(|| doomed.expect_closed());
            let line = setup
                .daemon
                .wait_for_message("the policy no longer permits");
            let authority = setup.authority("allowed.test");
            assert_eq!(line.server(), Some(authority), "{what}");
            setup.assert_no_crash();
        }
    }
}

/// Before the handshake has ended, while the client or the origin is silent.
#[test]
fn p11_a_forbidden_connection_ends_during_its_handshake_too() {
    let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    let hello = setup.client(&["http/1.1"]).hello("allowed.test");
    let mut silent = setup.tunnel("allowed.test");
    let mut half = setup.tunnel("allowed.test");
    half.send(&hello[..20]);
    let mut waiting = setup.tunnel("allowed.test");
    waiting.send(&hello);
    assert_eq!(waiting.read_exact(1), [22], "the server's hello");
    setup
        .daemon
        .reload_with(&Config::limited().deny("allowed.test"));
    within_a_second(|| {
        for client in [&mut silent, &mut half, &mut waiting] {
            while client.try_read_exact(1).is_ok() {}
        }
    });
}

/// Answers with a body that ends when the gate is dropped.
fn endless() -> (Gate, Builder) {
    let (gate, body) = Gate::new();
    let body = Mutex::new(Some(body));
    let origin = Origin::answering(move |_| {
        let body = body.lock().expect("the lock").take();
        body.map_or(Answer::Echo, |body| Answer::Reply(Reply::new(200, body)))
    });
    (gate, origin)
}

/// An [`endless`] answer that has begun is delivered to its end, even if `happen` changes the settings
/// meanwhile. Then the connection closes.
fn assert_finished(
    setup: &TlsSetup,
    protocol: &str,
    host: &str,
    gate: Gate,
    happen: impl FnOnce(),
) {
    if protocol == "h2" {
        let mut client = setup.http2(host);
        let mut exchange = client.begin("GET", &setup.url(host, "/api/x"), &[]);
        assert_eq!(exchange.head().status, 200);
        happen();
        gate.release(b"whole");
        drop(gate);
        assert_eq!(exchange.read_some(), b"whole");
        assert_eq!(exchange.read_some(), b"");
        client.wait_until_closed();
    } else {
        let mut client = setup.http1(host);
        client.send(setup.message("GET", host, "/api/x", &[]));
        let head = client.read_head();
        happen();
        gate.release(b"whole");
        drop(gate);
        assert_eq!(client.read_body_of(head).text(), "whole");
        client.expect_closed();
    }
}

/// A connection that no longer needs interception may end its request, but only while that request
/// is permitted.
#[test]
fn p11_an_unneeded_interception_ends_when_its_host_is_denied() {
    let (_directory, file) = secret();
    for protocol in BOTH {
        let (gate, origin) = endless();
        let setup = TlsSetup::with(&hooked(&file), &[protocol], origin);
        let denied = unhooked().deny("hooked.test");
        if protocol == "h2" {
            let mut client = setup.http2("hooked.test");
            let mut exchange = client.begin("GET", &setup.url("hooked.test", "/api/x"), &[]);
            assert_eq!(exchange.head().status, 200);
            setup.daemon.reload_with(&unhooked());
            gate.release(b"more");
            assert_eq!(exchange.read_some(), b"more");
            setup.daemon.reload_with(&denied);
            within_a_second(|| client.wait_until_closed());
        } else {
            let mut client = setup.http1("hooked.test");
            client.send(setup.message("GET", "hooked.test", "/api/x", &[]));
            assert_eq!(client.read_head().status, 200);
            setup.daemon.reload_with(&unhooked());
            gate.release(b"more");
            assert_eq!(client.read_exact(9), b"4\r\nmore\r\n");
            setup.daemon.reload_with(&denied);
            within_a_second(|| client.expect_closed());
        }
    }
}

/// The admin API changes the mode back and forth.
#[test]
fn m1_a_change_of_mode_changes_interception_at_once() {
    for protocol in BOTH {
        let setup = TlsSetup::echoing(&Config::example(), &[protocol]);
        let theirs = Client::trusting(&setup.ca);
        let opaque = || {
            setup
                .tunnel("allowed.test")
                .try_secure(&theirs, "allowed.test")
        };
        for _ in 0..2 {
            let (mut tunnel, _) = opaque().expect("the origin itself");
            setup.daemon.set_mode("limited");
            within_a_second(|| tunnel.expect_closed());
            assert!(opaque().is_err(), "the proxy's certificate is not trusted");
            let mut intercepted = inside(&setup, protocol, "allowed.test");
            setup.daemon.set_mode("full");
            within_a_second(|| intercepted.expect_closed());
        }
    }
}

/// A hook is removed during a request: that request still ends under it.
#[test]
fn m1_a_connection_that_needs_no_interception_ends_after_its_current_request() {
    let (_directory, file) = secret();
    for protocol in BOTH {
        let (gate, origin) = endless();
        let setup = TlsSetup::with(&hooked(&file), &[protocol], origin);
        assert_finished(&setup, protocol, "hooked.test", gate, || {
            setup.daemon.reload_with(&unhooked());
        });
    }
}

#[test]
fn m4_after_a_worker_was_killed_the_next_intercepts_with_the_same_ca() {
    for protocol in BOTH {
        let setup = TlsSetup::echoing(&Config::limited(), &[protocol]);
        let mut doomed: Vec<Intercepted> = (0..8)
            .map(|_| inside(&setup, protocol, "allowed.test"))
            .collect();
        let first = setup.daemon.worker();
        e2e::process::kill_process(first);
        within_a_second(|| doomed.iter_mut().for_each(Intercepted::expect_closed));
        let answer = setup.ask(protocol, "GET", "allowed.test", "/", &[]);
        assert_eq!(answer.status, 200);
        let answer = setup.ask(protocol, "POST", "allowed.test", "/", &[]);
        assert_eq!(answer.status, 403);
        assert_ne!(setup.daemon.worker(), first);
        assert_eq!(exported_ca(&setup.daemon), setup.proxy_ca);
    }
}

/// The monitor issues for one public key of each worker, whatever CA is in force.
#[test]
fn m4_a_reload_changes_the_ca_without_replacing_the_worker() {
    let mut setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    let worker = setup.daemon.worker();
    let get = |setup: &TlsSetup| {
        let request = setup.message("GET", "allowed.test", "/", &[]);
        setup.http1("allowed.test").exchange(&request).status
    };
    assert_eq!(get(&setup), 200);
    crate::ca::init(&setup.daemon.directory().join("state")).succeeded();
    assert_eq!(setup.daemon.reload().status, 200);
    let kept = exported_ca(&setup.daemon);
    assert_ne!(kept, setup.proxy_ca, "another CA is in force");
    setup.proxy_ca = kept;
    assert_eq!(get(&setup), 200);
    assert_eq!(setup.daemon.worker(), worker);
}

/// The monitor issues certificates for each kind of entry of the allow list.
#[test]
fn m4_hosts_below_wildcards_are_intercepted() {
    let patterns = Config::limited()
        .allow("**.apex.test")
        .allow("in*label.wild.test");
    for host in ["apex.test", "x.apex.test", "in-a-label.wild.test"] {
        let config = patterns.clone().host(host, std::net::Ipv4Addr::LOCALHOST);
        let setup = TlsSetup::serving(&config, Origin::answering(|_| Answer::Echo), |ca| {
            Server::of(ca, &[host])
        });
        let request = setup.message("GET", host, "/", &[]);
        assert_eq!(setup.http1(host).exchange(&request).status, 200, "{host}");
    }
}

#[test]
fn h1_a_drain_lets_current_requests_finish() {
    for protocol in BOTH {
        let (gate, origin) = endless();
        let setup = TlsSetup::with(&Config::limited(), &[protocol], origin);
        assert_finished(&setup, protocol, "allowed.test", gate, || {
            setup.daemon.signal(Signal::SIGTERM);
            setup.daemon.wait_for_message("stopping");
        });
        let begun = Instant::now();
        assert_eq!(setup.daemon.wait_exit().code, Some(0));
        assert!(
            begun.elapsed() < TIMEOUT / 3,
            "it waits for no other client"
        );
    }
}

/// The client answers neither GOAWAY nor PING. The daemon does not wait for it until
/// `drain_timeout`.
#[test]
fn h1_a_drain_does_not_wait_for_a_silent_http2_client() {
    let setup = TlsSetup::echoing(
        &Config::limited().set("daemon.limits", "header_timeout", r#""1s""#),
        &["h2"],
    );
    let mut raw = FrameConnection::open(&setup, "allowed.test", &[]);
    let block = raw.request("GET", "/", &[]);
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    raw.until(|frame| frame.kind == HEADERS).expect("an answer");
    setup.daemon.signal(Signal::SIGTERM);
    raw.until(|frame| frame.kind == GOAWAY).expect("a goodbye");
    let begun = Instant::now();
    assert_eq!(setup.daemon.wait_exit().code, Some(0));
    assert!(begun.elapsed() < TIMEOUT / 3);
    drop(raw);
}

/// After its handshake the client sends nothing, or half of the HTTP/2 preface.
#[test]
fn c5_an_http2_connection_without_a_request_ends_after_the_idle_timeout() {
    let config = Config::limited()
        .set("daemon.limits", "header_timeout", r#""500ms""#)
        .set("daemon.limits", "idle_timeout", r#""1s""#);
    for early in [&b""[..], b"PRI * HTTP/2.0\r\n\r\n"] {
        let setup = TlsSetup::echoing(&config, &["h2"]);
        let client = setup.client(&["h2"]);
        let (mut client, _) = setup.tunnel("allowed.test").secure(&client, "allowed.test");
        client.send(early);
        let begun = Instant::now();
        while !client.read_some().is_empty() {}
        assert!(begun.elapsed() < TIMEOUT / 3);
    }
    // A client that does not finish its headers, and one that is idle and does not close.
    for begin in [true, false] {
        let setup = TlsSetup::echoing(&config, &["h2"]);
        let mut raw = FrameConnection::open(&setup, "allowed.test", &[]);
        raw.until(|frame| frame.kind == SETTINGS).expect("settings");
        if begin {
            let block = raw.request("GET", "/", &[]);
            raw.send(frame(HEADERS, END_STREAM, 1, &block));
        }
        let begun = Instant::now();
        while raw.next().is_some() {}
        assert!(begun.elapsed() < TIMEOUT / 3);
    }
}

/// The client opens a stream with a flow-control window of 0.
#[test]
fn c5_an_http2_connection_without_progress_ends() {
    let config = Config::limited()
        .set("daemon.limits", "header_timeout", r#""500ms""#)
        .set("daemon.limits", "idle_timeout", r#""1s""#);
    let setup = TlsSetup::echoing(&config, &["h2"]);
    // SETTINGS_INITIAL_WINDOW_SIZE (RFC 9113 section 6.5.2).
    let mut raw = FrameConnection::open(&setup, "allowed.test", &[(4, 0)]);
    let block = raw.request("GET", "/", &[]);
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    raw.until(|frame| frame.kind == HEADERS).expect("an answer");
    setup
        .daemon
        .wait_for_message("closed a stalled HTTP/2 connection");
    while raw.next().is_some() {}
}

/// The answers for the same destination by every protocol.
#[test]
fn p9_a_request_inside_tls_gets_the_same_verdict_as_outside() {
    let config = Config::limited().allow("127.0.0.1");
    let setup = TlsSetup::echoing(&config, &["http/1.1"]);
    let plain = Origin::start(|_| Answer::Echo);
    let port = plain.addr().port();
    for (method, reason) in [
        ("GET", None),
        ("HEAD", None),
        ("POST", Some("method_not_allowed")),
        ("PUT", Some("method_not_allowed")),
        ("get", Some("method_not_allowed")),
    ] {
        for host in ["allowed.test", "127.0.0.1"] {
            let mut door = Connection::open(setup.daemon.http_addr());
            let authority = format!("{host}:{port}");
            let outside = door.exchange(&proxy_request(method, &authority, "/", &[]));
            let inside = setup.ask("http/1.1", method, host, "/", &[]);
            let wanted = if reason.is_some() { 403 } else { 200 };
            assert_eq!(
                (outside.status, inside.status),
                (wanted, wanted),
                "{method} {host}"
            );
            let reported = |answer: &e2e::client::Response| {
                let json = answer.header("x-network-policy-decision")?;
                let json: serde_json::Value = serde_json::from_str(json).expect("JSON");
                Some([json["reason"].clone(), json["source"].clone()])
            };
            assert_eq!(reported(&outside), reported(&inside));
            let reported = reported(&inside).map(|[reason, _]| reason);
            assert_eq!(reported, reason.map(Into::into));
        }
    }
    // A reload affects the next request inside TLS too.
    let mut kept = inside(&setup, "http/1.1", "allowed.test");
    let (_directory, file) = secret();
    let hooks = hooked(&file)
        .set("network", "mode", r#""limited""#)
        .hook("new", "allowed.test", &["GET"], "/only")
        .set("network.mitm.hooks.new", "action", r#"["clean"]"#);
    setup.daemon.reload_with(&hooks);
    assert_eq!(kept.get(&setup, "allowed.test", "/else"), 403);
    assert_eq!(setup.blocked("mitm_hook_denied")["host"], "allowed.test");
    assert_eq!(kept.get(&setup, "allowed.test", "/only"), 200);
}
