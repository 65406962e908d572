//! Policy DNS over sockets on loopback, as a program in a jail meets it.

#[expect(dead_code, reason = "these tests need a part of the kit")]
pub(crate) mod kit;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use codex_network_config::{Sources, load};
use hickory_resolver::proto::op::{Edns, Message, Query};
use hickory_resolver::proto::rr::RecordType::{
    self, A, AAAA, ANY, CNAME, HTTPS, MX, NS, PTR, SOA, SRV, SVCB, TXT,
};
use hickory_resolver::proto::rr::{Name, RData};
use kit::records::Records;
use kit::stream::in_time;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::Instant;

use super::LookedUpNames;
use crate::client::Client;
use crate::doors;
use crate::owner::ConnectionHandle;
use crate::server::{Engine, EngineParts};

/// An engine, and the names of one session.
pub(crate) struct Scene {
    pub(crate) engine: Engine,
    pub(crate) names: Arc<LookedUpNames>,
    pub(crate) records: Arc<Records>,
}

impl Scene {
    pub(crate) fn new(policy: &str, parts: EngineParts) -> Self {
        let records = Records::new(|event| {
            format!(
                "{} {}:{} {} {}",
                event.protocol.audit_name(),
                event.server_address,
                event.server_port,
                event.decision.verdict(),
                event.reason
            )
        });
        let audit = Arc::<Records>::clone(&records);
        let parts = EngineParts { audit, ..parts };
        let engine = Engine::new(Arc::new(settings(policy)), parts).expect("an engine");
        Self {
            engine,
            names: Arc::default(),
            records,
        }
    }

    /// Puts another policy in force.
    pub(crate) fn replace(&self, policy: &str) {
        let replaced = self.engine.replace(&Arc::new(settings(policy)));
        replaced.expect("usable settings");
    }

    fn use_up_the_turns(&self) {
        while self.names.turns.take() {}
    }

    /// Opens policy DNS over UDP. Returns its address.
    async fn open_udp(&self) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let socket = socket.expect("a socket");
        let address = socket.local_addr().expect("an address");
        let (shared, names) = (Arc::clone(self.engine.shared()), Arc::clone(&self.names));
        let client = move |from| client(from, address);
        tokio::spawn(async move {
            doors::serve_dns_udp(&shared, &names, &socket, &client).await;
        });
        address
    }

    /// Opens policy DNS over TCP. Returns its address.
    async fn open_tcp(&self) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listener.expect("a listener");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::clone(self.engine.shared());
        let service = doors::Service::Dns(Arc::clone(&self.names));
        tokio::spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                let connection = client(from, address).connection;
                let shared = Arc::clone(&shared);
                tokio::spawn(doors::serve(shared, &service, stream, from, connection));
            }
        });
        address
    }
}

#[tokio::test]
async fn j13_a_socket_that_its_opener_shuts_ends_its_door() {
    let scene = Scene::new(POLICY, EngineParts::default());
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
    let socket = socket.expect("a socket").into_std().expect("a socket");
    let address = socket.local_addr().expect("an address");
    let copy = socket2::Socket::from(socket.try_clone().expect("a copy"));
    let socket = UdpSocket::from_std(socket).expect("a socket");
    let (shared, names) = (Arc::clone(scene.engine.shared()), Arc::clone(&scene.names));
    let client = move |from| client(from, address);
    let door = tokio::spawn(async move {
        doors::serve_dns_udp(&shared, &names, &socket, &client).await;
    });
    let resolver = Resolver::of(address).await;
    let message = query("allowed.test.", A);
    resolver.0.send(&message).await.expect("sent");
    assert_eq!(told(&resolver.answer().await), "198.18.0.1");
    // The kernel reports that the socket is not connected, and shuts it all the same (`inet_shutdown`).
    let _ = copy.shutdown(std::net::Shutdown::Read);
    in_time(door).await.expect("the door's task");
}

