//! Descriptors that are not acceptable as doors are refused in words (SPEC J2).

use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use codex_network_control::message::{DoorKind, SessionRequest};
use e2e::client::{Connection, proxy_request};
use e2e::daemon::{Config, Daemon};
use e2e::session::{Caller, Session};
use socket2::SockRef;

fn listener(address: &str) -> OwnedFd {
    TcpListener::bind(address).expect("a listener").into()
}

/// The daemon's refusal of a session with these doors and descriptors.
fn refusal(daemon: &Daemon, doors: Vec<DoorKind>, sockets: Vec<OwnedFd>) -> String {
    let request = SessionRequest {
        command: "curl".to_owned(),
        doors,
        sockets: sockets.into(),
        ..SessionRequest::default()
    };
    let refused = Caller::connect(daemon)
        .open(request)
        .expect_err("it is refused");
    refused.to_string()
}

#[test]
fn j2_descriptors_that_are_no_doors_are_refused_in_words() {
    let daemon = Daemon::start(&Config::example());
    let (pair, _other) = UnixStream::pair().expect("a pair");
    let bound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let bound = bound.expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    bound.bind(&any.into()).expect("a port");
    let target = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let connected = TcpStream::connect(target.local_addr().expect("bound")).expect("it listens");
    let unbound = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
    let file = std::fs::File::open("/dev/null").expect("a file");
    let udp = || UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let linked = udp();
    linked
        .connect(target.local_addr().expect("bound"))
        .expect("a peer");
    for (door, socket, why) in [
        (DoorKind::Http, file.into(), "is not a socket"),
        (DoorKind::Http, pair.into(), "is not a listening TCP socket"),
        (
            DoorKind::Http,
            bound.into(),
            "is not a listening TCP socket",
        ),
        (
            DoorKind::Socks5,
            connected.into(),
            "is not a listening TCP socket",
        ),
        (
            DoorKind::DnsTcp,
            udp().into(),
            "is not a listening TCP socket",
        ),
        (
            DoorKind::DnsUdp,
            listener("127.0.0.1:0"),
            "is not a bound UDP socket",
        ),
        (
            DoorKind::DnsUdp,
            unbound.expect("a socket").into(),
            "is not a bound UDP socket",
        ),
        (DoorKind::DnsUdp, linked.into(), "is a connected UDP socket"),
        (
            DoorKind::Http,
            listener("0.0.0.0:0"),
            "which is not a loopback address",
        ),
        (
            DoorKind::Http,
            listener("[::]:0"),
            "which is not a loopback address",
        ),
        (
            DoorKind::Unknown,
            listener("127.0.0.1:0"),
            "does not know a kind of door",
        ),
    ] {
        let refused = refusal(&daemon, vec![door], vec![socket]);
        assert!(refused.contains(why), "{refused} should say {why}");
    }
}

#[test]
fn j2_j13_the_number_of_descriptors_is_checked() {
    let daemon = Daemon::start(&Config::example());
    let listeners = |count| (0..count).map(|_| listener("127.0.0.1:0")).collect();
    let http = |count| vec![DoorKind::Http; count];
    for (doors, sockets, why) in [
        (0, 0, "a session needs a door"),
        (
            2,
            1,
            "the call names 2 doors, and 1 descriptors came with it",
        ),
        (
            1,
            2,
            "the call names 1 doors, and 2 descriptors came with it",
        ),
        (17, 17, "a session has at most 16 doors"),
        (17, 1, "a session has at most 16 doors"),
    ] {
        assert_eq!(refusal(&daemon, http(doors), listeners(sockets)), why);
    }
    let datagrams = || OwnedFd::from(UdpSocket::bind("127.0.0.1:0").expect("a socket"));
    let dns_tcp = vec![DoorKind::DnsTcp; 2];
    assert_eq!(
        refusal(&daemon, dns_tcp, listeners(2)),
        "a session has at most one door dns_tcp"
    );
    let dns_udp = vec![DoorKind::DnsUdp; 2];
    assert_eq!(
        refusal(&daemon, dns_udp, vec![datagrams(), datagrams()]),
        "a session has at most one door dns_udp"
    );
    let one = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let copy = one.try_clone().expect("a copy");
    let twice = vec![one.into(), copy.into()];
    let refused = refusal(&daemon, vec![DoorKind::Http, DoorKind::Socks5], twice);
    assert_eq!(
        refused,
        "descriptor 2, for the door socks5, is the same socket as descriptor 1"
    );
}

#[test]
fn j12_the_command_of_a_session_is_a_short_name() {
    let daemon = Daemon::start(&Config::example());
    for command in ["", "/bin/curl", "a\nb", &"x".repeat(65)] {
        let request = SessionRequest {
            command: command.to_owned(),
            doors: vec![DoorKind::Http],
            sockets: vec![listener("127.0.0.1:0")].into(),
            ..SessionRequest::default()
        };
        let refused = Caller::connect(&daemon)
            .open(request)
            .expect_err("it is refused");
        assert!(
            refused.to_string().contains("the name of the command"),
            "{refused}"
        );
    }
}

#[test]
fn j13_a_listening_socket_that_is_made_blocking_harms_only_its_session() {
    let daemon = Daemon::start(&Config::example());
    let kept = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = kept.local_addr().expect("bound");
    let caller = Caller::connect(&daemon);
    let given = kept.try_clone().expect("a copy");
    let request = SessionRequest {
        command: "curl".to_owned(),
        doors: vec![DoorKind::Http],
        sockets: vec![given.into()].into(),
        ..SessionRequest::default()
    };
    caller.open(request).expect("a session");
    let other = Session::open(&daemon);
    kept.set_nonblocking(false).expect("a mode");
    // The proxy accepts this client, and waits for the next one.
    let _client = TcpStream::connect(address).expect("it listens");
    daemon.wait_for_message("listening socket was made blocking");
    caller.wait_for_the_end();
    assert_eq!(super::status(&other, "blocked.test", 80), 403);
}

#[test]
fn j2_a_door_that_cannot_accept_does_not_keep_the_others_of_its_session_from_it() {
    let daemon = Daemon::start(&Config::example());
    let [broken, door] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a listener"));
    let address = door.local_addr().expect("bound");
    let given = [&broken, &door].map(|kept| OwnedFd::from(kept.try_clone().expect("a copy")));
    let caller = Caller::connect(&daemon);
    let request = SessionRequest {
        command: "curl".to_owned(),
        doors: vec![DoorKind::Http, DoorKind::Http],
        sockets: Vec::from(given).into(),
        ..SessionRequest::default()
    };
    caller.open(request).expect("a session");
    let status = || {
        let mut client = Connection::open(address);
        let request = proxy_request("GET", "blocked.test:80", "/", &[]);
        client.exchange(&request).status
    };
    assert_eq!(status(), 403);
    let shut = SockRef::from(&broken).shutdown(Shutdown::Both);
    shut.expect("it listens");
    daemon.wait_for_message("cannot accept clients");
    assert_eq!(status(), 403);
}
