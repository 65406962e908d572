//! Tunnels: the three address types, early data, half-closes, many bytes.

use std::io::Write as _;
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use e2e::client::{Connection, Socks5Target};
use e2e::daemon::{Config, Daemon};
use e2e::machine::{self, Need};
use e2e::origin::{Answer, Origin};
use e2e::tls::{Client, Server, TestCa};

use super::{client, reply};

const GREETING: [u8; 3] = [5, 1, 0];

fn echoes(client: &mut Connection, bytes: &[u8]) {
    client.send(bytes);
    assert_eq!(client.read_exact(bytes.len()), bytes);
}

/// Accepts one connection on the loopback address of a family.
fn accept_one(address: &str) -> (SocketAddr, thread::JoinHandle<(TcpStream, SocketAddr)>) {
    let listener = TcpListener::bind((address, 0))
        .unwrap_or_else(|error| panic!("this machine has no {address}: {error}"));
    let address = listener.local_addr().expect("a bound listener");
    let accepted = thread::spawn(move || listener.accept().expect("a connection"));
    (address, accepted)
}

#[test]
fn s1_connect_by_ipv4_address() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::new().allow("127.0.0.1"));
    let mut client = client(&daemon);
    let bound = client.socks5_connect(&Socks5Target::Address(origin.addr()));
    assert_eq!(bound.reply, 0);
    echoes(&mut client, b"over IPv4");
}

#[test]
fn s1_connect_by_ipv6_address() {
    if !machine::has(Need::Ipv6) {
        return;
    }
    let (address, accepted) = accept_one("::1");
    let daemon = Daemon::start(&Config::new().allow("::1"));
    let mut client = client(&daemon);
    let bound = client.socks5_connect(&Socks5Target::Address(address));
    assert_eq!(bound.reply, 0);
    assert_eq!(bound.addr.ip(), Ipv6Addr::LOCALHOST);
    let (mut upstream, peer) = accepted.join().expect("the origin accepts");
    assert_eq!(bound.addr, peer);
    upstream.write_all(b"over IPv6").expect("an open tunnel");
    assert_eq!(client.read_exact(9), b"over IPv6");
}

#[test]
fn s1_a_name_is_resolved_by_the_proxy() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    for name in ["allowed.test", "ALLOWED.Test", "allowed.test."] {
        echoes(
            &mut daemon.socks5_tunnel(name, origin.addr().port()),
            name.as_bytes(),
        );
    }
}

#[test]
fn s1_a_name_may_lead_to_ipv6() {
    if !machine::has(Need::Ipv6) {
        return;
    }
    let (address, accepted) = accept_one("::1");
    let config = Config::new()
        .allow("six.test")
        .host("six.test", Ipv6Addr::LOCALHOST);
    let daemon = Daemon::start(&config);
    let mut client = client(&daemon);
    let bound = client.socks5_connect(&Socks5Target::name("six.test", address.port()));
    assert_eq!(bound.reply, 0);
    assert_eq!(bound.addr, accepted.join().expect("the origin accepts").1);
}

#[test]
fn s2_the_bound_address_is_the_source_that_the_origin_sees() {
    let (address, accepted) = accept_one("127.0.0.1");
    let daemon = Daemon::start(&Config::example());
    let mut client = client(&daemon);
    let bound = client.socks5_connect(&Socks5Target::name("allowed.test", address.port()));
    assert_eq!(bound.addr, accepted.join().expect("the origin accepts").1);
}

#[test]
fn s1_any_user_name_and_password_are_accepted() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    let long = "x".repeat(255);
    for (user, password) in [("alice", "secret"), ("", ""), (&*long, &*long)] {
        let mut client = client(&daemon);
        assert_eq!(client.socks5_greet(&[2]), 2);
        assert_eq!(client.socks5_authenticate(user, password), 0);
        assert_eq!(client.socks5_request(1, &target).reply, 0);
        echoes(&mut client, b"in");
    }
}

#[test]
fn s1_a_handshake_may_arrive_byte_by_byte() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    let mut client = client(&daemon);
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    let one_by_one = |client: &mut Connection, bytes: &[u8]| {
        for byte in bytes {
            client.send([*byte]);
        }
    };
    one_by_one(&mut client, &[5, 2, 0, 2]);
    assert_eq!(client.read_exact(2), [5, 2]);
    one_by_one(&mut client, b"\x01\x05alice\x06secret");
    assert_eq!(client.read_exact(2), [1, 0]);
    one_by_one(&mut client, &target.request(1));
    assert_eq!(client.socks5_reply().reply, 0);
    echoes(&mut client, b"slowly");
}

