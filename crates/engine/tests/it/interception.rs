//! TLS interception inside one process (SPEC section 6): which certificate each client gets, what
//! each side is offered, and what is refused.

mod bound;
mod decider;
mod kept;
mod resumption;
mod scene;
mod sharing;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use codex_network_config::Supplied;
use codex_network_policy::Mode;
use futures_util::stream;
use http::{Request, Version};
use http_body_util::{Empty, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use scene::{Scene, ask, ended, settings, trusting};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const LIMITED: &str = "[network]\nmode = \"limited\"\nallowed_domains = [\"**.test\"]\n";
/// The same for tests that change the settings: the address that the tests' dialler leads to stays
/// permitted.
const LIMITED_LOCAL: &str = r#"
[network]
mode = "limited"
allow_local_binding = true
allowed_domains = ["**.test"]
[daemon.limits]
header_timeout = "3s"
"#;
const FULL: &str = "[network]\nallowed_domains = [\"**.test\"]\n";

fn request(method: &str, uri: &str) -> Request<Empty<Bytes>> {
    Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "origin.test")
        .body(Empty::new())
        .expect("a request")
}

fn over_http2(method: &str) -> Request<Empty<Bytes>> {
    Request::builder()
        .method(method)
        .uri("https://origin.test/path")
        .body(Empty::new())
        .expect("a request")
}

#[tokio::test]
async fn m1_in_full_mode_the_client_sees_the_origins_own_certificate() {
    let scene = Scene::new(FULL, &["http/1.1"]).await;
    let trusting = scene.origin_ca.client(&["http/1.1"]);
    let stream = scene
        .tls("origin.test:443", "origin.test", trusting)
        .await
        .expect("the origin's certificate");
    let answer = ask(stream, request("POST", "/path")).await;
    assert_eq!(answer.body(), "POST /path HTTP/1.1 None None");
    assert_eq!(scene.ca.issued.load(Ordering::Relaxed), 0);
}

/// The same origin answers, whichever certificate the client sees.
#[tokio::test]
async fn m1_in_limited_mode_the_client_sees_a_certificate_of_the_proxys() {
    let scene = Scene::new(LIMITED, &["http/1.1"]).await;
    let direct = scene.direct(scene.origin_ca.client(&[])).await;
    let through = scene.session(&[]).await;
    let certificate = |stream: &TlsStream<TcpStream>| {
        let chain = stream.get_ref().1.peer_certificates();
        chain.and_then(<[_]>::first).cloned()
    };
    assert_ne!(certificate(&direct), certificate(&through));
    let (direct, through) = (
        ask(direct, request("GET", "/path")).await,
        ask(through, request("GET", "/path")).await,
    );
    assert_eq!(direct.body(), through.body());
}

#[tokio::test]
async fn m6_the_client_is_offered_the_protocol_of_the_origin() {
    for (origin, client, wanted) in [
        (&["h2", "http/1.1"][..], &["h2", "http/1.1"][..], "HTTP/2.0"),
        (&["h2", "http/1.1"], &["http/1.1"], "HTTP/1.1"),
        (&["http/1.1"], &["h2", "http/1.1"], "HTTP/1.1"),
        (&["h2"], &["h2"], "HTTP/2.0"),
        (&[], &["h2", "http/1.1"], "HTTP/1.1"),
        (&["http/1.1"], &[], "HTTP/1.1"),
    ] {
        let scene = Scene::new(LIMITED, origin).await;
        let stream = scene.session(client).await;
        let answer = match wanted {
            "HTTP/2.0" => ask(stream, over_http2("GET")).await,
            _ => ask(stream, request("GET", "/path")).await,
        };
        assert_eq!(answer.status(), 200, "{origin:?} {client:?}");
        assert_eq!(*answer.body(), format!("GET /path {wanted} None None"));
        let records = scene.records();
        assert_eq!(
            records,
            ["allow allow https_connect CONNECT", "allow allow https GET"]
        );
    }
}

#[tokio::test]
async fn p7_socks5_to_443_is_intercepted_like_connect() {
    let scene = Scene::new(LIMITED, &["http/1.1"]).await;
    let stream = scene.socks5("origin.test", 443).await;
    let name = "origin.test".try_into().expect("a name");
    let stream = TlsConnector::from(scene.ca.client(&[]))
        .connect(name, stream)
        .await
        .expect("a session with the proxy");
    let answer = ask(stream, request("DELETE", "/path")).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(
        scene.records(),
        [
            "allow allow socks5_tcp none",
            "deny method_not_allowed https DELETE"
        ]
    );
}

