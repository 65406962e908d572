//! The destination of a request: request-target, `Host`, and every spelling of a host (SPEC H2,
//! P1).

use std::net::Ipv6Addr;

use e2e::client::{Connection, proxy_request};
use e2e::daemon::{Config, Daemon};
use e2e::machine::{self, Need};
use e2e::origin::{Answer, Origin};
use e2e::raw_origin::{answer_ok, read_head, serve_one_at};
use e2e::setup::PlainSetup;

use crate::forward::assert_bad_request;

#[test]
fn h2_a_host_field_that_names_something_else_is_refused() {
    let setup = PlainSetup::echoing();
    let port = setup.origin.addr().port();
    for host in [
        format!("denied.test:{port}"),
        format!("blocked.test:{port}"),
        format!("127.0.0.1:{port}"),
        "allowed.test".to_owned(),
        "allowed.test:80".to_owned(),
        format!("allowed.test:{port}, denied.test"),
        format!("user@allowed.test:{port}"),
        format!("allowed.test:{port}/"),
        format!("allowed.test:0{port}0"),
        format!("http://allowed.test:{port}"),
        String::new(),
    ] {
        let mut client = setup.client();
        let answer = client.exchange(&format!(
            "GET http://allowed.test:{port}/ HTTP/1.1\r\nHost: {host}\r\n\r\n"
        ));
        assert_eq!(answer.status, 400, "Host: {host}");
        assert!(answer.text().contains("Host"), "{}", answer.text());
        client.expect_closed();
    }
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn h2_two_host_fields_are_refused_even_when_they_agree() {
    let setup = PlainSetup::echoing();
    let authority = setup.authority("allowed.test");
    for second in [format!("Host: {authority}"), "hOST: denied.test".to_owned()] {
        let answer = setup.ask("GET", "allowed.test", "/", &[&second]);
        assert_eq!(answer.status, 400, "{second}");
        assert!(answer.text().contains("more than one Host"));
    }
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn h2_a_host_field_may_spell_the_same_host_differently() {
    let setup = PlainSetup::echoing();
    let port = setup.origin.addr().port();
    for host in ["allowed.test", "ALLOWED.test", "allowed.test."] {
        let answer = setup.client().exchange(&format!(
            "GET http://Allowed.Test:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
        ));
        assert_eq!(answer.status, 200, "{host}");
    }
    let wanted = setup.authority("allowed.test");
    for request in setup.origin.requests() {
        assert_eq!(request.header("host"), Some(&*wanted));
    }
}

#[test]
fn h2_a_target_without_a_plain_host_and_port_is_refused() {
    let setup = PlainSetup::echoing();
    let port = setup.origin.addr().port();
    for target in [
        format!("http://user@allowed.test:{port}/"),
        format!("http://user:pass@allowed.test:{port}/"),
        format!("http://allowed.test:{port}@denied.test/"),
        format!("http://denied.test@allowed.test:{port}/"),
        "http://allowed.test:/".to_owned(),
        "http://allowed.test:0/".to_owned(),
        "http://allowed.test:65536/".to_owned(),
        "http://allowed.test:+80/".to_owned(),
        "http://allowed.test:8a/".to_owned(),
        format!("http://allowed.test:{port}:{port}/"),
        "http:///path".to_owned(),
        "http://".to_owned(),
        "http:".to_owned(),
        format!("http:allowed.test:{port}/"),
        format!("//allowed.test:{port}/"),
        format!("allowed.test:{port}"),
        format!("http://[allowed.test]:{port}/"),
        format!("http://[::1:{port}/"),
        format!("http://allowed.test:{port}\\@denied.test/"),
    ] {
        let mut client = setup.client();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n"));
        let answer = client.read_final_response();
        // If the rest of the target shows that this is an invalid host, policy answers it.
        let invalid = answer.status == 403 && answer.json()["reason"] == "invalid_host";
        assert!(
            answer.status == 400 || invalid,
            "{target}: {}",
            answer.start
        );
    }
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn h2_other_schemes_are_refused_with_an_explanation() {
    let setup = PlainSetup::echoing();
    for (scheme, words) in [
        (
            "https",
            "this proxy carries https URLs only through CONNECT",
        ),
        (
            "HTTPS",
            "this proxy carries https URLs only through CONNECT",
        ),
        ("ws", "this proxy carries ws URLs only through CONNECT"),
        ("wss", "this proxy carries wss URLs only through CONNECT"),
        ("ftp", "this proxy carries no ftp URLs"),
        ("gopher", "this proxy carries no gopher URLs"),
    ] {
        let target = format!("{scheme}://{}/", setup.authority("allowed.test"));
        let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_bad_request(setup.daemon.http_addr(), head, words);
        setup.daemon.wait_for_message(words);
    }
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn h2_an_ipv6_address_without_brackets_is_refused_with_an_explanation() {
    let setup = PlainSetup::echoing();
    for head in [
        "GET http://::1/ HTTP/1.1\r\n\r\n",
        "GET http://2001:db8::1:8080/a HTTP/1.1\r\n\r\n",
        "CONNECT ::1:443 HTTP/1.1\r\nHost: ::1:443\r\n\r\n",
        "CONNECT 2001:db8::1:443 HTTP/1.1\r\n\r\n",
    ] {
        let words = "an IPv6 address in the request-target needs square brackets";
        assert_bad_request(setup.daemon.http_addr(), head, words);
    }
    assert_eq!(setup.origin.connections(), 0);
}

/// RFC 6874: the zone follows `%25`.
#[test]
fn p1_an_empty_ipv6_zone_is_invalid() {
    let setup = PlainSetup::echoing();
    let answer = setup
        .client()
        .exchange("GET http://[fe80::1%25]/ HTTP/1.1\r\n\r\n");
    assert_eq!(answer.status, 403);
    assert_eq!(answer.json()["reason"], "invalid_host");
    let mut client = setup.client();
    let answer = client.connect("[fe80::1%25]:443");
    assert!(
        answer.text().contains(r#""reason":"invalid_host""#),
        "{}",
        answer.text()
    );
}

/// RFC 9112 section 3.2.4, pipelined too.
#[test]
fn h1_options_for_a_url_without_a_path_becomes_an_asterisk() {
    let setup = PlainSetup::echoing();
    let authority = setup.authority("allowed.test");
    let mut client = setup.client();
    let targets = ["", "/", "?q", "", "/a"];
    for path in targets {
        client.send(proxy_request("OPTIONS", &authority, path, &[]));
    }
    client.send(proxy_request("GET", &authority, "", &[]));
    for _ in 0..=targets.len() {
        assert_eq!(client.read_final_response().status, 200);
    }
    assert_eq!(setup.paths(), ["*", "/", "/?q", "*", "/a", "/"]);
}

#[test]
fn h2_a_fragment_never_reaches_the_origin() {
    let setup = PlainSetup::echoing();
    for path in ["/a?b#c", "/a#b?c", "#frag"] {
        setup.ask("GET", "allowed.test", path, &[]);
    }
    assert_eq!(setup.paths(), ["/a?b", "/a", "/"]);
}

#[test]
fn h2_a_path_passes_unchanged() {
    let setup = PlainSetup::echoing();
    let paths = [
        "/a%2Fb/../c/./d//e",
        "/%00%zz%",
        "/a;b=c,d?e=f?g&h=[i]{j}|",
        "/http://denied.test/@x",
        "/~user/'(x)!*+$\"",
    ];
    for path in paths {
        let answer = setup.ask("GET", "allowed.test", path, &[]);
        assert_eq!(answer.status, 200, "{path}");
    }
    assert_eq!(setup.paths(), paths);
}

/// Spellings of a name that mean the same host.
#[test]
fn p1_every_spelling_of_a_name_is_the_same_host() {
    let setup = PlainSetup::echoing();
    for (host, status) in [
        ("ALLOWED.TEST", 200),
        ("Allowed.test.", 200),
        ("DENIED.TEST", 403),
        ("denied.test.", 403),
        ("BLOCKED.test.", 403),
    ] {
        let answer = setup.ask("GET", host, "/", &[]);
        assert_eq!(answer.status, status, "{host}: {}", answer.text());
        if status == 403 {
            let canonical = host.trim_end_matches('.').to_ascii_lowercase();
            assert_eq!(answer.json()["host"], canonical);
        }
    }
    assert_eq!(setup.origin.requests().len(), 2);
}

const LOOPBACK: [&str; 14] = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "0x7f.1",
    "0X7F.0x0.0.1",
    "0x7f000001",
    "2130706433",
    "0177.0.0.1",
    "017700000001",
    "[::ffff:127.0.0.1]",
    "[::FFFF:7f00:1]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "127.000.000.001",
];

#[test]
fn p1_every_spelling_of_a_denied_address_is_denied() {
    let config = Config::new().allow("*").deny("127.0.0.1");
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    for host in LOOPBACK {
        let answer = setup.ask("GET", host, "/", &[]);
        assert_eq!(answer.status, 403, "{host}");
        let block = answer.json();
        assert_eq!(
            [&block["host"], &block["reason"]],
            ["127.0.0.1", "denied"],
            "{host}"
        );
    }
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn p1_every_spelling_of_an_allowed_address_is_allowed() {
    let config = Config::new().allow("127.0.0.1");
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    for host in LOOPBACK {
        let answer = setup.ask("GET", host, "/", &[]);
        assert_eq!(answer.status, 200, "{host}: {}", answer.text());
    }
    let wanted = setup.authority("127.0.0.1");
    for request in setup.origin.requests() {
        assert_eq!(request.header("host"), Some(&*wanted));
    }
}

#[test]
fn h1_an_ipv6_literal_is_reached() {
    if !machine::has(Need::Ipv6) {
        return;
    }
    let origin = serve_one_at(Ipv6Addr::LOCALHOST.into(), |mut stream| {
        let head = read_head(&mut stream)?;
        assert!(head.contains("[::1]:"), "{head}");
        answer_ok(&mut stream)
    });
    let daemon = Daemon::start(&Config::new().allow("::1"));
    let mut client = Connection::open(daemon.http_addr());
    let authority = format!("[0:0::0:1]:{}", origin.port());
    assert_eq!(
        client
            .exchange(&proxy_request("GET", &authority, "/", &[]))
            .text(),
        "ok"
    );
}

#[test]
fn p1_an_invalid_host_is_refused_and_recorded() {
    let setup = PlainSetup::echoing();
    let port = setup.origin.addr().port();
    let hosts = [
        "a..test",
        ".test",
        "256.1.1.1",
        "1.2.3.4.5",
        "0x7f.0.0.0.1",
        "09.1.1.1",
        "1.2.3.4.5.6",
        "allowed.test%00.denied.test",
        "allowed%2etest",
        "a;b.test",
        "a!b.test",
        "-.0x",
        "[::1%]",
        "[1::2::3]",
    ];
    for host in hosts {
        let answer = setup.client().exchange(&format!(
            "GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
        ));
        let invalid = answer.status == 403 && answer.json()["reason"] == "invalid_host";
        assert!(
            invalid || answer.status == 400,
            "{host}: {} {}",
            answer.start,
            answer.text()
        );
    }
    assert_eq!(setup.origin.connections(), 0);
    let blocked = setup.daemon.blocked();
    assert!(
        blocked
            .iter()
            .all(|entry| entry["reason"] == "invalid_host")
    );
    assert!(blocked.iter().any(|entry| entry["host"] == "256.1.1.1"));
}

#[test]
fn p1_a_name_is_matched_by_its_a_labels() {
    let config = Config::new()
        .allow("b\u{fc}cher.test")
        .host("xn--bcher-kva.test", std::net::Ipv4Addr::LOCALHOST);
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    for host in ["xn--bcher-kva.test", "XN--BCHER-KVA.test"] {
        let answer = setup.ask("GET", host, "/", &[]);
        assert_eq!(answer.status, 200, "{host}: {}", answer.text());
    }
    let seen = setup.origin.requests();
    let wanted = setup.authority("xn--bcher-kva.test");
    assert!(
        seen.iter()
            .all(|request| request.header("host") == Some(&*wanted))
    );
}
