//! `explain` agrees with the listeners (SPEC K1): each table requests the same by a protocol and of
//! `proxyctl explain`.

use std::net::Ipv4Addr;

use e2e::client::{Connection, Response, Socks5Target};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::resolver::StubResolver;
use e2e::setup::{PlainSetup, TlsSetup};
use serde_json::Value;

use crate::interception::hooks::{hooked, secret};
use crate::policy::doors::{DOORS, ask};

/// The URL of a destination requested by a protocol.
fn url(door: &str, authority: &str) -> String {
    match door {
        "http" => format!("http://{authority}/"),
        "http-connect" => format!("https://{authority}/"),
        "socks5" => format!("socks5h://{authority}"),
        "socks5-udp" => format!("udp://{authority}"),
        door => panic!("there is no door {door}"),
    }
}

/// The reason of a refusal; `None` if it is allowed.
fn reason(explained: &Value) -> Option<String> {
    match explained["decision"].as_str() {
        Some("allow") => None,
        _ => explained["reason"].as_str().map(str::to_owned),
    }
}

/// Requests a destination by a protocol, and asks `explain`, which must agree. Returns the reason of a
/// refusal.
fn both(setup: &PlainSetup, door: &str, host: &str, port: u16) -> Option<String> {
    let got = ask(setup, door, host, port);
    let url = url(door, &format!("{host}:{port}"));
    let explained = proxyctl_json(&setup.daemon, &["explain", &url, "--resolve"]);
    assert_eq!(reason(&explained), got, "{url}: {explained}");
    if got.is_some() {
        let entry = setup.daemon.blocked().pop().expect("a blocked request");
        for key in ["decision", "source", "reason", "detail"] {
            assert_eq!(explained[key], entry[key], "{url}: {key} of {explained}");
        }
        let rule = &explained["rule"]["pattern"];
        let known = entry["rule"].as_str().unwrap_or_default();
        assert!(
            known.starts_with(rule.as_str().unwrap_or_default()),
            "{url}"
        );
        assert_eq!(rule.is_null(), known.is_empty(), "{url}: {explained}");
    }
    got
}

/// Adds the byte that the fields of a row announce.
fn add_content(message: &mut String, fields: &[(&str, &str)]) {
    if fields.contains(&("Content-Length", "1")) {
        message.push('x');
    }
}

#[test]
fn k5_p9_explain_agrees_with_every_protocol_in_full_mode() {
    let here = Ipv4Addr::LOCALHOST;
    let config = Config::new()
        .unset("network", "allow_local_binding")
        .allow("*")
        .allow("127.0.0.1")
        .allow("localhost")
        .deny("denied.test")
        .deny("127.0.0.9")
        .host("local.test", here)
        .host("nine.test", Ipv4Addr::new(127, 0, 0, 9))
        .hook("read", "hooked.test", &["GET"], "/")
        .host("hooked.test", here);
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let port = setup.origin.addr().port();
    for (host, wanted) in [
        ("127.0.0.1", None),
        ("localhost", None),
        ("denied.test", Some("denied")),
        ("local.test", Some("not_allowed_local")),
        ("nine.test", Some("denied")),
        ("127.0.0.2", Some("not_allowed_local")),
        ("127.0.0.9", Some("denied")),
        ("[::1]", Some("not_allowed_local")),
        ("a..test", Some("invalid_host")),
        ("256.0.0.1", Some("invalid_host")),
    ] {
        for door in DOORS {
            assert_eq!(both(&setup, door, host, port).as_deref(), wanted, "{host}");
        }
    }
    for door in ["http", "socks5", "socks5-udp"] {
        let got = both(&setup, door, "hooked.test", port);
        assert_eq!(got.as_deref(), Some("mitm_required"), "{door}");
    }
}

