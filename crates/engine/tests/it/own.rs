//! The proxy's own listeners (SPEC P6): those that open after a request was judged, and the agreement
//! of doors and `explain` about them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};

use codex_network_engine::{
    Dial, Engine, EngineParts, HypotheticalRequest, Lookup, OwnListener, OwnListeners, TcpDialler,
};
use codex_network_policy::{Authority, LocalAddresses, Protocol};
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::kit::doors::{Doors, connect, listener};
use crate::kit::settings;
use crate::kit::stream::in_time;

const POLICY: &str = "[network]\nallowed_domains = [\"127.0.0.1\"]\nallow_local_binding = true\n";

/// Opens a listener at the address that it must dial, like a reload between judgement and dial.
#[derive(Default)]
struct LateListener {
    own: OnceLock<OwnListeners>,
    opened: OnceLock<OwnListener>,
}

impl Dial for LateListener {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        let own = self.own.get().expect("the engine's set");
        self.opened.get_or_init(|| own.add(address));
        TcpDialler.dial(address)
    }
}

#[tokio::test]
async fn p6_a_listener_that_opens_between_the_judgement_and_the_dial_is_not_reached() {
    let late = Arc::new(LateListener::default());
    let parts = EngineParts {
        dialler: Arc::clone(&late) as Arc<dyn Dial>,
        ..EngineParts::default()
    };
    let doors = Doors::open(settings(POLICY), parts);
    assert!(late.own.set(doors.engine.own_listeners().clone()).is_ok());
    let listener = listener();
    let address = listener.local_addr().expect("an address");
    let request = format!("GET http://{address}/health HTTP/1.1\r\nConnection: close\r\n\r\n");
    let answer = doors.exchange(request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert_eq!(doors.engine.blocked().entries(0)[0].reason, "loop_detected");
    let (mut dialled, _) = listener.accept().expect("it was dialled");
    let mut sent = Vec::new();
    io::Read::read_to_end(&mut dialled, &mut sent).expect("an end");
    assert!(sent.is_empty(), "a byte went out");
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test's own client, which sends to the relay"
)]
async fn p6_a_destination_of_datagrams_that_becomes_our_own_gets_no_more() {
    let (observer, mut refusals) = mpsc::channel(1);
    let parts = EngineParts {
        blocked_observer: Some(observer),
        ..EngineParts::default()
    };
    let doors = Doors::open(settings(POLICY), parts);
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a server");
    server.set_nonblocking(true).expect("a fresh socket");
    let server = tokio::net::UdpSocket::from_std(server).expect("a server");
    let address = server.local_addr().expect("an address");
    let mut control = connect(doors.socks5()).await;
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
    let _own = doors.engine.own_listeners().add(address);
    client.send_to(&datagram, relay).await.expect("it is sent");
    let refused = in_time(refusals.recv()).await.expect("a refusal");
    assert_eq!(refused.reason, "loop_detected");
    assert!(server.try_recv(&mut buffer).is_err(), "it came through");
}

/// The one address of this machine that the engine knows.
const MACHINE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 31, 1, 1));

#[derive(Debug)]
struct OneAddress;

impl LocalAddresses for OneAddress {
    fn contains(&self, address: IpAddr) -> bool {
        address == MACHINE
    }
}

/// Sends a request for this address to the door, and returns the reason of the refusal.
async fn refused(doors: &Doors, address: SocketAddr) -> String {
    let request = format!("GET http://{address}/ HTTP/1.1\r\nConnection: close\r\n\r\n");
    doors.exchange(request.as_bytes()).await;
    let blocked = doors.engine.blocked().entries(0);
    blocked.last().expect("a refusal").reason.to_string()
}

/// The reason that `explain` gives for the same request, and the listener that it names.
async fn explained(engine: &Engine, address: SocketAddr) -> (String, Option<SocketAddr>) {
    let request = HypotheticalRequest {
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
    let parts = EngineParts {
        machine: Arc::new(OneAddress),
        ..EngineParts::default()
    };
    let doors = Doors::open(settings(POLICY), parts);
    let other = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 1));
    let _own = doors.engine.own_listeners().add(other);
    let address = SocketAddr::from((MACHINE, other.port()));
    for (address, named) in [(address, other), (doors.http(), doors.http())] {
        let reason = refused(&doors, address).await;
        assert_eq!(reason, "loop_detected", "{address}");
        let explained = explained(&doors.engine, address).await;
        assert_eq!(explained, (reason, Some(named)), "{address}");
    }
    let off = Arc::new(settings("[network]\nenabled = false\n"));
    doors.engine.replace(&off).expect("settings");
    for address in [address, doors.http()] {
        let reason = refused(&doors, address).await;
        assert_eq!(reason, "proxy_disabled", "{address}");
        let explained = explained(&doors.engine, address).await;
        assert_eq!(explained, (reason, None), "{address}");
    }
}
