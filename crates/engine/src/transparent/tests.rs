//! Redirected connections, as a program in a jail makes them. The destination is scripted, except in
//! `kernel`.

#[cfg(target_os = "linux")]
mod kernel;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use codex_network_policy::{Authority, Host};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use super::TransparentDoor;
use crate::doors;
use crate::original_destination::FindDestination;
use crate::policy_dns::tests::kit::network::{Names, Redirect};
use crate::policy_dns::tests::kit::server::{answer, echo, serve};
use crate::policy_dns::tests::kit::stream::{in_time, next_head, read_head};
use crate::policy_dns::tests::kit::tls::Ca;
use crate::policy_dns::tests::{Scene, client, connect};
use crate::server::EngineParts;

const POLICY: &str = "allowed_domains = [\"**.allowed.test\", \"8.8.8.8\", \"2001:4860::8\"]\n\
    denied_domains = [\"denied.allowed.test\"]";

/// A destination by its name, or as a literal.
fn name(text: &str) -> codex_network_policy::Name {
    match Host::parse(text).expect("a host") {
        Host::Name(name) => name,
        host => panic!("{host} is not a name"),
    }
}

/// The scene with an open door for redirected connections.
struct Redirected {
    scene: Scene,
    door: SocketAddr,
    /// Where the next connection was going.
    destination: Arc<Mutex<Option<SocketAddr>>>,
    dialled: Arc<Redirect>,
}

impl Redirected {
    /// Every name leads to 8.8.8.8, and every dial ends at `origin`, or fails without one.
    async fn open(policy: &str, origin: Option<SocketAddr>, parts: EngineParts) -> Self {
        let dialled = Redirect::new(move |_| origin);
        let parts = EngineParts {
            resolver: Some(Names::new(|_| vec![Ipv4Addr::new(8, 8, 8, 8).into()])),
            dialler: Arc::<Redirect>::clone(&dialled),
            ..parts
        };
        let scene = Scene::new(policy, parts);
        let destination = Arc::new(Mutex::new(None));
        let scripted = Arc::clone(&destination);
        let find: FindDestination = Arc::new(move |_| {
            let scripted: Option<SocketAddr> = *scripted.lock();
            scripted.ok_or_else(|| std::io::ErrorKind::NotFound.into())
        });
        let door = open(&scene, (Ipv4Addr::LOCALHOST, 0).into(), find).await;
        Self {
            scene,
            door,
            destination,
            dialled,
        }
    }

    /// A connection to a host and a port.
    async fn connect(&self, host: &str, port: u16) -> TcpStream {
        let address = match host.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => self.address_of(host),
        };
        *self.destination.lock() = Some((address, port).into());
        connect(self.door).await
    }

    /// The address that policy DNS gives.
    fn address_of(&self, host: &str) -> IpAddr {
        let address = self.scene.names.synthetic.address_of(&name(host));
        address.expect("an address").into()
    }
}

/// Opens a door for redirected connections.
async fn open(scene: &Scene, address: SocketAddr, find: FindDestination) -> SocketAddr {
    let listener = TcpListener::bind(address).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let door = Arc::new(TransparentDoor {
        names: Arc::clone(&scene.names),
        find_destination: find,
    });
    let service = doors::Service::Transparent(door);
    let shared = Arc::clone(scene.engine.shared());
    tokio::spawn(async move {
        while let Ok((stream, from)) = listener.accept().await {
            let connection = client(from, address).connection;
            let shared = Arc::clone(&shared);
            tokio::spawn(doors::serve(shared, &service, stream, from, connection));
        }
    });
    address
}

/// Sends bytes and reads to the end. `Err`: the connection was reset.
async fn exchange(mut stream: TcpStream, bytes: &[u8]) -> Result<Vec<u8>, ()> {
    stream.write_all(bytes).await.map_err(drop)?;
    let mut read = Vec::new();
    in_time(stream.read_to_end(&mut read)).await.map_err(drop)?;
    Ok(read)
}