/// The clock is virtual: it moves only while every task waits.
#[tokio::test(start_paused = true)]
async fn j13_lookups_beyond_the_rate_of_a_session_wait_and_are_not_lost() {
    let scene = Scene::new(POLICY, EngineParts::default());
    let udp = scene.open_udp().await;
    let resolver = Resolver::of(udp).await;
    let mut tcp = connect(scene.open_tcp().await).await;
    scene.use_up_the_turns();
    let began = Instant::now();
    for _ in 0..100 {
        let message = query("allowed.test.", A);
        resolver.0.send(&message).await.expect("sent");
    }
    for _ in 0..100 {
        assert_eq!(told(&resolver.answer().await), "198.18.0.1");
    }
    assert!(began.elapsed() >= Duration::from_millis(40));
    scene.use_up_the_turns();
    let began = Instant::now();
    for _ in 0..100 {
        let message = query("allowed.test.", A);
        let length = u16::try_from(message.len()).expect("a short message");
        let framed = [&length.to_be_bytes(), message.as_slice()].concat();
        tcp.write_all(&framed).await.expect("open");
        let length = in_time(tcp.read_u16()).await.expect("an answer");
        let mut answer = vec![0; length.into()];
        in_time(tcp.read_exact(&mut answer))
            .await
            .expect("a message");
    }
    assert!(began.elapsed() >= Duration::from_millis(40));
}

/// A policy with these lines in `[network]`.
fn settings(policy: &str) -> codex_network_config::Settings {
    let text = format!("[network]\n{policy}\n");
    load(&Sources::none().with_text("test", text))
        .expect("a valid configuration")
        .settings
}

pub(crate) fn client(from: SocketAddr, local: SocketAddr) -> Client {
    Client {
        address: from,
        attempt: None,
        connection: ConnectionHandle::new(from, local),
    }
}

fn query(name: &str, record_type: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    let labels = name.split('.').filter(|label| !label.is_empty());
    let mut name = Name::from_labels(labels.map(str::as_bytes)).expect("a name");
    name.set_fqdn(true);
    message.add_query(Query::query(name, record_type));
    message.set_edns(Edns::new());
    message.to_vec().expect("a message")
}

/// A client of the UDP door.
struct Resolver(UdpSocket);

impl Resolver {
    async fn of(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let socket = socket.expect("a socket");
        connect_udp(&socket, server).await;
        Self(socket)
    }

    async fn exchange(&self, message: &[u8]) -> Message {
        self.0.send(message).await.expect("sent");
        self.answer().await
    }

    async fn answer(&self) -> Message {
        let mut buffer = [0; 2048];
        let length = in_time(self.0.recv(&mut buffer)).await.expect("an answer");
        Message::from_vec(&buffer[..length]).expect("a message")
    }

    /// The code, and the address if there is one.
    async fn look_up(&self, name: &str, record_type: RecordType) -> String {
        let answer = self.exchange(&query(name, record_type)).await;
        told(&answer)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a client of this test's own server"
)]
async fn connect_udp(socket: &UdpSocket, server: SocketAddr) {
    socket.connect(server).await.expect("a route");
}

#[expect(
    clippy::disallowed_methods,
    reason = "a client of this test's own listener"
)]
pub(crate) async fn connect(server: SocketAddr) -> TcpStream {
    TcpStream::connect(server).await.expect("a connection")
}

fn told(answer: &Message) -> String {
    match answer.answers.first().map(|record| &record.data) {
        Some(RData::A(address)) => address.to_string(),
        Some(RData::AAAA(address)) => address.to_string(),
        Some(data) => panic!("{data:?}"),
        None => format!("{:?}", answer.metadata.response_code),
    }
}

const POLICY: &str =
    "allowed_domains = [\"**.allowed.test\"]\ndenied_domains = [\"denied.allowed.test\"]";

