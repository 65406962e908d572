//! Tables of destinations, each requested by every protocol (SPEC P3, P4, P5, P9, P10).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use e2e::client::{Association, Connection, Socks5Target, proxy_request};
use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::setup::PlainSetup;
use serde_json::Value;

/// The protocols, by their names in records.
pub(crate) const DOORS: [&str; 4] = ["http", "http-connect", "socks5", "socks5-udp"];

/// The result for a destination: `None` if it was permitted, else the reason.
pub(crate) fn ask(setup: &PlainSetup, door: &str, host: &str, port: u16) -> Option<String> {
    let daemon = &setup.daemon;
    let authority = format!("{host}:{port}");
    match door {
        "http" => {
            let mut client = Connection::open(daemon.http_addr());
            let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
            let reason = |answer: Value| answer["reason"].as_str().map(str::to_owned);
            match answer.status {
                200 => None,
                403 => reason(answer.json()),
                status => panic!("GET {authority} got {status}: {}", answer.text()),
            }
        }
        "http-connect" => {
            let answer = Connection::open(daemon.http_addr()).connect(&authority);
            if answer.status == 200 {
                return None;
            }
            let header = answer.header("x-network-policy-decision");
            let json = header.unwrap_or_else(|| panic!("CONNECT {authority}: {}", answer.text()));
            let decision: Value = serde_json::from_str(json).expect("JSON");
            decision["reason"].as_str().map(str::to_owned)
        }
        "socks5" => {
            let mut client = Connection::open(daemon.socks_addr());
            match client.socks5_connect(&target(host, port)).reply {
                0 => None,
                2 => last_blocked(setup)["reason"].as_str().map(str::to_owned),
                reply => panic!("SOCKS5 {authority} got {reply}"),
            }
        }
        "socks5-udp" => ask_for_a_datagram(setup, host, port),
        door => panic!("there is no door {door}"),
    }
}

fn target(host: &str, port: u16) -> Socks5Target {
    let bare = host.trim_matches(['[', ']']);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Socks5Target::Address(SocketAddr::new(ip, port)),
        Err(_) => Socks5Target::name(bare, port),
    }
}

/// The proxy does not answer a datagram, so its decision is read from the records.
fn ask_for_a_datagram(setup: &PlainSetup, host: &str, port: u16) -> Option<String> {
    // No other socket gets the port meanwhile, not even one of the proxy's own.
    let _reserved = UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
    let association = Association::open(setup.daemon.socks_addr());
    association.send(&target(host, port), b"datagram");
    let client = Value::from(association.client());
    let event = setup.daemon.wait_for_log(|line| {
        line.target() == Some("codex_otel.network_proxy")
            && line.field("client.address") == Some(&client)
    });
    if event.field("network.policy.decision") == Some(&Value::from("allow")) {
        return None;
    }
    let entry = setup
        .daemon
        .wait_for_blocked(|entry| entry["client"] == client);
    entry["reason"].as_str().map(str::to_owned)
}

pub(crate) fn last_blocked(setup: &PlainSetup) -> Value {
    setup.daemon.blocked().pop().expect("a blocked request")
}

/// Requests each destination by every protocol. The expected result is "allow", or a reason followed by
/// the rule's pattern, if any.
fn check(setup: &PlainSetup, table: &[(&str, &str)]) {
    let config = std::fs::read_to_string(setup.daemon.config_path()).expect("the configuration");
    let port = setup.origin.addr().port();
    for (host, wanted) in table {
        for door in DOORS {
            let before = setup.origin.requests().len();
            let got = ask(setup, door, host, port);
            if *wanted == "allow" {
                assert_eq!(got, None, "{host} by {door}");
                continue;
            }
            let (reason, rule) = wanted
                .split_once(' ')
                .map_or((*wanted, None), |(reason, rule)| (reason, Some(rule)));
            assert_eq!(got.as_deref(), Some(reason), "{host} by {door}");
            assert_eq!(setup.origin.requests().len(), before);
            let entry = last_blocked(setup);
            assert_eq!(entry["reason"], reason, "{host} by {door}");
            assert_eq!(entry["protocol"], door);
            assert_eq!(entry["decision"], "deny");
            assert_eq!(entry["port"], port);
            assert_eq!(entry["mode"], "full");
            let given = entry.get("rule").and_then(Value::as_str);
            let written = rule.map(|rule| written(&config, setup, rule));
            assert_eq!(given, written.as_deref(), "{host} by {door}");
        }
    }
}

