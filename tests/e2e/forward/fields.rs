//! Which header fields are passed on and which end at the proxy (SPEC H3, P7, H11).

use e2e::daemon::Config;
use e2e::origin::{Answer, Body, Origin, Reply};
use e2e::setup::PlainSetup;

/// The fields that the origin was sent, except for `Host`.
fn sent(setup: &PlainSetup, fields: &[&str]) -> Vec<(String, String)> {
    let answer = setup.ask("GET", "allowed.test", "/", fields);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = setup.origin.requests().pop().expect("a request");
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let fields = seen.headers.iter().map(owned);
    fields.filter(|(name, _)| name != "Host").collect()
}

fn pairs<const N: usize>(fields: [(&str, &str); N]) -> Vec<(String, String)> {
    fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

#[test]
fn h3_hop_by_hop_fields_are_removed() {
    let setup = PlainSetup::echoing();
    for field in [
        "Keep-Alive: timeout=5",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: Basic eDp5",
        "Proxy-Authenticate: Basic",
        "TE: gzip",
        "Upgrade: h2c",
        // With dashes the field is for the proxy: see `unix_sockets`.
        "x_unix_socket: /var/run/docker.sock",
        "Forwarded: for=192.0.2.1",
        "X-Forwarded-For: 192.0.2.1",
        "x-forwarded-host: other.test",
        "X-Forwarded-Proto: https",
        "X-FORWARDED-ANYTHING: 1",
        "X-Real-IP: 192.0.2.1",
        "Via: 1.1 upstream",
    ] {
        assert_eq!(sent(&setup, &[field]), [], "{field}");
    }
}

#[test]
fn h3_fields_named_by_connection_are_removed() {
    let setup = PlainSetup::echoing();
    let fields = [
        "Connection: X-One, keep-alive",
        "X-One: 1",
        "connection: ,x-two,",
        "X-Two: 2",
        "X-Two: 3",
        "X-Three: stays",
    ];
    assert_eq!(sent(&setup, &fields), pairs([("X-Three", "stays")]));
}

/// Without these fields the message would have another meaning or destination.
#[test]
fn h3_connection_cannot_remove_routing_and_framing_fields() {
    let setup = PlainSetup::echoing();
    let fields = ["Connection: Host, Content-Length", "Content-Length: 5"];
    let request = setup.message("POST", "allowed.test", "/", &fields);
    let answer = setup.client().exchange(&format!("{request}hello"));
    assert_eq!(answer.json()["body"], "hello");
    let seen = &setup.origin.requests()[0];
    assert_eq!(seen.header("content-length"), Some("5"));
    assert_eq!(seen.header("host"), Some(&*setup.authority("allowed.test")));
}

#[test]
fn h3_all_other_fields_pass_unchanged_and_none_is_added() {
    let setup = PlainSetup::echoing();
    let fields = [
        "User-Agent: a/1 (b; c)",
        "accept: */*",
        "ACCEPT-encoding: gzip, br",
        "Authorization: Bearer t0k.en",
        "Cookie: a=1; b=2",
        "x-EMPTY:",
        "X-Spaces:   inside  kept\t ",
        "Range: bytes=0-1",
        "Content-Type: text/plain; charset=\"utf-8\"",
        "Origin: http://page.test",
        "Max-Forwards: 3",
        "DNT: 1",
    ];
    let mut wanted = pairs([
        ("User-Agent", "a/1 (b; c)"),
        ("accept", "*/*"),
        ("ACCEPT-encoding", "gzip, br"),
        ("Authorization", "Bearer t0k.en"),
        ("Cookie", "a=1; b=2"),
        ("x-EMPTY", ""),
        ("X-Spaces", "inside  kept"),
        ("Range", "bytes=0-1"),
        ("Content-Type", "text/plain; charset=\"utf-8\""),
        ("Origin", "http://page.test"),
        ("Max-Forwards", "3"),
        ("DNT", "1"),
    ]);
    let mut seen = sent(&setup, &fields);
    wanted.sort();
    seen.sort();
    assert_eq!(seen, wanted);
}

#[test]
fn h3_the_values_of_one_name_stay_in_their_order() {
    let setup = PlainSetup::echoing();
    let fields = [
        "X-List: 3",
        "Cookie: z=1",
        "x-list: 1",
        "Via: gone",
        "X-LIST: 2",
        "Cookie: a=2",
    ];
    sent(&setup, &fields);
    let seen = &setup.origin.requests()[0];
    assert_eq!(seen.headers.all("x-list"), ["3", "1", "2"]);
    assert_eq!(seen.headers.all("cookie"), ["z=1", "a=2"]);
    let spelled: Vec<&str> = seen.headers.iter().map(|(name, _)| name).collect();
    assert!(
        spelled.contains(&"X-LIST") && spelled.contains(&"x-list"),
        "{spelled:?}"
    );
}

#[test]
fn h3_bytes_beyond_ascii_in_a_value_pass() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    let request = setup.message("GET", "allowed.test", "/", &["X-Name: caf\u{1}"]);
    let request: Vec<u8> = request
        .bytes()
        .map(|byte| if byte == 1 { 0xe9 } else { byte })
        .collect();
    client.send(request);
    assert_eq!(client.read_final_response().status, 200);
    let seen = &setup.origin.requests()[0];
    assert_eq!(seen.header("x-name"), Some("caf\u{e9}"));
}

