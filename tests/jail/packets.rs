//! Packets of other kinds than the redirect and the doors know (SPEC J6).

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::thread;

use e2e::program::Program;
use socket2::{Domain, Protocol, Socket, Type};

use crate::fixture::{Outside, attempts, harness, users};

/// Starts a server outside of another protocol over IP, and returns its port. `None`: this kernel lacks the
/// protocol, for programs in a jail too.
fn other_server(kind: Type, protocol: i32) -> Option<String> {
    let socket = Socket::new(Domain::IPV4, kind, Some(Protocol::from(protocol))).ok()?;
    let any: SocketAddr = (Ipv4Addr::UNSPECIFIED, 0).into();
    socket.bind(&any.into()).expect("a port");
    let address = socket.local_addr().expect("its address").as_socket();
    let port = address.expect("an internet address").port().to_string();
    if kind != Type::DGRAM {
        socket.listen(16).expect("a bound socket");
    }
    thread::spawn(move || {
        if kind == Type::DGRAM {
            let socket = UdpSocket::from(socket);
            while let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
                let _ = socket.send_to(b"outside", from);
            }
        } else {
            while let Ok((client, _)) = socket.accept() {
                let _ = client.send(b"outside");
            }
        }
    });
    Some(port)
}

/// The network of a jail protects, and not the filter. So each protocol that this kernel has is shown to get
/// through outside.
#[test]
fn j6_other_protocols_over_ip_leave_no_jail() {
    let outside = Outside::start();
    let port = outside.tcp.to_string();
    // MPTCP, SCTP of both types, DCCP, UDP-Lite.
    for (kind, protocol) in [(1, 262), (1, 132), (5, 132), (6, 33), (2, 136)] {
        let server = other_server(Type::from(kind), protocol);
        let port = server.as_ref().unwrap_or(&port);
        let [kind, protocol] = [kind, protocol].map(|number: i32| number.to_string());
        let attempt = |address| ["other-protocol", &kind, &protocol, address, port];
        for user in users() {
            if server.is_some() {
                user.attempt_outside(&attempt("127.0.0.1")).is_through();
            }
            for address in ["127.0.0.1", "203.0.113.7"] {
                let ran = user.attempt(&attempt(address));
                if server.is_none() {
                    // The kernel's error, which is the same outside.
                    let outside = user.attempt_outside(&attempt(address)).stdout();
                    assert!(outside.ends_with(" not supported\n"), "{outside}");
                    assert_eq!(ran.stdout(), outside);
                    continue;
                }
                // The transparent door takes MPTCP, which begins as TCP.
                let error = if protocol == "262" && address != "127.0.0.1" {
                    "Link has been severed"
                } else {
                    "Connection refused"
                };
                ran.is_refused(error);
            }
        }
    }
    for user in users() {
        user.attempt_outside(&["fast-open", "127.0.0.1", &port])
            .is_through();
        user.attempt(&["fast-open", "127.0.0.1", &port])
            .is_refused("Connection refused");
        // The transparent door takes it.
        user.attempt(&["fast-open", "203.0.113.7", &port])
            .is_refused("Link has been severed");
    }
}

#[test]
fn j6_broadcasts_stay_in_the_jail() {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
    socket.set_nonblocking(true).expect("our own socket");
    let port = socket.local_addr().expect("its address").port().to_string();
    for user in users() {
        user.attempt_outside(&["broadcast", "127.255.255.255", &port])
            .is_through();
        assert!(socket.recv(&mut [0; 16]).is_ok());
        for address in ["127.255.255.255", "255.255.255.255", "192.0.2.255"] {
            for options in [&[] as &[&str], &["--unix-sockets"]] {
                user.jailed(options, &[&attempts(), "broadcast", address, &port]);
                assert!(socket.recv(&mut [0; 16]).is_err(), "{address} {options:?}");
            }
        }
    }
}

/// The range of groups that may use them belongs to a network, and is empty in a new one. The machine's is
/// opened, in a network of its own.
#[test]
fn j6_no_program_pings() {
    for user in users() {
        for attempt in ["ping", "ping6"] {
            let ran = user.attempt(&[attempt]);
            let stdout = ran.stdout();
            assert!(stdout.starts_with("refused: "), "{stdout}{}", ran.stderr());
        }
    }
    if !e2e::machine::has(e2e::machine::Need::Network) || users().is_empty() {
        return;
    }
    let script = "echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range && \"$1\" ping; \"$2\" -- \"$1\" ping";
    let ran = Program::new("unshare")
        .args(["--net", "sh", "-c", script, "sh", &attempts()])
        .arg(harness())
        .run();
    assert_eq!(
        ran.stdout, "through: ping\nrefused: ping: Permission denied\n",
        "{}",
        ran.stderr
    );
}