#[tokio::test]
async fn p7_inside_limited_mode_only_reads() {
    for protocol in ["h2", "http/1.1"] {
        let scene = Scene::new(LIMITED, &[protocol]).await;
        let stream = scene.session(&[protocol]).await;
        let answer = match protocol {
            "h2" => ask(stream, over_http2("POST")).await,
            _ => ask(stream, request("POST", "/path")).await,
        };
        assert_eq!(answer.status(), 403);
        assert_eq!(
            answer.headers()["x-proxy-error"],
            "blocked-by-method-policy"
        );
        let body = String::from_utf8_lossy(answer.body());
        assert!(
            body.starts_with("CODEX_NETWORK_POLICY_DECISION {"),
            "{body}"
        );
        assert!(body.contains(r#""protocol":"https""#), "{body}");
    }
}

/// Some clients (Java's, httpx) read no answer before there is room for the whole request.
#[tokio::test]
async fn p7_a_refused_upload_over_http2_is_taken_to_its_end() {
    const PARTS: usize = 32;
    let scene = Scene::new(LIMITED, &["h2"]).await;
    let stream = scene.session(&["h2"]).await;
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("HTTP/2");
    tokio::spawn(connection);
    let (end, ended) = oneshot::channel();
    let mut end = Some(end);
    // More than the window (1 MiB) and the part that the client itself holds back (400 KiB). The
    // proxy reads the rest for at most five seconds.
    let parts = (1..=PARTS).map(move |part| {
        if part == PARTS {
            end.take().map(|end| end.send(()));
        }
        Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; 64 * 1024])))
    });
    let request = over_http2("POST").map(|_| StreamBody::new(stream::iter(parts)));
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 403);
    let ended = timeout(Duration::from_secs(30), ended).await;
    ended.expect("not stuck").expect("not reset");
}

#[tokio::test]
async fn m7_another_authority_is_misdirected() {
    let scene = Scene::new(LIMITED, &["http/1.1"]).await;
    for uri in ["https://other.test/", "http://origin.test/"] {
        let stream = scene.session(&[]).await;
        let answer = ask(stream, request("GET", uri)).await;
        assert_eq!(answer.status(), 421, "{uri}");
    }
    assert_eq!(scene.doors.engine.blocked().total(), 2);
    let entry = &scene.doors.engine.blocked().entries(0)[0];
    assert_eq!(entry.detail, Some("authority_mismatch"));
    assert_eq!((&*entry.reason, entry.protocol), ("policy_denied", "https"));
}

