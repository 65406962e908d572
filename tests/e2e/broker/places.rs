//! A dummy at a place that its credential does not belong to: no trick with the path, the authority, the port or a
//! redirect brings the real value there (SPEC B7, B8, B11, M7, M10).

use e2e::client::{Connection, proxy_request};
use e2e::daemon::Config;
use e2e::origin::{Answer, Body, Origin, Reply};
use e2e::tls::{Client, Server};

use super::{BOTH, REAL, Scene, VARIABLE, Way, config};

/// Paths that servers read as one below `/v1`, as another, or in two ways.
const TRICKS: [&str; 26] = [
    "/",
    "/v1x",
    "/V1/x",
    "/v2",
    "/v1/../admin",
    "/v1/%2e%2e/admin",
    "/v1/%2E./admin",
    "/v1/..%2fadmin",
    "/v1/%2e%2e%2Fadmin",
    "/v1/..;/admin",
    "/v1;x/../admin",
    "/v1/;/admin",
    "/v1%3b/admin",
    "/v1//../admin",
    "//v1/x",
    "/v1/x//y",
    "/v1\\..\\admin",
    "/v1/%5c..%5cadmin",
    "/v1/%252e%252e/admin",
    "/v1/%00",
    "/v1/%zz",
    "/./v1",
    "/x/../v1",
    "/%2fv1",
    "/v1%2fx",
    "/v1%3Fx",
];

/// The credential belongs to paths below `/v1`.
fn below_v1(port: u16) -> Config {
    Config::example()
        .allow("blocked.test")
        .set("network", "credential_broker", "true")
        .hook("all", "blocked.test", &["GET"], "/")
        .append(&format!(
            "[network.credentials.openai]\nenv = \"{VARIABLE}\"\nurl_prefixes = [\"https://allowed.test:{port}/v1\"]\n"
        ))
}

fn scene_below_v1() -> Scene {
    Scene::with(Origin::answering(|_| Answer::Echo), below_v1)
}

#[test]
fn b7_m10_no_trick_with_the_path_brings_the_value_to_another_one() {
    let scene = scene_below_v1();
    let bearer = format!("Bearer {}", scene.dummy());
    let fields = [("authorization", &*bearer)];
    for protocol in BOTH {
        let way = (Way::Connect, protocol);
        for path in TRICKS {
            let asked = ("GET", "allowed.test", path);
            let answer = scene.ask_over(&scene.session, way, asked, &fields, b"");
            assert_eq!(answer.status, 403, "{protocol} {path}: {}", answer.text());
            assert!(answer.text().contains("credential_unbound"), "{path}");
        }
        assert!(scene.origin.requests().is_empty(), "{protocol}");
    }
    for protocol in BOTH {
        for path in [
            "/v1",
            "/v1/",
            "/v1/x?y=/../&z=//",
            "/%761/x",
            "/v1/?_=%2e%2e",
        ] {
            let asked = ("GET", "allowed.test", path);
            let way = (Way::Connect, protocol);
            let answer = scene.ask_over(&scene.session, way, asked, &fields, b"");
            assert_eq!(answer.status, 200, "{protocol} {path}");
            let got = scene.received("authorization");
            assert_eq!(got, Some(format!("Bearer {REAL}")), "{protocol} {path}");
            let last = scene.origin.requests().pop().expect("a request");
            assert_eq!(last.target, path, "{protocol}");
        }
    }
}

#[test]
fn b7_the_query_and_the_fragment_are_no_part_of_the_path() {
    let scene = scene_below_v1();
    let dummy = scene.dummy();
    let ask = |target: &str| {
        let host = scene.authority("allowed.test");
        scene.secured("allowed.test").exchange(&format!(
            "GET {target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {dummy}\r\n\r\n"
        ))
    };
    for target in ["/?/v1", "/#/v1", "/admin?x=/v1/#/v1"] {
        assert_eq!(ask(target).status, 403, "{target}");
    }
    assert!(scene.origin.requests().is_empty());
    // A fragment is not sent, whatever it has.
    let answer = ask(&format!("/v1#{dummy}"));
    for request in scene.origin.requests() {
        assert_eq!(request.target, "/v1", "{}", answer.text());
    }
}

