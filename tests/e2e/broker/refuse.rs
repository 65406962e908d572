//! A dummy at a wrong place is refused (SPEC B11).

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::client::Response;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::proxyctl::exported_ca;
use e2e::tls::{Client, Server, TestCa};
use serde_json::Value;

use super::{BOTH, REAL, Scene, Way, config, dummy, session_of};

/// The refusal names the credential and the place, and was recorded with the session.
#[track_caller]
fn assert_refused(scene: &Scene, answer: &Response, part: &str) {
    let text = answer.text();
    assert_eq!(answer.status, 403, "{text}");
    assert!(text.contains(r#""reason":"credential_unbound""#), "{text}");
    assert!(text.contains("the credential openai"), "{text}");
    assert!(
        text.contains(&scene.authority("allowed.test")) || text.contains("blocked.test"),
        "{text}"
    );
    assert!(!text.contains(REAL));
    let line = scene.daemon.wait_for_log(|line| {
        line.message_contains("CODEX_NETWORK_POLICY_VIOLATION")
            && line.message_contains(&format!(r#""detail":"{part}""#))
    });
    let message = line.message().expect("a message");
    let (_, json) = message.split_once(' ').expect("JSON");
    let entry: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(entry["credential"], "openai", "{entry}");
    assert_eq!(entry["reason"], "credential_unbound", "{entry}");
    assert_eq!(entry["session"], *scene.session.opened.id, "{entry}");
    assert!(!message.contains(scene.dummy()) && !message.contains(REAL));
}

/// `blocked.test` is intercepted too, by a hook that everything matches.
fn with_hook(port: u16) -> Config {
    config(port).hook("all", "blocked.test", &["GET", "POST"], "/")
}

#[test]
fn b11_a_dummy_in_a_field_in_the_url_or_in_the_body_is_refused_elsewhere() {
    let scene = Scene::echoing();
    scene
        .daemon
        .reload_with(&with_hook(scene.origin.addr().port()));
    let dummy = scene.dummy();
    let bearer = format!("Bearer {dummy}");
    let basic = format!("Basic {}", STANDARD.encode(format!("me:{dummy}")));
    let query = format!("/?key={dummy}");
    let mut encoded = "/".to_owned();
    for byte in dummy.bytes() {
        write!(encoded, "%{byte:02X}").expect("a text");
    }
    let body = format!("{{\"key\": \"{dummy}\"}}");
    for protocol in BOTH {
        let way = (Way::Connect, protocol);
        let ask = |path: &str, fields: &[(&str, &str)], body: &str| {
            let method = if body.is_empty() { "GET" } else { "POST" };
            let asked = (method, "blocked.test", path);
            scene.ask_over(&scene.session, way, asked, fields, body.as_bytes())
        };
        for fields in [
            [("authorization", &*bearer)],
            [("authorization", &*basic)],
            [("x-other", dummy)],
            [("cookie", &format!("a={dummy}; b=1"))],
        ] {
            assert_refused(&scene, &ask("/", &fields, ""), "dummy_in_header");
        }
        for path in [&query, &encoded] {
            assert_refused(&scene, &ask(path, &[], ""), "dummy_in_url");
        }
        assert_refused(&scene, &ask("/", &[], &body), "dummy_in_body");
    }
    for request in scene.origin.requests() {
        assert!(!request.text().contains(dummy), "{request:?}");
    }
}

#[test]
fn b11_at_its_own_host_a_dummy_is_refused_in_url_and_method_and_passes_in_the_body() {
    let scene = Scene::echoing();
    let dummy = scene.dummy();
    for protocol in BOTH {
        let way = (Way::Connect, protocol);
        let path = format!("/v1?key={dummy}");
        let asked = ("GET", "allowed.test", &*path);
        let answer = scene.ask_over(&scene.session, way, asked, &[], b"");
        assert_refused(&scene, &answer, "dummy_in_url");
        let as_method = (dummy, "allowed.test", "/v1");
        let answer = scene.ask_over(&scene.session, way, as_method, &[], b"");
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert!(
            answer.text().contains("the method of this request"),
            "{}",
            answer.text()
        );
        let body = format!("my environment has {dummy}");
        let asked = ("POST", "allowed.test", "/v1");
        let answer = scene.ask_over(&scene.session, way, asked, &[], body.as_bytes());
        assert_eq!(answer.status, 200);
        assert_eq!(scene.origin.requests().last().expect("one").text(), body);
    }
}

#[test]
fn b11_the_dummy_of_another_session_and_of_an_ended_one_is_worthless() {
    let scene = Scene::echoing();
    let other = session_of(&scene.daemon, REAL);
    let theirs = format!("Bearer {}", dummy(&other));
    let fields = [("authorization", &*theirs)];
    let before = scene.origin.requests().len();
    let answer = scene.get("allowed.test", "/", &fields);
    assert_refused(&scene, &answer, "dummy_in_header");
    let caller = other.caller;
    drop(caller);
    let answer = scene.get("allowed.test", "/", &fields);
    assert_refused(&scene, &answer, "dummy_in_header");
    assert_eq!(scene.origin.requests().len(), before);
}

#[test]
fn b11_a_dummy_that_follows_an_early_answer_is_recorded_and_does_not_arrive() {
    let ca = TestCa::new();
    let server = Server::of(&ca, &["allowed.test", "blocked.test"]).alpn(&["h2"]);
    let origin = Origin::answering(|_| Answer::Echo)
        .before_body(|_| Some(Answer::Mirror))
        .tls_as(&server)
        .start();
    let daemon = Daemon::start_trusting(&with_hook(origin.addr().port()), &ca);
    let scene = Scene {
        session: session_of(&daemon, REAL),
        proxy_ca: exported_ca(&daemon),
        origin,
        daemon,
        ca,
    };
    let tunnel = scene.tunnel(&scene.session, Way::Connect, "blocked.test");
    let client = Client::trusting_pem(&scene.proxy_ca).alpn(&["h2"]);
    let client = tunnel.into_http2(&client, "blocked.test");
    let url = format!("https://{}/", scene.authority("blocked.test"));
    let mut exchange = client.open("POST", &url, &[]);
    exchange.send(b"before ");
    assert_eq!(exchange.head().status, 200);
    let mut mirrored = exchange.read_some();
    exchange.send(scene.dummy().as_bytes());
    scene.daemon.wait_for_log(|line| {
        line.message_contains("CODEX_NETWORK_POLICY_VIOLATION")
            && line.message_contains(r#""detail":"dummy_in_body""#)
            && line.message_contains(r#""credential":"openai""#)
    });
    while let Ok(more) = exchange.try_read_some() {
        if more.is_empty() {
            break;
        }
        mirrored.extend(more);
    }
    assert_eq!(mirrored, b"before ");
}

#[test]
fn b11_h10_a_dummy_for_a_unix_socket_goes_nowhere() {
    let scene = Scene::echoing();
    let dummy = scene.dummy();
    let mut client = e2e::client::Connection::open(scene.session.doors[0]);
    let answer = client.exchange(&format!(
        "GET http://{}/?key={dummy} HTTP/1.1\r\nx-unix-socket: /var/run/docker.sock\r\nauthorization: Bearer {dummy}\r\n\r\n",
        scene.authority("allowed.test")
    ));
    // Not served on this platform. Neither the socket nor the host gets anything.
    assert_eq!(answer.status, 501, "{}", answer.text());
    assert!(scene.origin.requests().is_empty());
}

#[test]
fn b11_a_dummy_in_the_authority_of_http2_goes_nowhere() {
    let scene = Scene::echoing();
    let dummy = scene.dummy();
    let place = scene.authority("allowed.test");
    let port = scene.origin.addr().port();
    for authority in [
        format!("{dummy}:{port}"),
        format!("{dummy}.allowed.test:{port}"),
        format!("{dummy}@{place}"),
        format!("me:{dummy}@{place}"),
    ] {
        let bearer = format!("Bearer {dummy}");
        for fields in [&[("authorization", &*bearer)][..], &[]] {
            let client = scene.http2("allowed.test");
            let mut exchange = client.begin("GET", &format!("https://{authority}/"), fields);
            // Refused with a status, or the stream is reset.
            if let Ok(head) = exchange.try_head() {
                assert!((400..=499).contains(&head.status), "{authority}: {head:?}");
                assert!(!head.text().contains(REAL), "{authority}: {head:?}");
            }
        }
    }
    assert!(scene.origin.requests().is_empty());
    // The same without it arrives.
    let client = scene.http2("allowed.test");
    let answer = client.request("GET", &format!("https://{place}/"), &[], b"");
    assert_eq!(answer.status, 200);
}
