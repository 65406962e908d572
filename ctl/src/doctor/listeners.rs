//! The listeners of the running proxy: connects to each, if its address is one of this machine.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use codex_network_config::duration_text;
use codex_network_control::message::Listener;

use super::facts::Facts;
use super::finding::Finding;

/// How long a listener may take to accept, and then to answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let Some(answers) = facts.proxy.running() else {
        return vec![Finding::skipped(
            "no proxy answers, so its listeners are not known",
        )];
    };
    let status = &answers.status;
    let mut found = Vec::new();
    if !status.enabled {
        found.push(
            Finding::note("the proxy is switched off (enabled = false)")
                .advise("enabled = true, then proxyctl reload"),
        );
    }
    // The control socket has answered already.
    let listeners = status
        .listeners
        .iter()
        .filter(|listener| listener.name != "control");
    let asked = listeners.map(|listener| {
        judge(
            listener,
            listener
                .address
                .parse()
                .map(|address| probe(&listener.name, address))
                .ok(),
        )
    });
    found.extend(asked);
    found.extend(answers.missing_listeners().into_iter().map(missing));
    if found.is_empty() {
        found.push(Finding::problem(
            "the proxy has no listener",
            "proxyctl status",
        ));
    }
    found
}

/// The result of connecting to a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
enum ProbeResult {
    Answers,
    /// The address is not one of this machine, so nothing was sent.
    Elsewhere,
    Fails(String),
}

fn judge(listener: &Listener, outcome: Option<ProbeResult>) -> Finding {
    let what = format!("{} {}", listener.name, listener.address);
    match outcome {
        Some(ProbeResult::Answers) => Finding::ok(format!("{what} answers ({})", listener.origin)),
        Some(ProbeResult::Elsewhere) => Finding::note(format!(
            "{what} is not an address of this machine, and was not tried"
        )),
        Some(ProbeResult::Fails(why)) => Finding::problem(
            format!("{what} {why}"),
            "proxyctl status (connections, max_connections), and the proxy's log",
        ),
        None => Finding::note(format!(
            "{what} is not an address that proxyctl can connect to"
        )),
    }
}

fn missing((name, address): (&str, SocketAddr)) -> Finding {
    Finding::problem(
        format!("{name} {address} is on, but the proxy does not listen there"),
        "proxyctl doctor ports, then proxyctl reload",
    )
}

fn probe(name: &str, address: SocketAddr) -> ProbeResult {
    let address = SocketAddr::new(reachable(address.ip()), address.port());
    // Only addresses of this machine can be bound.
    if !address.ip().is_loopback() && TcpListener::bind((address.ip(), 0)).is_err() {
        return ProbeResult::Elsewhere;
    }
    match exchange(name, address) {
        Ok(()) => ProbeResult::Answers,
        Err(why) => ProbeResult::Fails(why),
    }
}

/// The address to connect to for an unspecified listener.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// Sends a message that a listener answers by itself: nothing is judged, recorded or dialled.
fn exchange(name: &str, address: SocketAddr) -> Result<(), String> {
    #[expect(
        clippy::disallowed_methods,
        reason = "a client of the proxy, and to an address of this machine"
    )]
    let connected = TcpStream::connect_timeout(&address, PROBE_TIMEOUT);
    let mut stream = connected.map_err(|error| format!("takes no connections: {error}"))?;
    // The HTTP listener answers a ping (RFC 9110 section 9.3.7) without a line in its log, and the admin
    // API says that it is healthy.
    let line = if name == "admin" {
        "GET /health"
    } else {
        "OPTIONS *"
    };
    let request = format!("{line} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let (message, expected): (&[u8], &[u8]) = if name == "socks5" {
        // No authentication, which is accepted (RFC 1928 section 3).
        (&[5, 1, 0], &[5, 0])
    } else {
        (request.as_bytes(), b"HTTP/1.1 ")
    };
    let mut received = vec![0; expected.len()];
    let exchanged = stream
        .set_read_timeout(Some(PROBE_TIMEOUT))
        .and_then(|()| stream.set_write_timeout(Some(PROBE_TIMEOUT)))
        .and_then(|()| stream.write_all(message))
        .and_then(|()| stream.read_exact(&mut received));
    match exchanged {
        Ok(()) if received == expected => Ok(()),
        Ok(()) => Err("is answered by another program".to_owned()),
        Err(error) => Err(format!(
            "takes connections and does not answer within {} ({})",
            duration_text(PROBE_TIMEOUT),
            error.kind()
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::finding::Verdict::{Note, Ok as Good, Problem};
    use super::*;

    #[test]
    fn k1_the_result_of_a_probe_is_judged() {
        let listener = Listener {
            name: "http".to_owned(),
            address: "127.0.0.1:3128".to_owned(),
            origin: "bound".to_owned(),
        };
        for (outcome, verdict) in [
            (Some(ProbeResult::Answers), Good),
            (Some(ProbeResult::Elsewhere), Note),
            (
                Some(ProbeResult::Fails("does not answer".to_owned())),
                Problem,
            ),
            (None, Note),
        ] {
            let found = judge(&listener, outcome);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.found.starts_with("http 127.0.0.1:3128 "), "{found:?}");
        }
    }

    #[test]
    fn k1_nothing_is_sent_to_another_machine() {
        let documentation = "192.0.2.1:3128".parse().expect("an address");
        assert_eq!(probe("http", documentation), ProbeResult::Elsewhere);
    }

    #[expect(clippy::disallowed_methods, reason = "to the test's own listener")]
    #[test]
    fn k1_another_program_and_a_closed_port_are_problems() {
        let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = other.local_addr().expect("an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = other.accept().expect("a connection");
            stream.write_all(b"220 mail").expect("a reader");
            // Until the other side has closed, so that nothing is reset.
            let _ = stream.read(&mut [0; 64]);
        });
        assert_eq!(
            probe("socks5", address),
            ProbeResult::Fails("is answered by another program".to_owned())
        );
        server.join().expect("it ends");
        // A connected socket holds its port: nothing listens there, and no other test gets it.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let client = listener.local_addr().and_then(TcpStream::connect);
        let client = client.expect("a connection");
        let closed = client.local_addr().expect("an address");
        let ProbeResult::Fails(why) = probe("socks5", closed) else {
            panic!("nothing listens on {closed}");
        };
        assert!(why.contains("takes no connections"), "{why}");
    }
}
