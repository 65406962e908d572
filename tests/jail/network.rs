//! Addresses outside the jail.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use e2e::machine::{Need, has};

use crate::fixture::{Outside, attempts, users};

/// An address of this machine other than loopback, if it has one.
fn own_address() -> Option<String> {
    // Connecting a datagram socket sends nothing.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(("192.0.2.1", 9)).ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

#[test]
fn j6_no_connection_reaches_the_machine_or_another_one() {
    let outside = Outside::start();
    let port = outside.tcp.to_string();
    for user in users() {
        user.attempt_outside(&["tcp", "127.0.0.1", &port])
            .is_through();
        user.attempt(&["tcp", "127.0.0.1", &port])
            .is_refused("Connection refused");
        if let Some(address) = own_address() {
            user.attempt_outside(&["tcp", &address, &port]).is_through();
            // The transparent door takes it, and says so.
            user.attempt(&["tcp", &address, &port])
                .is_refused("Link has been severed");
        }
        let without = user.jailed(
            &["--not-transparent"],
            &[&attempts(), "tcp", "203.0.113.7", "443"],
        );
        without.is_refused("Connection refused");
    }
}

#[test]
fn j6_the_transparent_door_learns_where_each_connection_wanted_to_go() {
    let script =
        |address: &str, port: &str| format!("exec 3<>/dev/tcp/{address}/{port} && head -n 1 <&3");
    for user in users() {
        for (address, port, wanted) in [
            ("203.0.113.7", "5432", "203.0.113.7:5432"),
            ("198.18.0.1", "443", "198.18.0.1:443"),
            ("10.0.0.1", "53", "10.0.0.1:53"),
        ] {
            let ran = user.jailed(&[], &["bash", "-c", &script(address, port)]);
            let line = format!("Transparent from 127.0.0.1 to {wanted}\n");
            assert_eq!(ran.stdout(), line, "{}", ran.stderr());
        }
        if has(Need::Ipv6) {
            let ran = user.jailed(&[], &["bash", "-c", &script("2001:db8::7", "443")]);
            let line = "Transparent from ::1 to [2001:db8::7]:443\n";
            assert_eq!(ran.stdout(), line, "{}", ran.stderr());
        }
    }
}

#[test]
fn j6_a_forwarded_port_and_the_proxy_doors_are_on_the_jails_loopback() {
    for user in users() {
        for (port, door) in [
            (3128, "Http"),
            (1080, "Socks5"),
            (5432, "Forward(0)"),
            (53, "DnsTcp"),
        ] {
            let script = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && head -n 1 <&3");
            let ran = user.jailed(&["--forward", "5432"], &["bash", "-c", &script]);
            let line = format!("{door} from 127.0.0.1 to 127.0.0.1:{port}\n");
            assert_eq!(ran.stdout(), line, "{}", ran.stderr());
        }
    }
}

#[test]
fn t4_datagrams_to_other_addresses_are_refused_at_once() {
    let outside = Outside::start();
    let port = outside.udp.local_addr().expect("its address").port();
    let port = port.to_string();
    for user in users() {
        user.attempt_outside(&["udp", "127.0.0.1", &port])
            .is_through();
        user.attempt(&["udp", "127.0.0.1", &port])
            .is_refused("Connection refused");
        user.attempt(&["udp", "203.0.113.7", "443"])
            .is_refused("Connection refused");
        user.attempt(&["udp", "203.0.113.7", "53"])
            .is_refused("Connection refused");
        if let Some(address) = own_address() {
            user.attempt_outside(&["udp", &address, &port]).is_through();
            user.attempt(&["udp", &address, &port])
                .is_refused("Connection refused");
        }
    }
}

#[test]
fn j6_multicast_stays_in_the_jail() {
    const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 77, 77);
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    socket
        .join_multicast_v4(&GROUP, &Ipv4Addr::LOCALHOST)
        .expect("the loopback interface");
    socket.set_nonblocking(true).expect("our own socket");
    let port = socket.local_addr().expect("its address").port().to_string();
    let attempt = ["multicast", &GROUP.to_string(), &port];
    for user in users() {
        user.attempt_outside(&attempt).is_through();
        assert!(socket.recv(&mut [0; 16]).is_ok());
        for options in [&[] as &[&str], &["--unix-sockets"]] {
            let program = attempts();
            user.jailed(options, &[&[program.as_str()], &attempt[..]].concat())
                .is_through();
            assert!(socket.recv(&mut [0; 16]).is_err(), "{options:?}");
        }
    }
}

#[test]
fn j6_unix_sockets_lead_to_no_process_outside() {
    let outside = Outside::start();
    let (stream, datagrams) = (outside.path("stream"), outside.path("datagrams"));
    let name = format!("jail-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("a new name");
    std::thread::spawn(move || {
        use std::io::Write as _;
        for stream in listener.incoming().flatten() {
            let _ = (&stream).write_all(b"outside");
        }
    });
    let hidden = format!("@{name}");
    for user in users() {
        // Abstract names belong to the jail's network.
        for (path, error) in [
            (&stream, "Permission denied"),
            (&hidden, "Connection refused"),
        ] {
            user.attempt_outside(&["unix-stream", path]).is_through();
            user.attempt(&["unix-stream", path]).is_refused(error);
        }
        for pair in ["unix-datagram-pair", "unix-raw-pair"] {
            user.attempt_outside(&[pair, &datagrams]).is_through();
            assert!(outside.has_datagram());
            user.attempt(&[pair, &datagrams])
                .is_refused("Permission denied");
        }
        // A pair of connected sockets is permitted, and leads to its other end only.
        user.attempt(&["unix-stream-pair", &datagrams])
            .is_refused("Transport endpoint is already connected");
        user.attempt(&["unix-packet-pair", &datagrams]).is_through();
        user.attempt(&["unix-reconnect", &stream])
            .is_refused("Permission denied");
        assert!(!outside.has_datagram());
        // The option lifts it for paths.
        let attempts = attempts();
        let lifted =
            |path: &str| user.jailed(&["--unix-sockets"], &[&attempts, "unix-stream", path]);
        lifted(&stream).is_through();
        lifted(&hidden).is_refused("Connection refused");
    }
}

#[test]
fn j6_the_jails_network_cannot_be_changed() {
    for user in users() {
        user.attempt(&["new-interface"])
            .is_refused("Operation not permitted");
        user.attempt(&["netlink-groups"])
            .is_refused("Operation not permitted");
        user.attempt(&["new-address"])
            .is_refused("Operation not permitted");
        for setting in ["net/ipv4/ip_forward", "net/ipv4/ip_unprivileged_port_start"] {
            let path = format!("/proc/sys/{setting}");
            // The file system is read-only, and root is no exception.
            let ran = user.attempt(&["write", &path]);
            assert!(ran.stdout().starts_with("refused"), "{}", ran.stdout());
        }
        let script = "nft list ruleset || /usr/sbin/nft flush ruleset";
        let ran = user.jailed(&[], &["sh", "-c", script]);
        assert!(!ran.0.status.success(), "{}", ran.stdout());
    }
}

/// The kernel's limit for each process stops it, as it would outside.
#[test]
fn j6_the_machine_goes_on_when_a_jail_exhausts_its_descriptors() {
    for user in users() {
        user.attempt(&["exhaust-descriptors"]).is_through();
        user.attempt(&["many-connections", "203.0.113.7", "80"])
            .is_through();
        let outside = Outside::start();
        let port = outside.tcp.to_string();
        user.attempt_outside(&["tcp", "127.0.0.1", &port])
            .is_through();
    }
}
