//! The bytes into a tunnel are the bytes out of it (SPEC H8, M1).

use std::io::{Read, Write};
use std::thread;

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::raw_origin::serve_one;
use e2e::setup::PlainSetup;
use e2e::tls::{Client, Server, TestCa};
use e2e::wire::noise;

#[test]
fn h8_bytes_pass_both_ways_unchanged() {
    let setup = PlainSetup::new(Origin::echoing_bytes().start());
    let mut client = setup.tunnel("allowed.test");
    let every: Vec<u8> = (0..=255).collect();
    for part in [b"ping".as_slice(), b"\0", b"\r\n\r\n", &every] {
        client.send(part);
        assert_eq!(client.read_exact(part.len()), part);
    }
}

/// A `ClientHello` in the same packet as the CONNECT, or bytes that come before the answer.
#[test]
fn h8_bytes_sent_right_after_connect_reach_the_origin() {
    let setup = PlainSetup::new(Origin::echoing_bytes().start());
    let target = setup.authority("allowed.test");
    let connect = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    for size in [1, 1000, 60_000, 1_000_000] {
        let early = noise(7, size);
        let mut client = setup.client();
        let all = [connect.as_bytes(), &early].concat();
        // The first piece holds the head and some bytes after it.
        let (first, rest) = all.split_at(all.len().min(connect.len() + 16_000));
        client.send(first);
        assert_eq!(client.read_head().status, 200);
        let taken = first.len() - connect.len();
        assert!(client.read_exact(taken) == early[..taken]);
        for part in rest.chunks(16_000) {
            client.send(part);
            assert!(client.read_exact(part.len()) == part);
        }
    }
}

#[test]
fn h8_megabytes_go_both_ways_at_once_unchanged() {
    const LENGTH: usize = 8 * 1024 * 1024;
    let upstream = serve_one(|stream| {
        let (mut reader, mut writer) = (stream.try_clone()?, stream);
        let sender = thread::spawn(move || {
            writer.write_all(&noise(1, LENGTH))?;
            Ok::<_, std::io::Error>(writer)
        });
        let mut received = vec![0; LENGTH];
        reader.read_exact(&mut received)?;
        let mut writer = sender.join().expect("the sender")?;
        writer.write_all(&[u8::from(received == noise(2, LENGTH))])
    });
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    client.connect(&format!("allowed.test:{}", upstream.port()));
    // The harness has one thread for a connection: send in parts, and read between them.
    let (there, back) = (noise(2, LENGTH), noise(1, LENGTH));
    let mut received = Vec::with_capacity(LENGTH);
    for part in there.chunks(256 * 1024) {
        client.send(part);
        received.extend(client.read_exact(part.len()));
    }
    assert!(received == back, "the received bytes differ");
    assert_eq!(client.read_exact(1), [1], "the sent bytes differ");
}

#[test]
fn h8_many_tunnels_stay_apart() {
    let setup = PlainSetup::new(Origin::echoing_bytes().start());
    thread::scope(|scope| {
        for seed in 0..48 {
            let setup = &setup;
            scope.spawn(move || {
                let mut client = setup.tunnel("allowed.test");
                for round in 0..4 {
                    let part = noise(seed * 100 + round, 20_000);
                    client.send(&part);
                    assert!(client.read_exact(part.len()) == part, "tunnel {seed}");
                }
            });
        }
    });
    assert_eq!(setup.origin.connections(), 48);
}

#[test]
fn h8_a_half_close_of_the_client_leaves_the_other_direction_open() {
    let (upstream, daemon) = (
        serve_one(|mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all)?;
            stream.write_all(format!("{} bytes", all.len()).as_bytes())
        }),
        Daemon::start(&Config::example()),
    );
    let mut client = Connection::open(daemon.http_addr());
    client.connect(&format!("allowed.test:{}", upstream.port()));
    client.send([0; 1234]);
    client.finish_sending();
    assert_eq!(client.read_to_end(), b"1234 bytes");
}

#[test]
fn h8_a_half_close_of_the_origin_leaves_the_other_direction_open() {
    let (report, received) = std::sync::mpsc::channel();
    let upstream = serve_one(move |mut stream| {
        stream.write_all(b"goodbye")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut all = String::new();
        stream.read_to_string(&mut all)?;
        report.send(all).map_err(std::io::Error::other)
    });
    let daemon = Daemon::start(&Config::example());
    let mut client = Connection::open(daemon.http_addr());
    client.connect(&format!("allowed.test:{}", upstream.port()));
    assert_eq!(client.read_to_end(), b"goodbye");
    client.send("still ");
    client.send("there");
    client.finish_sending();
    let received = received.recv_timeout(e2e::wait::TIMEOUT);
    assert_eq!(received.expect("the upstream reads on"), "still there");
}

#[test]
fn m1_tls_in_a_tunnel_is_untouched() {
    let ca = TestCa::new();
    let origin = Origin::answering(|_| Answer::Echo).tls(&ca, &["allowed.test"]);
    let setup = PlainSetup::new(origin.start());
    // The client trusts only the origin's authority.
    let mut client = setup.tunnel("allowed.test").start_tls(&ca, "allowed.test");
    let fields = "Host: allowed.test\r\nVia: mine\r\nProxy-Authorization: Basic eDp5\r\n";
    let answer = client.exchange(&format!("GET /inside HTTP/1.1\r\n{fields}\r\n"));
    assert_eq!(answer.json()["target"], "/inside");
    let seen = &setup.origin.requests()[0];
    assert_eq!(seen.header("via"), Some("mine"), "the field is unchanged");
    for line in setup.daemon.logs() {
        assert!(!line.raw.contains("/inside"), "{}", line.raw);
    }
}

#[test]
fn m1_http2_in_a_tunnel_is_untouched() {
    let ca = TestCa::new();
    let server = Server::of(&ca, &["allowed.test"]).alpn(&["h2", "http/1.1"]);
    let setup = PlainSetup::new(Origin::answering(|_| Answer::Echo).tls_as(&server).start());
    let client = Client::trusting(&ca).alpn(&["h2"]);
    let http2 = setup
        .tunnel("allowed.test")
        .into_http2(&client, "allowed.test");
    let answer = http2.request("POST", "https://allowed.test/inside", &[], b"body");
    assert_eq!(answer.json()["body"], "body");
    // The client's TLS session is with the origin itself.
    let handshake = &setup.origin.handshakes()[0];
    assert_eq!(handshake.server_name.as_deref(), Some("allowed.test"));
    assert_eq!(handshake.offered, ["h2"]);
    assert_eq!(http2.session().certificates.len(), 1);
}
