//! Addresses of this machine are local for every protocol and in `explain`, where the confined worker
//! asks the kernel (SPEC P3, P4, P9). In a network of the test's own.

use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use e2e::client::{Association, Connection, Socks5Target};
use e2e::daemon::{Config, Daemon};
use e2e::namespace::{Namespace, is_inside};
use e2e::proxyctl::proxyctl_json;
use e2e::wait::{TIMEOUT, poll};

const OWN: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);
const ADDRESSES: &str =
    "ip addr add 93.184.216.34/32 dev lo && ip -6 addr add 2606:2800::1/128 dev lo";

#[test]
fn p9_an_address_of_this_machine_is_local_for_every_protocol_and_in_explain() {
    let name = "control::machine::p9_an_address_of_this_machine_is_local_for_every_protocol_and_in_explain";
    if !is_inside(name, Namespace::Network, ADDRESSES) {
        return;
    }
    let service = TcpListener::bind("[::]:0").expect("a listener");
    let port = service.local_addr().expect("an address").port();
    let datagrams = UdpSocket::bind(("::", port)).expect("a socket");
    datagrams.set_nonblocking(true).expect("a fresh socket");
    let six: IpAddr = "2606:2800::1".parse().expect("an address");
    let config = Config::new()
        .set("network", "allow_local_binding", "false")
        .allow("*")
        .host("wild.test", OWN)
        .host("six.test", six);
    let daemon = Daemon::start(&config);
    let hosts = ["wild.test", "six.test", "93.184.216.34", "[2606:2800::1]"];
    let association = Association::open(daemon.socks_addr());
    for host in hosts {
        let authority = format!("{host}:{port}");
        let mut client = Connection::open(daemon.http_addr());
        let answer = client.connect(&authority);
        assert_eq!(answer.status, 403, "CONNECT {authority}: {}", answer.text());
        let mut client = Connection::open(daemon.http_addr());
        let head = format!("GET http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\n\r\n");
        let answer = client.exchange(&head);
        assert_eq!(answer.json()["reason"], "not_allowed_local", "{authority}");
        let target = Socks5Target::name(host.trim_matches(['[', ']']), port);
        let mut client = Connection::open(daemon.socks_addr());
        assert_eq!(client.socks5_connect(&target).reply, 2, "{authority}");
        association.send(&target, b"hello");
    }
    let refused = poll(TIMEOUT, || {
        Some(daemon.blocked()).filter(|blocked| blocked.len() == 4 * hosts.len())
    });
    for entry in refused.expect("every attempt is refused") {
        assert_eq!(entry["reason"], "not_allowed_local", "{entry}");
    }
    let nothing = datagrams.recv_from(&mut [0; 16]);
    assert!(nothing.is_err(), "a datagram came through");
    for literal in ["93.184.216.34", "[2606:2800::1]"] {
        let explained = proxyctl_json(&daemon, &["explain", &format!("http://{literal}/")]);
        assert_eq!(explained["reason"], "not_allowed_local", "{explained}");
        let because = explained["because"].as_str().expect("a sentence");
        assert!(
            because.ends_with("is an address of this machine"),
            "{because}"
        );
    }
}
