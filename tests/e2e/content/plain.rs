//! Plain HTTP.

use std::net::{IpAddr, Ipv6Addr};

use e2e::client::{Connection, Response};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::setup::PlainSetup;
use e2e::upstream_proxy::UpstreamProxy;

use super::{READING, careless, hidden};

/// A request with such content on a connection of its own.
fn ask(setup: &PlainSetup, method: &str, path: &str, content: &str) -> Response {
    let length = format!("Content-Length: {}", content.len());
    let mut client = setup.client();
    client.send(setup.message(method, "allowed.test", path, &[&length]) + content);
    if method == "HEAD" {
        return client.read_head();
    }
    client.read_final_response()
}

#[test]
fn p7_limited_mode_refuses_content_that_an_origin_could_take_for_a_request() {
    let setup = PlainSetup::with(&Config::limited(), careless().start());
    let write = hidden("POST", "/written", 0);
    let length = format!("Content-Length: {}", write.len());
    for method in READING {
        for (fields, content) in [
            (&[length.as_str()][..], write.as_str()),
            (&[length.as_str(), "Expect: 100-continue"], &write),
            (&["Transfer-Encoding: chunked"], "0\r\n\r\n"),
            (&["Transfer-Encoding: chunked"], "0\r\nX-Trailer: 1\r\n\r\n"),
        ] {
            let mut client = setup.client();
            client.send(setup.message(method, "allowed.test", "/", fields) + content);
            let answer = client.read_head();
            assert_eq!(answer.status, 403, "{method} {fields:?}");
            let kind = answer.header("x-proxy-error");
            assert_eq!(kind, Some("blocked-by-method-policy"));
        }
    }
    let old = setup.message("GET", "allowed.test", "/", &[&length]);
    let mut client = setup.client();
    client.send(old.replace("HTTP/1.1", "HTTP/1.0") + &write);
    assert_eq!(client.read_head().status, 403, "HTTP/1.0");
    let answer = ask(&setup, "GET", "/", &write);
    let output = answer.json()["message"].to_string();
    assert!(output.contains("without content"), "{output}");
    assert_eq!(setup.origin.connections(), 0);
    let entry = &setup.daemon.blocked()[0];
    assert_eq!(entry["reason"], "method_not_allowed");
    assert_eq!(entry["source"], "mode_guard");
    assert_eq!(entry["method"], "GET");
}

#[test]
fn p7_a_length_of_zero_is_not_content() {
    let setup = PlainSetup::on_one_core(&Config::limited(), careless().start());
    for method in READING {
        assert_eq!(ask(&setup, method, "/", "").status, 200, "{method}");
    }
    let used = setup.origin.used_connections();
    assert_eq!(used, [0; 3], "one connection is enough");
}

#[test]
fn h1_unexpected_content_closes_the_upstream_connection_in_full_mode() {
    let setup = PlainSetup::new(careless().start());
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "TRACE", "get", "OWN"] {
        let answer = ask(&setup, method, "/first", &hidden("POST", "/written", 0));
        assert_eq!(answer.status, 200, "{method}");
        let seen = setup.origin.requests();
        let first = seen.last().expect("a request");
        assert_eq!((&*first.method, &*first.target), (method, "/first"));
        assert_eq!(first.headers.all("connection"), ["close"], "{method}");
        // From another client.
        assert_eq!(ask(&setup, "GET", "/second", "").status, 200);
        let seen = setup.origin.requests();
        let second = seen.last().expect("a request");
        assert_eq!(second.target, "/second", "{method}");
        assert_ne!(second.connection, first.connection, "{method}");
    }
    assert!(!setup.paths().contains(&"/written".to_owned()));
}

#[test]
fn h1_chunked_content_and_te_keep_their_fields_beside_the_close() {
    let setup = PlainSetup::echoing();
    let fields = [
        "Transfer-Encoding: chunked",
        "TE: trailers",
        "Connection: te",
    ];
    let mut client = setup.client();
    client.send(setup.message("GET", "allowed.test", "/", &fields) + "1\r\na\r\n0\r\n\r\n");
    assert_eq!(client.read_final_response().status, 200);
    // The client's own connection goes on.
    assert_eq!(
        client.exchange(&setup.get("allowed.test", "/next")).status,
        200
    );
    let [first, next] = &setup.origin.requests()[..] else {
        panic!("two requests");
    };
    assert_eq!(first.text(), "a");
    assert_eq!(first.headers.all("connection"), ["te", "close"]);
    assert_ne!(next.connection, first.connection);
}

#[test]
fn h1_expected_content_leaves_the_upstream_connection_open() {
    let setup = PlainSetup::on_one_core(&Config::example(), Origin::start(|_| Answer::Echo));
    for method in ["POST", "PUT", "PATCH", "PROPFIND"] {
        assert_eq!(ask(&setup, method, "/", "content").status, 200);
    }
    assert_eq!(setup.origin.used_connections(), [0; 4]);
    let requests = setup.origin.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.header("connection").is_none())
    );
}

/// Each request to such a proxy gets the operator's credentials.
#[test]
fn h12_proxy_credentials_are_not_sent_after_unexpected_content() {
    let nowhere = Ipv6Addr::new(0x3ffe, 0, 0, 0, 0, 0, 0, 1);
    let config = Config::example()
        .allow("far.test")
        .host("far.test", IpAddr::from(nowhere));
    for (user, connections) in [("agent:s3cret@", [0, 1, 1]), ("", [0, 0, 0])] {
        let origin = careless().start();
        let proxy = UpstreamProxy::start(origin.addr());
        let url = format!("http://{user}{}", proxy.addr());
        let daemon = Daemon::launch()
            .config(&config)
            .env("HTTP_PROXY", url)
            .on_one_core()
            .start();
        let head = "http://far.test/api/kept HTTP/1.1\r\nHost: far.test\r\n";
        for message in [
            format!("POST {head}Content-Length: 1\r\n\r\na"),
            format!("GET {head}\r\n"),
            format!("GET {head}\r\n"),
        ] {
            let mut client = Connection::open(daemon.http_addr());
            client.send(message);
            assert_eq!(client.read_final_response().status, 200);
        }
        assert_eq!(origin.used_connections(), connections, "{user}");
    }
}
