//! The answers to CONNECT (SPEC H5, H8, H2).

use std::time::Instant;

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::port::{RefusingPort, StalledPort};
use e2e::resolver::StubResolver;
use e2e::setup::PlainSetup;

#[test]
fn h8_200_is_sent_after_the_connection_is_made() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    let answer = client.connect(&setup.authority("allowed.test"));
    assert_eq!(answer.status, 200);
    // Connected already, though nothing has been sent through.
    assert_eq!(setup.origin.connections(), 1);
}

/// RFC 9110 section 9.3.6: neither field may be in it. The bytes after it belong to the tunnel.
#[test]
fn h8_200_to_connect_has_no_body_and_no_framing() {
    let setup = PlainSetup::echoing();
    let answer = setup.client().connect(&setup.authority("allowed.test"));
    assert_eq!(answer.start, "HTTP/1.1 200 OK");
    assert!(answer.headers.is_empty(), "{:?}", answer.headers);
}

#[test]
fn h8_an_http_1_0_client_gets_a_tunnel_too() {
    let setup = PlainSetup::new(Origin::echoing_bytes().start());
    let mut client = setup.client();
    let authority = setup.authority("allowed.test");
    client.send(format!("CONNECT {authority} HTTP/1.0\r\n\r\n"));
    assert_eq!(client.read_head().status, 200);
    client.send("hello");
    assert_eq!(client.read_exact(5), b"hello");
}

#[test]
fn h5_a_block_of_connect_has_the_decision_and_a_sentence() {
    let setup = PlainSetup::echoing();
    let port = setup.origin.addr().port();
    for (host, reason, error, sentence) in [
        (
            "blocked.test",
            "not_allowed",
            "blocked-by-allowlist",
            "blocked.test is not on the allow list",
        ),
        (
            "denied.test",
            "denied",
            "blocked-by-denylist",
            "denied.test is explicitly denied",
        ),
    ] {
        let mut client = setup.client();
        let answer = client.connect(&setup.authority(host));
        assert_eq!(answer.start, "HTTP/1.1 403 Forbidden");
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("x-proxy-error"), Some(error));
        let json = format!(
            r#"{{"decision":"deny","reason":"{reason}","source":"baseline_policy","protocol":"https_connect","host":"{host}","port":{port}}}"#
        );
        assert_eq!(answer.header("x-network-policy-decision"), Some(&*json));
        let text = answer.text();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], format!("CODEX_NETWORK_POLICY_DECISION {json}"));
        assert!(lines[1].starts_with(sentence), "{text}");
        assert_eq!(lines.len(), 2, "{text}");
        let entry = setup.daemon.wait_for_blocked(|entry| entry["host"] == host);
        assert_eq!(
            [&entry["protocol"], &entry["method"]],
            ["http-connect", "CONNECT"]
        );
    }
    assert_eq!(setup.origin.connections(), 0);
}

/// A client that does not wait for the answer must still be able to read it.
#[test]
fn h5_a_block_arrives_although_more_was_sent_after_the_connect() {
    let setup = PlainSetup::echoing();
    let authority = setup.authority("blocked.test");
    for _ in 0..10 {
        let mut client = setup.client();
        client.send(format!(
            "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n"
        ));
        client.send(vec![0x16; 100_000]);
        assert_eq!(client.read_final_response().status, 403);
        assert_eq!(client.read_to_end(), b"", "and no reset");
    }
    assert_eq!(setup.origin.connections(), 0);
}