/// A rule of the deny list as records show it: the pattern, the file and the line.
fn written(config: &str, setup: &PlainSetup, rule: &str) -> String {
    let line = config
        .lines()
        .position(|line| line.starts_with("denied_domains"))
        .expect("a deny list");
    let file = setup.daemon.config_path().display();
    format!("{rule} ({file}:{})", line + 1)
}

#[test]
fn p9_every_protocol_gets_the_same_verdict_reason_and_rule() {
    let here = Ipv4Addr::LOCALHOST;
    let config = Config::new()
        .allow("allowed.test")
        .allow("*.below.test")
        .allow("**.apex.test")
        .allow("region*.v2.test")
        .allow("trap.test")
        .allow("127.0.0.1")
        .allow("127.0.0.2")
        .deny("denied.test")
        .deny("no.below.test")
        .deny("**.evil.test")
        .deny("10.0.0.0")
        .deny("127.0.0.2")
        .host("allowed.test", here)
        .host("a.below.test", here)
        .host("a.b.below.test", here)
        .host("apex.test", here)
        .host("x.apex.test", here)
        .host("region-eu.v2.test", here)
        .host("denied.test", here)
        .host("blocked.test", here)
        .host("trap.test", Ipv4Addr::new(127, 0, 0, 2));
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    check(
        &setup,
        &[
            ("allowed.test", "allow"),
            ("ALLOWED.Test.", "allow"),
            ("sub.allowed.test", "not_allowed"),
            ("notallowed.test", "not_allowed"),
            ("a.below.test", "allow"),
            ("a.b.below.test", "allow"),
            ("below.test", "not_allowed"),
            ("no.below.test", "denied no.below.test"),
            ("apex.test", "allow"),
            ("x.apex.test", "allow"),
            ("xapex.test", "not_allowed"),
            ("region-eu.v2.test", "allow"),
            ("region.eu.v2.test", "not_allowed"),
            ("denied.test", "denied denied.test"),
            ("DENIED.TEST.", "denied denied.test"),
            ("evil.test", "denied **.evil.test"),
            ("very.evil.test", "denied **.evil.test"),
            ("blocked.test", "not_allowed"),
            ("127.0.0.1", "allow"),
            ("127.1", "allow"),
            ("[::ffff:127.0.0.1]", "allow"),
            ("127.0.0.2", "denied 127.0.0.2"),
            ("0x7f.2", "denied 127.0.0.2"),
            ("2130706434", "denied 127.0.0.2"),
            ("[::ffff:127.0.0.2]", "denied 127.0.0.2"),
            // The name is allowed and leads to a denied address.
            ("trap.test", "denied 127.0.0.2"),
            ("10.0.0.0", "denied 10.0.0.0"),
            ("127.0.0.3", "not_allowed"),
            ("a..test", "invalid_host"),
            ("1.2.3.4.5", "invalid_host"),
            ("256.0.0.1", "invalid_host"),
        ],
    );
}

#[test]
fn p3_without_local_binding_only_explicit_entries_reach_local_addresses() {
    let here = Ipv4Addr::LOCALHOST;
    let config = Config::new()
        .unset("network", "allow_local_binding")
        .allow("*")
        .allow("allowed.test")
        .allow("127.0.0.1")
        .allow("localhost")
        .deny("127.0.0.9")
        .host("allowed.test", here)
        .host("ten.test", Ipv4Addr::new(10, 0, 0, 1))
        .host("nine.test", Ipv4Addr::new(127, 0, 0, 9));
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    check(
        &setup,
        &[
            ("127.0.0.1", "allow"),
            ("127.1", "allow"),
            ("[::ffff:7f00:1]", "allow"),
            ("localhost", "allow"),
            ("LOCALHOST.", "allow"),
            // A name differs from its address, though both are allowed.
            ("allowed.test", "not_allowed_local"),
            ("ten.test", "not_allowed_local"),
            ("nine.test", "denied 127.0.0.9"),
            ("other.localhost", "not_allowed_local"),
            ("127.0.0.2", "not_allowed_local"),
            ("127.0.0.9", "denied 127.0.0.9"),
            ("[::1]", "not_allowed_local"),
            ("10.0.0.1", "not_allowed_local"),
            ("192.168.1.1", "not_allowed_local"),
            ("0.0.0.0", "not_allowed_local"),
            ("[::]", "not_allowed_local"),
            ("[fe80::1%25lo]", "not_allowed_local"),
        ],
    );
}

