//! No request makes the proxy connect to itself (SPEC P6).

use std::net::{Ipv4Addr, TcpListener};

use e2e::client::{Connection, Socks5Target, proxy_request};
use e2e::daemon::{Config, Daemon, Signal};
use e2e::port::accepts;
use e2e::wait::{TIMEOUT, poll};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::Value;

fn permissive() -> Daemon {
    let config = Config::new()
        .allow("*")
        .allow("127.0.0.1")
        .allow("localhost")
        .allow("me.test")
        .host("me.test", Ipv4Addr::LOCALHOST)
        .host("zero.test", Ipv4Addr::UNSPECIFIED);
    Daemon::start(&config)
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
fn p6_no_spelling_reaches_an_own_listener() {
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
            let answer = client.exchange(&proxy_request("GET", &authority, "/health", &[]));
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

/// A past bug: of a thousand requests that waited for a worker to start, a hundred reached the
/// admin API, since the first door accepted before the last listener was registered.
#[test]
fn p6_requests_queued_before_the_worker_do_not_reach_own_listeners() {
    let daemon = permissive();
    let admin = daemon.admin_addr();
    let worker = daemon.worker();
    // The monitor starts another worker only when it continues.
    let monitor = Pid::from_raw(i32::try_from(daemon.pid()).expect("a process id"));
    kill(monitor, Signal::SIGSTOP).expect("our child");
    e2e::process::kill_process(worker);
    poll(TIMEOUT, || e2e::process::has_ended(worker).then_some(())).expect("it is gone");
    let request = proxy_request("GET", &admin.to_string(), "/health", &[]);
    let ask = |_| {
        let mut client = Connection::open(daemon.http_addr());
        client.send(&request);
        client
    };
    let waiting: Vec<_> = (0..300).map(ask).collect();
    kill(monitor, Signal::SIGCONT).expect("our child");
    for mut client in waiting {
        let answer = client.read_final_response();
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert_eq!(answer.json()["reason"], "loop_detected");
    }
}

/// A past bug: while a process drained, its requests reached the next one's admin API.
#[test]
fn p6_a_draining_proxy_does_not_reach_its_successor() {
    let daemon = permissive();
    let doors = [daemon.http_addr(), daemon.socks_addr(), daemon.admin_addr()];
    let open = || {
        let mut client = Connection::open(daemon.http_addr());
        client.send("GET ");
        client
    };
    let mut under_way: Vec<_> = doors.iter().map(|_| open()).collect();
    // Connections are accepted in order: after this answer, the earlier ones are accepted.
    let later = Connection::open(daemon.http_addr()).connect("blocked.test:1");
    assert_ne!(later.status, 200);
    daemon.signal(Signal::SIGTERM);
    for door in doors {
        poll(TIMEOUT, || (!accepts(door)).then_some(())).expect("it closes");
    }
    let next = doors.map(|door| TcpListener::bind(door).expect("the place is free"));
    for (client, listener) in under_way.iter_mut().zip(&next) {
        let address = listener.local_addr().expect("a bound listener");
        client.send(format!(
            "http://{address}/health HTTP/1.1\r\nHost: {address}\r\n\r\n"
        ));
        let answer = client.read_final_response();
        assert_eq!(answer.status, 403, "{}", answer.text());
        assert_eq!(answer.json()["reason"], "loop_detected");
    }
}

#[test]
fn p6_other_ports_of_this_machine_are_reachable() {
    let daemon = permissive();
    let origin = e2e::origin::Origin::echoing_bytes().start();
    for host in ["127.0.0.1", "localhost", "me.test", "0.0.0.0"] {
        let mut client = Connection::open(daemon.http_addr());
        let answer = client.connect(&format!("{host}:{}", origin.addr().port()));
        assert_eq!(answer.status, 200, "{host}: {}", answer.text());
    }
}