/// The first bytes of a TLS client.
fn client_hello() -> Vec<u8> {
    let ca = Ca::new("any");
    let name = ServerName::try_from("a.allowed.test").expect("a name");
    let mut hello = Vec::new();
    let mut client = rustls::ClientConnection::new(ca.client(&[]), name).expect("a client");
    client.write_tls(&mut hello).expect("a ClientHello");
    hello
}

#[tokio::test]
async fn t5_a_redirected_connection_reaches_its_name_or_its_address_and_is_recorded() {
    let origin = serve(echo).await;
    let door = Redirected::open(POLICY, Some(origin), EngineParts::default()).await;
    for (host, port, dialled) in [
        ("a.allowed.test", 22, "8.8.8.8:22"),
        ("a.allowed.test", 5432, "8.8.8.8:5432"),
        ("8.8.8.8", 443, "8.8.8.8:443"),
        ("::ffff:8.8.8.8", 443, "8.8.8.8:443"),
        ("2001:4860::8", 443, "[2001:4860::8]:443"),
    ] {
        let mut stream = door.connect(host, port).await;
        let said = b"SSH-2.0-x\r\n";
        stream.write_all(said).await.expect("open");
        let mut echoed = [0; 11];
        in_time(stream.read_exact(&mut echoed))
            .await
            .expect("an echo");
        assert_eq!(&echoed, said, "{host}");
        assert_eq!(door.dialled.dialled(), [dialled], "{host}");
        let host = Host::parse(host).expect("a host");
        let wanted = format!("transparent_tcp {host}:{port} allow allow");
        assert_eq!(door.scene.records.take(), [wanted]);
    }
}

