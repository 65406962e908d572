//! Which names are looked up, how often, and how the returned addresses are checked (SPEC P4).

use std::net::{IpAddr, Ipv4Addr};

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::resolver::StubResolver;
use e2e::setup::PlainSetup;

use super::doors::{DOORS, ask};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

fn setup(config: Config, dns: &StubResolver) -> PlainSetup {
    let config = config.nameserver(dns.address());
    PlainSetup::with(&config, Origin::start(|_| Answer::Echo))
}

#[test]
fn p4_a_refused_name_causes_no_query() {
    let dns = StubResolver::start();
    for name in ["allowed.test", "blocked.test", "denied.test"] {
        dns.answer(name, [HERE]);
    }
    let config = Config::new().allow("allowed.test").deny("denied.test");
    let setup = setup(config, &dns);
    let port = setup.origin.addr().port();
    for door in DOORS {
        for (host, reason) in [
            ("blocked.test", "not_allowed"),
            ("denied.test", "denied"),
            ("a..test", "invalid_host"),
            ("secret-in-a-name.blocked.test", "not_allowed"),
        ] {
            assert_eq!(ask(&setup, door, host, port).as_deref(), Some(reason));
        }
    }
    assert_eq!(dns.names_asked(), [""; 0]);
    assert_eq!(ask(&setup, "http", "allowed.test", port), None);
    assert_eq!(dns.names_asked(), ["allowed.test"]);
}

#[test]
fn p4_limited_mode_refuses_before_the_lookup() {
    let dns = StubResolver::start();
    dns.answer("allowed.test", [HERE]);
    let config = Config::new()
        .allow("allowed.test")
        .set("network", "mode", r#""limited""#)
        .set("network", "mitm", "false");
    let setup = setup(config, &dns);
    for door in ["http-connect", "socks5"] {
        assert!(ask(&setup, door, "allowed.test", 443).is_some());
    }
    let answer = setup.ask("POST", "allowed.test", "/", &[]);
    assert_eq!(answer.status, 403);
    assert_eq!(dns.names_asked(), [""; 0]);
}

/// One query for each family, and the answer is what is dialled.
#[test]
fn p4_a_connection_costs_one_lookup() {
    for door in DOORS {
        let dns = StubResolver::start();
        dns.answer_with_ttl("allowed.test", [HERE], 0);
        let setup = setup(Config::new().allow("allowed.test"), &dns);
        let port = setup.origin.addr().port();
        assert_eq!(ask(&setup, door, "allowed.test", port), None);
        assert_eq!(dns.queries("allowed.test"), 2, "{door}");
    }
}

/// The second answer differs: it is vetted like the first, and only vetted addresses are dialled.
#[test]
fn p4_a_changed_address_of_a_name_is_checked_again() {
    for door in DOORS {
        let dns = StubResolver::start();
        dns.answer_sequence("rebind.test", vec![vec![HERE], vec![ELSEWHERE]]);
        let config = Config::new().allow("rebind.test").deny("127.0.0.2");
        let setup = setup(config, &dns);
        let port = setup.origin.addr().port();
        assert_eq!(ask(&setup, door, "rebind.test", port), None, "{door}");
        // A kept connection would need no lookup.
        setup.daemon.reload();
        assert_eq!(
            ask(&setup, door, "rebind.test", port).as_deref(),
            Some("denied"),
            "{door}"
        );
    }
}

#[test]
fn p4_one_forbidden_address_among_good_ones_refuses_the_request() {
    let dns = StubResolver::start();
    dns.answer("mixed.test", [HERE, ELSEWHERE]);
    dns.answer(
        "mixed-local.test",
        ["8.8.8.8".parse().expect("an address"), HERE],
    );
    let config = Config::new().allow("**.test").deny("127.0.0.2");
    let strict = config.clone().unset("network", "allow_local_binding");
    let open = setup(config, &dns);
    let port = open.origin.addr().port();
    for door in DOORS {
        assert_eq!(
            ask(&open, door, "mixed.test", port).as_deref(),
            Some("denied")
        );
    }
    let strict = setup(strict, &dns);
    let port = strict.origin.addr().port();
    for door in DOORS {
        let got = ask(&strict, door, "mixed-local.test", port);
        assert_eq!(got.as_deref(), Some("not_allowed_local"), "{door}");
    }
    assert_eq!(open.origin.connections() + strict.origin.connections(), 0);
}

/// An alias is not the requested name: the name that the client gave is judged, and the addresses
/// that it leads to.
#[test]
fn p4_an_alias_is_decided_by_its_own_name_and_address() {
    let dns = StubResolver::start();
    dns.alias("www.test", "denied.test");
    dns.answer("denied.test", [HERE]);
    let setup = setup(Config::new().allow("www.test").deny("denied.test"), &dns);
    let port = setup.origin.addr().port();
    for door in DOORS {
        assert_eq!(ask(&setup, door, "www.test", port), None, "{door}");
    }
}

#[test]
fn p4_a_kept_connection_needs_no_lookup() {
    let dns = StubResolver::start();
    dns.answer_with_ttl("allowed.test", [HERE], 0);
    let setup = setup(Config::new().allow("allowed.test"), &dns);
    let mut client = Connection::open(setup.daemon.http_addr());
    for _ in 0..5 {
        assert_eq!(client.exchange(&setup.get("allowed.test", "/")).status, 200);
    }
    assert_eq!(dns.queries("allowed.test"), 2);
    assert_eq!(setup.origin.connections(), 1);
}
