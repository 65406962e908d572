//! Plain HTTP in an intercepted tunnel, as older undici and `curl -p` send it: the
//! rules of plain HTTP apply, and a hook's secret is never sent (SPEC M2, M7, M10, P7, P9).

use e2e::daemon::Config;
use e2e::origin::{Answer, Body, Origin, Reply};
use e2e::setup::PlainSetup;

use super::hooks::{SECRET, hooked, secret};

fn setup(config: &Config) -> PlainSetup {
    PlainSetup::with(config, Origin::start(|_| Answer::Echo))
}

/// A request in origin-form.
fn message(setup: &PlainSetup, method: &str, path: &str, fields: &str) -> String {
    let authority = setup.authority("allowed.test");
    format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n")
}

#[test]
fn m2_reads_pass_and_the_connection_stays_open() {
    let setup = setup(&Config::limited());
    let mut client = setup.tunnel("allowed.test");
    for path in ["/1", "/2?q"] {
        let answer = client.exchange(&message(&setup, "GET", path, "X-Mine: 1\r\n"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["target"], path);
    }
    let head = client.exchange(&message(&setup, "HEAD", "/3", ""));
    assert_eq!(head.status, 200);
    let whole = format!("http://{}/4", setup.authority("allowed.test"));
    let answer = client.exchange(&message(&setup, "OPTIONS", &whole, ""));
    assert_eq!(answer.json()["target"], "/4");
    // RFC 9112 section 3.2.4.
    let server = format!("http://{}", setup.authority("allowed.test"));
    let answer = client.exchange(&message(&setup, "OPTIONS", &server, ""));
    assert_eq!(answer.json()["target"], "*");
    assert_eq!(setup.origin.connections(), 1, "the one that CONNECT made");
    let seen = &setup.origin.requests()[0];
    assert_eq!(seen.header("host"), Some(&*setup.authority("allowed.test")));
    assert_eq!(seen.header("x-mine"), Some("1"));
}

#[test]
fn m2_a_request_may_arrive_byte_by_byte_and_with_the_connect() {
    let setup = setup(&Config::limited());
    let request = message(&setup, "GET", "/", "");
    let mut client = setup.tunnel("allowed.test");
    client.trickle(format!("\r\n{request}").as_bytes());
    assert_eq!(client.read_final_response().status, 200);
    let mut client = setup.client();
    let authority = setup.authority("allowed.test");
    client.send(format!("CONNECT {authority} HTTP/1.1\r\n\r\n{request}"));
    assert_eq!(client.read_head().status, 200);
    assert_eq!(client.read_final_response().status, 200);
}

#[test]
fn p7_writes_are_refused_in_http_and_the_connection_stays_open() {
    let setup = setup(&Config::limited());
    let mut client = setup.tunnel("allowed.test");
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    for (method, fields) in [
        ("POST", ""),
        ("DELETE", ""),
        ("get", ""),
        ("GET", upgrade),
        ("GET", "Connection: upgrade\r\nUpgrade: tcp\r\n"),
    ] {
        let answer = client.exchange(&message(&setup, method, "/", fields));
        assert_eq!(answer.status, 403, "{method} {fields}");
        assert_eq!(
            answer.header("x-proxy-error"),
            Some("blocked-by-method-policy")
        );
        let body = answer.json();
        assert_eq!(body["reason"], "method_not_allowed");
        assert_eq!(body["protocol"], "http");
        assert_eq!(body["port"], setup.origin.addr().port());
    }
    let overriding = "X-HTTP-Method-Override: DELETE\r\n";
    let answer = client.exchange(&message(&setup, "GET", "/", overriding));
    assert_eq!(answer.status, 200);
    let seen = setup.origin.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].header("x-http-method-override"), None);
    let entries = setup.daemon.blocked();
    assert_eq!(entries.len(), 5);
    assert_eq!(entries[0]["protocol"], "http");
}

#[test]
fn m7_a_request_for_another_authority_is_misdirected() {
    let setup = setup(&Config::limited().allow("other.test"));
    let authority = setup.authority("allowed.test");
    let other = setup.authority("other.test");
    for (target, host) in [
        ("/".to_owned(), &*other),
        ("/".to_owned(), "allowed.test"),
        (format!("http://{other}/"), &authority),
        (format!("https://{authority}/"), &authority),
    ] {
        let mut client = setup.tunnel("allowed.test");
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let answer = client.exchange(&request);
        assert_eq!(answer.status, 421, "{request}");
    }
    let mut client = setup.tunnel("allowed.test");
    let inner = format!("CONNECT {other} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    assert_eq!(client.exchange(&inner).status, 405);
    assert!(setup.origin.requests().is_empty());
    for entry in setup.daemon.blocked() {
        assert_eq!(entry["detail"], "authority_mismatch");
    }
}

#[test]
fn m2_malformed_requests_are_refused_in_http() {
    let setup = setup(&Config::limited());
    for request in [
        "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\nHost: x\n\n",
    ] {
        let mut client = setup.tunnel("allowed.test");
        client.send(request);
        assert_eq!(client.read_final_response().status, 400, "{request:?}");
        client.expect_closed();
    }
    assert!(setup.origin.requests().is_empty());
}

#[test]
fn m10_a_hooked_host_gets_neither_plain_requests_nor_secrets() {
    let (_directory, file) = secret();
    let setup = setup(&hooked(&file));
    let authority = setup.authority("hooked.test");
    for path in ["/api/x", "/elsewhere"] {
        let mut client = setup.tunnel("hooked.test");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        let answer = client.exchange(&request);
        assert_eq!(answer.status, 403);
        assert_eq!(answer.json()["reason"], "mitm_required");
        assert!(!answer.text().contains(SECRET));
    }
    assert!(setup.origin.requests().is_empty());
}

/// A tunnel in full mode stays opaque.
#[test]
fn m1_in_full_mode_plain_http_goes_through_unseen() {
    let setup = setup(&Config::example());
    let mut client = setup.tunnel("allowed.test");
    let request =
        "POST /x HTTP/1.1\r\nHost: whatever.test\r\nVia: mine\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(client.exchange(request).status, 200);
    let seen = &setup.origin.requests()[0];
    assert_eq!(seen.header("via"), Some("mine"));
}

#[test]
fn p11_a_stricter_policy_ends_plain_http_in_a_tunnel() {
    let config = Config::limited();
    let setup = setup(&config);
    let mut client = setup.tunnel("allowed.test");
    assert_eq!(
        client.exchange(&message(&setup, "GET", "/", "")).status,
        200
    );
    setup.daemon.reload_with(&config.deny("allowed.test"));
    client.expect_closed();
}

/// A close in the middle of an answer without a length would make the answer look complete.
#[test]
fn p11_a_forbidden_answer_ends_with_a_reset() {
    let config = Config::limited();
    let (gate, body) = e2e::origin::Gate::new();
    let body = std::sync::Mutex::new(Some(body));
    let setup = PlainSetup::with(
        &config,
        Origin::start(move |_| {
            let body = body.lock().expect("the lock").take();
            Answer::Reply(Reply::new(200, body.unwrap_or(Body::Sized(Vec::new()))))
        }),
    );
    let mut client = setup.tunnel("allowed.test");
    let authority = setup.authority("allowed.test");
    client.send(format!("GET / HTTP/1.0\r\nHost: {authority}\r\n\r\n"));
    assert_eq!(client.read_head().status, 200);
    gate.release(b"part");
    assert_eq!(client.read_exact(4), b"part");
    setup.daemon.reload_with(&config.deny("allowed.test"));
    client.expect_reset();
}
