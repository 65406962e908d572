//! Records and `explain` name the credentials of a request (SPEC R1, R3, R5, K5).

use codex_network_control::message::{DoorKind, GivenCredentials, MAX_TOOL_URLS, SessionRequest};
use e2e::daemon::{Config, LogLine};
use e2e::session::{Caller, sockets};

use super::{BOTH, REAL, Scene, VARIABLE, Way, config};

/// The text of a field.
fn text(line: &LogLine, name: &str) -> Option<String> {
    let text = line.field(name)?;
    text.as_str().map(str::to_owned)
}

/// An audit event, or the event of a flow, of a request inside TLS with this path's method.
fn event(scene: &Scene, name: &str, method: &str) -> LogLine {
    scene.daemon.wait_for_log(|line| {
        text(line, "event.name").is_some_and(|event| event == name)
            && text(line, "http.request.method").is_some_and(|seen| seen == method)
    })
}

const DECISION: &str = "codex.network_proxy.policy_decision";
const FLOW: &str = "codex.network_proxy.flow";

#[test]
fn r3_r5_events_of_a_request_name_the_credential_that_it_carries() {
    let scene = Scene::echoing();
    let port = scene.origin.addr().port();
    scene
        .daemon
        .reload_with(&config(port).set("daemon", "log_flows", "true"));
    let bearer = format!("Bearer {}", scene.dummy());
    let with = [("authorization", &*bearer)];
    for (method, protocol, fields, credential) in [
        ("PUT", BOTH[0], &with[..], Some("openai")),
        ("PATCH", BOTH[1], &with[..], Some("openai")),
        ("DELETE", BOTH[0], &[][..], None),
    ] {
        let asked = (method, "allowed.test", "/");
        let way = (Way::Connect, protocol);
        let answer = scene.ask_over(&scene.session, way, asked, fields, b"");
        assert_eq!(answer.status, 200, "{method}");
        for name in [DECISION, FLOW] {
            let event = event(&scene, name, method);
            let named = text(&event, "credential");
            assert_eq!(named.as_deref(), credential, "{method} {name}");
            let whole = format!("{event:?}");
            assert!(!whole.contains(REAL) && !whole.contains(scene.dummy()));
        }
    }
}

#[test]
fn r3_the_event_of_a_refusal_names_the_credential() {
    let scene = Scene::echoing();
    let path = format!("/?key={}", scene.dummy());
    assert_eq!(scene.get("allowed.test", &path, &[]).status, 403);
    let event = event(&scene, DECISION, "GET");
    assert_eq!(text(&event, "credential").as_deref(), Some("openai"));
    let reason = text(&event, "network.policy.reason");
    assert_eq!(reason.as_deref(), Some("credential_unbound"));
}

/// `openai` belongs to one path, and goes with one method.
fn bounded(port: u16) -> Config {
    Config::example()
        .allow("blocked.test")
        .set("network", "credential_broker", "true")
        .append(&format!(
            r#"
[network.credentials.openai]
env = "{VARIABLE}"
url_prefixes = ["https://allowed.test:{port}/v1"]
methods = ["GET"]
"#
        ))
}

#[test]
fn k5_explain_says_whether_a_request_would_carry_a_credential() {
    let scene = Scene::echoing();
    let port = scene.origin.addr().port();
    scene.daemon.reload_with(&bounded(port));
    let session = super::session_of(&scene.daemon, REAL);
    let notes = |path: &str, session: Option<&str>| {
        let url = format!("https://allowed.test:{port}{path}");
        let explained = Caller::connect(&scene.daemon).explain(&url, session);
        explained.expect("an answer").notes.join("\n")
    };
    let id = Some(&*session.opened.id);
    let carried = notes("/v1/models", id);
    assert!(
        carried.contains("the credential openai belongs there"),
        "{carried}"
    );
    let elsewhere = notes("/v2", id);
    let wanted = format!(
        "the credential openai goes only to https://allowed.test:{port}/v1: a request with its dummy is refused \
         (credential_unbound)"
    );
    assert!(elsewhere.contains(&wanted), "{elsewhere}");
    let of_all = notes("/v1", None);
    assert!(
        of_all.contains("sessions that hold this credential"),
        "{of_all}"
    );
    assert!(of_all.contains("openai"), "{of_all}");
}