#[tokio::test]
async fn t1_names_get_an_address_if_the_policy_permits_them() {
    let lookups = kit::network::Names::new(|_| panic!("policy DNS looks no name up"));
    let parts = EngineParts {
        resolver: Some(lookups),
        ..EngineParts::default()
    };
    let scene = Scene::new(POLICY, parts);
    let resolver = Resolver::of(scene.open_udp().await).await;
    for (name, record_type, wanted) in [
        ("allowed.test.", A, "198.18.0.1"),
        ("a.allowed.test.", A, "198.18.0.2"),
        ("ALLOWED.Test.", A, "198.18.0.1"),
        ("allowed.test.", AAAA, "NoError"),
        ("allowed.test.", HTTPS, "NoError"),
        ("allowed.test.", SVCB, "NoError"),
        ("_8443._https.allowed.test.", HTTPS, "NoError"),
        ("allowed.test.", MX, "Refused"),
        ("allowed.test.", TXT, "Refused"),
        ("allowed.test.", SRV, "Refused"),
        ("allowed.test.", SOA, "Refused"),
        ("allowed.test.", CNAME, "Refused"),
        ("allowed.test.", ANY, "Refused"),
        ("other.test.", A, "NXDomain"),
        ("other.test.", AAAA, "NXDomain"),
        ("other.test.", TXT, "NXDomain"),
        ("denied.allowed.test.", A, "NXDomain"),
        ("1.0.0.127.in-addr.arpa.", PTR, "NXDomain"),
        ("127.0.0.1.", A, "NXDomain"),
        (".", NS, "Refused"),
        // RFC 6761 section 6.3.
        ("localhost.", A, "127.0.0.1"),
        ("localhost.", AAAA, "::1"),
        ("a.LOCALHOST.", A, "127.0.0.1"),
        ("localhost.", HTTPS, "NoError"),
        ("localhost.", MX, "Refused"),
    ] {
        let found = resolver.look_up(name, record_type).await;
        assert_eq!(found, wanted, "{name} {record_type}");
    }
}

#[tokio::test]
async fn t1_a_refused_name_is_recorded_once_for_all_its_queries() {
    let scene = Scene::new(POLICY, EngineParts::default());
    let resolver = Resolver::of(scene.open_udp().await).await;
    for _ in 0..3 {
        for record_type in [A, AAAA, HTTPS] {
            for name in [
                "other.test.",
                "Other.test.",
                "denied.allowed.test.",
                "a@b.test.",
            ] {
                resolver.look_up(name, record_type).await;
            }
            resolver.look_up("allowed.test.", record_type).await;
        }
    }
    let wanted = [
        "dns other.test:0 deny not_allowed",
        "dns denied.allowed.test:0 deny denied",
        "dns a@b.test:0 deny invalid_host",
    ];
    assert_eq!(scene.records.take(), wanted);
    let entries = scene.engine.blocked().entries(0);
    let ports: Vec<_> = entries
        .iter()
        .map(|entry| (entry.protocol, entry.port))
        .collect();
    assert_eq!(ports, [("dns", None); 3]);
    assert_eq!(
        entries[1]
            .rule
            .as_deref()
            .map(|rule| rule.starts_with("denied.allowed.test")),
        Some(true)
    );
    // Other settings have decided anew.
    scene.replace(POLICY);
    resolver.look_up("other.test.", A).await;
    assert_eq!(scene.records.take(), wanted[..1]);
}

/// Chromium asks for HTTPS records of a port, and apt for SRV records, before they connect to the host.
#[tokio::test]
async fn t1_a_record_of_a_service_is_judged_by_its_host() {
    let scene = Scene::new(
        "allowed_domains = [\"allowed.test\"]",
        EngineParts::default(),
    );
    let resolver = Resolver::of(scene.open_udp().await).await;
    for (name, record_type, wanted) in [
        ("_8443._https.allowed.test.", HTTPS, "NoError"),
        ("_http._tcp.allowed.test.", SRV, "Refused"),
        ("_dmarc.allowed.test.", TXT, "Refused"),
    ] {
        let found = resolver.look_up(name, record_type).await;
        assert_eq!(found, wanted, "{name} {record_type}");
    }
    assert_eq!(scene.records.take(), [""; 0]);
    for (name, record_type) in [
        ("_8443._https.other.test.", HTTPS),
        ("_http._tcp.other.test.", SRV),
        ("other.test.", A),
    ] {
        assert_eq!(
            resolver.look_up(name, record_type).await,
            "NXDomain",
            "{name}"
        );
    }
    assert_eq!(scene.records.take(), ["dns other.test:0 deny not_allowed"]);
    // Below, they are names of their own.
    for (name, record_type, recorded) in [
        ("_8443._https.allowed.test.", A, "_8443._https.allowed.test"),
        (
            "a._http._tcp.allowed.test.",
            SRV,
            "a._http._tcp.allowed.test",
        ),
    ] {
        assert_eq!(
            resolver.look_up(name, record_type).await,
            "NXDomain",
            "{name}"
        );
        let wanted = format!("dns {recorded}:0 deny not_allowed");
        assert_eq!(scene.records.take(), [wanted]);
    }
}

