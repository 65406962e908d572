//! The meaning of a name in a request, and the effect of the mode and the records.

use e2e::client::Socks5Target;
use e2e::daemon::{Config, Daemon};
use e2e::origin::Origin;

use super::{client, reply, request_by_bytes};

/// Spellings of 127.0.0.1 that a resolver would accept.
const LOOPBACK: [&str; 6] = [
    "127.0.0.1",
    "0x7f.1",
    "2130706433",
    "127.1",
    "0177.0.0.1",
    "127.0.0.1.",
];

#[test]
fn p1_every_spelling_of_an_address_is_that_address() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::new().allow("127.0.0.1"));
    for name in LOOPBACK {
        let target = Socks5Target::name(name, origin.addr().port());
        assert_eq!(reply(&daemon, &target), 0, "{name}");
    }
}

#[test]
fn p1_every_spelling_of_a_local_address_is_refused() {
    let origin = Origin::echoing_bytes().start();
    let config = Config::new()
        .allow("*")
        .unset("network", "allow_local_binding");
    let daemon = Daemon::start(&config);
    for name in LOOPBACK
        .into_iter()
        .chain(["::ffff:127.0.0.1", "[::1]", "0"])
    {
        let target = Socks5Target::name(name, origin.addr().port());
        assert_eq!(reply(&daemon, &target), 2, "{name}");
    }
    let entries = daemon.blocked();
    assert_eq!(entries.len(), LOOPBACK.len() + 3);
    for (entry, name) in entries.iter().zip(LOOPBACK) {
        assert_eq!(entry["host"], "127.0.0.1", "{name}");
        assert_eq!(entry["reason"], "not_allowed_local", "{name}");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn p1_bytes_that_are_no_name_are_refused_and_recorded_escaped() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::new().allow("*").allow("**.allowed.test"));
    let long = [&[b'a'; 64][..], b".test"].concat();
    let names: [(&[u8], &str); 12] = [
        (b"allowed.test\0.evil.test", r"allowed.test\x00.evil.test"),
        (b"evil.test\0", r"evil.test\x00"),
        (b"a\r\nb.test", r"a\r\nb.test"),
        (b"\x1b[31mred.test", r"\x1b[31mred.test"),
        (b"a b.test", "a b.test"),
        (b"user@allowed.test", "user@allowed.test"),
        (b"allowed.test/path", "allowed.test/path"),
        (b"allowed.test%00", "allowed.test%00"),
        (b"a..test", "a..test"),
        (b"\xff\xfe.test", r"\xff\xfe.test"),
        (b"quote\".test", r#"quote\".test"#),
        (&long, std::str::from_utf8(&long).expect("ASCII")),
    ];
    for (name, shown) in names {
        let mut client = client(&daemon);
        assert_eq!(client.socks5_greet(&[0]), 0);
        client.send(request_by_bytes(name, origin.addr().port()));
        assert_eq!(client.socks5_reply().reply, 2, "{shown}");
        let entry = daemon.wait_for_blocked(|entry| entry["host"] == shown);
        assert_eq!(entry["reason"], "invalid_host", "{shown}");
        assert_eq!(entry["port"], origin.addr().port());
    }
    assert_eq!(origin.connections(), 0);
    for line in daemon.logs() {
        assert!(!line.raw.chars().any(char::is_control), "{:?}", line.raw);
    }
}

#[test]
fn p7_limited_mode_without_interception_refuses_every_connection_and_says_why_for_each_port() {
    let origin = Origin::echoing_bytes().start();
    let config = Config::limited().set("network", "mitm", "false");
    let daemon = Daemon::start(&config);
    for (name, port, reason) in [
        ("allowed.test", 443, "mitm_required"),
        ("allowed.test", origin.addr().port(), "method_not_allowed"),
        ("blocked.test", 443, "not_allowed"),
    ] {
        assert_eq!(reply(&daemon, &Socks5Target::name(name, port)), 2);
        let entry = daemon.wait_for_blocked(|entry| entry["port"] == port && entry["host"] == name);
        assert_eq!(entry["reason"], reason, "{name}:{port}");
        assert_eq!(entry["mode"], "limited");
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn h11_a_user_name_marks_the_records_of_the_connection() {
    let daemon = Daemon::start(&Config::example());
    for (user, wanted) in [
        ("codex-net-attempt-a1.B_2-c", Some("a1.B_2-c")),
        ("codex-net-attempt-", None),
        ("alice", None),
        ("codex-net-attempt-not plain", None),
    ] {
        let mut client = client(&daemon);
        assert_eq!(client.socks5_greet(&[0, 2]), 2, "a user name is preferred");
        assert_eq!(client.socks5_authenticate(user, "anything"), 0);
        let bound = client.socks5_request(1, &Socks5Target::name("blocked.test", 80));
        assert_eq!(bound.reply, 2);
        let address = client.local_addr().to_string();
        let entry = daemon.wait_for_blocked(|entry| entry["client"] == *address);
        let attempt = entry.get("attempt_id").and_then(|id| id.as_str());
        assert_eq!(attempt, wanted, "{user}");
    }
}
