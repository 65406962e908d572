//! A dummy in a form that presents no credential: the real value does not take its place, and at another host it is
//! refused in each part of the head (SPEC B8, B11). For the content see `contents`.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::leaks::Leak;
use e2e::origin::{Answer, Origin};

use super::{BOTH, REAL, Scene, Way, config};

/// `blocked.test` is intercepted by a hook that everything matches.
pub(super) fn hooked(port: u16) -> Config {
    config(port).hook("all", "blocked.test", &["GET", "POST"], "/")
}

pub(super) fn scene() -> Scene {
    Scene::with(Origin::answering(|_| Answer::Echo), hooked)
}

/// A text with all of its bytes percent-encoded.
pub(super) fn percent(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        write!(encoded, "%{byte:02x}").expect("a text");
    }
    encoded
}

/// Waits for the record of a refusal.
#[track_caller]
pub(super) fn assert_recorded(scene: &Scene, part: &str, count: usize) {
    let detail = format!(r#""detail":"{part}""#);
    scene.daemon.wait_for_logs(count, |line| {
        line.message_contains("CODEX_NETWORK_POLICY_VIOLATION") && line.message_contains(&detail)
    });
}

#[test]
fn b8_what_is_no_whole_dummy_in_its_place_becomes_no_value() {
    let scene = scene();
    let dummy = scene.dummy();
    let (front, back) = dummy.split_at(20);
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let fields: Vec<Vec<(&str, String)>> = vec![
        vec![("x-other", format!("Bearer {dummy}"))],
        vec![("x-api-key", dummy.to_owned())],
        vec![("proxy-authorization", format!("Bearer {dummy}"))],
        vec![("cookie", format!("authorization=Bearer {dummy}"))],
        vec![("authorization", dummy.to_owned())],
        vec![("authorization", format!("Bearer {}", dummy.to_uppercase()))],
        vec![("authorization", format!("Bearer {}", dummy.to_lowercase()))],
        vec![
            ("authorization", format!("Bearer {front}")),
            ("authorization", back.to_owned()),
        ],
        vec![
            ("authorization", format!("Bearer {front}")),
            ("x-rest", back.to_owned()),
        ],
        vec![("authorization", format!("Bearer {dummy} {dummy}"))],
        vec![("authorization", format!("Bearer {dummy}, Bearer {dummy}"))],
        vec![("authorization", format!("Bearer {dummy};"))],
        vec![("authorization", format!("Bearer \"{dummy}\""))],
        vec![("authorization", format!("Bearer\t{dummy}"))],
        vec![("authorization", format!("Digest {dummy}"))],
        vec![("authorization", format!("Bearer {}", percent(dummy)))],
        vec![(
            "authorization",
            format!("Bearer {}", STANDARD.encode(dummy)),
        )],
        vec![("authorization", basic(dummy))],
        vec![("authorization", basic(&format!("me:{dummy}")))],
        // Guesses from a prefix.
        vec![("authorization", format!("Bearer {front}"))],
        vec![("authorization", "Bearer sk-proj-masked".to_owned())],
        vec![(
            "authorization",
            format!("Bearer {}~", &dummy[..dummy.len() - 1]),
        )],
    ];
    for protocol in BOTH {
        for fields in &fields {
            let fields: Vec<_> = fields
                .iter()
                .map(|(name, value)| (*name, &**value))
                .collect();
            let asked = ("GET", "allowed.test", "/v1");
            let way = (Way::Connect, protocol);
            let answer = scene.ask_over(&scene.session, way, asked, &fields, b"");
            assert_eq!(
                answer.status,
                200,
                "{protocol} {fields:?}: {}",
                answer.text()
            );
        }
    }
    scene.assert_the_origin_has_no_real_value();
}

#[test]
fn b8_each_of_several_fields_that_present_the_dummy_gets_the_value() {
    let scene = scene();
    let bearer = format!("Bearer {}", scene.dummy());
    let fields = [("authorization", &*bearer), ("authorization", &bearer)];
    for protocol in BOTH {
        let asked = ("GET", "allowed.test", "/v1");
        let way = (Way::Connect, protocol);
        assert_eq!(
            scene
                .ask_over(&scene.session, way, asked, &fields, b"")
                .status,
            200
        );
        let last = scene.origin.requests().pop().expect("a request");
        let real = format!("Bearer {REAL}");
        assert_eq!(
            last.headers.all("authorization"),
            [&*real, &real],
            "{protocol}"
        );
    }
}

#[test]
fn b8_of_pipelined_requests_only_those_with_the_dummy_get_the_value() {
    let scene = scene();
    let host = scene.authority("allowed.test");
    let bearer = format!("Authorization: Bearer {}\r\n", scene.dummy());
    let message = |number: usize, field: &str| {
        format!("GET /{number} HTTP/1.1\r\nHost: {host}\r\n{field}\r\n")
    };
    let mut client = scene.secured("allowed.test");
    client.send(
        ["", &bearer, "", &bearer]
            .iter()
            .enumerate()
            .map(|(number, field)| message(number, field))
            .collect::<String>(),
    );
    for _ in 0..4 {
        assert_eq!(client.read_final_response().status, 200);
    }
    for request in scene.origin.requests() {
        let is_second = ["/1", "/3"].contains(&&*request.target);
        let real = format!("Bearer {REAL}");
        let expected = is_second.then_some(&*real);
        assert_eq!(
            request.header("authorization"),
            expected,
            "{}",
            request.target
        );
    }
}

#[test]
fn b12_a_request_for_content_in_a_form_that_is_not_searched_does_not_arrive() {
    let scene = scene();
    let bearer = format!("Bearer {}", scene.dummy());
    let fields = [
        ("authorization", &*bearer),
        ("accept-encoding", "gzip"),
        ("accept-charset", "utf-16"),
        ("a-im", "gzip"),
        ("te", "gzip"),
    ];
    for protocol in BOTH {
        let asked = ("GET", "allowed.test", "/v1");
        let way = (Way::Connect, protocol);
        let fields = if protocol == "h2" {
            &fields[..4]
        } else {
            &fields
        };
        assert_eq!(
            scene
                .ask_over(&scene.session, way, asked, fields, b"")
                .status,
            200
        );
        assert_eq!(
            scene.received("accept-encoding").as_deref(),
            Some("identity")
        );
        for name in ["accept-charset", "a-im", "te"] {
            assert_eq!(scene.received(name), None, "{protocol} {name}");
        }
    }
}

#[test]
fn b11_elsewhere_a_dummy_is_found_in_each_form_of_the_head() {
    let scene = scene();
    let dummy = scene.dummy();
    let fields = [
        ("authorization", format!("Bearer {dummy} {dummy}")),
        ("authorization", format!("Bearer {}", percent(dummy))),
        (
            "authorization",
            format!("Basic {}", STANDARD.encode(format!("{dummy}:"))),
        ),
        (
            "authorization",
            format!("Basic {}", STANDARD.encode(format!("me:{dummy}"))),
        ),
        (
            "x-json",
            URL_SAFE_NO_PAD.encode(format!("{{\"key\":\"{dummy}\"}}")),
        ),
        ("referer", format!("https://allowed.test/?key={dummy}")),
        ("te", format!("trailers;q={dummy}")),
        ("range", format!("bytes={dummy}")),
        ("user-agent", format!("agent {dummy}")),
    ];
    let targets = [
        format!("/{dummy}"),
        format!("/?{dummy}"),
        format!("/?next={}", percent(&percent(dummy))),
        format!("/?{}", STANDARD.encode(format!("xx{dummy}"))),
        format!("/x={dummy}"),
    ];
    for protocol in BOTH {
        let way = (Way::Connect, protocol);
        let ask = |target: &str, fields: &[(&str, &str)]| {
            let asked = ("GET", "blocked.test", target);
            scene.ask_over(&scene.session, way, asked, fields, b"")
        };
        for (name, value) in &fields {
            // Over HTTP/2 there is no other `TE` than `trailers`.
            if (protocol, *name) == ("h2", "te") {
                continue;
            }
            let answer = ask("/", &[(name, value)]);
            // This field ends at the proxy.
            let expected = if *name == "te" { 200 } else { 403 };
            assert_eq!(answer.status, expected, "{protocol} {name}: {value}");
        }
        for target in &targets {
            assert_eq!(ask(target, &[]).status, 403, "{protocol} {target}");
        }
        // Nothing of a dummy is found in these, and nothing of the value is in them either.
        let (front, back) = dummy.split_at(20);
        let split = [("authorization", front), ("x-rest", back)];
        assert_eq!(ask("/", &split).status, 200, "{protocol}");
        let other_case = dummy.to_uppercase();
        assert_eq!(ask("/", &[("authorization", &other_case)]).status, 200);
    }
    assert_recorded(&scene, "dummy_in_header", 16);
    assert_recorded(&scene, "dummy_in_url", 10);
    for request in scene.origin.requests() {
        assert!(!format!("{request:?}").contains(dummy), "{request:?}");
    }
    scene.assert_the_origin_has_no_real_value();
}

#[test]
fn b8_in_a_websocket_message_no_dummy_becomes_the_value() {
    let upgrade = || {
        Answer::Upgrade(vec![
            ("upgrade".into(), "websocket".into()),
            ("sec-websocket-protocol".into(), format!("key.{REAL}")),
        ])
    };
    let scene = Scene::with(Origin::answering(move |_| upgrade()), config);
    let dummy = scene.dummy();
    let host = scene.authority("allowed.test");
    let mut client: Connection = scene.secured("allowed.test");
    client.send(format!(
        "GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {dummy}\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    let head = client.read_head();
    assert_eq!(head.status, 101);
    Leak::of(REAL).assert_not_in_answer("the change of protocols", &head);
    assert_eq!(
        scene.received("authorization"),
        Some(format!("Bearer {REAL}"))
    );
    // The origin sends each byte back.
    let message = format!("Authorization: Bearer {dummy}\r\n");
    client.send(&message);
    assert_eq!(client.read_exact(message.len()), message.as_bytes());
}
