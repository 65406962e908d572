//! UDP associations over real sockets (SPEC S3).

mod ends;
mod hostile;
mod judging;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use e2e::client::{Association, Socks5Target};
use e2e::daemon::{Config, Daemon};
use e2e::machine::{self, Need};
use e2e::resolver::StubResolver;
use e2e::wait::TIMEOUT;

use super::client;

fn associate(daemon: &Daemon) -> Association {
    Association::open(daemon.socks_addr())
}

/// A socket that acts as a server or a stranger.
fn socket(ip: impl Into<IpAddr>) -> UdpSocket {
    let socket = UdpSocket::bind((ip.into(), 0)).expect("a free port");
    socket
        .set_read_timeout(Some(TIMEOUT))
        .expect("a fresh socket takes options");
    socket
}

fn here() -> UdpSocket {
    socket(Ipv4Addr::LOCALHOST)
}

fn address(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().expect("a bound socket")
}

fn port(socket: &UdpSocket) -> u16 {
    address(socket).port()
}

/// The next datagram that a server gets: its data, and the address to answer.
fn next(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65536];
    let (length, from) = server.recv_from(&mut buffer).expect("a datagram");
    buffer.truncate(length);
    (buffer, from)
}

/// Sends through the association and gets an answer.
fn echoes(association: &Association, target: &Socks5Target, server: &UdpSocket, data: &[u8]) {
    association.send(target, data);
    let (got, from) = next(server);
    assert_eq!(got, data, "{target:?}");
    server.send_to(&got, from).expect("an answer");
    assert_eq!(association.receive(), (address(server), data.to_vec()));
}

/// A query for the address of `name` (RFC 1035 section 4.1).
fn query(id: u8, name: &str) -> Vec<u8> {
    let mut bytes = vec![0, id, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label"));
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

#[test]
fn s3_a_dns_query_is_answered_if_allowed_and_else_dropped_and_recorded() {
    let dns = StubResolver::start();
    dns.answer("wanted.example", [Ipv4Addr::new(192, 0, 2, 7).into()]);
    let daemon = Daemon::start(&Config::example());
    let association = associate(&daemon);
    let port = dns.address().port();
    association.send(
        &Socks5Target::name("blocked.test", port),
        query(1, "secret.example"),
    );
    association.send(
        &Socks5Target::name("allowed.test", port),
        query(2, "wanted.example"),
    );
    let (from, answer) = association.receive();
    assert_eq!(from, dns.address());
    assert_eq!(
        answer[..2],
        [0, 2],
        "to the second query, and not the first"
    );
    assert!(answer.ends_with(&[192, 0, 2, 7]), "{answer:?}");
    assert_eq!(dns.names_asked(), ["wanted.example"]);
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "blocked.test");
    assert_eq!(entry["reason"], "not_allowed");
    assert_eq!(entry["protocol"], "socks5-udp");
    assert_eq!(entry["port"], port);
    assert_eq!(entry["client"], *association.client());
    assert_eq!(daemon.blocked().len(), 1);
}

#[test]
fn s3_names_and_literals_of_both_families_are_reached() {
    if !machine::has(Need::Ipv6) {
        return;
    }
    let four = here();
    let six = socket(Ipv6Addr::LOCALHOST);
    let config = Config::example()
        .allow("127.0.0.1")
        .allow("::1")
        .allow("six.test")
        .host("six.test", Ipv6Addr::LOCALHOST);
    let daemon = Daemon::start(&config);
    let association = associate(&daemon);
    for (target, server) in [
        (Socks5Target::Address(address(&four)), &four),
        (Socks5Target::Address(address(&six)), &six),
        (Socks5Target::name("allowed.test", port(&four)), &four),
        (Socks5Target::name("six.test", port(&six)), &six),
        (Socks5Target::name("0x7f.1", port(&four)), &four),
    ] {
        for data in [&b"datagram"[..], b"", b"\0\0\0\x01"] {
            echoes(&association, &target, server, data);
        }
    }
    assert!(daemon.blocked().is_empty());
}

#[test]
fn s3_datagrams_of_every_size_arrive_whole() {
    const LARGEST: usize = 65507;
    let server = here();
    let daemon = Daemon::start(&Config::example());
    let association = associate(&daemon);
    let target = Socks5Target::name("allowed.test", port(&server));
    let header = target.datagram(b"").len();
    let data: Vec<u8> = (0..=250).cycle().take(LARGEST - header).collect();
    association.send(&target, &data);
    let (got, from) = next(&server);
    assert_eq!(got, data);
    // Answers that are too long with their header are lost. Shorter ones arrive.
    server.send_to(&vec![1; LARGEST], from).expect("an answer");
    server
        .send_to(&vec![2; LARGEST - 10], from)
        .expect("an answer");
    let (_, answer) = association.receive();
    assert_eq!(answer, vec![2; LARGEST - 10]);
}

#[test]
fn s3_all_answers_of_many_servers_at_once_arrive() {
    let servers: Vec<UdpSocket> = (0..20).map(|_| here()).collect();
    let daemon = Daemon::start(&Config::example().allow("127.0.0.1"));
    let association = associate(&daemon);
    for server in &servers {
        association.send(&Socks5Target::Address(address(server)), b"hello");
    }
    for server in servers.iter().rev() {
        let (_, from) = next(server);
        for number in 0..3 {
            server.send_to(&[number], from).expect("an answer");
            assert_eq!(association.receive(), (address(server), vec![number]));
        }
    }
}

#[test]
fn s3_ipv6_clients_get_a_relay_of_their_family() {
    if !machine::has(Need::Ipv6) {
        return;
    }
    let server = here();
    let config = Config::example().set("network", "socks_url", r#""socks5h://[::1]:0""#);
    let config = config.set("network", "dangerously_allow_non_loopback_proxy", "true");
    let daemon = Daemon::start(&config);
    let association = associate(&daemon);
    assert_eq!(association.relay.ip(), daemon.socks_addr().ip());
    let target = Socks5Target::name("allowed.test", port(&server));
    echoes(&association, &target, &server, b"from six to four");
}
