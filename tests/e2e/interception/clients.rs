//! Clients that interception does not expect: neither TLS nor HTTP, broken TLS, slow TLS, TLS that
//! does not trust the proxy (SPEC M2, M4).

use std::time::{Duration, Instant};

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::descriptors::Descriptors;
use e2e::setup::TlsSetup;
use e2e::tls::TestCa;
use e2e::wait::TIMEOUT;

fn setup() -> TlsSetup {
    TlsSetup::echoing(&Config::limited(), &["http/1.1"])
}

/// Short limits that a test can wait for.
fn hasty() -> TlsSetup {
    let config = Config::limited().set("daemon.limits", "header_timeout", r#""500ms""#);
    TlsSetup::echoing(&config, &["http/1.1"])
}

#[test]
fn m2_bytes_that_are_neither_tls_nor_http_are_reset_and_recorded() {
    for first in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"EHLO client.test\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0],
        &[0x80, 0x2e, 1, 3, 1], // a hello in the form of SSL 2
        &[0x17, 3, 3, 0, 1, 0], // a TLS record, but of data
        &[0xff; 4096],
    ] {
        let setup = setup();
        let mut client = setup.tunnel("allowed.test");
        client.send(first);
        client.expect_reset();
        let entry = setup.blocked("mitm_required");
        assert_eq!(entry["detail"], "not_tls");
        assert_eq!(entry["source"], "mode_guard");
        assert_eq!(setup.origin.requests().len(), 0);
        assert_eq!(setup.origin.handshakes().len(), 0);
    }
}

/// A client that waits for the server to speak first shows no protocol, so only the time limit
/// ends the wait. A forbidden protocol is refused as soon as it is recognised.
#[test]
fn m2_a_client_that_waits_for_the_server_is_refused_after_header_timeout() {
    let setup = hasty();
    let begun = Instant::now();
    let mut client = setup.tunnel("allowed.test");
    client.expect_reset();
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert!(begun.elapsed() < TIMEOUT / 3);
    setup.blocked("mitm_required");
}

#[test]
fn m2_an_incomplete_hello_makes_no_session() {
    let setup = setup();
    let hello = setup.client(&["http/1.1"]).hello("allowed.test");
    for length in [1, 4, 5, 6, 9, 43, 80, hello.len() - 1] {
        let mut client = setup.tunnel("allowed.test");
        client.send(&hello[..length]);
        client.finish_sending();
        let answer = client.read_to_end();
        assert!(answer.is_empty() || answer[0] == 21, "an alert at most");
    }
    assert_eq!(setup.origin.handshakes().len(), 0);
    assert_eq!(setup.status("allowed.test"), 200);
    setup.assert_no_crash();
}

#[test]
fn m2_a_slow_hello_times_out_after_header_timeout() {
    let setup = hasty();
    let hello = setup.client(&["http/1.1"]).hello("allowed.test");
    let mut client = setup.tunnel("allowed.test");
    client.send(&hello[..hello.len() - 1]);
    let begun = Instant::now();
    client.expect_reset();
    assert!(begun.elapsed() < TIMEOUT / 3);
    // A client whose hello is complete, and that sends nothing more.
    let mut client = setup.tunnel("allowed.test");
    client.send(&hello);
    let begun = Instant::now();
    assert_eq!(client.read_exact(1), [22], "the server's hello");
    while !client.read_some().is_empty() {}
    assert!(begun.elapsed() < TIMEOUT / 3);
    setup
        .daemon
        .wait_for_message("did not finish its TLS handshake in time");
}

#[test]
fn m2_a_client_may_write_its_bytes_one_by_one() {
    let setup = setup();
    let client = setup.client(&["http/1.1"]).trickling();
    let (mut inside, _) = setup.tunnel("allowed.test").secure(&client, "allowed.test");
    let get = setup.message("GET", "allowed.test", "/", &[]);
    assert_eq!(inside.exchange(&get).status, 200);
}

