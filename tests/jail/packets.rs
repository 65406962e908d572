//! Packets of other kinds than the redirect and the doors know (SPEC J6).

use std::net::{Ipv4Addr, UdpSocket};

use e2e::program::Program;

use crate::fixture::{Outside, attempts, harness, users};

/// Of the protocols, machines have some. Each stays in the jail, or does not exist there.
#[test]
fn j6_other_protocols_over_ip_leave_no_jail() {
    let outside = Outside::start();
    let port = outside.tcp.to_string();
    // Type, protocol and port: MPTCP, SCTP of both types, DCCP, UDP-Lite.
    let datagrams = outside.udp.local_addr().expect("its address").port();
    let datagrams = datagrams.to_string();
    let protocols = [
        ["1", "262", &port],
        ["1", "132", &port],
        ["5", "132", &port],
        ["6", "33", &port],
        ["2", "136", &datagrams],
    ];
    for user in users() {
        for [kind, protocol, port] in protocols {
            for address in ["127.0.0.1", "203.0.113.7"] {
                let ran = user.attempt(&["other-protocol", kind, protocol, address, port]);
                let stdout = ran.stdout();
                assert!(
                    stdout.starts_with("refused: "),
                    "{protocol} to {address}: {stdout}{}",
                    ran.stderr()
                );
            }
        }
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
            user.attempt(&["broadcast", address, &port]);
            assert!(socket.recv(&mut [0; 16]).is_err(), "{address}");
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