#[test]
fn k5_p6_explain_knows_every_spelling_of_the_proxys_own_listeners() {
    let config = Config::new()
        .allow("own.test")
        .allow("127.0.0.1")
        .allow("localhost")
        .host("own.test", Ipv4Addr::LOCALHOST);
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let own = [
        setup.daemon.http_addr(),
        setup.daemon.socks_addr(),
        setup.daemon.admin_addr(),
    ];
    for address in own {
        for host in ["own.test", "127.0.0.1", "localhost", "0.0.0.0"] {
            for door in ["http", "http-connect", "socks5"] {
                let got = both(&setup, door, host, address.port());
                assert_eq!(got.as_deref(), Some("loop_detected"), "{host} by {door}");
            }
        }
    }
    let url = format!("http://own.test:{}/", own[0].port());
    let explained = proxyctl_json(&setup.daemon, &["explain", &url, "--resolve"]);
    assert_eq!(explained["addresses"][0]["standing"], "own_listener");
    proxyctl(&setup.daemon, &["explain", &url])
        .succeeded()
        .says("is allowed")
        .says("they were not looked at here");
}

#[test]
fn k5_p7_explain_agrees_with_every_protocol_in_limited_mode() {
    for mitm in ["true", "false"] {
        let config = Config::limited().set("network", "mitm", mitm);
        let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
        let port = setup.origin.addr().port();
        for host in ["allowed.test", "denied.test", "blocked.test"] {
            for door in ["http", "http-connect", "socks5"] {
                both(&setup, door, host, port);
            }
        }
        if mitm == "false" {
            for door in ["http-connect", "socks5"] {
                let got = both(&setup, door, "allowed.test", 443);
                assert_eq!(got.as_deref(), Some("mitm_required"));
            }
        }
        // The association is refused before any datagram.
        for host in ["allowed.test", "denied.test"] {
            let explained = proxyctl_json(&setup.daemon, &["explain", &format!("udp://{host}:53")]);
            assert_eq!(explained["reason"], "method_not_allowed", "{explained}");
        }
        let mut client = Connection::open(setup.daemon.socks_addr());
        client.socks5_greet(&[0]);
        let nowhere = Socks5Target::Address(([0, 0, 0, 0], 0).into());
        assert_eq!(client.socks5_request(3, &nowhere).reply, 2);
        let entry = setup.daemon.blocked().pop().expect("a refusal");
        assert_eq!(entry["reason"], "method_not_allowed");
    }
}

/// The reason that an answer of the proxy names; `None` if it is the origin's.
fn reported(answer: &Response) -> Option<String> {
    let decision: Value = serde_json::from_str(answer.header("x-network-policy-decision")?)
        .expect("a decision in JSON");
    decision["reason"].as_str().map(str::to_owned)
}

