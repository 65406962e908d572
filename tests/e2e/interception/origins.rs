//! Origins with broken TLS: a 502 or 504 that gives the reason, and never a session (SPEC M6, H8).

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use e2e::client::{Connection, Http2};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Builder, Origin};
use e2e::proxyctl::exported_ca;
use e2e::raw_origin::serve_one;
use e2e::setup::TlsSetup;
use e2e::tls::{Client, Server, TestCa};

use super::BOTH;

fn origin() -> Builder {
    Origin::answering(|_| Answer::text("never told"))
}

#[test]
fn m6_a_certificate_that_does_not_hold_is_a_502_that_names_the_reason() {
    type Make = fn(Server<'_>) -> Server<'_>;
    let stranger = TestCa::new();
    let cases: [(&str, &[&str], Make); 3] = [
        ("certificate_expired", &TlsSetup::NAMES, |server| {
            server.expired()
        }),
        ("certificate_wrong_name", &["other.test"], |server| server),
        ("certificate_unknown_issuer", &TlsSetup::NAMES, |server| {
            server.self_signed()
        }),
    ];
    for protocol in BOTH {
        for (reason, names, make) in cases {
            let setup = TlsSetup::serving(&Config::limited(), origin(), |ca| {
                make(Server::of(ca, names).alpn(&[protocol]))
            });
            for _ in 0..2 {
                let answer = setup.ask(protocol, "GET", "allowed.test", "/", &[]);
                assert_eq!(answer.status, 502, "{reason}");
                assert!(answer.text().contains(reason), "{}", answer.text());
                assert_eq!(answer.header("x-proxy-error"), None, "it is not a block");
            }
            assert_eq!(setup.origin.requests().len(), 0);
        }
        let server = Server::of(&stranger, &TlsSetup::NAMES).alpn(&[protocol]);
        let origin = origin().tls_as(&server).start();
        let ca = TestCa::new();
        let daemon = Daemon::start_trusting(&Config::limited(), &ca);
        let proxy_ca = exported_ca(&daemon);
        let setup = TlsSetup {
            origin,
            daemon,
            ca,
            proxy_ca,
        };
        let answer = setup.ask(protocol, "GET", "allowed.test", "/", &[]);
        assert_eq!(answer.status, 502);
        let text = answer.text();
        assert!(text.contains("certificate_unknown_issuer"), "{text}");
    }
}

/// Our own authority is not trusted for upstreams.
#[test]
fn m6_every_request_of_a_session_with_a_bad_origin_is_a_502() {
    for protocol in BOTH {
        let setup = TlsSetup::serving(&Config::limited(), origin(), |ca| {
            Server::of(ca, &TlsSetup::NAMES).alpn(&[protocol]).expired()
        });
        if protocol == "h2" {
            let client = setup.http2("allowed.test");
            for _ in 0..3 {
                let url = setup.url("allowed.test", "/");
                assert_eq!(client.request("GET", &url, &[], b"").status, 502);
                assert_eq!(client.request("POST", &url, &[], b"").status, 403);
            }
        } else {
            let mut client = setup.http1("allowed.test");
            for _ in 0..3 {
                let get = setup.message("GET", "allowed.test", "/", &[]);
                assert_eq!(client.exchange(&get).status, 502);
                let post = setup.message("POST", "allowed.test", "/", &[]);
                assert_eq!(client.exchange(&post).status, 403);
            }
        }
    }
}

/// A daemon, and a broken origin at this address.
pub(super) struct Odd {
    pub(super) daemon: Daemon,
    pub(super) authority: String,
    client: Client,
}

fn odd(address: SocketAddr) -> Odd {
    Odd::at(address, &TestCa::new())
}

impl Odd {
    /// A daemon that trusts this authority, and a client of it.
    pub(super) fn at(address: SocketAddr, ca: &TestCa) -> Self {
        let config = Config::limited().set("daemon.limits", "connect_timeout", r#""500ms""#);
        let daemon = Daemon::start_trusting(&config, ca);
        Self {
            authority: format!("allowed.test:{}", address.port()),
            client: Client::trusting_pem(&exported_ca(&daemon)),
            daemon,
        }
    }

    /// HTTP/2 inside intercepted TLS.
    pub(super) fn http2(&self) -> Http2 {
        let mut tunnel = Connection::open(self.daemon.http_addr());
        assert_eq!(tunnel.connect(&self.authority).status, 200);
        tunnel.into_http2(&self.client.clone().alpn(&["h2"]), "allowed.test")
    }

    pub(super) fn ask(&self, protocol: &str) -> (u16, String) {
        let answer = if protocol == "h2" {
            let url = format!("https://{}/", self.authority);
            self.http2().request("GET", &url, &[], b"")
        } else {
            let mut tunnel = Connection::open(self.daemon.http_addr());
            assert_eq!(tunnel.connect(&self.authority).status, 200);
            let client = self.client.clone().alpn(&[protocol]);
            let (mut client, _) = tunnel.secure(&client, "allowed.test");
            client.exchange(&format!(
                "GET / HTTP/1.1\r\nHost: {}\r\n\r\n",
                self.authority
            ))
        };
        (answer.status, answer.text())
    }
}

#[test]
fn m6_an_origin_without_tls_is_a_502() {
    for protocol in BOTH {
        let plain = serve_one(|mut stream| {
            stream.read_exact(&mut [0; 5])?;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        });
        let (status, text) = odd(plain).ask(protocol);
        assert_eq!(status, 502, "{text}");
        assert!(text.contains("TLS handshake"), "{text}");
        let address = serve_one(|mut stream| stream.write_all(b"220 mail.test ESMTP\r\n"));
        assert_eq!(odd(address).ask(protocol).0, 502);
    }
}

#[test]
fn m6_an_origin_that_hangs_up_is_a_502() {
    for protocol in BOTH {
        let address = serve_one(|_| Ok(()));
        assert_eq!(odd(address).ask(protocol).0, 502);
        let reset = serve_one(|mut stream| {
            stream.read_exact(&mut [0; 5])?;
            socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))
        });
        assert_eq!(odd(reset).ask(protocol).0, 502);
    }
}

#[test]
fn m6_an_origin_that_never_answers_is_a_504() {
    for protocol in BOTH {
        let address = serve_one(|mut stream| {
            std::io::copy(&mut stream, &mut std::io::sink())?;
            Ok(())
        });
        let (status, text) = odd(address).ask(protocol);
        assert_eq!(status, 504, "{text}");
        assert!(text.contains("timed out"), "{text}");
    }
}

/// Origins with good TLS and broken HTTP.
#[test]
fn m6_an_origin_that_hangs_up_inside_is_a_502_and_is_asked_no_more_than_twice() {
    for (protocol, method) in [
        ("http/1.1", "GET"),
        ("h2", "GET"),
        ("http/1.1", "POST"),
        ("h2", "POST"),
    ] {
        for answer in [Answer::Close, Answer::Reset] {
            let (_directory, secret) = super::hooks::secret();
            let config = super::hooks::hooked(&secret);
            let setup = TlsSetup::new(&config, &[protocol], move |_| answer.clone());
            let answer = setup.ask(protocol, method, "hooked.test", "/api/x", &[]);
            assert_eq!(answer.status, 502);
            let asked = setup.origin.requests().len();
            let most = if method == "GET" { 2 } else { 1 };
            assert!(
                (1..=most).contains(&asked),
                "{protocol} {method}: {asked} times"
            );
        }
    }
}
