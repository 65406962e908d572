//! The decisions about datagrams, how often they are made, and what is recorded (SPEC P4, P7, P10,
//! R1, R3, H11).

use std::net::{IpAddr, Ipv4Addr};

use e2e::client::{Association, Socks5Target};
use e2e::daemon::{Config, Daemon, LogLine};
use e2e::resolver::StubResolver;
use serde_json::json;

use super::{address, associate, client, echoes, here, next, port};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// The audit events of datagrams. Asserts that there are `count` of them.
fn audited(daemon: &Daemon, count: usize) -> Vec<LogLine> {
    let lines = daemon.wait_for_logs(count, |line| {
        line.target() == Some("codex_otel.network_proxy")
            && line.field("network.transport.protocol") == Some(&json!("socks5_udp"))
    });
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

#[test]
fn s3_r3_a_decision_is_recorded_once_and_dropped_datagrams_are_counted() {
    let server = here();
    let daemon = Daemon::start(&Config::example());
    let association = associate(&daemon);
    let port = port(&server);
    let target = Socks5Target::name("allowed.test", port);
    for _ in 0..5 {
        association.send(&Socks5Target::name("blocked.test", port), b"no");
        association.send(&Socks5Target::name("denied.test", port), b"no");
        association.send(&Socks5Target::name("a..b", port), b"no");
        echoes(&association, &target, &server, b"yes");
    }
    let reasons: Vec<_> = daemon
        .blocked()
        .iter()
        .map(|entry| (entry["host"].clone(), entry["reason"].clone()))
        .collect();
    let wanted = [
        (json!("blocked.test"), json!("not_allowed")),
        (json!("denied.test"), json!("denied")),
        (json!("a..b"), json!("invalid_host")),
    ];
    assert_eq!(reasons, wanted);
    // One more for the allowed one.
    audited(&daemon, 4);
    drop(association);
    for authority in ["blocked.test", "denied.test", "a..b"] {
        let authority = json!(format!("{authority}:{port}"));
        let line = daemon.wait_for_log(|line| {
            line.message() == Some("further datagrams to a refused destination were dropped")
                && line.field("authority") == Some(&authority)
        });
        assert_eq!(line.field("count"), Some(&json!(4)));
    }
}

#[test]
fn s3_each_association_and_each_reload_decides_anew() {
    let server = here();
    let daemon = Daemon::start(&Config::example());
    let target = Socks5Target::name("allowed.test", port(&server));
    let (first, second) = (associate(&daemon), associate(&daemon));
    for association in [&first, &second, &first] {
        echoes(association, &target, &server, b"yes");
    }
    audited(&daemon, 2);
    assert_eq!(daemon.reload().status, 200);
    echoes(&first, &target, &server, b"still");
    let events = audited(&daemon, 3);
    let of_first = json!(first.client());
    assert_eq!(events[2].field("client.address"), Some(&of_first));
}

#[test]
fn s3_p4_an_association_looks_a_name_up_once() {
    let server = here();
    let dns = StubResolver::start();
    dns.answer_sequence("rebind.test", vec![vec![HERE], vec![ELSEWHERE]]);
    let config = Config::new().allow("rebind.test").nameserver(dns.address());
    let daemon = Daemon::start(&config);
    let target = Socks5Target::name("rebind.test", port(&server));
    let association = associate(&daemon);
    for data in [b"one", b"two"] {
        echoes(&association, &target, &server, data);
    }
    // Other settings decide about the same addresses.
    assert_eq!(daemon.reload().status, 200);
    echoes(&association, &target, &server, b"three");
    assert_eq!(dns.queries("rebind.test"), 2, "one for each family");
    let config = config.deny("127.0.0.1");
    daemon.reload_with(&config);
    // That closes the destination. The next datagram is looked up and decided like a new one.
    let line = daemon.wait_for_log(|line| line.flow() == Some("forbidden"));
    let reason = line.field("network.flow.reason");
    assert_eq!(reason, Some(&json!("denied")));
    daemon.reload_with(&config.deny("127.0.0.2"));
    association.send(&target, b"no more");
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "rebind.test");
    assert_eq!(entry["reason"], "denied");
    assert_eq!(dns.queries("rebind.test"), 4);
}