#[test]
fn m2_bytes_behind_connect_are_the_beginning_of_tls() {
    let setup = setup();
    let hello = setup.client(&["http/1.1"]).hello("allowed.test");
    let authority = setup.authority("allowed.test");
    let mut client = Connection::open(setup.daemon.http_addr());
    let connect = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    client.send([connect.as_bytes(), &hello].concat());
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.read_exact(2), [22, 3], "a server's hello");
}

/// Each is refused with an alert and without a record.
#[test]
fn m2_garbage_in_records_gets_an_alert() {
    let setup = setup();
    let hello = setup.client(&["http/1.1"]).hello("allowed.test");
    let mut long = vec![22, 3, 1, 0x40, 0];
    long.extend([1, 1, 0, 1]); // a hello of 65537 bytes
    long.resize(5 + 0x4000, 0);
    let mut other = hello.clone();
    other[5] = 2; // a server's hello
    let mut version = hello.clone();
    version[1] = 9;
    let mut lengths = hello.clone();
    lengths[43] = 0xff; // of the session id
    for (what, bytes) in [
        ("too long", &long),
        ("a server's", &other),
        ("a version", &version),
        ("a length", &lengths),
    ] {
        let mut client = setup.tunnel("allowed.test");
        client.send(bytes);
        let alert = client.read_to_end();
        assert_eq!(alert[..5], [21, 3, 3, 0, 2], "{what}: {alert:?}");
    }
    assert_eq!(setup.status("allowed.test"), 200);
    setup.assert_no_crash();
}

/// SSL 3 to TLS 1.1 are not supported; the client gets an alert.
#[test]
fn m6_tls_1_0_is_refused_with_an_alert() {
    let setup = setup();
    let mut body = vec![3, 1];
    body.extend([7; 32]);
    body.push(0); // no session
    body.extend([0, 4, 0, 0x2f, 0xc0, 0x13]); // two cipher suites of its time
    body.extend([1, 0]); // no compression
    let mut hello = vec![22, 3, 1, 0, u8::try_from(body.len() + 4).expect("short")];
    hello.extend([1, 0, 0, u8::try_from(body.len()).expect("short")]);
    hello.extend(body);
    let mut client = setup.tunnel("allowed.test");
    client.send(&hello);
    let alert = client.read_to_end();
    assert_eq!((alert[0], alert.len()), (21, 7), "{alert:?}");
    assert!([40, 70].contains(&alert[6]), "{alert:?}");
}

#[test]
fn m2_many_broken_clients_do_not_block_good_ones() {
    let Some(_reserved) = Descriptors::reserve(430) else {
        return;
    };
    let setup = setup();
    let hello = setup.client(&["http/1.1"]).hello("allowed.test");
    let mut held = Vec::new();
    for number in 0..200 {
        let mut client = setup.tunnel("allowed.test");
        client.send(&hello[..number % hello.len()]);
        held.push(client);
    }
    assert_eq!(setup.status("allowed.test"), 200);
    drop(held);
    setup.assert_no_crash();
}

#[test]
fn m4_distrust_of_the_ca_is_logged_once_per_host_and_minute() {
    let setup = TlsSetup::echoing(&Config::limited().allow("127.0.0.1"), &["http/1.1"]);
    let stranger = e2e::tls::Client::trusting(&TestCa::new());
    for host in ["allowed.test", "127.0.0.1"] {
        for _ in 0..5 {
            let refused = setup.tunnel(host).try_secure(&stranger, host);
            assert!(refused.is_err());
        }
    }
    assert_eq!(setup.status("allowed.test"), 200);
    let reported =
        |line: &e2e::daemon::LogLine| line.message_contains("does not trust the proxy's CA");
    setup.daemon.wait_for_log(|line| {
        reported(line) && line.field("host").is_some_and(|it| it == "127.0.0.1")
    });
    assert_eq!(setup.daemon.reload().status, 200);
    setup.daemon.wait_for_message("reloaded");
    let lines = setup.daemon.logs();
    let lines: Vec<_> = lines.iter().filter(|line| reported(line)).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    for line in lines {
        assert_eq!(line.level(), Some("WARN"));
        let output = line.message().unwrap_or_default();
        assert!(output.contains("proxyctl ca show"), "{output}");
    }
    assert_eq!(setup.daemon.blocked().len(), 0, "nothing was refused");
}
