//! The reply codes. A refused request never reaches the origin.

use std::net::{Ipv6Addr, SocketAddr};

use e2e::client::Socks5Target;
use e2e::daemon::{Config, Daemon};
use e2e::machine::{self, Need};
use e2e::origin::Origin;
use e2e::port::{RefusingPort, StalledPort};
use e2e::resolver::StubResolver;
use e2e::wait::{TIMEOUT, poll};

use super::{client, reply};

const GENERAL_FAILURE: u8 = 0x01;
const NOT_ALLOWED: u8 = 0x02;
const HOST_UNREACHABLE: u8 = 0x04;
const REFUSED: u8 = 0x05;
const TTL_EXPIRED: u8 = 0x06;
const COMMAND_NOT_SUPPORTED: u8 = 0x07;
const ADDRESS_TYPE_NOT_SUPPORTED: u8 = 0x08;

#[test]
fn s2_a_refused_request_gets_0x02_and_never_reaches_the_origin() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    for (name, reason) in [
        ("blocked.test", "not_allowed"),
        ("denied.test", "denied"),
        ("127.0.0.1", "not_allowed"),
    ] {
        let target = Socks5Target::name(name, origin.addr().port());
        assert_eq!(reply(&daemon, &target), NOT_ALLOWED, "{name}");
        let entry = daemon.wait_for_blocked(|entry| entry["host"] == name);
        assert_eq!(entry["reason"], reason, "{name}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn s2_an_allowed_name_that_leads_to_a_local_address_gets_0x02() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example().unset("network", "allow_local_binding"));
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    assert_eq!(reply(&daemon, &target), NOT_ALLOWED);
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "allowed.test");
    assert_eq!(entry["reason"], "not_allowed_local");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn s2_p6_the_proxy_itself_gets_0x02() {
    let daemon = Daemon::start(&Config::new().allow("127.0.0.1").allow("localhost"));
    for (listener, address) in [
        ("http", daemon.http_addr()),
        ("socks5", daemon.socks_addr()),
        ("admin", daemon.admin_addr()),
    ] {
        for target in [
            Socks5Target::Address(address),
            Socks5Target::name("localhost", address.port()),
            Socks5Target::name("0x7f.1", address.port()),
        ] {
            assert_eq!(reply(&daemon, &target), NOT_ALLOWED, "{listener}");
        }
    }
    let reasons = daemon.blocked();
    assert_eq!(reasons.len(), 9);
    assert!(
        reasons
            .iter()
            .all(|entry| entry["reason"] == "loop_detected"
                && entry["source"] == "proxy_state"
                && entry["protocol"] == "socks5"),
        "{reasons:#?}"
    );
}

#[test]
fn s2_a_closed_port_gets_0x05() {
    let port = RefusingPort::open();
    let daemon = Daemon::start(&Config::example());
    let target = Socks5Target::name("allowed.test", port.addr().port());
    assert_eq!(reply(&daemon, &target), REFUSED);
    assert!(daemon.blocked().is_empty(), "that is not a block");
}

#[test]
fn s2_a_connection_that_takes_too_long_gets_0x06() {
    let port = StalledPort::open();
    let daemon =
        Daemon::start(&Config::example().set("daemon.limits", "connect_timeout", r#""200ms""#));
    let target = Socks5Target::name("allowed.test", port.addr().port());
    assert_eq!(reply(&daemon, &target), TTL_EXPIRED);
}

#[test]
fn s2_a_name_that_does_not_exist_gets_0x04() {
    let dns = StubResolver::start();
    dns.servfail("broken.test");
    let config = Config::new().allow("**.test").nameserver(dns.address());
    let daemon = Daemon::start(&config);
    for name in ["missing.test", "broken.test"] {
        let target = Socks5Target::name(name, 80);
        assert_eq!(reply(&daemon, &target), HOST_UNREACHABLE, "{name}");
    }
    assert!(daemon.blocked().is_empty(), "that is not a block");
}

#[test]
fn s2_a_lookup_that_takes_too_long_gets_0x06() {
    let dns = StubResolver::start();
    dns.silent("silent.test");
    let config = Config::new()
        .allow("silent.test")
        .nameserver(dns.address())
        .set("daemon.resolver", "timeout", r#""200ms""#);
    let daemon = Daemon::start(&config);
    let target = Socks5Target::name("silent.test", 80);
    assert_eq!(reply(&daemon, &target), TTL_EXPIRED);
}

#[test]
fn s4_bind_and_unknown_commands_get_0x07() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    for command in [2, 0, 4, 0xf0, 0xff] {
        let mut client = client(&daemon);
        assert_eq!(client.socks5_greet(&[0]), 0);
        let bound = client.socks5_request(command, &target);
        assert_eq!(bound.reply, COMMAND_NOT_SUPPORTED, "command {command}");
        client.expect_closed();
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn s2_an_address_type_that_does_not_exist_gets_0x08() {
    let daemon = Daemon::start(&Config::example());
    for address_type in [0, 2, 5, 0xff] {
        let mut client = client(&daemon);
        assert_eq!(client.socks5_greet(&[0]), 0);
        client.send([5, 1, 0, address_type, 127, 0, 0, 1, 0, 80]);
        assert_eq!(
            client.socks5_reply().reply,
            ADDRESS_TYPE_NOT_SUPPORTED,
            "type {address_type}"
        );
        client.expect_closed();
    }
}

#[test]
fn s2_an_empty_name_port_0_and_a_reserved_byte_get_0x01() {
    let daemon = Daemon::start(&Config::example());
    let mut port_0 = Socks5Target::name("allowed.test", 0).request(1);
    let no_name = super::request_by_bytes(b"", 80);
    for request in [&port_0.clone(), &no_name, {
        port_0[2] = 1;
        &port_0
    }] {
        let mut client = client(&daemon);
        assert_eq!(client.socks5_greet(&[0]), 0);
        client.send(request);
        assert_eq!(client.socks5_reply().reply, GENERAL_FAILURE);
        client.expect_closed();
    }
}

#[test]
fn s2_one_refused_address_beside_one_that_answers_is_no_failure() {
    if !machine::has(Need::Ipv6) {
        return;
    }
    let taken = poll(TIMEOUT, || {
        let origin = Origin::echoing_bytes().start();
        let six = SocketAddr::from((Ipv6Addr::LOCALHOST, origin.addr().port()));
        Some((origin, six, RefusingPort::at(six)?))
    });
    let (origin, six, _refusing) = taken.expect("a port that is free in both families");
    let config = Config::example().host("allowed.test", six.ip());
    let daemon = Daemon::start(&config);
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    assert_eq!(reply(&daemon, &target), 0);
}
