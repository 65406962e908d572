//! Intercepted clients whose requests go over connections that are kept already, and origins whose
//! protocol is known before their handshake.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::kit::stream::in_time;
use super::scene::{Scene, ask};
use super::{LIMITED, LIMITED_LOCAL, over_http2, request};

const BOTH: &[&str] = &["h2", "http/1.1"];

/// One client that makes one request; the answer's body.
async fn get(scene: &Scene) -> String {
    let stream = scene.session(&["http/1.1"]).await;
    let answer = ask(stream, request("GET", "/path")).await;
    String::from_utf8_lossy(answer.body()).into_owned()
}

#[tokio::test]
async fn h8_m6_clients_after_each_other_share_a_kept_connection() {
    for (protocols, text) in [
        (&["http/1.1"], "GET /path HTTP/1.1 None None"),
        (&["h2"], "GET /path HTTP/2.0 None None"),
    ] {
        let scene = Scene::new(LIMITED, protocols).await;
        for _ in 0..3 {
            let stream = scene.session(protocols).await;
            let request = match protocols {
                ["h2"] => over_http2("GET"),
                _ => request("GET", "/path"),
            };
            assert_eq!(*ask(stream, request).await.body(), text);
            assert_eq!(
                scene.records(),
                ["allow allow https_connect CONNECT", "allow allow https GET"]
            );
        }
        assert_eq!(scene.dials(), 1);
    }
}

/// The second client has a connection open when the kept one is taken away.
#[tokio::test]
async fn h8_a_client_is_served_when_another_request_uses_the_kept_connection() {
    let scene = Scene::new(LIMITED, &["http/1.1"]).await;
    get(&scene).await;
    let (one, two) = (
        scene.session(&["http/1.1"]).await,
        scene.session(&["http/1.1"]).await,
    );
    assert_eq!(scene.dials(), 1);
    let busy = tokio::spawn(ask(one, request("GET", "/never")));
    while scene
        .records()
        .iter()
        .filter(|line| line.ends_with("https GET"))
        .count()
        == 0
    {
        tokio::task::yield_now().await;
    }
    let answer = ask(two, request("GET", "/path")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(scene.dials(), 1, "a second connection");
    busy.abort();
}

#[tokio::test]
async fn h8_a_connection_of_other_settings_does_not_answer_a_connect() {
    let scene = Scene::new(LIMITED, &["http/1.1"]).await;
    get(&scene).await;
    scene.lead_to(None);
    drop(scene.connect("origin.test:443").await);
    let settings = super::settings(LIMITED_LOCAL);
    let replaced = scene.doors.engine.replace(&Arc::new(settings));
    replaced.expect("settings");
    let refused = scene.refused("origin.test:443").await;
    assert!(refused.starts_with("HTTP/1.1 502 "), "{refused}");
}

#[tokio::test]
async fn h8_a_kept_connection_does_not_answer_for_another_authority() {
    let scene = Scene::new(LIMITED, &["http/1.1"]).await;
    get(&scene).await;
    scene.lead_to(None);
    for other in ["origin.test:8443", "a.many.test:443"] {
        let refused = scene.refused(other).await;
        assert!(refused.starts_with("HTTP/1.1 502 "), "{refused}");
    }
}

/// The kept connection is TLS, so this client needs another one.
#[tokio::test]
async fn m2_plain_http_after_a_connect_over_a_kept_connection_is_served() {
    let scene = Scene::new(LIMITED, &["http/1.1"]).await;
    get(&scene).await;
    assert_eq!(scene.dials(), 1);
    let origin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let origin = origin.expect("a listener");
    scene.lead_to(origin.local_addr().ok());
    let mut stream = scene.connect("origin.test:443").await;
    assert_eq!(scene.dials(), 0);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: origin.test:443\r\n\r\n")
        .await
        .expect("bytes");
    let (mut plain, _) = in_time(origin.accept()).await.expect("a client");
    let mut start = [0; 5];
    plain.read_exact(&mut start).await.expect("a request");
    assert_eq!(&start, b"GET /");
}

/// The origin answers no handshake any more, and the client's handshake does not wait for it.
#[tokio::test]
async fn m6_a_client_gets_the_protocol_that_its_origin_chose_before() {
    for (protocols, wanted) in [(BOTH, &b"h2"[..]), (&["http/1.1"], b"http/1.1")] {
        let scene = Scene::new(LIMITED, protocols).await;
        let stream = scene.session(BOTH).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(wanted));
        // Nothing is kept.
        drop(stream);
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let silent = silent.expect("a listener");
        scene.lead_to(silent.local_addr().ok());
        let stream = scene.connect("origin.test:443").await;
        let (mut origin, _) = silent.accept().await.expect("the proxy");
        let client = super::TlsConnector::from(scene.ca.client(BOTH));
        let name = "origin.test".try_into().expect("a name");
        let stream = in_time(client.connect(name, stream))
            .await
            .expect("a session");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(wanted));
        assert_eq!(origin.read_u8().await.expect("a ClientHello"), 22);
    }
}

#[tokio::test]
async fn m6_an_origin_that_gives_up_http_2_is_served_in_http_1_1() {
    let scene = Scene::new(LIMITED, BOTH).await;
    drop(scene.session(BOTH).await);
    let older = super::scene::origin_of(&scene, &["http/1.1"]).await;
    scene.lead_to(Some(older));
    let stream = scene.session(BOTH).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let answer = ask(stream, over_http2("GET")).await;
    assert_eq!(answer.body(), "GET /path HTTP/1.1 None None");
    // The next client gets what the origin chose now.
    let stream = scene.session(BOTH).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

/// The kept connection is of no use to a client of the other protocol, and that protocol is not the
/// origin's.
#[tokio::test]
async fn m6_a_client_without_the_origins_only_protocol_is_served_beside_a_kept_connection() {
    for (origin, client) in [("h2", "http/1.1"), ("http/1.1", "h2")] {
        let scene = Scene::new(LIMITED, &[origin]).await;
        for protocol in [origin, client, client] {
            let stream = scene.session(&[protocol]).await;
            let request = match protocol {
                "h2" => over_http2("GET"),
                _ => request("GET", "/path"),
            };
            let answer = ask(stream, request).await;
            assert_eq!(answer.status(), 200, "{origin} {protocol}");
        }
    }
}