#[test]
fn s1_a_handshake_and_the_first_bytes_may_arrive_at_once() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    // More than the proxy reads for the messages alone.
    let early = b"early data ".repeat(1000);
    for (greeting, selected) in [
        (&GREETING[..], &[5, 0][..]),
        (b"\x05\x02\x00\x02\x01\x01a\x01b", &[5, 2, 1, 0]),
    ] {
        let mut client = client(&daemon);
        client.send([greeting, &target.request(1), &early].concat());
        assert_eq!(client.read_exact(selected.len()), selected);
        assert_eq!(client.socks5_reply().reply, 0);
        assert_eq!(client.read_exact(early.len()), early);
    }
}

#[test]
fn s1_one_direction_of_a_tunnel_stays_open_after_the_other_closes() {
    let origin = Origin::start(|request| Answer::text(&request.text()));
    let daemon = Daemon::start(&Config::example());
    let mut client = daemon.socks5_tunnel("allowed.test", origin.addr().port());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n");
    origin.wait_for("the head", |requests| requests.first().map(|_| ()));
    client.send("ok");
    client.finish_sending();
    assert_eq!(client.read_final_response().text(), "ok");
    client.expect_closed();
}

#[test]
fn s1_the_close_of_the_origin_reaches_the_client() {
    let origin = Origin::start(|_| Answer::Raw(b"last words".to_vec()));
    let daemon = Daemon::start(&Config::example());
    let mut client = daemon.socks5_tunnel("allowed.test", origin.addr().port());
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.read_to_end(), b"last words");
}

#[test]
fn s1_megabytes_come_through_intact_both_ways() {
    const PIECE: usize = 64 * 1024;
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    let mut client = daemon.socks5_tunnel("allowed.test", origin.addr().port());
    for number in 0..128_u32 {
        let piece: Vec<u8> = (0..PIECE)
            .map(|at| u8::try_from((at * 7 + number as usize) % 251).expect("less than 251"))
            .collect();
        echoes(&mut client, &piece);
    }
}

#[test]
fn s1_tls_goes_through_untouched() {
    let ca = TestCa::new();
    let origin = Origin::answering(|_| Answer::text("secret"))
        .tls(&ca, &["allowed.test"])
        .start();
    let daemon = Daemon::start(&Config::example());
    let mut client = daemon
        .socks5_tunnel("allowed.test", origin.addr().port())
        .start_tls(&ca, "allowed.test");
    let answer = client.exchange("GET / HTTP/1.1\r\nHost: allowed.test\r\n\r\n");
    assert_eq!(answer.text(), "secret");
}

#[test]
fn s1_http2_goes_through_untouched() {
    let ca = TestCa::new();
    let server = Server::of(&ca, &["allowed.test"]).alpn(&["h2"]);
    let origin = Origin::answering(|_| Answer::text("secret"))
        .tls_as(&server)
        .start();
    let daemon = Daemon::start(&Config::example());
    let client = Client::trusting(&ca).alpn(&["h2"]);
    let http2 = daemon
        .socks5_tunnel("allowed.test", origin.addr().port())
        .into_http2(&client, "allowed.test");
    let answer = http2.request("GET", "https://allowed.test/", &[], b"");
    assert_eq!(answer.text(), "secret");
}

#[test]
fn c5_an_idle_tunnel_ends_after_the_idle_timeout() {
    let origin = Origin::echoing_bytes().start();
    let daemon =
        Daemon::start(&Config::example().set("daemon.limits", "idle_timeout", r#""300ms""#));
    let mut client = daemon.socks5_tunnel("allowed.test", origin.addr().port());
    echoes(&mut client, b"something");
    client.expect_closed();
    origin.wait_until_idle();
}

#[test]
fn p11_only_tunnels_whose_host_is_no_longer_allowed_end() {
    let origin = Origin::echoing_bytes().start();
    let config = Config::example().host("other.test", std::net::Ipv4Addr::LOCALHOST);
    let daemon = Daemon::start(&config.clone().allow("other.test"));
    let port = origin.addr().port();
    let (mut kept, mut ended) = (
        daemon.socks5_tunnel("allowed.test", port),
        daemon.socks5_tunnel("other.test", port),
    );
    echoes(&mut ended, b"as yet");
    daemon.reload_with(&config);
    ended.expect_closed();
    let line = daemon.wait_for_log(|line| line.flow() == Some("forbidden"));
    let reason = line.field("network.flow.reason");
    assert_eq!(reason.expect("a reason"), "not_allowed");
    echoes(&mut kept, b"still");
    assert_eq!(reply(&daemon, &Socks5Target::name("other.test", port)), 2);
}

#[test]
fn p11_limited_mode_ends_open_tunnels() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    let mut client = daemon.socks5_tunnel("allowed.test", origin.addr().port());
    daemon.set_mode("limited");
    client.expect_closed();
    origin.wait_until_idle();
}