/// `explain` with these header fields.
fn explained(daemon: &Daemon, method: &str, url: &str, fields: &[(&str, &str)]) -> Value {
    let mut arguments = vec!["explain".to_owned(), url.to_owned()];
    arguments.extend(["--method".to_owned(), method.to_owned()]);
    for (name, value) in fields {
        arguments.extend(["--header".to_owned(), format!("{name}: {value}")]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    proxyctl_json(daemon, &arguments)
}

type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Option<&'a str>);

/// Plain requests whose fields matter.
#[test]
fn k5_h9_h10_explain_judges_the_fields_of_a_plain_request() {
    let config = Config::limited();
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let upgrade = [("Connection", "upgrade"), ("Upgrade", "websocket")];
    let h2c = [("Connection", "upgrade"), ("Upgrade", "h2c")];
    let no_option = [("Upgrade", "websocket")];
    let rows: &[Row<'_>] = &[
        ("GET", "/", &[], None),
        ("POST", "/", &[], Some("method_not_allowed")),
        ("get", "/", &[], Some("method_not_allowed")),
        (
            "GET",
            "/",
            &[("Content-Length", "1")],
            Some("method_not_allowed"),
        ),
        ("GET", "/", &[("Content-Length", "0")], None),
        ("GET", "/", &upgrade, Some("method_not_allowed")),
        ("GET", "/", &h2c, None),
        ("GET", "/", &no_option, None),
        ("GET", "/", &[("X-HTTP-Method-Override", "PUT")], None),
        (
            "GET",
            "/",
            &[("x-unix-socket", "/run/x.sock")],
            Some("unix_socket_unsupported"),
        ),
        (
            "POST",
            "/",
            &[("x-unix-socket", "/run/x.sock")],
            Some("method_not_allowed"),
        ),
    ];
    let port = setup.origin.addr().port();
    for (method, path, fields, wanted) in rows {
        let lines: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut message = setup.message(method, "allowed.test", path, &lines);
        add_content(&mut message, fields);
        let answer = setup.client().exchange(&message);
        assert_eq!(reported(&answer).as_deref(), *wanted, "{message}");
        let url = format!("http://allowed.test:{port}{path}");
        let explained = explained(&setup.daemon, method, &url, fields);
        assert_eq!(reason(&explained).as_deref(), *wanted, "{explained}");
    }
    let overridden = [("X-HTTP-Method-Override", "PUT")];
    let url = format!("http://allowed.test:{port}/");
    let notes = explained(&setup.daemon, "GET", &url, &overridden)["notes"].to_string();
    assert!(notes.contains("x-http-method-override"), "{notes}");
}

#[test]
fn k5_m7_m10_explain_judges_the_fields_of_a_request_inside() {
    let (_directory, file) = secret();
    let config = hooked(&file).append(
        r#"
[network.mitm.hooks.team]
host = "hooked.test"
methods = ["PUT"]
path_prefixes = ["/team/"]
query = { state = ["open", "closed"] }
headers = { x-team = ["red-hunter2"], x-any = [] }
action = ["clean"]
"#,
    );
    let setup = TlsSetup::echoing(&config, &["http/1.1"]);
    let team = [("X-Team", "red-hunter2"), ("X-Any", "1")];
    let taken_away = [
        ("X-Team", "red-hunter2"),
        ("X-Any", "1"),
        ("Connection", "x-any"),
    ];
    let denied = Some("mitm_hook_denied");
    let rows: &[Row<'_>] = &[
        ("GET", "/api/x", &[], None),
        ("DELETE", "/api/x", &[], denied),
        ("GET", "/other", &[], denied),
        ("GET", "/api//x", &[], denied),
        ("GET", "/api/x", &[("Content-Length", "1")], denied),
        ("POST", "/api/x", &[("Content-Length", "1")], None),
        ("GET", "/api/x?_method=PUT", &[], denied),
        ("PUT", "/team/x?state=open", &team, None),
        ("PUT", "/team/x?state=gone", &team, denied),
        ("PUT", "/team/x", &team, denied),
        ("PUT", "/team/x?state=open", &team[..1], denied),
        ("PUT", "/team/x?state=open", &taken_away, denied),
        (
            "PUT",
            "/team/x?state=open",
            &[("X-Team", "blue"), ("X-Any", "1")],
            denied,
        ),
        (
            "GET",
            "/api/x",
            &[("Host", "other.test")],
            Some("policy_denied"),
        ),
    ];
    for (method, path, fields, wanted) in rows {
        let mut message = setup.message(method, "hooked.test", path, fields);
        add_content(&mut message, fields);
        if let Some((_, host)) = fields.iter().find(|(name, _)| *name == "Host") {
            message = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        }
        let answer = setup.http1("hooked.test").exchange(&message);
        assert_eq!(reported(&answer).as_deref(), *wanted, "{message}");
        let url = setup.url("hooked.test", path);
        let explained = explained(&setup.daemon, method, &url, fields);
        assert_eq!(
            reason(&explained).as_deref(),
            *wanted,
            "{message}: {explained}"
        );
        if let Some(wanted) = wanted {
            let entry = setup.daemon.blocked().pop().expect("a refusal");
            for key in ["reason", "source", "detail", "decision"] {
                assert_eq!(explained[key], entry[key], "{wanted}: {key}");
            }
        }
    }
    // Upgrades other than WebSocket are removed, so the hook applies to the rest.
    let spdy = [("Connection", "upgrade"), ("Upgrade", "spdy/3.1")];
    let url = setup.url("hooked.test", "/api/x");
    assert_eq!(reason(&explained(&setup.daemon, "GET", &url, &spdy)), None);
}

#[test]
fn k5_m9_explain_names_the_clause_of_the_nearest_hook_and_no_value() {
    let (_directory, file) = secret();
    let config = hooked(&file).append(
        r#"
[network.mitm.hooks.team]
host = "hooked.test"
methods = ["PUT"]
path_prefixes = ["/team/"]
query = { state = ["open-hunter2"] }
headers = { x-team = ["red-hunter2"], x-any = [] }
action = ["clean"]
"#,
    );
    let setup = TlsSetup::echoing(&config, &["http/1.1"]);
    let config = setup.daemon.config_path().display().to_string();
    for (method, path, fields, hook, missed) in [
        (
            "DELETE",
            "/api/x",
            &[][..],
            "api",
            "the method is not GET or POST",
        ),
        (
            "POST",
            "/other",
            &[],
            "api",
            "the path does not begin with /api/",
        ),
        (
            "GET",
            "/team/x",
            &[],
            "api",
            "the path does not begin with /api/",
        ),
        (
            "PUT",
            "/team/x?state=open-hunter2",
            &[("x-any", "1")],
            "team",
            "the header field x-team is missing",
        ),
        (
            "PUT",
            "/team/x?state=open-hunter2",
            &[("x-any", "1"), ("x-team", "blue")],
            "team",
            "the header field x-team has another value",
        ),
        (
            "PUT",
            "/team/x",
            &[("x-any", "1"), ("x-team", "red-hunter2")],
            "team",
            "the query lacks state",
        ),
        (
            "PUT",
            "/team/x?state=no",
            &[("x-any", "1"), ("x-team", "red-hunter2")],
            "team",
            "state in the query has another value",
        ),
    ] {
        let url = setup.url("hooked.test", path);
        let explained = explained(&setup.daemon, method, &url, fields);
        let nearest = &explained["hooks"][0];
        assert_eq!(nearest["name"], hook, "{explained}");
        assert_eq!(
            nearest["missed"],
            serde_json::json!([missed]),
            "{explained}"
        );
        let place = nearest["place"].as_str().expect("a place");
        assert!(place.starts_with(&config), "{place}");
        assert!(!explained.to_string().contains("hunter2"), "{explained}");
    }
    let url = setup.url("hooked.test", "/api/x");
    proxyctl(&setup.daemon, &["explain", &url, "-X", "DELETE"])
        .succeeded()
        .says("hook     api (")
        .says("does not match: the method is not GET or POST");
}

#[test]
fn k5_p4_explain_resolves_only_on_request_and_only_permitted_names() {
    let dns = StubResolver::start();
    let [here, public] = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(93, 184, 215, 14)];
    dns.answer("mixed.test", [public.into(), here.into()]);
    dns.answer("public.test", [public.into()]);
    dns.answer("denied.test", [public.into()]);
    dns.answer("blocked.test", [public.into()]);
    let config = Config::new()
        .unset("network", "allow_local_binding")
        .allow("mixed.test")
        .allow("public.test")
        .allow("gone.test")
        .deny("denied.test")
        .nameserver(dns.address());
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let daemon = &setup.daemon;
    for host in ["mixed.test", "public.test", "gone.test"] {
        let text = proxyctl(daemon, &["explain", host]);
        text.succeeded().says("they were not looked at here");
    }
    for host in ["denied.test", "blocked.test"] {
        let explained = proxyctl_json(daemon, &["explain", host, "--resolve"]);
        assert!(explained.get("addresses").is_none(), "{explained}");
    }
    assert_eq!(dns.names_asked(), [""; 0]);

    let explained = proxyctl_json(daemon, &["explain", "mixed.test", "--resolve"]);
    assert_eq!(explained["reason"], "not_allowed_local");
    let mut judged: Vec<_> = explained["addresses"]
        .as_array()
        .expect("addresses")
        .iter()
        .map(|one| format!("{} {} {}", one["address"], one["standing"], one["reason"]))
        .map(|text| text.replace('"', ""))
        .collect();
    judged.sort();
    let wanted = [
        "127.0.0.1 local not_allowed_local",
        "93.184.215.14 public allow",
    ];
    assert_eq!(judged, wanted, "{explained}");
    assert!(
        !explained.to_string().contains("not looked at"),
        "{explained}"
    );
    let text = proxyctl(daemon, &["explain", "public.test", "--resolve"]);
    text.succeeded()
        .says("is allowed")
        .says("93.184.215.14 is public: allowed");

    // `explain` has the same text as the answer to such a request.
    let explained = proxyctl_json(daemon, &["explain", "http://gone.test/", "--resolve"]);
    assert_eq!(explained["reason"], "dns_failure");
    assert_eq!(explained["source"], "proxy_state");
    let because = explained["because"].as_str().expect("a sentence");
    assert!(because.contains("the policy allows gone.test"), "{because}");
    let answer = setup
        .client()
        .exchange("GET http://gone.test/ HTTP/1.1\r\nHost: gone.test\r\n\r\n");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("dns_failure"), "{}", answer.text());
    let text = proxyctl(daemon, &["explain", "http://gone.test/", "--resolve"]);
    text.succeeded()
        .says("is not resolved")
        .says("name servers");
}

