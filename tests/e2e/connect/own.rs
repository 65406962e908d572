//! The proxy cannot be talked into connecting to itself (SPEC P6).

use std::net::Ipv4Addr;

use e2e::client::{Connection, Socks5Target};
use e2e::daemon::{Config, Daemon};
use serde_json::Value;

use crate::forward::scene::message;

fn permissive() -> Daemon {
    let config = Config::new()
        .allow("*")
        .allow("127.0.0.1")
        .allow("localhost")
        .allow("me.test")
        .host("me.test", Ipv4Addr::LOCALHOST)
        .host("zero.test", Ipv4Addr::UNSPECIFIED);
    Daemon::start(e2e::binary!(), &config)
}

const SPELLINGS: [&str; 16] = [
    "127.0.0.1",
    "127.1",
    "0x7f.1",
    "2130706433",
    "0177.0.0.1",
    "localhost",
    "LOCALHOST.",
    "any.localhost",
    "0.0.0.0",
    "0",
    "[::ffff:127.0.0.1]",
    "[::ffff:0:0]",
    "[::]",
    "me.test",
    "zero.test",
    "ME.test.",
];

#[test]
fn p6_no_spelling_leads_to_an_own_listener() {
    let daemon = permissive();
    let mut asked = 0;
    for port in [
        daemon.http_addr().port(),
        daemon.socks_addr().port(),
        daemon.admin_addr().port(),
    ] {
        for host in SPELLINGS {
            let authority = format!("{host}:{port}");
            let mut client = Connection::open(daemon.http_addr());
            let answer = client.connect(&authority);
            assert_eq!(answer.status, 403, "CONNECT {authority}: {}", answer.text());
            assert!(
                answer
                    .text()
                    .contains(r#""reason":"loop_detected","source":"proxy_state""#)
            );

            let mut client = Connection::open(daemon.http_addr());
            let answer = client.exchange(&message("GET", &authority, "/health", &[]));
            assert_eq!(answer.status, 403, "GET {authority}");
            assert_eq!(answer.json()["reason"], "loop_detected");
            assert_eq!(answer.header("x-proxy-error"), Some("blocked-by-policy"));

            let mut client = Connection::open(daemon.socks_addr());
            let name = host.trim_matches(['[', ']']);
            let bound = client.socks5_connect(&Socks5Target::name(name, port));
            assert_eq!(bound.reply, 2, "SOCKS5 {name}:{port}");
            asked += 3;
        }
    }
    let blocked = daemon.blocked();
    assert_eq!(blocked.len(), asked);
    let reasons = |entry: &Value| entry["reason"] == "loop_detected";
    assert!(blocked.iter().all(reasons));
}

#[test]
fn p6_other_ports_of_this_machine_are_no_loop() {
    let daemon = permissive();
    let origin = e2e::origin::Origin::echoing_bytes().start();
    for host in ["127.0.0.1", "localhost", "me.test", "0.0.0.0"] {
        let mut client = Connection::open(daemon.http_addr());
        let answer = client.connect(&format!("{host}:{}", origin.addr().port()));
        assert_eq!(answer.status, 200, "{host}: {}", answer.text());
    }
}
