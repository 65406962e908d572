//! Inside TLS, only requests for the authority of the CONNECT are answered (SPEC
//! M7), in every spelling.

use e2e::client::Response;
use e2e::daemon::Config;
use e2e::setup::TlsSetup;

use super::BOTH;

fn assert_misdirected(answer: &Response, what: &str) {
    assert_eq!(answer.status, 421, "{what}: {}", answer.text());
    assert!(answer.text().starts_with("CODEX_NETWORK_POLICY_DECISION {"));
}

/// `{port}` stands for the origin's.
#[test]
fn m7_a_request_for_another_authority_is_misdirected() {
    for (target, hosts, status) in [
        ("/", &["allowed.test:{port}"][..], 200),
        ("/", &["ALLOWED.test.:{port}"], 200),
        (
            "https://allowed.test:{port}/",
            &["allowed.test:{port}"],
            200,
        ),
        ("/", &["denied.test:{port}"], 421),
        ("/", &["allowed.test"], 421),
        ("/", &["allowed.test:1"], 421),
        ("/", &["user@allowed.test:{port}"], 421),
        ("/", &["127.0.0.1:{port}"], 421),
        ("/", &["allowed.test:{port}, denied.test"], 421),
        ("https://denied.test:{port}/", &["allowed.test:{port}"], 421),
        ("https://allowed.test:{port}/", &["denied.test:{port}"], 421),
        (
            "https://u@allowed.test:{port}/",
            &["allowed.test:{port}"],
            421,
        ),
        ("http://allowed.test:{port}/", &["allowed.test:{port}"], 421),
        ("/", &["allowed.test:{port}", "denied.test"], 400),
    ] {
        let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
        let port = setup.origin.addr().port().to_string();
        let mut text = format!("GET {target} HTTP/1.1\r\n");
        for host in hosts {
            text.extend(["Host: ", host, "\r\n"]);
        }
        let text = text.replace("{port}", &port) + "\r\n";
        let answer = setup.http1("allowed.test").exchange(&text);
        match status {
            421 => {
                assert_misdirected(&answer, &text);
                let entry = setup.blocked("policy_denied");
                assert_eq!(entry["detail"], "authority_mismatch");
                assert_eq!(entry["host"], "allowed.test");
            }
            400 => assert!(matches!(answer.status, 400 | 421), "{text}"),
            _ => assert_eq!(answer.status, status, "{text}: {}", answer.text()),
        }
        let reached = usize::from(status == 200);
        assert_eq!(setup.origin.requests().len(), reached, "{text}");
    }
}

#[test]
fn m7_a_later_stream_of_a_good_connection_cannot_switch_the_authority() {
    let setup = TlsSetup::echoing(&Config::limited(), &["h2"]);
    let client = setup.http2("allowed.test");
    let url = setup.url("allowed.test", "/");
    assert_eq!(client.request("GET", &url, &[], b"").status, 200);
    for host in ["denied.test", "other.test", "127.0.0.1"] {
        let answer = client.request("GET", &setup.url(host, "/"), &[], b"");
        assert_misdirected(&answer, host);
    }
    let answer = client.request("GET", &url, &[("host", "denied.test")], b"");
    assert_misdirected(&answer, "host beside :authority");
    let answer = client.request("GET", &url.replace("https:", "http:"), &[], b"");
    assert_misdirected(&answer, ":scheme");
    assert_eq!(client.request("GET", &url, &[], b"").status, 200);
    assert_eq!(setup.origin.requests().len(), 2);
}

#[test]
fn m7_a_later_request_of_a_good_connection_cannot_switch_the_authority() {
    let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    let mut client = setup.http1("allowed.test");
    let good = setup.message("GET", "allowed.test", "/", &[]);
    assert_eq!(client.exchange(&good).status, 200);
    let bad = setup.message("GET", "denied.test", "/", &[]);
    assert_misdirected(&client.exchange(&bad), "later");
    assert_eq!(client.exchange(&good).status, 200);
    // Pipelined.
    client.send(format!("{good}{bad}{good}"));
    let answers = [(); 3].map(|()| client.read_final_response().status);
    assert_eq!(answers, [200, 421, 200]);
}

#[test]
fn m7_connect_inside_tls_is_refused() {
    let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    let mut client = setup.http1("allowed.test");
    let answer = client.connect(&setup.authority("allowed.test"));
    assert_eq!(answer.status, 405);
    let allowed = answer.header("allow").expect("the allowed methods");
    assert!(!allowed.contains("CONNECT"), "{allowed}");
    assert_eq!(setup.origin.requests().len(), 0);
}

/// Request smuggling fails inside as it does over plain HTTP (SPEC H4).
#[test]
fn h4_ambiguous_framing_is_refused_inside_tls() {
    for fields in [
        &[("Content-Length", "1"), ("Transfer-Encoding", "chunked")][..],
        &[("Content-Length", "1"), ("Content-Length", "2")],
        &[("Transfer-Encoding", "chunked, chunked")],
        &[("Transfer-Encoding", "gzip")],
        &[("Content-Length ", "0")],
        &[("X", "a\n b")],
    ] {
        let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
        let mut client = setup.http1("allowed.test");
        let answer = client.exchange(&setup.message("GET", "allowed.test", "/", fields));
        assert_eq!(answer.status, 400, "{fields:?}");
        assert_eq!(setup.origin.requests().len(), 0, "{fields:?}");
    }
}

/// Fields that belong to one hop, or to the proxy, end here (SPEC H3).
#[test]
fn h3_hop_by_hop_fields_are_removed_inside_tls() {
    for protocol in BOTH {
        let setup = TlsSetup::echoing(&Config::limited(), &[protocol]);
        let fields = [
            ("proxy-authorization", "Basic eA=="),
            ("x-forwarded-for", "1.2.3.4"),
            ("x_forwarded_for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("via", "1.1 me"),
            ("x-unix-socket", "/run/docker.sock"),
            ("te", "trailers"),
            ("x-kept", "a"),
            ("x-kept", "b"),
        ];
        let answer = setup.ask(protocol, "GET", "allowed.test", "/", &fields);
        assert_eq!(answer.status, 200);
        let seen = setup.origin.requests().pop().expect("a request");
        let mut names: Vec<_> = seen
            .headers
            .iter()
            .map(|(name, value)| format!("{}={value}", name.to_lowercase()))
            .filter(|field| !field.starts_with("host=") && !field.starts_with(':'))
            .collect();
        names.sort_unstable();
        let mut wanted = vec!["te=trailers", "x-kept=a", "x-kept=b"];
        if protocol == "http/1.1" {
            wanted.insert(0, "connection=te");
        }
        assert_eq!(names, wanted);
        assert_eq!(seen.target, "/");
    }
}

/// Cookies may come in pieces over HTTP/2 (RFC 9113 section 8.2.3), and are passed on in pieces.
#[test]
fn h3_cookie_crumbs_stay_separate_over_http2() {
    let setup = TlsSetup::echoing(&Config::limited(), &["h2"]);
    let fields = [("cookie", "a=1"), ("cookie", "b=2")];
    setup.ask("h2", "GET", "allowed.test", "/", &fields);
    let seen = setup.origin.requests().pop().expect("a request");
    assert_eq!(seen.headers.all("cookie"), ["a=1", "b=2"]);
}