#[test]
fn k5_explain_refuses_an_impossible_request_in_one_line() {
    let config = Config::example();
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let url = "http://allowed.test/";
    for (arguments, code, says) in [
        (&["--header", "hunter2"][..], 2, "'Name: value'"),
        (&["--header", "a b: hunter2"], 2, "the name of the field"),
        (&["--header", "a: hunter2\u{1}"], 2, "control character"),
        (
            &["--header", "Content-Length: hunter2"],
            1,
            "Content-Length is malformed",
        ),
        (
            &["--header", "Host: hunter2.test"],
            1,
            "the Host field does not name",
        ),
        (&["--method", "hunter 2"], 1, "not a token"),
        (&["--method", "CONNECT"], 1, "opens a tunnel"),
    ] {
        let run = proxyctl(&setup.daemon, &[&["explain", url], arguments].concat());
        assert_eq!(run.code, Some(code), "{arguments:?}: {run:?}");
        let repeats = run.stderr.contains("hunter2") && code == 1;
        assert!(!repeats, "{}", run.stderr);
        run.says(says);
    }
    let field = format!("x-long: {}", "x".repeat(70_000));
    let run = proxyctl(&setup.daemon, &["explain", url, "--header", &field]);
    assert_eq!(run.code, Some(1));
    run.says("status 431");
    let mut many = vec!["explain", url];
    for _ in 0..101 {
        many.extend(["--header", "x: y"]);
    }
    proxyctl(&setup.daemon, &many).says("status 431");
}

