//! Doors through doors: a program in a jail asks its doors for the proxy's own sockets, for other sessions,
//! and for name servers (SPEC P6, J14, T2).

#![expect(
    clippy::disallowed_methods,
    reason = "a test is the client, which dials as it pleases; only the proxy may not"
)]

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use e2e::daemon::Config;
use e2e::machine::{Need, has};
use e2e::session::Session;
use e2e::shipped;
use serde_json::Value;

use crate::service::Service;

/// curl to no other proxy than the one of an option, without output of its own.
const CURL: &str = "curl -s --max-time 20 -o /dev/null";

/// The doors of a jail, where a program in it meets them.
const DOORS: [u16; 5] = [3128, 1080, 3129, 53, 5001];

/// A policy that allows the machine's loopback in every spelling.
fn permissive() -> Config {
    Config::example()
        .host("door.test", Ipv4Addr::LOCALHOST)
        .allow("door.test")
        .allow("127.0.0.1")
        .allow("localhost")
        .allow("::1")
}

/// The attempts at a host and port through the proxy doors, and their outcomes if all are refused.
fn by_proxies(host: &str, port: u16) -> (String, &'static str) {
    let url = format!("http://{host}:{port}/");
    let script = format!(
        "{CURL} --noproxy '' -x http://127.0.0.1:3128 -w 'get %{{http_code}}\\n' {url}; \
         {CURL} --noproxy '' -p -x http://127.0.0.1:3128 -w 'connect %{{http_connect}}\\n' {url}; \
         {CURL} --noproxy '' -x socks5h://127.0.0.1:1080 {url}; echo socks5 $?; "
    );
    // 97: the proxy has refused.
    (script, "get 403\nconnect 403\nsocks5 97\n")
}

/// The same by a lookup of the name, and the transparent door.
fn by_address(host: &str, port: u16) -> (String, &'static str) {
    let script =
        format!("{CURL} --noproxy '*' -w 'transparent %{{http_code}}\\n' http://{host}:{port}/; ");
    (script, "transparent 403\n")
}

/// Makes the attempts in a new jail, and checks that each is refused as one at a socket of the proxy's own.
#[track_caller]
fn are_refused_as_loops(
    service: &Service,
    options: &[&str],
    attempts: impl IntoIterator<Item = (String, &'static str)>,
) {
    let (scripts, outcomes): (Vec<_>, Vec<_>) = attempts.into_iter().unzip();
    let before = service.daemon.blocked().len();
    let ran = service.run(options, &["sh", "-c", &scripts.concat()]);
    assert_eq!(ran.stdout, outcomes.concat(), "{}", ran.stderr);
    let wanted = outcomes.concat().lines().count();
    let blocked = service.daemon.blocked();
    let (_, new) = blocked.split_at(before);
    assert_eq!(new.len(), wanted, "{new:#?}");
    for entry in new {
        assert_eq!(entry["reason"], "loop_detected", "{entry:#}");
    }
}

#[test]
fn p6_a_jail_reaches_none_of_its_doors_through_its_doors() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let service = Service::start(&permissive());
    let forward = format!("5001=allowed.test:{}", service.origin.addr().port());
    let mut attempts = Vec::new();
    for port in DOORS {
        for host in [
            "127.0.0.1",
            "localhost",
            "door.test",
            "0.0.0.0",
            "[::ffff:127.0.0.1]",
        ] {
            attempts.push(by_proxies(host, port));
        }
        attempts.push(by_address("door.test", port));
    }
    attempts.push(by_proxies("[::1]", 3129));
    // To the listener of the transparent door itself.
    attempts.push(by_address("127.0.0.1", 3129));
    are_refused_as_loops(&service, &["--forward", &forward], attempts);
    assert_eq!(service.origin.connections(), 0);
    // A forwarded port cannot lead to a door either.
    let lead_back = [
        "--forward",
        "5001=127.0.0.1:3128",
        "--forward",
        "5002=door.test:1080",
    ];
    let attempts = [by_address("127.0.0.1", 5001), by_address("127.0.0.1", 5002)];
    are_refused_as_loops(&service, &lead_back, attempts);
}

#[test]
fn p6_a_jail_reaches_no_listener_of_the_proxy_through_any_door() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let service = Service::start(&permissive());
    let daemon = &service.daemon;
    let listeners = [daemon.admin_addr(), daemon.http_addr(), daemon.socks_addr()];
    let mut attempts = Vec::new();
    let mut directly = String::new();
    for listener in listeners {
        let port = listener.port();
        for host in ["127.0.0.1", "localhost", "door.test"] {
            attempts.push(by_proxies(host, port));
        }
        attempts.push(by_address("door.test", port));
        let _ = write!(
            directly,
            "{CURL} --noproxy '*' http://127.0.0.1:{port}/health; echo $?; "
        );
    }
    attempts.push(by_address("127.0.0.1", 5001));
    let forward = format!("5001=127.0.0.1:{}", daemon.admin_addr().port());
    are_refused_as_loops(&service, &["--forward", &forward], attempts);
    // 7: nothing listens there, in the jail.
    assert_eq!(service.script(&directly), "7\n7\n7\n");
    let health = format!(
        "{CURL} -w '%{{http_code}}' http://{}/health",
        daemon.admin_addr()
    );
    let outside = e2e::program::run("sh", &["-c", &health]);
    assert_eq!(outside.stdout, "200");
}