#[test]
fn h3_an_answer_loses_only_its_hop_by_hop_fields() {
    let setup = PlainSetup::new(Origin::start(|_| {
        let reply = Reply::new(200, Body::Sized(b"ok".to_vec()))
            .header("Set-Cookie", "b=1")
            .header("ETag", "\"x\"")
            .header("set-cookie", "a=2")
            .header("Via", "1.1 cdn")
            .header("Connection", "X-Private")
            .header("X-Private", "1")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Authenticate", "Basic realm=x")
            .header("Upgrade", "h2c")
            .header("X-Proxy-Error", "blocked-by-denylist")
            .header("x-network-policy-decision", "{}");
        Answer::Reply(reply)
    }));
    let answer = setup.ask("GET", "allowed.test", "/", &[]);
    assert_eq!(answer.headers.all("set-cookie"), ["b=1", "a=2"]);
    let mut seen: Vec<_> = answer.headers.iter().collect();
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            ("Content-Length", "2"),
            ("ETag", "\"x\""),
            ("Set-Cookie", "b=1"),
            ("Via", "1.1 cdn"),
            ("set-cookie", "a=2"),
        ]
    );
}

/// The proxy never carries HTTP/2 without TLS. It serves a client that offers it in HTTP/1.1.
#[test]
fn h9_an_upgrade_to_h2c_is_not_forwarded() {
    let setup = PlainSetup::echoing();
    let fields = [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
        "X-Kept: 1",
    ];
    assert_eq!(sent(&setup, &fields), pairs([("X-Kept", "1")]));
}

/// RFC 9110 section 7.8: without the connection option the field means nothing.
#[test]
fn h9_an_upgrade_field_without_connection_is_ignored() {
    let setup = PlainSetup::echoing();
    let fields = ["Upgrade: websocket", "X-Kept: 1"];
    assert_eq!(sent(&setup, &fields), pairs([("X-Kept", "1")]));
}

#[test]
fn p7_limited_mode_removes_method_overrides() {
    let config = Config::limited();
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let fields = [
        "X-HTTP-Method-Override: DELETE",
        "x-http-method: PUT",
        "X-Method-Override: POST",
        "X-Kept: 1",
    ];
    assert_eq!(sent(&setup, &fields), pairs([("X-Kept", "1")]));
}

/// The bytes of an upgraded connection cannot be checked.
#[test]
fn p7_limited_mode_refuses_an_upgrade() {
    let config = Config::limited();
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    for fields in [
        &["Connection: Upgrade", "Upgrade: websocket"][..],
        &["Connection: Upgrade", "Upgrade: TLS/1.0"],
        &["Connection: Upgrade", "Upgrade: h2c, tcp"],
        &["Connection: Upgrade", "Upgrade: SPDY/3.1"],
    ] {
        let answer = setup.ask("GET", "allowed.test", "/", fields);
        assert_eq!(answer.status, 403, "{fields:?}");
        assert_eq!(answer.json()["reason"], "method_not_allowed");
    }
    assert_eq!(setup.origin.connections(), 0);
    // Some clients offer this with every request. The proxy does not forward
    // it, so the request stays plain HTTP/1.1.
    let fields = ["Connection: Upgrade", "Upgrade: h2c"];
    assert_eq!(setup.ask("GET", "allowed.test", "/", &fields).status, 200);
}

#[test]
fn p7_full_mode_keeps_method_overrides() {
    let setup = PlainSetup::echoing();
    let fields = ["X-HTTP-Method-Override: DELETE"];
    assert_eq!(
        sent(&setup, &fields),
        pairs([("X-HTTP-Method-Override", "DELETE")])
    );
}

#[test]
fn h11_an_attempt_id_marks_records_and_is_not_forwarded() {
    let setup = PlainSetup::echoing();
    // codex-net-attempt-a1.B:secret
    let credentials = "Proxy-Authorization: Basic Y29kZXgtbmV0LWF0dGVtcHQtYTEuQjpzZWNyZXQ=";
    assert_eq!(sent(&setup, &[credentials]), []);
    let answer = setup.ask("GET", "blocked.test", "/", &[credentials]);
    assert_eq!(answer.status, 403);
    let entry = setup
        .daemon
        .wait_for_blocked(|entry| entry["host"] == "blocked.test");
    assert_eq!(entry["attempt_id"], "a1.B");
    for line in setup.daemon.logs() {
        assert!(!line.raw.contains("secret"), "{}", line.raw);
    }
}

#[test]
fn h11_other_credentials_are_ignored() {
    let setup = PlainSetup::echoing();
    for field in [
        "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0",
        "Proxy-Authorization: nonsense",
    ] {
        assert_eq!(sent(&setup, &[field]), []);
        let answer = setup.ask("GET", "blocked.test", "/", &[field]);
        assert_eq!(answer.status, 403, "never 407");
    }
    for entry in setup.daemon.blocked() {
        assert_eq!(entry.get("attempt_id"), None, "{entry}");
    }
}
