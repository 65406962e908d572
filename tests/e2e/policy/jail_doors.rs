//! The doors of a jail agree with the others: a port that is forwarded to one destination, which is judged
//! as a redirected connection is, and policy DNS (SPEC P9, T1, T3, T5).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use codex_network_control::message::{DoorKind, SessionRequest};
use e2e::client::{Connection, proxy_request};
use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::session::Session;
use e2e::setup::PlainSetup;
use e2e::wait::TIMEOUT;
use serde_json::Value;

use super::doors::{ask, last_blocked};

/// The answer to a query for the address of a name: the response code, and the address if there is one.
fn look_up(server: SocketAddr, name: &str) -> (u8, Option<Ipv4Addr>) {
    let mut query = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    for label in name.trim_end_matches('.').split('.') {
        query.push(u8::try_from(label.len()).expect("a short label"));
        query.extend_from_slice(label.as_bytes());
    }
    // The root, type A, class IN.
    query.extend_from_slice(b"\0\0\x01\0\x01");
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket.set_read_timeout(Some(TIMEOUT)).expect("a limit");
    socket.connect(server).expect("a route");
    socket.send(&query).expect("sent");
    let mut answer = [0; 1500];
    let length = socket.recv(&mut answer).expect("an answer");
    assert_eq!(answer[..2], query[..2]);
    let address = <[u8; 4]>::try_from(&answer[length - 4..length]).map(Ipv4Addr::from);
    (
        answer[3] & 0x0f,
        (answer[7] == 1).then(|| address.expect("four bytes")),
    )
}

/// The reason that a client of a forwarded port is given, if it is refused.
fn ask_forwarded(setup: &PlainSetup, host: &str, port: u16) -> Option<String> {
    let session = Session::open_with(
        &setup.daemon,
        SessionRequest {
            doors: vec![DoorKind::Forward {
                host: host.to_owned(),
                port,
            }],
            ..SessionRequest::default()
        },
    );
    let mut client = Connection::open(session.doors[0]);
    let authority = format!("{host}:{port}");
    let answer = client.exchange(&proxy_request("GET", &authority, "/", &[]));
    match answer.status {
        200 => None,
        403 => answer.json()["reason"].as_str().map(str::to_owned),
        status => panic!("{host} got {status}: {}", answer.text()),
    }
}

#[test]
fn p9_t5_forwarded_ports_and_policy_dns_give_the_verdicts_of_the_other_doors() {
    let here = Ipv4Addr::LOCALHOST;
    let config = Config::new()
        .unset("network", "allow_local_binding")
        .allow("*.below.test")
        .allow("trap.test")
        .allow("private.test")
        .allow("127.0.0.1")
        .deny("no.below.test")
        .deny("**.evil.test")
        .deny("127.0.0.2")
        .host("trap.test", Ipv4Addr::new(127, 0, 0, 2))
        .host("a.below.test", here)
        .host("private.test", here);
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let port = setup.origin.addr().port();
    let dns = Session::open_with(
        &setup.daemon,
        SessionRequest {
            doors: vec![DoorKind::DnsUdp],
            ..SessionRequest::default()
        },
    );
    let mut addresses = Vec::new();
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.0.2",
        "0x7f.2",
        "10.0.0.1",
        "198.18.0.1",
        "below.test",
        "other.test",
        "no.below.test",
        "NO.Below.TEST.",
        "evil.test",
        "very.evil.test",
        // Allowed names that lead to addresses that are not: only the connection is refused.
        "a.below.test",
        "trap.test",
        "private.test",
    ] {
        let at_http = ask(&setup, "http", host, port);
        let wanted = at_http.is_some().then(|| last_blocked(&setup));
        assert_eq!(ask_forwarded(&setup, host, port), at_http, "{host}");
        if let Some(wanted) = &wanted {
            let entry = last_blocked(&setup);
            assert_eq!(entry["protocol"], "transparent", "{host}");
            for key in ["host", "port", "reason", "rule", "source", "decision"] {
                assert_eq!(entry[key], wanted[key], "{host}: {key}");
            }
        }
        if host.starts_with(|first: char| first.is_ascii_digit()) {
            continue;
        }
        let (code, address) = look_up(dns.doors[0], host);
        let is_allowed = ["a.below.test", "trap.test", "private.test"].contains(&host);
        assert_eq!(code, if is_allowed { 0 } else { 3 }, "{host}");
        assert_eq!(address.is_some(), is_allowed, "{host}");
        addresses.extend(address.map(IpAddr::from));
        if let Some(wanted) = wanted.filter(|_| !is_allowed) {
            let entry = last_blocked(&setup);
            // Another spelling of a name is the same name, which was recorded a moment ago.
            if host == "NO.Below.TEST." {
                assert_eq!(entry["protocol"], "transparent");
                continue;
            }
            assert_eq!(entry["protocol"], "dns", "{host}");
            assert_eq!(entry["port"], Value::Null);
            for key in ["host", "reason", "rule", "source", "decision"] {
                assert_eq!(entry[key], wanted[key], "{host}: {key}");
            }
        }
    }
    let synthetic = ["198.18.0.1", "198.18.0.2", "198.18.0.3"];
    let synthetic = synthetic.map(|address| address.parse::<IpAddr>().expect("an address"));
    assert_eq!(addresses, synthetic);
}