#[test]
fn m7_no_other_authority_gets_the_value() {
    let scene = Scene::echoing();
    let dummy = scene.dummy();
    let (host, other) = (
        scene.authority("allowed.test"),
        scene.authority("blocked.test"),
    );
    let bearer = format!("Authorization: Bearer {dummy}");
    for head in [
        format!("GET / HTTP/1.1\r\nHost: {other}"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {other}"),
        format!("GET / HTTP/1.1\r\nHost: {host}, {other}"),
        format!("GET / HTTP/1.1\r\nHost: {host}@{other}"),
        format!("GET / HTTP/1.1\r\nHost: {other}@{host}"),
        format!("GET / HTTP/1.1\r\nHost: {host}:1"),
        format!("GET / HTTP/1.1\r\nHost: {dummy}.{host}"),
        format!("GET https://{other}/ HTTP/1.1\r\nHost: {host}"),
        format!("GET https://{other}/ HTTP/1.1\r\nHost: {other}"),
        format!("GET https://{host}@{other}/ HTTP/1.1\r\nHost: {host}"),
        format!("GET http://{host}/ HTTP/1.1\r\nHost: {host}"),
        format!("CONNECT {other} HTTP/1.1\r\nHost: {other}"),
        "GET / HTTP/1.1".to_owned(),
    ] {
        let mut client = scene.secured("allowed.test");
        let answer = client.exchange(&format!("{head}\r\n{bearer}\r\n\r\n"));
        assert!(
            matches!(answer.status, 400 | 405 | 421),
            "{head}: {answer:?}"
        );
    }
    let fields = [("authorization", &*format!("Bearer {dummy}"))];
    let with_dummy = format!("{dummy}.{host}");
    for authority in [&*other, "allowed.test", "allowed.test:1", &with_dummy] {
        let url = format!("https://{authority}/");
        let answer = scene
            .http2("allowed.test")
            .request("GET", &url, &fields, b"");
        assert_eq!(answer.status, 421, "{authority}");
    }
    let host_field = [fields[0], ("host", &*other)];
    let answer =
        scene
            .http2("allowed.test")
            .request("GET", &format!("https://{host}/"), &host_field, b"");
    assert_eq!(answer.status, 421);
    // TLS for another name than that of the tunnel.
    let tunnel = scene.tunnel(&scene.session, Way::Connect, "allowed.test");
    let client = Client::trusting_pem(&scene.proxy_ca).alpn(&["http/1.1"]);
    assert!(tunnel.try_secure(&client, "blocked.test").is_err());
    assert!(scene.origin.requests().is_empty());
}

#[test]
fn b7_another_port_of_the_host_does_not_get_the_value() {
    let scene = Scene::echoing();
    let server = Server::of(&scene.ca, &["allowed.test"]).alpn(&["http/1.1"]);
    let other = Origin::answering(|_| Answer::Echo).tls_as(&server).start();
    let plain = Origin::start(|_| Answer::Echo);
    let bearer = format!("Authorization: Bearer {}", scene.dummy());
    let authority = format!("allowed.test:{}", other.addr().port());
    let mut tunnel = Connection::open(scene.session.doors[0]);
    assert_eq!(tunnel.connect(&authority).status, 200);
    // Nothing is intercepted there, so the origin gets the dummy.
    let (mut client, _) = tunnel.secure(&Client::trusting(&scene.ca), "allowed.test");
    let request = format!("GET / HTTP/1.1\r\nHost: {authority}\r\n{bearer}\r\n\r\n");
    assert_eq!(client.exchange(&request).status, 200);
    let authority = format!("allowed.test:{}", plain.addr().port());
    let mut client = Connection::open(scene.session.doors[0]);
    let answer = client.exchange(&proxy_request("GET", &authority, "/", &[&bearer]));
    assert_eq!(answer.status, 403);
    for request in other.requests() {
        let got = request
            .header("authorization")
            .map(|got| got.ends_with(scene.dummy()));
        assert_eq!(got, Some(true), "{request:?}");
    }
    assert!(plain.requests().is_empty());
}

#[test]
fn b3_plain_http_in_a_tunnel_to_the_host_does_not_get_the_value() {
    let scene = Scene::echoing();
    let host = scene.authority("allowed.test");
    for way in [Way::Connect, Way::Socks5] {
        let mut tunnel = scene.tunnel(&scene.session, way, "allowed.test");
        let answer = tunnel.exchange(&format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\n\r\n",
            scene.dummy()
        ));
        assert_eq!(answer.status, 403, "{way:?}");
        assert_eq!(answer.json()["reason"], "credential_unbound", "{way:?}");
    }
    assert!(scene.origin.requests().is_empty());
}

#[test]
fn b11_b12_a_redirect_to_another_host_does_not_bring_the_value_there() {
    let scene = Scene::with(
        Origin::answering(|request| {
            let authority = request.authority().replace("allowed.test", "blocked.test");
            let url = format!("https://{authority}/?key={REAL}");
            Answer::Reply(Reply::new(302, Body::Sized(Vec::new())).header("location", &url))
        }),
        |port| config(port).hook("all", "blocked.test", &["GET"], "/"),
    );
    let bearer = format!("Bearer {}", scene.dummy());
    let fields = [("authorization", &*bearer)];
    for protocol in BOTH {
        let way = (Way::Connect, protocol);
        let asked = ("GET", "allowed.test", "/");
        let answer = scene.ask_over(&scene.session, way, asked, &fields, b"");
        let location = answer.header("location").expect("a redirect").to_owned();
        let url = format!("https://{}", scene.authority("blocked.test"));
        let target = location.strip_prefix(&url).expect("the other host");
        assert_eq!(target, format!("/?key={}", scene.dummy()));
        // A client that follows it presents the dummy there, with or without the field.
        let before = scene.origin.requests().len();
        for fields in [&fields[..], &[]] {
            let asked = ("GET", "blocked.test", target);
            let answer = scene.ask_over(&scene.session, way, asked, fields, b"");
            assert_eq!(answer.status, 403, "{protocol}");
        }
        assert_eq!(scene.origin.requests().len(), before, "{protocol}");
    }
}