#[test]
fn p3_an_empty_allow_list_refuses_everything() {
    let config = Config::new().host("allowed.test", Ipv4Addr::LOCALHOST);
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    check(
        &setup,
        &[
            ("allowed.test", "not_allowed"),
            ("127.0.0.1", "not_allowed"),
            ("localhost", "not_allowed"),
            ("[::1]", "not_allowed"),
        ],
    );
    assert_eq!(setup.origin.connections(), 0);
}

/// Only addresses in this table may be dialled here, so this test is about refusals.
#[test]
fn p5_a_name_that_leads_to_a_special_purpose_address_is_refused() {
    const SPECIAL: [&str; 38] = [
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fec0::1",
        "fc00::1",
        "fd12:3456::1",
        "ff02::1",
        "100::1",
        "2001:db8::1",
        "2001:2::1",
        "3fff::1",
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::10.0.0.1",
        "2002:a00:1::",
        "2001:0:a00:1::f5ff:fffe",
        "2600::5efe:a00:1",
    ];
    let mut config = Config::new()
        .unset("network", "allow_local_binding")
        .allow("**.test");
    for (number, address) in SPECIAL.iter().enumerate() {
        let address: IpAddr = address.parse().expect(address);
        config = config.host(&format!("n{number}.test"), address);
    }
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    for (number, address) in SPECIAL.iter().enumerate() {
        let host = format!("n{number}.test");
        let door = DOORS[number % DOORS.len()];
        let got = ask(&setup, door, &host, setup.origin.addr().port());
        assert_eq!(
            got.as_deref(),
            Some("not_allowed_local"),
            "{address} by {door}"
        );
    }
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn p10_every_decision_is_audited_the_same_way_for_every_protocol() {
    let setup = PlainSetup::echoing();
    let port = setup.origin.addr().port();
    for (door, protocol, method) in [
        ("http", "http", "GET"),
        ("http-connect", "https_connect", "CONNECT"),
        ("socks5", "socks5_tcp", "none"),
        ("socks5-udp", "socks5_udp", "none"),
    ] {
        for (host, decision, reason) in [
            ("allowed.test", "allow", "allow"),
            ("blocked.test", "deny", "not_allowed"),
            ("denied.test", "deny", "denied"),
        ] {
            ask(&setup, door, host, port);
            let line = setup.daemon.wait_for_log(|line| {
                line.target() == Some("codex_otel.network_proxy")
                    && line
                        .field("network.transport.protocol")
                        .is_some_and(|it| it == protocol)
                    && line.field("server.address").is_some_and(|it| it == host)
            });
            let field = |name: &str| line.field(name).cloned().unwrap_or_default();
            assert_eq!(
                field("network.policy.decision"),
                decision,
                "{host} by {door}"
            );
            assert_eq!(field("network.policy.reason"), reason);
            assert_eq!(field("network.policy.source"), "baseline_policy");
            assert_eq!(field("server.port"), port);
            assert_eq!(field("http.request.method"), method);
        }
    }
    let audited = setup.daemon.logs();
    let audited = audited
        .iter()
        .filter(|line| line.target() == Some("codex_otel.network_proxy"));
    assert_eq!(audited.count(), 12, "once per decision");
}

#[test]
fn p9_limited_mode_without_interception_applies_to_every_protocol() {
    let config = Config::example()
        .allow("127.0.0.1")
        .set("network", "mode", r#""limited""#)
        .set("network", "mitm", "false");
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let port = setup.origin.addr().port();
    for (door, port, wanted) in [
        ("http", port, None),
        ("http-connect", port, Some("mitm_required")),
        ("http-connect", 443, Some("mitm_required")),
        ("socks5", port, Some("method_not_allowed")),
        ("socks5", 443, Some("mitm_required")),
    ] {
        let got = ask(&setup, door, "allowed.test", port);
        assert_eq!(got.as_deref(), wanted, "{door} to port {port}");
        let got = ask(&setup, door, "denied.test", port);
        assert_eq!(got.as_deref(), Some("denied"), "{door} to port {port}");
    }
}