#[tokio::test]
async fn t3_a_refusal_is_told_in_the_clients_protocol_and_recorded() {
    let origin = serve(echo).await;
    let door = Redirected::open(POLICY, Some(origin), EngineParts::default()).await;
    let hello = client_hello();
    for (host, reason) in [
        ("other.test", "not_allowed"),
        ("denied.allowed.test", "denied"),
        ("8.8.4.4", "not_allowed"),
        // No name has this address, which is not a public one.
        ("198.18.77.7", "not_allowed_local"),
        ("198.18.0.0", "not_allowed_local"),
        ("10.0.0.7", "not_allowed_local"),
        ("169.254.169.254", "not_allowed_local"),
        ("127.0.0.1", "not_allowed_local"),
        ("::ffff:127.0.0.1", "not_allowed_local"),
        ("fd00::7", "not_allowed_local"),
        ("2001:db8::7", "not_allowed_local"),
        ("64:ff9b::7f00:1", "not_allowed_local"),
    ] {
        let http = door.connect(host, 80).await;
        let answered = exchange(http, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
        let answered = String::from_utf8(answered.expect("an answer")).expect("text");
        assert!(
            answered.starts_with("HTTP/1.1 403 Forbidden\r\n"),
            "{answered}"
        );
        assert!(answered.contains("connection: close\r\n"), "{answered}");
        assert!(
            answered.contains("x-proxy-error: blocked-by-"),
            "{answered}"
        );
        assert!(answered.contains("\"status\":\"blocked\""), "{answered}");
        assert!(
            answered.contains(&format!("\"reason\":\"{reason}\"")),
            "{answered}"
        );
        assert!(
            answered.contains("\"protocol\":\"transparent_tcp\""),
            "{answered}"
        );
        let tls = exchange(door.connect(host, 443).await, &hello).await;
        // A fatal alert: access_denied.
        assert_eq!(tls, Ok(vec![21, 3, 3, 0, 2, 2, 49]), "{host}");
        for other in [
            &b"SSH-2.0-x\r\n"[..],
            b"\x10\x01\x00",
            b"\0\0\0\x08\x04\xd2\x16\x2f",
        ] {
            let reset = exchange(door.connect(host, 22).await, other).await;
            assert_eq!(reset, Err(()), "{host} {other:?}");
        }
        let shown = Host::parse(host).expect("a host");
        let wanted = [80, 443, 22, 22, 22]
            .map(|port| format!("transparent_tcp {shown}:{port} deny {reason}"));
        assert_eq!(door.scene.records.take(), wanted);
    }
    let entries = door.scene.engine.blocked().entries(0);
    assert!(entries.iter().all(|entry| entry.protocol == "transparent"));
    assert!(door.dialled.dialled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn t3_a_refused_client_that_sends_nothing_is_reset() {
    let door = Redirected::open(POLICY, None, EngineParts::default()).await;
    for sent in [&b""[..], b"GET / HT"] {
        let stream = door.connect("other.test", 22).await;
        assert_eq!(exchange(stream, sent).await, Err(()), "{sent:?}");
    }
}

#[tokio::test]
async fn t3_a_destination_that_cannot_be_reached_is_told_to_http_and_resets_the_rest() {
    let door = Redirected::open(POLICY, None, EngineParts::default()).await;
    let request = b"GET / HTTP/1.1\r\nHost: a.allowed.test\r\n\r\n";
    let answered = exchange(door.connect("a.allowed.test", 80).await, request).await;
    let answered = String::from_utf8(answered.expect("an answer")).expect("text");
    assert!(
        answered.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
        "{answered}"
    );
    assert!(answered.contains("a.allowed.test:80: "), "{answered}");
    for other in [client_hello(), b"SSH-2.0-x\r\n".to_vec()] {
        let reset = exchange(door.connect("a.allowed.test", 443).await, &other).await;
        assert_eq!(reset, Err(()));
    }
    assert_eq!(door.scene.records.take().len(), 3);
    assert_eq!(door.scene.engine.counters().blocked, 0);
}

#[tokio::test]
async fn t2_a_connection_without_a_redirect_leads_nowhere() {
    let door = Redirected::open(
        "allow_local_binding = true\nallowed_domains = [\"127.0.0.1\"]",
        None,
        EngineParts::default(),
    )
    .await;
    // To the door itself.
    let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    let answered = exchange(door.connect("127.0.0.1", door.door.port()).await, request).await;
    let answered = String::from_utf8(answered.expect("an answer")).expect("text");
    assert!(
        answered.contains("\"reason\":\"loop_detected\""),
        "{answered}"
    );
    let wanted = format!("transparent_tcp {} deny loop_detected", door.door);
    assert_eq!(door.scene.records.take(), [wanted]);
    // The kernel knows no destination.
    *door.destination.lock() = None;
    assert_eq!(exchange(connect(door.door).await, request).await, Err(()));
    assert!(door.dialled.dialled().is_empty());
}

#[tokio::test]
async fn t2_in_limited_mode_plain_http_is_judged_request_by_request() {
    let origin = serve(|mut stream| async move {
        while let Some(head) = next_head(&mut stream).await {
            let line = head.lines().next().unwrap_or_default();
            let _ = stream.write_all(&answer(line.as_bytes())).await;
        }
    })
    .await;
    let policy = format!("mode = \"limited\"\n{POLICY}");
    let parts = EngineParts {
        issuer: Some(Arc::new(Ca::new("proxy"))),
        ..EngineParts::default()
    };
    let door = Redirected::open(&policy, Some(origin), parts).await;
    let mut stream = door.connect("a.allowed.test", 8080).await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: a.allowed.test:8080\r\n\r\n", "200"),
        (
            "HEAD /x HTTP/1.1\r\nHost: A.ALLOWED.test:8080\r\n\r\n",
            "200",
        ),
        (
            "DELETE / HTTP/1.1\r\nHost: a.allowed.test:8080\r\n\r\n",
            "403",
        ),
        ("GET / HTTP/1.1\r\nHost: b.allowed.test:8080\r\n\r\n", "421"),
        (
            "GET http://b.allowed.test/ HTTP/1.1\r\nHost: b.allowed.test\r\n\r\n",
            "421",
        ),
    ] {
        stream.write_all(request.as_bytes()).await.expect("open");
        let head = read_head(&mut stream).await.expect("an answer");
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{request} {head}"
        );
        if !request.starts_with("HEAD") {
            let length = head.to_lowercase();
            let (_, length) = length.split_once("content-length: ").expect("a length");
            let length = length.lines().next().and_then(|line| line.parse().ok());
            let mut body = vec![0; length.expect("a number")];
            in_time(stream.read_exact(&mut body)).await.expect("a body");
        }
    }
    // Nothing else can be judged.
    let opaque = door.connect("a.allowed.test", 22).await;
    assert_eq!(exchange(opaque, b"SSH-2.0-x\r\n").await, Err(()));
    let records = door.scene.records.take();
    let last = records.last().map(String::as_str);
    assert_eq!(
        last,
        Some("transparent_tcp a.allowed.test:22 deny mitm_required")
    );
}

#[tokio::test]
async fn t2_in_limited_mode_tls_is_intercepted_on_every_port() {
    let ca = Arc::new(Ca::new("proxy"));
    let parts = EngineParts {
        issuer: Some(Arc::<Ca>::clone(&ca)),
        ..EngineParts::default()
    };
    let policy = format!("mode = \"limited\"\n{POLICY}");
    let door = Redirected::open(&policy, None, parts).await;
    // The origin has no TLS, so the answer to a request is a failure; but it arrives inside the
    // session with the proxy. Without an origin, the connection ends before.
    let origin = serve(echo).await;
    let reached = Redirected::open(
        &policy,
        Some(origin),
        EngineParts {
            issuer: Some(Arc::<Ca>::clone(&ca)),
            ..EngineParts::default()
        },
    )
    .await;
    let connector = TlsConnector::from(ca.client(&["http/1.1"]));
    for (server, wanted) in [("a.allowed.test", true), ("b.allowed.test", false)] {
        let stream = reached.connect("a.allowed.test", 8443).await;
        let named = ServerName::try_from(server).expect("a name");
        let session = in_time(connector.connect(named, stream)).await;
        assert_eq!(session.is_ok(), wanted, "{server}");
        let Ok(mut session) = session else { continue };
        let request = b"POST / HTTP/1.1\r\nHost: a.allowed.test:8443\r\nContent-Length: 0\r\n\r\n";
        session.write_all(request).await.expect("open");
        let head = read_head(&mut session).await.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    }
    assert_eq!(ca.issued.load(Ordering::Relaxed), 1);
    let reset = exchange(door.connect("a.allowed.test", 8443).await, &client_hello()).await;
    assert_eq!(reset, Err(()));
}

#[tokio::test]
async fn t2_a_policy_that_forbids_the_destination_ends_the_connection() {
    let origin = serve(echo).await;
    let door = Redirected::open(POLICY, Some(origin), EngineParts::default()).await;
    let mut stream = door.connect("a.allowed.test", 22).await;
    stream.write_all(b"x").await.expect("open");
    assert_eq!(in_time(stream.read_u8()).await.ok(), Some(b'x'));
    door.scene.replace("allowed_domains = [\"other.test\"]");
    let mut rest = Vec::new();
    let ended = in_time(stream.read_to_end(&mut rest)).await;
    assert!(ended.is_err() || rest.is_empty(), "{rest:?}");
}

#[tokio::test]
async fn j10_a_forwarded_port_leads_to_its_destination_alone() {
    let origin = serve(echo).await;
    let door = Redirected::open(POLICY, Some(origin), EngineParts::default()).await;
    for (destination, wanted) in [
        (
            "db.allowed.test:5432",
            "transparent_tcp db.allowed.test:5432 allow allow",
        ),
        (
            "db.other.test:5432",
            "transparent_tcp db.other.test:5432 deny not_allowed",
        ),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a listener");
        let local = listener.local_addr().expect("an address");
        let mut stream = connect(local).await;
        let (accepted, from) = listener.accept().await.expect("a client");
        let authority = Authority::parse(destination, None).expect("an authority");
        let shared = Arc::clone(door.scene.engine.shared());
        let connection = client(from, local).connection;
        let service = doors::Service::Forward(authority);
        tokio::spawn(doors::serve(shared, &service, accepted, from, connection));
        stream.write_all(b"\0\0\0\x08").await.expect("open");
        let mut echoed = [0; 4];
        let read = in_time(stream.read_exact(&mut echoed)).await;
        assert_eq!(read.is_ok(), wanted.ends_with("allow"), "{destination}");
        assert_eq!(door.scene.records.take(), [wanted]);
    }
}