#[test]
fn b8_a_query_that_overrides_the_method_carries_no_credential_of_limited_methods() {
    let scene = Scene::echoing();
    let port = scene.origin.addr().port();
    scene.daemon.reload_with(&bounded(port));
    let session = super::session_of(&scene.daemon, REAL);
    let bearer = format!("Bearer {}", super::dummy(&session));
    let fields = [("authorization", &*bearer)];
    for protocol in BOTH {
        let ask = |path: &str, fields: &[(&str, &str)]| {
            let asked = ("GET", "allowed.test", path);
            scene.ask_over(&session, (Way::Connect, protocol), asked, fields, b"")
        };
        assert_eq!(ask("/v1?method=a", &fields).status, 200);
        let before = scene.origin.requests().len();
        for path in [
            "/v1?_method=DELETE",
            "/v1?a=1&%5Fmethod=DELETE",
            "/v1?X-HTTP-Method-Override=DELETE",
        ] {
            let answer = ask(path, &fields);
            let text = answer.text();
            assert_eq!(answer.status, 403, "{path}: {text}");
            assert!(text.contains("credential_unbound"), "{text}");
            assert!(text.contains("act on another one"), "{text}");
        }
        assert_eq!(scene.origin.requests().len(), before);
        // Without the credential, it is the client's own request.
        assert_eq!(ask("/v1?_method=DELETE", &[]).status, 200);
    }
}

#[test]
fn b12_no_part_of_content_is_asked_of_a_host_of_a_credential() {
    let scene = Scene::echoing();
    let bearer = format!("Bearer {}", scene.dummy());
    let ranges = [
        "range",
        "if-range",
        "request-range",
        "x-ms-range",
        "x_range",
        "x-custom-range",
    ];
    // Of the content of the request.
    let others = ["content-range", "x-ms-source-range", "x-arrange"];
    for protocol in BOTH {
        for with in [true, false] {
            let mut fields = ranges.map(|name| (name, "bytes=0-9")).to_vec();
            fields.extend(others.map(|name| (name, "bytes 0-9/10")));
            if with {
                fields.push(("authorization", &bearer));
            }
            let asked = ("GET", "allowed.test", "/");
            let way = (Way::Connect, protocol);
            let answer = scene.ask_over(&scene.session, way, asked, &fields, b"");
            assert_eq!(answer.status, 200);
            for name in ranges {
                assert_eq!(scene.received(name), None, "{protocol} {name}");
            }
            for name in others {
                assert!(scene.received(name).is_some(), "{protocol} {name}");
            }
        }
    }
}

#[test]
fn b5_registries_of_a_package_manager_are_bounded_and_refused_in_words() {
    let scene = Scene::echoing();
    let opened = |urls: usize| {
        let tools = vec![("npm".to_owned(), vec!["https://a.test/".to_owned(); urls])];
        let credentials = GivenCredentials {
            tools,
            ..GivenCredentials::default()
        };
        let doors = vec![DoorKind::Http];
        let (_, sockets) = sockets(&doors);
        let request = SessionRequest {
            doors,
            sockets: sockets.into(),
            command: "npm".to_owned(),
            credentials,
            ..SessionRequest::default()
        };
        Caller::connect(&scene.daemon).open(request)
    };
    assert!(opened(MAX_TOOL_URLS).is_ok());
    let refused = opened(MAX_TOOL_URLS + 1).expect_err("too many").to_string();
    assert!(refused.contains("npm has 17"), "{refused}");
}
