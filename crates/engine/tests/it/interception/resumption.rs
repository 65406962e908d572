//! TLS sessions that resume, and those that must not (SPEC M6).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use codex_network_config::{CaCertificate, Settings, Supplied};
use parking_lot::Mutex;
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, NamedGroup};

use super::super::kit::tls::Ca;
use super::scene::{Scene, ask, settings, trusting};
use super::{LIMITED_LOCAL, request};

/// Keeps the last ticket, and offers it to every server: a client that tries the tickets of one host
/// with another.
#[derive(Debug, Default)]
struct OneTicket(Mutex<Option<Tls13ClientSessionValue>>);

impl ClientSessionStore for OneTicket {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        *self.0.lock() = Some(value);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().take()
    }
}

fn with_one_ticket(config: &Arc<ClientConfig>, sends_name: bool) -> Arc<ClientConfig> {
    let mut config = ClientConfig::clone(config);
    config.resumption = Resumption::store(Arc::new(OneTicket::default()));
    config.enable_sni = sends_name;
    Arc::new(config)
}

/// One request in a session of its own: whether the session was resumed.
async fn is_resumed(scene: &Scene, host: &str, client: &Arc<ClientConfig>) -> bool {
    let authority = format!("{host}:443");
    let session = scene.tls(&authority, host, Arc::clone(client)).await;
    let session = session.expect("a session");
    let kind = session.get_ref().1.handshake_kind();
    let mut request = request("GET", "/path");
    let name = http::HeaderValue::from_str(host).expect("a value");
    request.headers_mut().insert("host", name);
    // The ticket comes with the answer.
    assert_eq!(ask(session, request).await.status(), 200);
    kind == Some(HandshakeKind::Resumed)
}

/// With a server name, and without one: then the ticket would name no host.
#[tokio::test]
async fn m6_a_ticket_for_one_host_resumes_no_session_with_another() {
    let scene = Scene::new(LIMITED_LOCAL, &["http/1.1"]).await;
    for sends_name in [true, false] {
        let client = with_one_ticket(&scene.ca.client(&["http/1.1"]), sends_name);
        for (host, wanted) in [
            ("a.many.test", false),
            ("a.many.test", true),
            ("b.many.test", false),
            ("b.many.test", true),
            ("a.many.test", false),
        ] {
            let resumed = is_resumed(&scene, host, &client).await;
            assert_eq!(resumed, wanted, "{host} {sends_name}");
        }
    }
}

#[tokio::test]
async fn m6_a_session_resumes_whichever_protocol_the_client_is_offered() {
    let scene = Scene::new(LIMITED_LOCAL, &["http/1.1"]).await;
    let client = scene.ca.client(&["http/1.1"]);
    let mut silent = ClientConfig::clone(&client);
    silent.alpn_protocols = Vec::new();
    assert!(!is_resumed(&scene, "origin.test", &client).await);
    assert!(is_resumed(&scene, "origin.test", &Arc::new(silent)).await);
}

/// Supplies a CA with this certificate, and the roots of the scene.
fn with_ca(scene: &Scene, certificate: &[u8]) -> Supplied {
    let mut supplied = trusting(&scene.origin_ca);
    supplied.files.ca = Some(Arc::new(CaCertificate {
        der: certificate.into(),
        ..CaCertificate::default()
    }));
    supplied
}

#[tokio::test]
async fn m6_a_ticket_outlives_neither_its_ca_nor_settings_without_interception() {
    let scene = Scene::new(LIMITED_LOCAL, &["http/1.1"]).await;
    let client = scene.ca.client(&["http/1.1"]);
    let allowed = Arc::new(settings(LIMITED_LOCAL));
    let replace = |settings: &Arc<Settings>, supplied: &Supplied| {
        let replaced = scene.doors.engine.replace_all(settings, supplied);
        replaced.expect("settings");
    };
    let one = with_ca(&scene, b"one");
    replace(&allowed, &one);
    assert!(!is_resumed(&scene, "origin.test", &client).await);
    assert!(is_resumed(&scene, "origin.test", &client).await);
    replace(&allowed, &one);
    assert!(
        is_resumed(&scene, "origin.test", &client).await,
        "the same CA"
    );
    replace(&allowed, &with_ca(&scene, b"two"));
    assert!(!is_resumed(&scene, "origin.test", &client).await);
    assert!(is_resumed(&scene, "origin.test", &client).await);
    let forbidden = LIMITED_LOCAL.replace("[daemon.limits]", "mitm = false\n[daemon.limits]");
    replace(&Arc::new(settings(&forbidden)), &with_ca(&scene, b"two"));
    let refused = scene.refused("origin.test:443").await;
    assert!(refused.contains("mitm_required"), "{refused}");
    replace(&allowed, &with_ca(&scene, b"two"));
    assert!(!is_resumed(&scene, "origin.test", &client).await);
}

/// A resumed session does not verify the certificate again.
#[tokio::test]
async fn m6_sessions_with_origins_are_forgotten_when_the_roots_change() {
    let scene = Scene::new(LIMITED_LOCAL, &["http/1.1"]).await;
    let client = scene.ca.client(&["http/1.1"]);
    let allowed = Arc::new(settings(LIMITED_LOCAL));
    let another = Ca::new("another");
    let mut more = trusting(&scene.origin_ca);
    let roots = [&scene.origin_ca, &another].map(|ca| Arc::from(ca.der.as_ref()));
    more.files.roots = roots.into();
    for (supplied, resumed) in [
        (trusting(&scene.origin_ca), 0),
        // Other settings use no kept connection, and the same roots.
        (trusting(&scene.origin_ca), 1),
        (more.clone(), 1),
        (more, 2),
    ] {
        let replaced = scene.doors.engine.replace_all(&allowed, &supplied);
        replaced.expect("settings");
        is_resumed(&scene, "origin.test", &client).await;
        assert_eq!(scene.resumed.load(Ordering::Relaxed), resumed);
        assert_eq!(scene.dials(), 1);
    }
}
