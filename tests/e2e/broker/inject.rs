//! The real value takes the place of the dummy at its own host, and nowhere else (SPEC B3, B8).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use codex_network_control::message::{CredentialValue, GivenCredentials, SessionRequest};
use e2e::client::{Connection, proxy_request};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::tls::Client;

use super::{BOTH, REAL, Scene, VARIABLE, Way, config, dummy, session_of};

#[test]
fn b3_b8_the_origin_gets_the_real_value_at_each_door_and_in_each_protocol() {
    let scene = Scene::echoing();
    let bearer = format!("Bearer {}", scene.dummy());
    for way in [Way::Connect, Way::Socks5] {
        for protocol in BOTH {
            let asked = ("GET", "allowed.test", "/v1/models");
            let fields = [("authorization", &*bearer), ("x-kept", "1")];
            let answer = scene.ask_over(&scene.session, (way, protocol), asked, &fields, b"");
            assert_eq!(answer.status, 200, "{way:?} {protocol}");
            let got = scene.received("authorization");
            assert_eq!(got, Some(format!("Bearer {REAL}")), "{way:?} {protocol}");
            assert_eq!(scene.received("x-kept").as_deref(), Some("1"));
            // The answer has the request, with the dummy in it.
            assert!(answer.text().contains(scene.dummy()), "{}", answer.text());
            assert!(!answer.text().contains(REAL));
        }
    }
}

#[test]
fn b8_requests_without_the_dummy_pass_untouched() {
    let scene = Scene::echoing();
    let basic = format!("Basic {}", STANDARD.encode("me:password"));
    for own in ["Bearer mine", &basic, "Digest x"] {
        let answer = scene.get("allowed.test", "/", &[("authorization", own)]);
        assert_eq!(answer.status, 200);
        assert_eq!(scene.received("authorization").as_deref(), Some(own));
    }
    assert_eq!(scene.get("allowed.test", "/", &[]).status, 200);
    assert_eq!(scene.received("authorization"), None);
}

#[test]
fn m6_no_request_follows_content_to_a_host_of_a_credential() {
    let scene = Scene::echoing();
    let tunnel = scene.tunnel(&scene.session, Way::Connect, "allowed.test");
    let client = Client::trusting_pem(&scene.proxy_ca).alpn(&["http/1.1"]);
    let (mut client, _) = tunnel.secure(&client, "allowed.test");
    let host = scene.authority("allowed.test");
    let (dummy, content) = (scene.dummy(), "content");
    for request in [
        format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: 7\r\n\r\n{content}"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {dummy}\r\n\r\n"),
    ] {
        client.send(request);
        assert_eq!(client.read_final_response().status, 200);
    }
    let used = scene.origin.used_connections();
    assert!(
        matches!(used[..], [first, second] if first != second),
        "{used:?}"
    );
}

#[test]
fn b8_fields_that_override_the_method_or_the_target_do_not_arrive() {
    let scene = Scene::echoing();
    let bearer = format!("Bearer {}", scene.dummy());
    let overrides = [
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "x-forwarded-prefix",
    ];
    for protocol in BOTH {
        let mut fields = overrides.map(|name| (name, "/admin")).to_vec();
        fields.push(("authorization", &bearer));
        let asked = ("GET", "allowed.test", "/v1");
        let way = (Way::Connect, protocol);
        let answer = scene.ask_over(&scene.session, way, asked, &fields, b"");
        assert_eq!(answer.status, 200, "{protocol}");
        assert!(scene.received("authorization").is_some(), "{protocol}");
        for name in overrides {
            assert_eq!(scene.received(name), None, "{protocol} {name}");
        }
    }
}

#[test]
fn b8_only_websocket_is_offered_with_a_real_value() {
    let scene = Scene::echoing();
    let bearer = format!("Bearer {}", scene.dummy());
    for (offer, wanted) in [
        ("tcp, websocket, h2c", Some("websocket")),
        ("h2c", None),
        ("tcp", None),
    ] {
        let fields = [
            ("authorization", &*bearer),
            ("connection", "upgrade"),
            ("upgrade", offer),
        ];
        let answer = scene.get("allowed.test", "/", &fields);
        assert_eq!(answer.status, 200, "{offer}");
        assert_eq!(scene.received("upgrade").as_deref(), wanted, "{offer}");
    }
}

#[test]
fn m1_only_the_sessions_own_hosts_are_intercepted_and_only_for_it() {
    let scene = Scene::echoing();
    let origins = Client::trusting(&scene.ca);
    let plain = e2e::session::Session::open(&scene.daemon);
    for (session, host) in [(&scene.session, "blocked.test"), (&plain, "allowed.test")] {
        let tunnel = scene.tunnel(session, Way::Connect, host);
        tunnel
            .try_secure(&origins, host)
            .expect("the origin's own certificate");
    }
    let tunnel = scene.tunnel(&scene.session, Way::Connect, "allowed.test");
    assert!(tunnel.try_secure(&origins, "allowed.test").is_err());
}

