//! The HTTP libraries of Python: requests, httpx, aiohttp, and `PySocks` alone, datagrams too.

use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;

use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Builder, Origin};
use e2e::program::{Program, Run, installed};

use crate::scene::{Attempt, CONTENT, Client, Door, Outcome, Scheme};

/// Sends a datagram through the SOCKS5 door, to a server that sends it back, and waits for that as
/// long as a client would.
fn datagram(daemon: &Daemon, name: &str) -> Run {
    let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = server.local_addr().expect("a bound socket").port();
    let echo = server.try_clone().expect("a second handle on a socket");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..length], from);
        }
    });
    Program::new(installed("venv/bin/python"))
        .arg("-B")
        .arg(script("pysocks_datagram"))
        .args([name, &port.to_string(), CONTENT])
        .arg(daemon.socks_addr().to_string())
        .run()
}

/// S3.
#[test]
fn pysocks_sends_a_datagram_where_allowed_and_is_answered() {
    let daemon = Daemon::start(e2e::binary!(), &Config::example());
    let run = datagram(&daemon, "allowed.test");
    run.succeeded();
    assert_eq!(run.stdout, CONTENT);
    assert!(daemon.blocked().is_empty(), "{:?}", daemon.blocked());
}

/// S3, R1.
#[test]
fn pysocks_is_not_answered_where_blocked() {
    let daemon = Daemon::start(e2e::binary!(), &Config::example());
    let run = datagram(&daemon, "blocked.test");
    run.failed().says_one_of(&["timed out"]);
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "blocked.test");
    assert_eq!(entry["protocol"], "socks5-udp", "{entry}");
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("clients/python")
        .join(format!("{name}.py"))
}

/// A library, by the script that uses it as its users do.
struct Library {
    /// `tests/clients/python/NAME.py`, run with the URL and the proxy's URL.
    name: &'static str,
    /// What it says when a plain request, a CONNECT or a SOCKS5 one is refused.
    refusals: [&'static [&'static str]; 3],
    /// How its plain requests through the HTTP door are recorded.
    plain: &'static [&'static str],
}

impl Client for Library {
    fn origin(&self, _scheme: Scheme) -> Builder {
        Origin::answering(|_| Answer::text(CONTENT))
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let run = Program::new(installed("venv/bin/python"))
            .arg("-B")
            .arg(script(self.name))
            .arg(format!("{}/some/path", attempt.base))
            .arg(attempt.proxy_or_empty())
            // Each by its library's own means: requests reads the one, the ssl
            // module the other.
            .env("REQUESTS_CA_BUNDLE", attempt.ca)
            .env("SSL_CERT_FILE", attempt.ca)
            .run();
        let fetched = (run.code == Some(0)).then(|| run.stdout.clone());
        Outcome { run, fetched }
    }

    fn refusals(&self, scheme: Scheme, door: Door) -> &'static [&'static str] {
        match (scheme, door) {
            (Scheme::Http, Door::Http) => self.refusals[0],
            (Scheme::Https, Door::Http) => self.refusals[1],
            (_, Door::Socks5) => self.refusals[2],
        }
    }

    fn protocols(&self, scheme: Scheme, door: Door) -> &'static [&'static str] {
        match (scheme, door) {
            (_, Door::Socks5) => &["socks5"],
            (Scheme::Http, Door::Http) => self.plain,
            (Scheme::Https, Door::Http) => &["http-connect"],
        }
    }
}

mod requests {
    const REQUESTS: super::Library = super::Library {
        name: "requests_get",
        refusals: [
            &["403 Client Error: Forbidden"],
            &["Tunnel connection failed: 403 Forbidden"],
            &["0x02: Connection not allowed by ruleset"],
        ],
        plain: &["http"],
    };
    crate::scene::client_tests!(REQUESTS; http, https, socks5);
}

mod httpx {
    const HTTPX: super::Library = super::Library {
        name: "httpx_get",
        refusals: [
            &["Client error '403 Forbidden'"],
            &["ProxyError: 403 Forbidden"],
            &["Connection not allowed by ruleset"],
        ],
        plain: &["http"],
    };
    crate::scene::client_tests!(HTTPX; http, https, socks5);
}

mod aiohttp {
    const AIOHTTP: super::Library = super::Library {
        name: "aiohttp_get",
        refusals: [
            &["403, message='Forbidden'"],
            &["403, message='Forbidden'"],
            &["Connection not allowed by ruleset"],
        ],
        plain: &["http"],
    };
    crate::scene::client_tests!(AIOHTTP; http, https, socks5);
}

mod pysocks {
    const PYSOCKS: super::Library = super::Library {
        name: "pysocks_get",
        refusals: [
            &["403: Forbidden"],
            &["403: Forbidden"],
            &["0x02: Connection not allowed by ruleset"],
        ],
        // It only knows tunnels.
        plain: &["http-connect"],
    };
    crate::scene::client_tests!(PYSOCKS; http, https, socks5);
}
