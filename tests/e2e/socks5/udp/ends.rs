//! How associations end (SPEC S3, P11, C5).

use std::net::Ipv4Addr;

use e2e::client::Socks5Target;
use e2e::daemon::{Config, Daemon, Signal};
use serde_json::json;

use super::{address, associate, client, echoes, here, next, port};

const ENDED: &str = "ended a UDP association that the policy no longer permits";

#[test]
fn s3_an_association_ends_with_its_control_connection() {
    let server = here();
    let daemon = Daemon::start(&Config::example());
    let target = Socks5Target::name("allowed.test", port(&server));
    let mut association = associate(&daemon);
    echoes(&association, &target, &server, b"mine");
    association.control.send(b"ignored bytes");
    echoes(&association, &target, &server, b"still mine");
    association.control.finish_sending();
    association.expect_gone();
    // A reset ends it too.
    let association = associate(&daemon);
    let (relay, other) = (association.relay, associate(&daemon));
    let probe = e2e::client::Association {
        relay,
        control: client(&daemon),
        socket: here(),
    };
    association.control.reset();
    probe.expect_gone();
    echoes(&other, &target, &server, b"another one goes on");
}

#[test]
fn c5_an_idle_association_ends_after_the_idle_timeout() {
    let server = here();
    let daemon =
        Daemon::start(&Config::example().set("daemon.limits", "idle_timeout", r#""300ms""#));
    let mut association = associate(&daemon);
    let target = Socks5Target::name("allowed.test", port(&server));
    echoes(&association, &target, &server, b"something");
    association.control.expect_closed();
    association.expect_gone();
}

#[test]
fn p11_only_destinations_that_are_no_longer_permitted_are_closed() {
    let (kept, closed) = (here(), here());
    let config = Config::example().host("other.test", Ipv4Addr::LOCALHOST);
    let daemon = Daemon::start(&config.clone().allow("other.test"));
    let association = associate(&daemon);
    let still = Socks5Target::name("allowed.test", port(&kept));
    let no_more = Socks5Target::name("other.test", port(&closed));
    echoes(&association, &still, &kept, b"yes");
    association.send(&no_more, b"as yet");
    let (_, outlet) = next(&closed);
    daemon.reload_with(&config);
    let line = daemon.wait_for_log(|line| line.flow() == Some("forbidden"));
    let reason = line.field("network.flow.reason");
    assert_eq!(reason, Some(&json!("not_allowed")));
    let authority = format!("other.test:{}", port(&closed));
    assert_eq!(line.server(), Some(authority));
    // It gets no datagram, and its answers are dropped.
    closed.send_to(b"late", outlet).expect("a datagram");
    association.send(&no_more, b"no");
    echoes(&association, &still, &kept, b"still");
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "other.test");
    assert_eq!(entry["reason"], "not_allowed");
    closed.set_nonblocking(true).expect("a socket");
    assert!(closed.recv_from(&mut [0; 9]).is_err(), "nothing came");
}

#[test]
fn p11_limited_mode_ends_associations() {
    let daemon = Daemon::start(&Config::example());
    let mut association = associate(&daemon);
    daemon.set_mode("limited");
    association.control.expect_closed();
    association.expect_gone();
    let line = daemon.wait_for_log(|line| line.message() == Some(ENDED));
    assert_eq!(line.field("reason"), Some(&json!("method_not_allowed")));
}

#[test]
fn p11_switching_udp_off_ends_associations_and_on_permits_new_ones() {
    let server = here();
    let daemon = Daemon::start(&Config::example());
    let mut association = associate(&daemon);
    let target = Socks5Target::name("allowed.test", port(&server));
    echoes(&association, &target, &server, b"yes");
    daemon.reload_with(&Config::example().set("network", "enable_socks5_udp", "false"));
    association.control.expect_closed();
    association.expect_gone();
    daemon.wait_for_log(|line| line.message() == Some(ENDED));
    // And on again.
    daemon.reload_with(&Config::example());
    let association = associate(&daemon);
    echoes(&association, &target, &server, b"again");
}

#[test]
fn c5_associations_continue_during_a_drain_until_its_timeout() {
    let server = here();
    let daemon = Daemon::start(&Config::example().set("daemon.limits", "drain_timeout", r#""1s""#));
    let association = associate(&daemon);
    let target = Socks5Target::name("allowed.test", port(&server));
    echoes(&association, &target, &server, b"before");
    daemon.signal(Signal::SIGTERM);
    association.send(&target, b"during");
    assert_eq!(next(&server).0, b"during");
    assert_eq!(daemon.wait_exit().code, Some(0));
    association.expect_gone();
    assert_ne!(address(&server), association.relay);
}