#[test]
fn b3_nothing_is_injected_into_plain_http() {
    let scene = Scene::echoing();
    let plain = Origin::start(|_| Answer::Echo);
    let authority = format!("allowed.test:{}", plain.addr().port());
    let bearer = format!("Authorization: Bearer {}", scene.dummy());
    let mut client = Connection::open(scene.session.doors[0]);
    let answer = client.exchange(&proxy_request("GET", &authority, "/", &[&bearer]));
    assert_eq!(answer.status, 403, "{}", answer.text());
    assert_eq!(answer.json()["reason"], "credential_unbound");
    assert!(plain.requests().is_empty());
}

#[test]
fn b3_plain_http_gets_the_real_value_with_the_opt_in() {
    let plain = Origin::start(|_| Answer::Echo);
    let port = plain.addr().port();
    let config = Config::example()
        .set("network", "credential_broker", "true")
        .set(
            "network",
            "dangerously_allow_plaintext_credential_injection",
            "true",
        )
        .append(&format!(
            "[network.credentials.openai]\nenv = \"{VARIABLE}\"\nurl_prefixes = [\"http://allowed.test:{port}\"]\n"
        ));
    let daemon = Daemon::start(&config);
    let session = session_of(&daemon, REAL);
    let bearer = format!("Authorization: Bearer {}", dummy(&session));
    let authority = format!("allowed.test:{port}");
    let mut forward = Connection::open(session.doors[0]);
    let mut tunnel = Connection::open(session.doors[0]);
    assert_eq!(tunnel.connect(&authority).status, 200);
    let origin_form = format!("GET / HTTP/1.1\r\nHost: {authority}\r\n{bearer}\r\n\r\n");
    for answer in [
        forward.exchange(&proxy_request("GET", &authority, "/", &[&bearer])),
        tunnel.exchange(&origin_form),
    ] {
        assert_eq!(answer.status, 200);
        assert!(!answer.text().contains(REAL), "{}", answer.text());
        let requests = plain.requests();
        let last = requests
            .last()
            .and_then(|last| last.header("authorization"));
        assert_eq!(last, Some(format!("Bearer {REAL}").as_str()));
    }
}

#[test]
fn p11_a_reload_that_removes_the_provider_makes_its_dummy_useless() {
    let scene = Scene::echoing();
    let bearer = format!("Bearer {}", scene.dummy());
    let fields = [("authorization", &*bearer)];
    let tunnel = scene.tunnel(&scene.session, Way::Connect, "allowed.test");
    let client = Client::trusting_pem(&scene.proxy_ca).alpn(&["http/1.1"]);
    let (mut open, _) = tunnel.secure(&client, "allowed.test");
    assert_eq!(scene.get("allowed.test", "/", &fields).status, 200);
    let port = scene.origin.addr().port();
    let without = config(port).set("network", "credential_broker", "false");
    scene.daemon.reload_with(&without);
    let asked = format!(
        "GET / HTTP/1.1\r\nHost: {}\r\nAuthorization: {bearer}\r\n\r\n",
        scene.authority("allowed.test")
    );
    let before = scene.origin.requests().len();
    assert_eq!(open.exchange(&asked).status, 403);
    // The host is still intercepted, since it may know the real value, so the dummy is seen there too.
    let answer = scene.get("allowed.test", "/", &fields);
    assert_eq!(answer.status, 403);
    assert!(
        answer.text().contains("credential_unbound"),
        "{}",
        answer.text()
    );
    assert_eq!(scene.origin.requests().len(), before);
    assert_eq!(scene.get("allowed.test", "/", &[]).status, 200);
}

#[test]
fn b9_each_session_has_a_dummy_of_its_own() {
    let scene = Scene::echoing();
    let other = session_of(&scene.daemon, REAL);
    assert_ne!(scene.dummy(), dummy(&other));
    assert!(scene.session.opened.warnings.is_empty());
    let short = e2e::session::Session::open_with(
        &scene.daemon,
        SessionRequest {
            credentials: GivenCredentials {
                values: vec![(
                    VARIABLE.to_owned(),
                    CredentialValue::new("short".to_owned()),
                )],
                ..GivenCredentials::default()
            },
            ..SessionRequest::default()
        },
    );
    assert!(short.opened.dummies.is_empty());
    let warning = &short.opened.warnings[0];
    assert!(
        warning.contains("openai is shorter than 8 bytes"),
        "{warning}"
    );
}