#[test]
fn k5_l6_explain_reports_that_the_proxy_is_off() {
    let config = Config::example().set("network", "enabled", "false");
    let daemon = Daemon::launch().config(&config).start();
    for url in [
        "http://allowed.test/",
        "denied.test",
        "http://a..b/",
        "udp://a.test:5",
    ] {
        let explained = proxyctl_json(&daemon, &["explain", url]);
        assert_eq!(explained["reason"], "proxy_disabled", "{explained}");
        assert_eq!(explained["source"], "proxy_state");
    }
}

/// In limited mode every request inside is judged, for hosts without hooks too.
#[test]
fn k5_p7_explain_agrees_with_requests_inside_tls_in_limited_mode() {
    let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    let websocket = [("Connection", "upgrade"), ("Upgrade", "websocket")];
    let refused = Some("method_not_allowed");
    let rows: &[Row<'_>] = &[
        ("GET", "/a//b", &[], None),
        ("POST", "/", &[], refused),
        ("GET", "/", &websocket, refused),
        ("GET", "/", &[("Transfer-Encoding", "chunked")], refused),
    ];
    for (method, path, fields, wanted) in rows {
        let mut message = setup.message(method, "allowed.test", path, fields);
        if fields.iter().any(|(name, _)| *name == "Transfer-Encoding") {
            message.push_str("1\r\nx\r\n0\r\n\r\n");
        }
        let answer = setup.http1("allowed.test").exchange(&message);
        assert_eq!(reported(&answer).as_deref(), *wanted, "{message}");
        let url = setup.url("allowed.test", path);
        let explained = explained(&setup.daemon, method, &url, fields);
        assert_eq!(
            reason(&explained).as_deref(),
            *wanted,
            "{message}: {explained}"
        );
    }
}
