//! Which senders may send and answer, and which datagrams are refused (RFC 1928 section 7).

use std::net::Ipv4Addr;

use e2e::client::{Association, Socks5Target};
use e2e::daemon::{Config, Daemon};

use super::{address, associate, client, echoes, here, next, port, socket};

/// Waits until the daemon has logged that it dropped a datagram for this reason.
fn wait_for_drop(daemon: &Daemon, beginning: &str) {
    daemon.wait_for_log(|line| line.message_starts_with(beginning));
}

const FOREIGN: &str = "dropped a datagram that is not from the client";
const UNASKED: &str = "dropped a datagram from an address that nothing was sent to";

#[test]
fn s3_another_port_of_the_client_is_dropped_once_the_first_has_sent() {
    let server = here();
    let daemon = Daemon::start(&Config::example());
    let association = associate(&daemon);
    let target = Socks5Target::name("allowed.test", port(&server));
    echoes(&association, &target, &server, b"mine");
    let spoofer = here();
    spoofer
        .send_to(&target.datagram(b"spoofed"), association.relay)
        .expect("a datagram to loopback");
    wait_for_drop(&daemon, FOREIGN);
    echoes(&association, &target, &server, b"mine again");
}

#[test]
fn s3_another_address_than_the_clients_is_dropped_from_the_start() {
    let server = here();
    let daemon = Daemon::start(&Config::example());
    let association = associate(&daemon);
    let target = Socks5Target::name("allowed.test", port(&server));
    let spoofer = socket(Ipv4Addr::new(127, 0, 0, 2));
    spoofer
        .send_to(&target.datagram(b"spoofed"), association.relay)
        .expect("a datagram to loopback");
    wait_for_drop(&daemon, FOREIGN);
    echoes(&association, &target, &server, b"mine");
}

#[test]
fn s3_the_port_that_the_request_names_is_the_only_one() {
    let server = here();
    let daemon = Daemon::start(&Config::example());
    let named = here();
    let mut control = client(&daemon);
    assert_eq!(control.socks5_greet(&[0]), 0);
    let mut association = Association::ask(control, &Socks5Target::Address(address(&named)));
    let target = Socks5Target::name("allowed.test", port(&server));
    association.send(&target, b"from another port");
    wait_for_drop(&daemon, FOREIGN);
    association.socket = named;
    echoes(
        &association,
        &target,
        &server,
        b"from the one that was named",
    );
}

#[test]
fn s3_an_answer_from_an_unexpected_sender_is_dropped() {
    let server = here();
    let daemon = Daemon::start(&Config::example());
    let association = associate(&daemon);
    association.send(&Socks5Target::name("allowed.test", port(&server)), b"asked");
    let (_, from) = next(&server);
    let strangers = [here(), socket(Ipv4Addr::new(127, 0, 0, 2))];
    for stranger in &strangers {
        let to = (Ipv4Addr::LOCALHOST, from.port());
        stranger.send_to(b"evil", to).expect("a datagram");
    }
    wait_for_drop(&daemon, UNASKED);
    server.send_to(b"good", from).expect("an answer");
    assert_eq!(association.receive(), (address(&server), b"good".to_vec()));
}

#[test]
fn s3_fragments_and_malformed_datagrams_are_dropped_and_the_association_stays() {
    let server = here();
    let daemon = Daemon::start(&Config::example().allow("127.0.0.1"));
    let association = associate(&daemon);
    let target = Socks5Target::Address(address(&server));
    let good = target.datagram(b"");
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    for bytes in (0..good.len())
        .map(|end| good[..end].to_vec())
        .chain([with(0, 1), with(1, 1), with(3, 2), with(3, 0xff)])
        .chain([1, 0x7f, 0x80, 0xff].map(|fragment| with(2, fragment)))
        .chain([Socks5Target::name("", port(&server)).datagram(b"")])
        .chain([Socks5Target::name("allowed.test", 0).datagram(b"")])
    {
        association.send_bytes(bytes);
    }
    echoes(&association, &target, &server, b"good");
    wait_for_drop(&daemon, "dropped a malformed datagram");
    let logged = daemon.logs();
    let malformed = logged
        .iter()
        .filter(|line| line.message_starts_with("dropped a malformed datagram"));
    assert_eq!(malformed.count(), 1, "logged once");
    assert!(daemon.blocked().is_empty(), "they name nothing to judge");
}

/// The first well-formed datagram fixes the client's port; a malformed one does not.
#[test]
fn s3_a_malformed_datagram_does_not_fix_the_clients_address() {
    let server = here();
    let daemon = Daemon::start(&Config::example());
    let association = associate(&daemon);
    here()
        .send_to(b"nonsense", association.relay)
        .expect("a datagram to loopback");
    wait_for_drop(&daemon, "dropped a malformed datagram");
    let target = Socks5Target::name("allowed.test", port(&server));
    echoes(&association, &target, &server, b"mine");
}

#[test]
fn s3_p6_the_sockets_of_associations_and_our_listeners_are_refused() {
    let server = here();
    let config = Config::example().allow("127.0.0.1").allow("localhost");
    let daemon = Daemon::start(&config);
    let (association, other) = (associate(&daemon), associate(&daemon));
    let target = Socks5Target::name("allowed.test", port(&server));
    other.send(&target, b"which socket is this?");
    let (_, outlet) = next(&server);
    for port in [
        association.relay.port(),
        other.relay.port(),
        outlet.port(),
        daemon.http_addr().port(),
        daemon.admin_addr().port(),
    ] {
        for name in ["127.0.0.1", "localhost", "allowed.test"] {
            association.send(&Socks5Target::name(name, port), b"round and round");
            let entry =
                daemon.wait_for_blocked(|entry| entry["port"] == port && entry["host"] == name);
            assert_eq!(entry["reason"], "loop_detected", "{name}:{port}");
        }
    }
    echoes(&association, &target, &server, b"still there");
    assert!(
        daemon
            .blocked()
            .iter()
            .all(|entry| entry["reason"] == "loop_detected")
    );
}

#[test]
fn s3_an_association_survives_thousands_of_destinations() {
    let server = here();
    let daemon = Daemon::start(&Config::example());
    let association = associate(&daemon);
    let target = Socks5Target::name("allowed.test", port(&server));
    association.send(&Socks5Target::name("blocked.test", 1), b"?");
    let first = daemon.wait_for_blocked(|entry| entry["port"] == 1);
    let first = first["sequence"].as_u64().expect("a number");
    for number in 1..10_000_u16 {
        association.send(&Socks5Target::name("blocked.test", number + 1), b"?");
        if number % 32 == 0 {
            // Datagrams that are sent faster than they are read are lost.
            echoes(&association, &target, &server, &number.to_be_bytes());
        }
    }
    echoes(&association, &target, &server, b"the end");
    let last = daemon.wait_for_blocked(|entry| entry["port"] == 10_000);
    assert_eq!(last["sequence"], first + 9_999, "every one was recorded");
}
