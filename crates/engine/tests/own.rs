//! The proxy's own listeners (SPEC P6): those that open after a request was judged, and the agreement
//! of doors and `explain` about them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use codex_network_config::{Sources, load};
use codex_network_engine::{
    BlockedEntry, DescribedRequest, Dial, Door, Engine, EngineParts, Listening, Lookup,
    OwnListener, OwnListeners, TcpDialler,
};
use codex_network_policy::{Authority, LocalAddresses, Protocol};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How long the proxy may take to refuse.
const TIMEOUT: Duration = Duration::from_secs(10);

const POLICY: &str = "[network]\nallowed_domains = [\"127.0.0.1\"]\nallow_local_binding = true\n";

fn engine(dialler: Arc<dyn Dial>, door: Door) -> (Engine, Listening) {
    observed_engine(dialler, door, None)
}

/// An engine that reports each refusal.
fn observed_engine(
    dialler: Arc<dyn Dial>,
    door: Door,
    blocked_observer: Option<mpsc::Sender<BlockedEntry>>,
) -> (Engine, Listening) {
    let settings = load(&Sources::none().with_text("test", POLICY));
    let settings = settings.expect("a policy").settings;
    let parts = EngineParts {
        dialler,
        blocked_observer,
        ..EngineParts::default()
    };
    let engine = Engine::new(Arc::new(settings), parts).expect("an engine");
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let door = engine.open(door, listener).expect("a door");
    (engine, door)
}

/// Opens a listener at the address that it must dial, like a reload between judgement and dial.
#[derive(Default)]
struct Late {
    own: OnceLock<OwnListeners>,
    opened: OnceLock<OwnListener>,
}

impl Dial for Late {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        let own = self.own.get().expect("the engine's set");
        self.opened.get_or_init(|| own.add(address));
        TcpDialler.dial(address)
    }
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the test's own client")]
async fn p6_a_listener_that_opens_between_the_judgement_and_the_dial_is_not_reached() {
    let late = Arc::new(Late::default());
    let (engine, door) = engine(Arc::clone(&late) as Arc<dyn Dial>, Door::Http);
    assert!(late.own.set(engine.own_listeners().clone()).is_ok());
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let mut client = TcpStream::connect(door.address()).await.expect("the door");
    let head = format!("GET http://{address}/health HTTP/1.1\r\nConnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    let read = timeout(TIMEOUT, client.read_to_string(&mut answer)).await;
    read.expect("it is refused").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(engine.blocked().entries(0)[0].reason, "loop_detected");
    let (mut came, _) = listener.accept().expect("it was dialled");
    let mut sent = Vec::new();
    io::Read::read_to_end(&mut came, &mut sent).expect("an end");
    assert!(sent.is_empty(), "a byte went out");
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test's own client, which sends to the relay"
)]
async fn p6_a_destination_of_datagrams_that_becomes_our_own_gets_no_more() {
    let (observer, mut refusals) = mpsc::channel(1);
    let (engine, door) = observed_engine(Arc::new(TcpDialler), Door::Socks5, Some(observer));
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a server");
    server.set_nonblocking(true).expect("a fresh socket");
    let server = tokio::net::UdpSocket::from_std(server).expect("a server");
    let address = server.local_addr().expect("an address");
    let mut control = TcpStream::connect(door.address()).await.expect("the door");
    control.write_all(&[5, 1, 0]).await.expect("a greeting");
    control.read_exact(&mut [0; 2]).await.expect("a method");
    let associate = [5, 3, 0, 1, 0, 0, 0, 0, 0, 0];
    control.write_all(&associate).await.expect("a request");
    let mut reply = [0; 10];
    control.read_exact(&mut reply).await.expect("a reply");
    let relay = SocketAddr::from((
        Ipv4Addr::LOCALHOST,
        u16::from_be_bytes([reply[8], reply[9]]),
    ));
    let client = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    let client = client.await.expect("a client");
    let [high, low] = address.port().to_be_bytes();
    let datagram = [0, 0, 0, 1, 127, 0, 0, 1, high, low, b'x'];
    let mut buffer = [0; 16];
    for _ in 0..2 {
        client.send_to(&datagram, relay).await.expect("it is sent");
        server.recv(&mut buffer).await.expect("it comes");
    }
    let _own = engine.own_listeners().add(address);
    client.send_to(&datagram, relay).await.expect("it is sent");
    let refused = timeout(TIMEOUT, refusals.recv()).await;
    let refused = refused.expect("it is refused").expect("a refusal");
    assert_eq!(refused.reason, "loop_detected");
    assert!(server.try_recv(&mut buffer).is_err(), "it came through");
}

/// An address of this machine, as far as the engine knows.
const MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 31, 1, 1));

#[derive(Debug)]
struct OneAddress;

impl LocalAddresses for OneAddress {
    fn contains(&self, address: IpAddr) -> bool {
        address == MACHINE
    }
}

/// Sends a request for this address to the door, and returns the reason of the refusal.
#[expect(clippy::disallowed_methods, reason = "the test's own client")]
async fn refused(engine: &Engine, door: SocketAddr, address: SocketAddr) -> String {
    let mut client = TcpStream::connect(door).await.expect("the door");
    let head = format!("GET http://{address}/ HTTP/1.1\r\nConnection: close\r\n\r\n");
    client.write_all(head.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    let read = timeout(TIMEOUT, client.read_to_string(&mut answer)).await;
    read.expect("it is refused").expect("an answer");
    let blocked = engine.blocked().entries(0);
    blocked.last().expect("a refusal").reason.to_string()
}

/// The reason that `explain` gives for the same request, and the listener that it names.
async fn explained(engine: &Engine, address: SocketAddr) -> (String, Option<SocketAddr>) {
    let request = DescribedRequest {
        protocol: Protocol::Http,
        authority: Ok(Authority::parse(&address.to_string(), None).expect("an authority")),
        target: "/".to_owned(),
        method: "GET".to_owned(),
        fields: Vec::new(),
        lookup: Lookup::LeftOut,
    };
    let generation = engine.current();
    let explained = engine.explain(&generation, &request).await;
    let explanation = explained.expect("a well-formed request").explanation;
    let reason = explanation.decision.reason().as_str().to_owned();
    (reason, explanation.listener)
}

#[tokio::test]
async fn p6_k5_l6_a_door_and_explain_agree_about_a_listener_on_every_address() {
    let settings = |text| {
        let loaded = load(&Sources::none().with_text("test", text));
        Arc::new(loaded.expect("a policy").settings)
    };
    let parts = EngineParts {
        machine: Arc::new(OneAddress),
        ..EngineParts::default()
    };
    let engine = Engine::new(settings(POLICY), parts).expect("an engine");
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let door = engine.open(Door::Http, listener).expect("a door");
    let other = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1));
    let _own = engine.own_listeners().add(other);
    let address = SocketAddr::from((MACHINE, other.port()));
    for (address, named) in [(address, other), (door.address(), door.address())] {
        let reason = refused(&engine, door.address(), address).await;
        assert_eq!(reason, "loop_detected", "{address}");
        let explained = explained(&engine, address).await;
        assert_eq!(explained, (reason, Some(named)), "{address}");
    }
    let off = settings("[network]\nenabled = false\n");
    engine.replace(&off).expect("settings");
    for address in [address, door.address()] {
        let reason = refused(&engine, door.address(), address).await;
        assert_eq!(reason, "proxy_disabled", "{address}");
        let explained = explained(&engine, address).await;
        assert_eq!(explained, (reason, None), "{address}");
    }
}
