//! Inside intercepted TLS.

use e2e::client::Response;
use e2e::daemon::Config;
use e2e::origin::Origin;
use e2e::setup::TlsSetup;

use super::{READING, careless, hidden};
use crate::interception::BOTH;
use crate::interception::hooks::{SECRET, hooked, secret};

/// A request with this content over a new connection.
fn ask(
    setup: &TlsSetup,
    protocol: &str,
    method: &str,
    host: &str,
    path: &str,
    content: &[u8],
) -> Response {
    if protocol == "h2" {
        let client = setup.http2(host);
        return client.request(method, &setup.url(host, path), &[], content);
    }
    let length = content.len().to_string();
    let mut client = setup.http1(host);
    client.send(setup.message(method, host, path, &[("Content-Length", &length)]));
    client.send(content);
    if method == "HEAD" {
        return client.read_head();
    }
    client.read_final_response()
}

fn hooked_setup(protocol: &str, origin: e2e::origin::Builder) -> (tempfile::TempDir, TlsSetup) {
    let (directory, file) = secret();
    (
        directory,
        TlsSetup::with(&config(&file), &[protocol], origin),
    )
}

fn config(secret: &std::path::Path) -> Config {
    hooked(secret).append(
        r#"
[network.mitm.hooks.others]
host = "hooked.test"
methods = ["HEAD", "OPTIONS", "DELETE", "OWN", "PATCH"]
path_prefixes = ["/api/"]
action = ["token"]
"#,
    )
}

#[test]
fn p7_limited_mode_refuses_content_inside_tls() {
    let write = hidden("POST", "/written", 0);
    for protocol in BOTH {
        let setup = TlsSetup::with(&Config::limited(), &[protocol], careless());
        for method in READING {
            let answer = ask(
                &setup,
                protocol,
                method,
                "allowed.test",
                "/",
                write.as_bytes(),
            );
            assert_eq!(answer.status, 403, "{protocol} {method}");
            let kind = answer.header("x-proxy-error");
            assert_eq!(kind, Some("blocked-by-method-policy"));
            if method != "HEAD" {
                let output = answer.text();
                assert!(output.contains("without content"), "{output}");
            }
        }
        assert_eq!(setup.origin.requests().len(), 0);
        assert_eq!(setup.blocked("method_not_allowed")["protocol"], "https");
        let answer = ask(&setup, protocol, "GET", "allowed.test", "/", b"");
        assert_eq!(answer.status, 200, "{protocol}");
    }
}

/// HEADERS that do not end the stream announce content, whatever comes next.
#[test]
fn p7_limited_mode_refuses_a_stream_that_its_headers_do_not_end() {
    let setup = TlsSetup::echoing(&Config::limited(), &["h2"]);
    let client = setup.http2("allowed.test");
    let mut exchange = client.open("GET", &setup.url("allowed.test", "/"), &[]);
    assert_eq!(exchange.head().status, 403);
    let mut exchange = client.open("GET", &setup.url("allowed.test", "/"), &[]);
    exchange.finish(&[("x-trailer", "1")]);
    assert_eq!(exchange.head().status, 403);
    assert_eq!(setup.origin.requests().len(), 0);
}

#[test]
fn m10_a_hook_permits_no_content_that_its_method_does_not_define() {
    for protocol in BOTH {
        let (_directory, setup) = hooked_setup(protocol, careless());
        for method in ["GET", "HEAD", "OPTIONS", "DELETE", "OWN"] {
            let answer = ask(
                &setup,
                protocol,
                method,
                "hooked.test",
                "/api/x",
                b"content",
            );
            assert_eq!(answer.status, 403, "{protocol} {method}");
            assert_eq!(answer.header("x-proxy-error"), Some("blocked-by-mitm-hook"));
            if method != "HEAD" {
                let output = answer.text();
                assert!(output.contains("without content"), "{output}");
            }
        }
        assert_eq!(setup.origin.requests().len(), 0);
        assert_eq!(setup.blocked("mitm_hook_denied")["protocol"], "https");
        for (method, content) in [("DELETE", &b""[..]), ("POST", b"c"), ("PATCH", b"c")] {
            let answer = ask(&setup, protocol, method, "hooked.test", "/api/x", content);
            assert_eq!(answer.status, 200, "{protocol} {method}");
        }
    }
}

/// The attack: the origin leaves the content of a `POST` unread. That content is a request, whose
/// own content is the next request with its secret.
#[test]
fn m9_injected_secrets_are_not_sent_after_unexpected_content() {
    let (_directory, setup) = hooked_setup("http/1.1", careless());
    let trap = hidden("POST", "/api/kept", 88);
    let mut mine = setup.http1("hooked.test");
    let length = trap.len().to_string();
    let fields = [("Content-Length", &*length)];
    // In one piece: an answer that comes before the content is complete ends the connection.
    mine.send(setup.message("POST", "hooked.test", "/api/x", &fields) + &trap);
    assert_eq!(mine.read_final_response().text(), "done");
    // By the same client, on the same connection, and by another one.
    let mut answers = vec![mine.exchange(&setup.message("GET", "hooked.test", "/api/y", &[]))];
    answers.push(setup.ask("http/1.1", "GET", "hooked.test", "/api/z", &[]));
    for answer in answers {
        assert_eq!(answer.text(), "done");
        assert!(!answer.text().contains(SECRET));
    }
    let requests = setup.origin.requests();
    let seen: Vec<_> = requests.iter().map(|request| &*request.target).collect();
    assert_eq!(seen, ["/api/x", "/api/y", "/api/z"]);
    assert_eq!(requests[0].headers.all("connection"), ["close"]);
    assert_ne!(requests[0].connection, requests[1].connection);
}

#[test]
fn m6_requests_without_content_share_connections_to_a_hooked_host() {
    let (_directory, setup) =
        hooked_setup("http/1.1", Origin::answering(|_| e2e::origin::Answer::Echo));
    let mut client = setup.http1("hooked.test");
    for _ in 0..3 {
        let answer = client.exchange(&setup.message("GET", "hooked.test", "/api/x", &[]));
        assert_eq!(answer.status, 200);
    }
    let requests = setup.origin.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.connection == requests[0].connection)
    );
}

/// Bytes after a CONNECT were meant for a tunnel, and their framing was not checked.
#[test]
fn m7_a_connect_inside_is_the_last_request_of_its_connection() {
    let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    let mut client = setup.http1("allowed.test");
    let authority = setup.authority("allowed.test");
    client.send(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n\
         GET / HTTP/1.1\nHost: {authority}\nContent-Length: 0\nContent-Length: 0\n\n\
         GET / HTTP/1.1\r\nHost: {authority}\r\n\r\n"
    ));
    let answer = client.read_response();
    assert_eq!(answer.status, 405);
    assert_eq!(answer.header("connection"), Some("close"));
    client.expect_closed();
    assert_eq!(setup.origin.requests().len(), 0);
}
