//! The HTTP libraries of Python: requests, httpx, aiohttp and urllib, and `PySocks` alone, with
//! datagrams too.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;

use e2e::daemon::{Config, Daemon};
use e2e::program::Run;

use crate::client::{Attempt, CONTENT, Client, Outcome, ProxyProtocol, Scheme, python};
use crate::intercepted::Intercepted;

/// Sends a datagram by SOCKS5 to an echo server, and waits for the echo as
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
    python("pysocks_datagram")
        .args([name, &port.to_string(), CONTENT])
        .arg(daemon.socks_addr().to_string())
        .run()
}

#[test]
fn s3_pysocks_gets_an_answer_to_an_allowed_datagram() {
    let daemon = Daemon::start(&Config::example());
    let run = datagram(&daemon, "allowed.test");
    run.succeeded();
    assert_eq!(run.stdout, CONTENT);
    assert!(daemon.blocked().is_empty(), "{:?}", daemon.blocked());
}

#[test]
fn s3_r1_pysocks_gets_no_answer_to_a_blocked_datagram() {
    let daemon = Daemon::start(&Config::example());
    let run = datagram(&daemon, "blocked.test");
    run.failed().says_one_of(&["timed out"]);
    let entry = daemon.wait_for_blocked(|entry| entry["host"] == "blocked.test");
    assert_eq!(entry["protocol"], "socks5-udp", "{entry}");
}

/// A library, with the script that uses it like its users.
struct Library {
    /// `tests/clients/python/NAME_fetch.py`, run with the URL, the proxy's URL and,
    /// unless it is `GET`, the method.
    name: &'static str,
    /// Arguments before those.
    options: &'static [&'static str],
    /// Its message when a plain request, a CONNECT or a SOCKS5 request is refused.
    refusals: [&'static [&'static str]; 3],
    /// How its plain requests are recorded if the proxy speaks HTTP.
    plain: &'static [&'static str],
    /// The version that it speaks inside intercepted TLS.
    versions: &'static [&'static str],
    /// Its message for a request that policy refuses there.
    forbidden: &'static [&'static str],
}

/// The common values.
const USUAL: Library = Library {
    name: "",
    options: &[],
    refusals: [&[]; 3],
    plain: &["http"],
    versions: &["HTTP/1.1"],
    forbidden: &[],
};

impl Client for Library {
    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        Outcome::printed(self.run(attempt, &[]))
    }

    fn refusals(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        match (scheme, through) {
            (Scheme::Http, ProxyProtocol::Http) => self.refusals[0],
            (Scheme::Https, ProxyProtocol::Http) => self.refusals[1],
            (_, ProxyProtocol::Socks5) => self.refusals[2],
        }
    }

    fn protocols(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        match (scheme, through) {
            (_, ProxyProtocol::Socks5) => &["socks5"],
            (Scheme::Http, ProxyProtocol::Http) => self.plain,
            (Scheme::Https, ProxyProtocol::Http) => &["http-connect"],
        }
    }
}

impl Intercepted for Library {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        self.run(attempt, &["POST"])
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        self.forbidden
    }

    fn distrusts(&self) -> &'static [&'static str] {
        &["certificate verify failed: self-signed certificate in certificate chain"]
    }

    fn versions(&self) -> &'static [&'static str] {
        self.versions
    }
}

impl Library {
    fn run(&self, attempt: &Attempt<'_>, method: &[&str]) -> Run {
        attempt
            .python(&format!("{}_fetch", self.name))
            .args(self.options)
            .arg(format!("{}/some/path", attempt.base))
            .arg(attempt.proxy_or_empty())
            .args(method)
            .run()
    }
}

mod requests {
    const REQUESTS: super::Library = super::Library {
        name: "requests",
        refusals: [
            &["403 Client Error: Forbidden"],
            &["Tunnel connection failed: 403 Forbidden"],
            &["0x02: Connection not allowed by ruleset"],
        ],
        forbidden: &["403 Client Error: Forbidden"],
        ..super::USUAL
    };
    crate::client::client_tests!(REQUESTS; http, https, socks5);
    crate::intercepted::intercepted_tests!(REQUESTS);
}

mod httpx {
    const HTTPX: super::Library = super::Library {
        name: "httpx",
        refusals: [
            &["Client error '403 Forbidden'"],
            &["ProxyError: 403 Forbidden"],
            &["Connection not allowed by ruleset"],
        ],
        forbidden: &["Client error '403 Forbidden'"],
        ..super::USUAL
    };
    crate::client::client_tests!(HTTPX; http, https, socks5);
    crate::intercepted::intercepted_tests!(HTTPX);

    /// It sends its whole request before it reads an answer, and needs room for all of it.
    #[test]
    fn p7_a_large_upload_over_http2_is_refused_with_an_explanation() {
        let upload = super::Library {
            options: &["--http2", "--upload=5000000"],
            versions: &["HTTP/2.0"],
            ..HTTPX
        };
        crate::intercepted::does_not_write(&upload);
    }

    mod http2 {
        const HTTP2: crate::python::Library = crate::python::Library {
            options: &["--http2"],
            versions: &["HTTP/2.0"],
            ..super::HTTPX
        };
        crate::intercepted::intercepted_tests!(HTTP2);
    }
}

mod aiohttp {
    const AIOHTTP: super::Library = super::Library {
        name: "aiohttp",
        refusals: [
            &["403, message='Forbidden'"],
            &["403, message='Forbidden'"],
            &["Connection not allowed by ruleset"],
        ],
        forbidden: &["403, message='Forbidden'"],
        ..super::USUAL
    };
    crate::client::client_tests!(AIOHTTP; http, https, socks5);
    crate::intercepted::intercepted_tests!(AIOHTTP);
}

mod urllib {
    const URLLIB: super::Library = super::Library {
        name: "urllib",
        refusals: [
            &["HTTP Error 403: Forbidden"],
            &["Tunnel connection failed: 403 Forbidden"],
            // It does not support SOCKS.
            &[],
        ],
        forbidden: &["HTTP Error 403: Forbidden"],
        ..super::USUAL
    };
    crate::client::client_tests!(URLLIB; http, https);
    crate::intercepted::intercepted_tests!(URLLIB);
}

mod pysocks {
    const PYSOCKS: super::Library = super::Library {
        name: "pysocks",
        refusals: [
            &["403: Forbidden"],
            &["403: Forbidden"],
            &["0x02: Connection not allowed by ruleset"],
        ],
        // It only makes tunnels.
        plain: &["http-connect"],
        ..super::USUAL
    };
    crate::client::client_tests!(PYSOCKS; http, https, socks5);
}