#[tokio::test]
async fn m2_a_client_hello_for_another_host_gets_an_alert() {
    let scene = Scene::new(LIMITED, &["http/1.1"]).await;
    let error = scene
        .tls("origin.test:443", "other.test", scene.ca.client(&[]))
        .await
        .expect_err("no session");
    assert!(error.to_string().contains("UnrecognisedName"), "{error}");
    let entry = &scene.doors.engine.blocked().entries(0)[0];
    assert_eq!(
        (&*entry.reason, entry.detail),
        ("policy_denied", Some("sni_mismatch"))
    );
    assert_eq!(scene.ca.issued.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn m2_other_protocols_than_tls_and_http_are_refused_if_interception_is_needed() {
    let scene = Scene::new(LIMITED, &["http/1.1"]).await;
    let streams = [
        scene.connect("origin.test:443").await,
        scene.socks5("origin.test", 443).await,
    ];
    for (recorded, mut stream) in streams.into_iter().enumerate() {
        stream.write_all(b"SSH-2.0-x\r\n").await.expect("bytes");
        let end = stream.read(&mut [0]).await.expect_err("a reset");
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
        let entries = scene.doors.engine.blocked().entries(0);
        assert_eq!(entries.len(), recorded + 1);
        let entry = &entries[recorded];
        assert_eq!(
            (&*entry.reason, entry.detail),
            ("mitm_required", Some("not_tls"))
        );
    }
}

#[tokio::test]
async fn m2_p9_plain_http_is_judged_alike_behind_connect_and_socks5() {
    let scene = Scene::new(LIMITED, &["http/1.1"]).await;
    for mut stream in [
        scene.connect("origin.test:443").await,
        scene.socks5("origin.test", 443).await,
    ] {
        stream
            .write_all(b"POST / HTTP/1.1\r\nHost: origin.test:443\r\nConnection: close\r\n\r\n")
            .await
            .expect("bytes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(
            answer.contains(r#""reason":"method_not_allowed""#),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn m4_many_first_requests_to_one_name_issue_one_leaf() {
    // Long enough for all handshakes at once on a busy machine.
    let patient = format!("{LIMITED}[daemon.limits]\nheader_timeout = \"60s\"\n");
    let scene = Scene::new(&patient, &["http/1.1"]).await;
    let client = scene.ca.client(&["http/1.1"]);
    let sessions =
        (0..32).map(|_| scene.tls("origin.test:443", "origin.test", Arc::clone(&client)));
    for session in futures_util::future::join_all(sessions).await {
        session.expect("a session");
    }
    assert_eq!(scene.ca.issued.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn m6_a_bad_certificate_upstream_is_a_502_that_names_the_reason() {
    for protocol in ["h2", "http/1.1"] {
        let scene = Scene::new(LIMITED, &[protocol]).await;
        let authority = "wrong.test:443";
        let stream = scene
            .tls(authority, "wrong.test", scene.ca.client(&[protocol]))
            .await
            .expect("a session for the answer");
        let request = Request::builder()
            .uri("https://wrong.test/")
            .header("host", "wrong.test")
            .body(Empty::new())
            .expect("a request");
        let answer = ask(stream, request).await;
        assert_eq!(answer.status(), 502);
        let text = String::from_utf8_lossy(answer.body());
        assert!(text.contains("certificate_wrong_name"), "{text}");
    }
}

#[tokio::test]
async fn p11_a_connection_ends_when_it_is_forbidden_or_needs_no_interception() {
    let scene = Scene::new(LIMITED, &["h2"]).await;
    let client = scene.ca.client(&["h2"]);
    let mut forbidden = scene
        .tls("origin.test:443", "origin.test", Arc::clone(&client))
        .await
        .expect("a session");
    let denied = settings("[network]\nmode = \"limited\"\n");
    scene
        .doors
        .engine
        .replace(&Arc::new(denied))
        .expect("settings");
    ended(&mut forbidden).await;

    let allowed = settings(LIMITED_LOCAL);
    scene
        .doors
        .engine
        .replace(&Arc::new(allowed))
        .expect("settings");
    let mut needless = scene
        .tls("origin.test:443", "origin.test", client)
        .await
        .expect("a session");
    scene
        .doors
        .engine
        .set_mode(Mode::Full)
        .expect("no requirements");
    ended(&mut needless).await;
}

/// Limited mode cannot look into an opaque tunnel.
#[tokio::test]
async fn p11_an_opaque_tunnel_ends_when_interception_becomes_necessary() {
    let scene = Scene::new(FULL, &["http/1.1"]).await;
    let mut tunnel = scene
        .tls(
            "origin.test:443",
            "origin.test",
            scene.origin_ca.client(&[]),
        )
        .await
        .expect("the origin itself");
    scene
        .doors
        .engine
        .set_mode(Mode::Limited)
        .expect("no requirements");
    ended(&mut tunnel).await;
}

const HOOKED: &str = r#"
default_permissions = "agent"
[permissions.agent.network.domains]
"**.test" = "allow"
[permissions.agent.network.mitm.hooks.read]
host = "origin.test"
methods = ["GET"]
path_prefixes = ["/repos/"]
action = ["token"]
[permissions.agent.network.mitm.actions.token]
strip_request_headers = ["x-api-key"]
inject_request_headers = [{ name = "authorization", secret_env_var = "TOKEN", prefix = "Bearer " }]
"#;

/// A hook as in the guide, over both protocols.
#[tokio::test]
async fn m9_a_hook_strips_and_injects_and_requests_without_a_match_are_refused() {
    for protocol in ["h2", "http/1.1"] {
        let scene = Scene::new(HOOKED, &[protocol]).await;
        for (method, path, status) in [
            ("GET", "/repos/a", 200),
            ("POST", "/repos/a", 403),
            ("GET", "/repos/../orgs", 403),
            ("GET", "/orgs", 403),
        ] {
            let client = scene.ca.client(&[protocol]);
            let stream = scene
                .tls("origin.test:443", "origin.test", client)
                .await
                .expect("a session with the proxy");
            let (uri, version) = match protocol {
                "h2" => (format!("https://origin.test{path}"), Version::HTTP_2),
                _ => (path.to_owned(), Version::HTTP_11),
            };
            let request = Request::builder()
                .method(method)
                .uri(uri)
                .version(version)
                .header("host", "origin.test")
                .header("authorization", "Bearer of the client")
                .header("x_api_key", "mine")
                .body(Empty::new())
                .expect("a request");
            let answer = ask(stream, request).await;
            assert_eq!(answer.status(), status, "{protocol} {method} {path}");
            if status == 200 {
                let wanted = "Some(\"Bearer hunter2\") None";
                let body = String::from_utf8_lossy(answer.body());
                assert!(body.ends_with(wanted), "{body}");
            } else {
                assert_eq!(answer.headers()["x-proxy-error"], "blocked-by-mitm-hook");
            }
        }
        let other = scene.connect("other.test:443").await;
        drop(other);
        let records = scene.records();
        assert!(
            records.contains(&"deny mitm_hook_denied https POST".to_owned()),
            "{records:?}"
        );
    }
}

#[tokio::test]
async fn h12_tls_goes_through_the_upstream_proxy_intercepted_or_not() {
    for scheme in ["http", "https"] {
        for protocol in ["h2", "http/1.1"] {
            let origin = &["h2", "http/1.1"];
            let scene = Scene::behind(LIMITED, origin, Some(scheme)).await;
            let stream = scene.session(&[protocol]).await;
            let (request, version) = match protocol {
                "h2" => (over_http2("GET"), "HTTP/2.0"),
                _ => (request("GET", "/path"), "HTTP/1.1"),
            };
            let answer = ask(stream, request).await;
            let wanted = format!("GET /path {version}");
            assert!(answer.body().starts_with(wanted.as_bytes()), "{scheme}");
            assert_eq!(scene.doors.engine.counters().upstream_tunnel_proxy, 1);
        }
        let scene = Scene::behind(FULL, &["http/1.1"], Some(scheme)).await;
        let trusting = scene.origin_ca.client(&["http/1.1"]);
        let stream = scene
            .tls("origin.test:443", "origin.test", trusting)
            .await
            .expect("the origin's own certificate");
        let answer = ask(stream, request("POST", "/path")).await;
        assert!(
            answer.body().starts_with(b"POST /path HTTP/1.1"),
            "{scheme}"
        );
        assert_eq!(scene.ca.issued.load(Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn h12_the_certificate_of_an_upstream_proxy_is_verified() {
    let scene = Scene::behind(FULL, &["http/1.1"], Some("https")).await;
    let supplied = Supplied {
        files: trusting(&scene.ca).files,
        ..scene.doors.engine.current().supplied().clone()
    };
    let settings = Arc::new(settings(FULL));
    let replaced = scene.doors.engine.replace_all(&settings, &supplied);
    replaced.expect("settings");
    let answer = scene.refused("origin.test:443").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(
        answer.contains("no TLS session with the upstream proxy: certificate_unknown_issuer"),
        "{answer}"
    );
}

const HOOKED_BY_FIELD: &str = r#"
default_permissions = "agent"
[permissions.agent.network.domains]
"**.test" = "allow"
[permissions.agent.network.mitm.hooks.dry]
host = "origin.test"
methods = ["GET"]
path_prefixes = ["/"]
headers = { x-api-key = ["dry"] }
"#;

/// A hook does not match by a field that the origin never gets, or that has another spelling beside it.
#[tokio::test]
async fn m9_a_hook_looks_at_the_fields_that_the_origin_reads() {
    let scene = Scene::new(HOOKED_BY_FIELD, &["http/1.1"]).await;
    for (fields, status) in [
        (&[("x-api-key", "dry")][..], 200),
        (&[("x-api-key", "dry"), ("x_api_key", "dry")], 200),
        (&[("x-api-key", "dry"), ("connection", "X-Api-Key")], 403),
        (
            &[
                ("connection", "close"),
                ("x-api-key", "dry"),
                ("connection", "a, x-api-key"),
            ],
            403,
        ),
        (&[("x-api-key", "dry"), ("x_api_key", "wet")], 403),
        (&[("x_api_key", "dry")], 403),
    ] {
        let client = scene.ca.client(&["http/1.1"]);
        let stream = scene
            .tls("origin.test:443", "origin.test", client)
            .await
            .expect("a session with the proxy");
        let mut request = request("GET", "/path");
        for (name, value) in fields {
            let value = http::HeaderValue::from_static(value);
            request.headers_mut().append(*name, value);
        }
        let answer = ask(stream, request).await;
        assert_eq!(answer.status(), status, "{fields:?}");
    }
}

/// A connection that is ending because it no longer needs interception is still watched.
#[tokio::test]
async fn p11_a_connection_that_drains_still_ends_when_it_is_forbidden() {
    let scene = Scene::new(LIMITED_LOCAL, &["http/1.1"]).await;
    let mut stream = scene.session(&[]).await;
    let head = b"GET /never HTTP/1.1\r\nHost: origin.test\r\n\r\n";
    stream.write_all(head).await.expect("a request");
    let recorded = || {
        scene
            .records()
            .iter()
            .any(|line| line.contains(" https GET"))
    };
    while !recorded() {
        tokio::task::yield_now().await;
    }
    scene
        .doors
        .engine
        .set_mode(Mode::Full)
        .expect("no requirements");
    let early = timeout(Duration::from_millis(300), stream.read_u8()).await;
    assert!(early.is_err(), "the request in hand goes on: {early:?}");
    let denied = settings("[network]\n");
    scene
        .doors
        .engine
        .replace(&Arc::new(denied))
        .expect("settings");
    ended(&mut stream).await;
}

/// RFC 9113 section 3.4: a client must send first. A silent one is not kept for ever.
#[tokio::test]
async fn h1_a_silent_http2_client_is_not_kept() {
    for bytes in [
        &b""[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    ] {
        let limits = format!(
            "{LIMITED}[daemon.limits]\nidle_timeout = \"200ms\"\nheader_timeout = \"200ms\"\n"
        );
        let scene = Scene::new(&limits, &["h2"]).await;
        let mut stream = scene.session(&["h2"]).await;
        stream.write_all(bytes).await.expect("a preface");
        ended(&mut stream).await;
    }
}

/// RFC 9113 section 3.2: HTTP/2 over TLS is chosen by ALPN and not assumed. Requests of an HTTP/2
/// client must not be sent as HTTP/2 to an origin that does not speak it.
#[tokio::test]
async fn m6_an_origin_without_alpn_gets_http_1_1() {
    let scene = Scene::new(LIMITED, &[]).await;
    let stream = scene.session(&["h2"]).await;
    let answer = ask(stream, over_http2("GET")).await;
    assert_eq!(answer.body(), "GET /path HTTP/1.1 None None");
}

const HOOKED_UPLOAD: &str = r#"
default_permissions = "agent"
[permissions.agent.network]
allow_local_binding = true
[permissions.agent.network.domains]
"**.test" = "allow"
[permissions.agent.network.mitm.hooks.upload]
host = "origin.test"
methods = ["POST"]
path_prefixes = ["/never"]
"#;

/// The connection still needs interception, but the request under way is no longer permitted.
#[tokio::test]
async fn p11_a_request_under_way_ends_when_it_is_forbidden() {
    for protocol in ["h2", "http/1.1"] {
        let scene = Scene::new(HOOKED_UPLOAD, &[protocol]).await;
        let client = scene.ca.client(&[protocol]);
        let stream = scene
            .tls("origin.test:443", "origin.test", client)
            .await
            .expect("a session with the proxy");
        let request = match protocol {
            "h2" => Request::post("https://origin.test/never"),
            _ => Request::post("/never").header("host", "origin.test"),
        };
        let answer = tokio::spawn(scene::try_ask(
            stream,
            request.body(Empty::new()).expect("a request"),
        ));
        let recorded = || {
            let records = scene.records();
            records.iter().any(|line| line.contains(" https POST"))
        };
        while !recorded() {
            tokio::task::yield_now().await;
        }
        scene
            .doors
            .engine
            .set_mode(Mode::Limited)
            .expect("no requirements");
        let answer = timeout(Duration::from_secs(30), answer).await;
        let answer = answer.expect("it ends").expect("no panic");
        assert!(answer.is_err(), "{protocol}: {answer:?}");
    }
}