#[test]
fn s3_p4_a_name_that_leads_to_a_local_address_is_refused() {
    let daemon = Daemon::start(&Config::example().unset("network", "allow_local_binding"));
    let association = associate(&daemon);
    association.send(&Socks5Target::name("allowed.test", 53), b"no");
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "allowed.test");
    assert_eq!(entry["reason"], "not_allowed_local");
}

#[test]
fn s3_datagrams_wait_for_the_lookup_of_their_own_name_only() {
    let server = here();
    let dns = StubResolver::start();
    dns.answer("late.test", [HERE]);
    dns.silent_family("late.test", e2e::resolver::Family::Ipv6);
    dns.silent("never.test");
    let config = Config::example()
        .allow("*.test")
        .nameserver(dns.address())
        .set("daemon.resolver", "timeout", r#""1s""#);
    let daemon = Daemon::start(&config);
    let association = associate(&daemon);
    let late = Socks5Target::name("late.test", port(&server));
    association.send(&Socks5Target::name("never.test", port(&server)), b"lost");
    association.send(&late, b"one");
    association.send(&late, b"two");
    let allowed = Socks5Target::name("127.0.0.1", port(&server));
    association.send(&allowed, b"refused");
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "127.0.0.1");
    assert_eq!(entry["reason"], "not_allowed");
    assert_eq!(next(&server).0, b"one");
    assert_eq!(next(&server).0, b"two");
    // No violation, and the association goes on.
    let line = daemon.wait_for_log(|line| line.flow() == Some("dns_failed"));
    assert_eq!(line.field("server.address"), Some(&json!("never.test")));
    echoes(&association, &late, &server, b"three");
    assert_eq!(daemon.blocked().len(), 1);
}

#[test]
fn s3_p7_limited_mode_refuses_the_association_with_0x02_and_records_it() {
    let daemon = Daemon::start(&Config::limited());
    let mut control = client(&daemon);
    assert_eq!(control.socks5_greet(&[0]), 0);
    let any = Socks5Target::Address(([0, 0, 0, 0], 0).into());
    let own = json!(control.local_addr().to_string());
    assert_eq!(control.socks5_request(3, &any).reply, 2);
    control.expect_closed();
    let entry = daemon.wait_for_blocked(|entry| entry["client"] == own);
    assert_eq!(entry["protocol"], "socks5-udp");
    assert_eq!(entry["reason"], "method_not_allowed");
    assert_eq!(entry["source"], "mode_guard");
    assert_eq!(entry["detail"], "udp_associate");
    audited(&daemon, 1);
}

#[test]
fn l2_without_enable_socks5_udp_the_command_is_not_supported() {
    let daemon = Daemon::start(&Config::example().set("network", "enable_socks5_udp", "false"));
    let mut control = client(&daemon);
    assert_eq!(control.socks5_greet(&[0]), 0);
    let any = Socks5Target::Address(([0, 0, 0, 0], 0).into());
    assert_eq!(control.socks5_request(3, &any).reply, 7);
    control.expect_closed();
    assert!(daemon.blocked().is_empty());
}

#[test]
fn h11_a_user_name_marks_the_records_of_datagrams() {
    let daemon = Daemon::start(&Config::example());
    let mut control = client(&daemon);
    assert_eq!(control.socks5_greet(&[2]), 2);
    assert_eq!(control.socks5_authenticate("codex-net-attempt-u1", ""), 0);
    // Clients that do not know their own address send various values for it.
    let from = Socks5Target::name("0", 0);
    let association = Association::ask(control, &from);
    association.send(&Socks5Target::name("blocked.test", 53), b"no");
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "blocked.test");
    assert_eq!(entry["attempt_id"], "u1");
    assert_eq!(association.relay.ip(), address(&association.socket).ip());
}