/// Bytes after a refused CONNECT are not a request.
#[test]
fn h4_bytes_after_a_refused_connect_are_not_a_request() {
    let setup = PlainSetup::echoing();
    let authority = setup.authority("blocked.test");
    let mut client = setup.client();
    let hidden = setup.get("allowed.test", "/hidden");
    client.send(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n{hidden}"
    ));
    assert_eq!(client.read_final_response().status, 403);
    client.expect_closed();
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn h8_upstream_failures_name_whose_fault_they_are() {
    let (refusing, stalled) = (RefusingPort::open(), StalledPort::open());
    let dns = StubResolver::start();
    dns.silent("silent.test");
    let config = Config::example()
        .allow("*.test")
        .nameserver(dns.address())
        .set("daemon.resolver", "timeout", r#""300ms""#)
        .set("daemon.limits", "connect_timeout", r#""300ms""#);
    let daemon = Daemon::start(&config);
    for (host, port, status, what) in [
        (
            "allowed.test",
            refusing.addr().port(),
            502,
            "the connection was refused",
        ),
        (
            "allowed.test",
            stalled.addr().port(),
            504,
            "the connection timed out",
        ),
        (
            "missing.test",
            443,
            502,
            "dns_failure: the name does not exist",
        ),
        (
            "silent.test",
            443,
            504,
            "dns_failure: the name could not be looked up in time",
        ),
    ] {
        let mut client = Connection::open(daemon.http_addr());
        let begun = Instant::now();
        let answer = client.connect(&format!("{host}:{port}"));
        assert_eq!(answer.status, status, "{host}: {}", answer.text());
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("x-proxy-error"), None);
        let wanted =
            format!("{host}:{port}: {what}. The proxy allowed the request; the fault lies");
        assert!(answer.text().starts_with(&wanted), "{}", answer.text());
        assert!(status == 502 || begun.elapsed().as_millis() >= 300);
    }
    assert!(daemon.blocked().is_empty());
}

#[test]
fn h2_the_target_of_connect_is_a_host_and_a_port() {
    let setup = PlainSetup::echoing();
    let port = setup.origin.addr().port();
    for target in [
        "allowed.test".to_owned(),
        "allowed.test:".to_owned(),
        "allowed.test:0".to_owned(),
        "allowed.test:65536".to_owned(),
        "allowed.test:https".to_owned(),
        format!("allowed.test:{port}/"),
        format!("allowed.test:{port}/path"),
        format!("allowed.test:{port}?q"),
        format!("allowed.test:{port}#f"),
        format!("http://allowed.test:{port}/"),
        format!("user@allowed.test:{port}"),
        format!("user:x@allowed.test:{port}"),
        format!("/allowed.test:{port}"),
        format!("//allowed.test:{port}"),
        format!(":{port}"),
        "*".to_owned(),
        format!("[allowed.test]:{port}"),
        format!("::1:{port}:"),
    ] {
        let mut client = setup.client();
        client.send(format!("CONNECT {target} HTTP/1.1\r\n\r\n"));
        let answer = client.read_final_response();
        let invalid = answer.status == 403 && answer.text().contains("invalid_host");
        assert!(
            answer.status == 400 || invalid,
            "{target}: {}",
            answer.start
        );
        client.expect_closed();
    }
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn h2_a_host_field_must_agree_with_the_target_of_connect() {
    let setup = PlainSetup::echoing();
    let target = setup.authority("allowed.test");
    let connect = |hosts: &[&str]| {
        let mut client = setup.client();
        client.send(format!("CONNECT {target} HTTP/1.1\r\n"));
        for host in hosts {
            client.send(format!("Host: {host}\r\n"));
        }
        client.send("\r\n");
        client.read_head().status
    };
    for hosts in [
        &["denied.test"][..],
        &["allowed.test:1"],
        &[&target, &target],
        &["user@allowed.test"],
        &[""],
    ] {
        assert_eq!(connect(hosts), 400, "{hosts:?}");
    }
    assert_eq!(setup.origin.connections(), 0);
    for hosts in [&[][..], &[&*target], &["allowed.test"], &["Allowed.Test."]] {
        assert_eq!(connect(hosts), 200, "{hosts:?}");
    }
}

/// Some clients name the proxy there. The field is only checked.
#[test]
fn h2_a_host_field_of_connect_may_name_the_proxy() {
    let setup = PlainSetup::echoing();
    let target = setup.authority("allowed.test");
    let door = setup.daemon.http_addr();
    for host in [
        door.to_string(),
        format!("localhost:{}", door.port()),
        format!("proxy.example:{}", door.port()),
        "127.0.0.1".to_owned(),
        "localhost".to_owned(),
    ] {
        let mut client = setup.client();
        client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.read_head().status, 200, "{host}");
    }
    // The request-target decides the host of a request.
    let head = format!("GET http://{target}/ HTTP/1.1\r\nHost: {door}\r\n\r\n");
    assert_eq!(setup.client().exchange(&head).status, 400);
}

#[test]
fn h4_connect_may_declare_empty_content_but_have_none() {
    let setup = PlainSetup::new(Origin::echoing_bytes().start());
    let target = setup.authority("allowed.test");
    for field in [
        "Content-Length: 5",
        "Content-Length: 00001",
        "Content-Length: -0",
        "Transfer-Encoding: chunked",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
    ] {
        let mut client = setup.client();
        client.send(format!("CONNECT {target} HTTP/1.1\r\n{field}\r\n\r\n"));
        assert_eq!(client.read_final_response().status, 400, "{field}");
        client.expect_closed();
    }
    assert_eq!(setup.origin.connections(), 0);
    let mut client = setup.client();
    client.send(format!(
        "CONNECT {target} HTTP/1.1\r\nContent-Length: 0\r\n\r\nhello"
    ));
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.read_exact(5), b"hello");
}

#[test]
fn p7_limited_mode_has_no_tunnels_where_tls_may_not_be_intercepted() {
    let config = Config::limited().set("network", "mitm", "false");
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let answer = setup.client().connect(&setup.authority("allowed.test"));
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.header("x-proxy-error"),
        Some("blocked-by-mitm-required")
    );
    let text = answer.text();
    assert!(
        text.contains(r#""reason":"mitm_required","source":"mode_guard""#),
        "{text}"
    );
    // The lists come before the mode.
    let answer = setup.client().connect(&setup.authority("denied.test"));
    assert!(answer.text().contains(r#""reason":"denied""#));
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn h1_connect_may_follow_other_requests_on_a_connection() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    assert_eq!(client.exchange(&setup.get("allowed.test", "/")).status, 200);
    assert_eq!(client.exchange(&setup.get("blocked.test", "/")).status, 403);
    assert_eq!(client.connect(&setup.authority("allowed.test")).status, 200);
    // Now the origin answers.
    let answer = client.exchange("GET /inside HTTP/1.1\r\nHost: any.thing\r\n\r\n");
    assert_eq!(answer.json()["target"], "/inside");
}