#[tokio::test]
async fn t1_a_change_of_the_policy_holds_for_the_next_query() {
    let scene = Scene::new(POLICY, EngineParts::default());
    let resolver = Resolver::of(scene.open_udp().await).await;
    let name = "other.test.";
    assert_eq!(resolver.look_up(name, A).await, "NXDomain");
    scene.replace("allowed_domains = [\"other.test\"]");
    assert_eq!(resolver.look_up(name, A).await, "198.18.0.1");
    scene.replace("mode = \"limited\"\nmitm = false\nallowed_domains = [\"other.test\"]");
    // The connection is judged by the mode.
    assert_eq!(resolver.look_up(name, A).await, "198.18.0.1");
    scene.replace("enabled = false\nallowed_domains = [\"other.test\"]");
    assert_eq!(resolver.look_up(name, A).await, "NXDomain");
}

#[tokio::test]
async fn t1_bytes_that_are_no_query_leave_the_name_server_running() {
    let scene = Scene::new(POLICY, EngineParts::default());
    let resolver = Resolver::of(scene.open_udp().await).await;
    let wanted = query("allowed.test.", A);
    for length in 0..wanted.len() {
        resolver.0.send(&wanted[..length]).await.expect("sent");
        if length >= 12 {
            assert_eq!(told(&resolver.answer().await), "FormErr", "{length} bytes");
        }
    }
    // An answer gets no answer: the next answer is that of the next query.
    let mut reflected = wanted.clone();
    reflected[2] |= 0x80;
    resolver.0.send(&reflected).await.expect("sent");
    let long = vec![0; 9000];
    assert_eq!(told(&resolver.exchange(&long).await), "FormErr");
    assert_eq!(told(&resolver.exchange(&wanted).await), "198.18.0.1");
}

#[tokio::test]
async fn t1_the_same_answers_are_given_over_tcp() {
    let scene = Scene::new(POLICY, EngineParts::default());
    let mut stream = connect(scene.open_tcp().await).await;
    let framed = |message: &[u8]| {
        let length = u16::try_from(message.len()).expect("a short message");
        [&length.to_be_bytes(), message].concat()
    };
    // Three messages: byte by byte, and two at once.
    for byte in framed(&query("allowed.test.", A)) {
        stream.write_all(&[byte]).await.expect("open");
    }
    let two = [
        framed(&query("other.test.", A)),
        framed(&query("localhost.", AAAA)),
    ];
    stream.write_all(&two.concat()).await.expect("open");
    for wanted in ["198.18.0.1", "NXDomain", "::1"] {
        let length = in_time(stream.read_u16()).await.expect("an answer");
        let mut answer = vec![0; usize::from(length)];
        in_time(stream.read_exact(&mut answer))
            .await
            .expect("an answer");
        let answer = Message::from_vec(&answer).expect("a message");
        assert_eq!(told(&answer), wanted);
    }
    // A message that is too long ends the connection.
    stream.write_all(&[0xff, 0xff]).await.expect("open");
    assert_eq!(in_time(stream.read(&mut [0])).await.ok(), Some(0));
}

#[tokio::test(start_paused = true)]
async fn t1_an_idle_or_slow_connection_ends() {
    let scene = Scene::new(POLICY, EngineParts::default());
    let server = scene.open_tcp().await;
    for sent in [&b""[..], b"\0", b"\0\x20", b"\0\x20\x12\x34"] {
        let mut stream = connect(server).await;
        stream.write_all(sent).await.expect("open");
        let mut rest = Vec::new();
        in_time(stream.read_to_end(&mut rest))
            .await
            .expect("an end");
        assert!(rest.is_empty(), "{sent:?}");
    }
}

#[tokio::test]
async fn t1_a_session_that_has_used_up_its_addresses_fails_without_forgetting_any() {
    let scene = Scene::new(POLICY, EngineParts::default());
    let resolver = Resolver::of(scene.open_udp().await).await;
    let first = resolver.look_up("allowed.test.", A).await;
    for number in 0..crate::synthetic_names::MAX_SYNTHETIC_NAMES {
        let name = codex_network_policy::Host::parse(&format!("n{number}.allowed.test"));
        let Ok(codex_network_policy::Host::Name(name)) = name else {
            panic!("not a name");
        };
        scene.names.synthetic.address_of(&name);
    }
    assert_eq!(resolver.look_up("more.allowed.test.", A).await, "ServFail");
    assert_eq!(resolver.look_up("allowed.test.", A).await, first);
}
