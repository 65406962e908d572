//! Against the kernel of the machine that runs the tests.

#![cfg(target_os = "linux")]

use std::net::{Shutdown, TcpListener, TcpStream};

use nix::unistd::Uid;

use super::*;

/// A client's end, our end, and their addresses.
fn connected(listener: &TcpListener) -> (TcpStream, TcpStream, ConnectionEnds) {
    let address = listener.local_addr().expect("an address");
    #[expect(clippy::disallowed_methods, reason = "the test's own client")]
    let client = TcpStream::connect(address).expect("a connection");
    let (ours, _) = listener.accept().expect("a client");
    let ends = ConnectionEnds {
        client: client.local_addr().expect("an address"),
        local: address,
    };
    (client, ours, ends)
}

fn listener(address: &str) -> Option<TcpListener> {
    TcpListener::bind(address).ok()
}

/// The socket tables; `None` where this process may not read them.
fn tables() -> Option<SocketOwners> {
    let owners = SocketOwners::open();
    if owners.tables.is_none() {
        #[expect(clippy::print_stderr, reason = "for the person who runs the tests")]
        {
            eprintln!("not run: the kernel's socket tables cannot be read here");
        }
        return None;
    }
    Some(owners)
}

#[test]
fn c5_the_kernel_reports_the_user_of_a_connection_to_us() {
    let Some(mut owners) = tables() else {
        return;
    };
    let us = Some(Uid::current().as_raw());
    for address in ["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"] {
        let Some(listener) = listener(address) else {
            continue;
        };
        let (client, ours, ends) = connected(&listener);
        let here = [ends.local];
        assert_eq!(owners.users(&[ends, ends], &here), [us, us], "{address}");
        // A client that has shut down its sending side still has its socket.
        client.shutdown(Shutdown::Write).expect("a socket");
        assert_eq!(owners.users(&[ends], &here), [us]);
        // For a socket that its process has closed, the kernel's number is root's.
        drop(client);
        assert_eq!(owners.users(&[ends], &here), [None]);
        drop(ours);
    }
}

#[test]
fn c5_the_user_of_other_connections_is_not_reported() {
    let Some(mut owners) = tables() else {
        return;
    };
    let (Some(one), Some(other)) = (listener("127.0.0.1:0"), listener("127.0.0.1:0")) else {
        panic!("no loopback");
    };
    let (_client, _ours, ends) = connected(&one);
    let other = other.local_addr().expect("an address");
    assert_eq!(owners.users(&[ends], &[other]), [None]);
    let anywhere = SocketAddr::new([0, 0, 0, 0].into(), ends.local.port());
    assert_ne!(owners.users(&[ends], &[anywhere]), [None]);
    // Without such a connection the kernel answers with the listener.
    let reversed = ConnectionEnds {
        client: ends.local,
        local: other,
    };
    assert_eq!(owners.users(&[reversed], &[other]), [None]);
}

#[test]
fn c5_a_cut_answer_or_one_for_another_connection_is_ignored() {
    let id = [7; 36];
    let mut answer = [0_u8; 88];
    answer[4..6].copy_from_slice(&20_u16.to_ne_bytes());
    answer[20..56].copy_from_slice(&id);
    answer[80..84].copy_from_slice(&1000_u32.to_ne_bytes());
    answer[84..88].copy_from_slice(&1_u32.to_ne_bytes());
    assert_eq!(tables::read(&answer, &id), Some(1000));
    assert_eq!(tables::read(&answer, &[8; 36]), None);
    for length in 0..answer.len() {
        assert_eq!(tables::read(&answer[..length], &id), None, "{length}");
    }
}
