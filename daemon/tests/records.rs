//! The embedder's metadata in the audit events of all doors, as text and as JSON (SPEC R3).
//!
//! The test has a process of its own. With a single subscriber, `tracing` asks the thread that logs an
//! event for the first time whether the event is wanted, for all threads. A thread of another test has no
//! subscriber, and would switch the event off.

#![expect(
    clippy::disallowed_methods,
    reason = "clients of the proxy dial as clients do"
)]

#[path = "it/scene.rs"]
#[expect(dead_code, reason = "other tests use the rest of the scene")]
mod scene;

use std::io::{self, Write};
use std::sync::Arc;

use codex_network_proxy::NetworkProxyAuditMetadata;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use scene::{LOCAL, Scene, connect, named, request, run, socks5};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;
use tokio_rustls::TlsConnector;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;

const AUDIT: &str = "codex_otel.network_proxy";
/// Every field of the metadata, with its value.
const METADATA: [(&str, &str); 9] = [
    ("conversation.id", "c-42"),
    ("app.version", "1.2.3"),
    ("user.account_id", "account-7"),
    ("auth_mode", "key"),
    ("originator", "a sample"),
    ("user.email", "user@example.com"),
    ("terminal.type", "dumb\nINFO forged"),
    ("model", "m-1"),
    ("slug", "s-1"),
];

/// Lines that were logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut log = self.0.lock();
        log.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn lines(&self) -> Vec<String> {
        let log = self.0.lock();
        let text = String::from_utf8_lossy(&log);
        text.lines().map(str::to_owned).collect()
    }
}

fn metadata() -> NetworkProxyAuditMetadata {
    let said = METADATA.map(|(_, value)| Some(value.to_owned()));
    let [
        conversation_id,
        app_version,
        user_account_id,
        auth_mode,
        originator,
        rest @ ..,
    ] = said;
    let [user_email, terminal_type, model, slug] = rest;
    NetworkProxyAuditMetadata {
        conversation_id,
        app_version,
        user_account_id,
        auth_mode,
        originator,
        user_email,
        terminal_type,
        model,
        slug,
    }
}

#[tokio::test]
async fn r3_r5_an_embedders_metadata_is_in_the_events_of_all_doors() {
    let (as_text, as_json) = (Log::default(), Log::default());
    let (text, json_lines) = (as_text.clone(), as_json.clone());
    let text = fmt::layer()
        .with_ansi(false)
        .with_writer(move || text.clone());
    let json_lines = fmt::layer().json().with_writer(move || json_lines.clone());
    let both = tracing_subscriber::registry().with(text).with(json_lines);
    // The subscriber applies to this thread only, which runs the whole proxy.
    let _logging = tracing::subscriber::set_default(both);

    let scene = Scene::new().await;
    let port = scene.port;
    let handle = run(scene.builder().audit_metadata(metadata())).await;
    let http = handle.http_addr().expect("a door");
    let socks = handle.socks_addr().expect("a door");
    request(http, "GET", "http://denied.test/", "").await;
    connect(http, &format!("listed.test:{port}")).await;
    socks5(socks, 1, "listed.test", port).await;
    let (_, relay, _control) = socks5(socks, 3, "0.0.0.0", 0).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a client");
    let datagram = [&[0; 3][..], &named("denied.test", 53), b"no"].concat();
    client.send_to(&datagram, relay).await.expect("it is sent");
    while handle.blocked().len() < 2 {
        tokio::task::yield_now().await;
    }
    // Inside interception. A refused request needs no origin that speaks TLS.
    let limited = scene.config(&format!("{LOCAL}\nmode = \"limited\""));
    handle.replace_toml(limited).await.expect("settings");
    let (tunnel, _) = connect(http, &format!("listed.test:{port}")).await;
    let mut roots = RootCertStore::empty();
    let ca = handle.ca_certificate_pem();
    let ca = CertificateDer::from_pem_slice(ca.as_bytes()).expect("a certificate");
    roots.add(ca).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("listed.test").expect("a name");
    let inside = TlsConnector::from(Arc::new(config)).connect(name, tunnel);
    let mut inside = inside.await.expect("the proxy's certificate");
    let refused =
        format!("POST / HTTP/1.1\r\nHost: listed.test:{port}\r\nContent-Length: 0\r\n\r\n");
    inside
        .write_all(refused.as_bytes())
        .await
        .expect("a request");
    let mut status = [0; 12];
    inside.read_exact(&mut status).await.expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 403");
    handle.shutdown().await;

    let events: Vec<Value> = as_json
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &Value| line["target"] == AUDIT)
        .collect();
    let doors: Vec<&Value> = events
        .iter()
        .map(|event| &event["fields"]["network.transport.protocol"])
        .collect();
    let expected = [
        "http",
        "https_connect",
        "socks5_tcp",
        "socks5_udp",
        "https_connect",
        "https",
    ];
    assert_eq!(json!(doors), json!(expected));
    for event in &events {
        for (name, value) in METADATA {
            assert_eq!(event["fields"][name], value, "{name}: {event}");
        }
    }
    let flows: Vec<Value> = as_json
        .lines()
        .iter()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .filter(|line: &Value| line["target"] == "codex_network_proxy.flow")
        .collect();
    let allowed = events
        .iter()
        .filter(|event| event["fields"]["network.policy.decision"] == "allow");
    assert_eq!(flows.len(), allowed.count());
    for flow in &flows {
        for (name, value) in METADATA {
            assert_eq!(flow["fields"][name], value, "{name}: {flow}");
        }
    }
    let mut lines = as_text.lines();
    lines.retain(|line| line.contains(AUDIT));
    assert_eq!(lines.len(), expected.len(), "an event is one line");
    for line in lines {
        for (name, value) in METADATA {
            assert!(
                line.contains(&format!(" {name}={value:?}")),
                "{name}: {line}"
            );
        }
    }
}
