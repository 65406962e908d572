//! Descriptors of other kinds of sockets and files are refused as doors in words (SPEC J2).

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener};

use codex_network_control::message::{DoorKind, SessionRequest};
use e2e::daemon::{Config, Daemon};
use e2e::machine;
use e2e::session::{Caller, Session};
use nix::libc;
use socket2::{Domain, Protocol, Socket, Type};

/// A bound socket of the internet's families; a listening one if its type has connections.
fn internet(domain: Domain, kind: Type, protocol: i32) -> Option<OwnedFd> {
    let socket = Socket::new(domain, kind, Some(Protocol::from(protocol))).ok()?;
    let address: SocketAddr = match domain {
        Domain::IPV6 => "[::1]:0".parse().expect("an address"),
        _ => "127.0.0.1:0".parse().expect("an address"),
    };
    socket.bind(&address.into()).ok()?;
    if kind == Type::STREAM {
        socket.listen(8).ok()?;
    }
    Some(socket.into())
}

/// An address of this machine other than loopback, if it has one.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[test]
fn j2_other_sockets_and_files_are_no_doors() {
    let daemon = Daemon::start(&Config::example());
    let folder = tempfile::tempdir().expect("a folder");
    let unix = UnixListener::bind(folder.path().join("stream")).expect("a socket");
    let datagrams = UnixDatagram::bind(folder.path().join("datagrams")).expect("a socket");
    let path_only = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open("/dev/null");
    let (pipe, _end) = std::io::pipe().expect("a pipe");
    let not_listening = "is not a listening TCP socket";
    let not_bound = "is not a bound UDP socket";
    let mut doors = vec![
        (DoorKind::Http, OwnedFd::from(unix), not_listening),
        (DoorKind::DnsUdp, datagrams.into(), not_bound),
        (
            DoorKind::Http,
            path_only.expect("a file").into(),
            "cannot be used",
        ),
        (DoorKind::Socks5, pipe.into(), "is not a socket"),
    ];
    // Machines have some of these: MPTCP, SCTP, UDP-Lite; raw and packet sockets for root.
    for (door, kind, protocol, why) in [
        (DoorKind::Http, Type::STREAM, 262, not_listening),
        (
            DoorKind::Http,
            Type::STREAM,
            libc::IPPROTO_SCTP,
            not_listening,
        ),
        (
            DoorKind::DnsUdp,
            Type::DGRAM,
            libc::IPPROTO_UDPLITE,
            not_bound,
        ),
        (DoorKind::DnsUdp, Type::RAW, libc::IPPROTO_UDP, not_bound),
    ] {
        let socket = internet(Domain::IPV4, kind, protocol);
        doors.extend(socket.map(|socket| (door, socket, why)));
    }
    let packets = Socket::new(Domain::PACKET, Type::DGRAM, None);
    doors.extend(
        packets
            .ok()
            .map(|socket| (DoorKind::DnsUdp, socket.into(), not_bound)),
    );
    assert!(
        doors.len() >= 4 + 2 * usize::from(machine::is_root()),
        "{doors:?}"
    );
    if let Some(address) = own_address() {
        let not_loopback = "which is not a loopback address";
        let tcp = TcpListener::bind((address, 0)).expect("a port");
        doors.push((DoorKind::Http, tcp.into(), not_loopback));
        let udp = UdpSocket::bind((address, 0)).expect("a port");
        doors.push((DoorKind::DnsUdp, udp.into(), not_loopback));
    }
    for (door, socket, why) in doors {
        let caller = Caller::connect(&daemon);
        let shown = format!("{socket:?} as {door:?}");
        let refused = caller.open(SessionRequest {
            command: "curl".to_owned(),
            doors: vec![door],
            sockets: vec![socket].into(),
            ..SessionRequest::default()
        });
        let refused = refused.expect_err(&shown).to_string();
        assert!(refused.contains(why), "{shown}: {refused}");
        assert_eq!(refused.lines().count(), 1, "{refused}");
        assert_eq!(caller.sessions().sessions.len(), 0);
    }
    // One of IPv6 is a door like any other, where the machine has it.
    if let Some(socket) = internet(Domain::IPV6, Type::STREAM, libc::IPPROTO_TCP) {
        let opened = Caller::connect(&daemon).open(SessionRequest {
            command: "curl".to_owned(),
            doors: vec![DoorKind::Http],
            sockets: vec![socket].into(),
            ..SessionRequest::default()
        });
        opened.expect("a door");
    }
    assert_eq!(
        super::status(&Session::open(&daemon), "blocked.test", 80),
        403
    );
}