/// The doors of a session without a jail are on the machine's loopback.
#[test]
fn p6_a_jail_reaches_no_door_of_another_session() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let service = Service::start(&permissive());
    let unconfined = Session::open(&service.daemon);
    let mut attempts = Vec::new();
    let mut directly = String::new();
    for door in &unconfined.doors {
        attempts.push(by_proxies("127.0.0.1", door.port()));
        attempts.push(by_proxies("door.test", door.port()));
        attempts.push(by_address("door.test", door.port()));
        let _ = write!(directly, "{CURL} --noproxy '*' http://{door}/; echo $?; ");
    }
    are_refused_as_loops(&service, &[], attempts);
    assert_eq!(service.script(&directly), "7\n7\n");
    // Neither does a client of the proxy without a session.
    let answer = service
        .daemon
        .get(&format!("http://{}/", unconfined.doors[0]));
    assert_eq!(answer.status, 403);
    let report = unconfined.caller.report();
    assert_eq!((report.allowed_total, report.refused_total), (0, 0));
}

/// The loopback of another jail is another network: its ports lead to those of the machine.
#[test]
fn j14_a_jail_reaches_no_door_of_another_jail() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let service = Service::start(&permissive());
    // A port that nothing on the machine listens on.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let forward = format!("{port}=allowed.test:{}", service.origin.addr().port());
    let waiting = format!(
        "{CURL} --noproxy '*' -w '%{{http_code}}\\n' http://127.0.0.1:{port}/; read -r line; exit 7"
    );
    let mut other = service.start_in_jail_with(&["--forward", &forward], &["sh", "-c", &waiting]);
    assert_eq!(other.line(), "200");
    let connections = service.origin.connections();
    let script = format!(
        "{CURL} --noproxy '*' http://127.0.0.1:{port}/; echo $?; \
         {CURL} --noproxy '' -x http://127.0.0.1:3128 -w '%{{http_code}}\\n' http://127.0.0.1:{port}/"
    );
    assert_eq!(service.script(&script), "7\n502\n");
    assert_eq!(service.origin.connections(), connections);
    assert_eq!(other.end(), Some(7));
}

/// A resolver elsewhere is a destination like any other, by whatever protocol: DNS over TCP, TLS and HTTPS.
#[test]
fn t2_name_servers_elsewhere_are_judged_and_nothing_reaches_them() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let service = Service::start(&Config::example());
    let query = r"\000\030\022\064\001\000\000\001\000\000\000\000\000\000\001a\004test\000\000\001\000\001";
    let by_tcp = |address: &str, port: u16| {
        format!(
            "exec 3<>/dev/tcp/{address}/{port}; printf '{query}' >&3; timeout 20 cat <&3 2>/dev/null | wc -c; exec 3>&-; "
        )
    };
    let resolver = "203.0.113.53";
    let mut script = by_tcp(resolver, 53);
    for url in [
        format!("https://{resolver}:853/"),
        format!("https://{resolver}/dns-query"),
    ] {
        // 35: refused by an alert. 56: the proxy refuses.
        let _ = write!(
            script,
            "{CURL} -k --noproxy '*' {url}; echo $?; {CURL} -k {url}; echo $?; "
        );
    }
    // A server of the machine's own, to which a packet would get.
    let server = own_address().map(|address| {
        let listener = TcpListener::bind((address, 0)).expect("a port");
        let datagrams = UdpSocket::bind(listener.local_addr().expect("its address"));
        (listener, datagrams.expect("the same port"))
    });
    let mut outcomes = "0\n35\n56\n35\n56\n".to_owned();
    if let Some((listener, _)) = &server {
        let address = listener.local_addr().expect("its address");
        script += &by_tcp(&address.ip().to_string(), address.port());
        let _ = write!(
            script,
            "{CURL} -k --noproxy '*' https://{address}/dns-query; echo $?; "
        );
        let _ = write!(
            script,
            "echo x > /dev/udp/{}/{}; ",
            address.ip(),
            address.port()
        );
        outcomes += "0\n35\n";
    }
    let ran = service.run(&[], &["bash", "-c", &script]);
    assert_eq!(ran.stdout, outcomes, "{}", ran.stderr);
    let blocked = service.daemon.blocked();
    for (port, protocol) in [
        (53, "transparent"),
        (853, "transparent"),
        (853, "http-connect"),
        (443, "transparent"),
        (443, "http-connect"),
    ] {
        let is_it = |entry: &&Value| {
            entry["host"] == resolver && entry["port"] == port && entry["protocol"] == protocol
        };
        let entry = blocked.iter().find(is_it);
        let entry = entry.unwrap_or_else(|| panic!("{protocol} to {port}: {blocked:#?}"));
        assert_eq!(entry["reason"], "not_allowed", "{entry:#}");
    }
    if let Some((listener, datagrams)) = server {
        let address = listener.local_addr().expect("its address");
        assert_is_first(&listener, address);
        datagrams.set_nonblocking(true).expect("our own socket");
        assert!(datagrams.recv(&mut [0; 16]).is_err());
    }
}

/// The kernel hands connections out in their order, so none was made before this one.
#[track_caller]
fn assert_is_first(listener: &TcpListener, address: SocketAddr) {
    let own = TcpStream::connect(address).expect("it listens");
    let (_, first) = listener.accept().expect("a connection");
    assert_eq!(Some(first), own.local_addr().ok());
}

/// An address of this machine other than loopback, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[test]
fn j14_the_control_socket_is_out_of_reach() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let service = Service::start(&Config::example());
    let socket = service.daemon.control_socket();
    let command = format!(
        "{} --socket {} sessions",
        shipped::proxyctl(),
        socket.display()
    );
    e2e::program::run("sh", &["-c", &command]).succeeded();
    let inside = service.run(&[], &["sh", "-c", &command]);
    assert_eq!(inside.failed().stdout, "");
}
