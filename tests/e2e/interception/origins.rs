//! Origins with broken TLS: a 502 or 504 that gives the reason, and never a session (SPEC M6, H8).

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;

use e2e::client::Response;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Builder, Origin};
use e2e::proxyctl::exported_ca;
use e2e::raw_origin::serve_one;
use e2e::setup::{RawTlsSetup, TlsSetup};
use e2e::tls::{Server, TestCa};

use super::BOTH;

fn origin() -> Builder {
    Origin::answering(|_| Answer::text("never told"))
}

#[test]
fn m6_an_invalid_certificate_is_a_502_with_the_reason() {
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

/// An origin at this address that the test plays itself, with a short limit for connecting.
pub(super) fn raw_setup(address: SocketAddr, ca: &TestCa) -> RawTlsSetup {
    let config = Config::limited().set("daemon.limits", "connect_timeout", r#""500ms""#);
    RawTlsSetup::new(&config, "allowed.test", address, ca)
}

/// The answer to `GET /` from an origin at this address that the daemon does not trust.
fn answer_from(address: SocketAddr, protocol: &str) -> Response {
    raw_setup(address, &TestCa::new()).get(protocol)
}

#[test]
fn m6_an_origin_without_tls_is_a_502() {
    for protocol in BOTH {
        let plain = serve_one(|mut stream| {
            stream.read_exact(&mut [0; 5])?;
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        });
        let answer = answer_from(plain, protocol);
        let (status, text) = (answer.status, answer.text());
        assert_eq!(status, 502, "{text}");
        assert!(text.contains("TLS handshake"), "{text}");
        let address = serve_one(|mut stream| stream.write_all(b"220 mail.test ESMTP\r\n"));
        assert_eq!(answer_from(address, protocol).status, 502);
    }
}

#[test]
fn m6_an_origin_that_hangs_up_is_a_502() {
    for protocol in BOTH {
        let address = serve_one(|_| Ok(()));
        assert_eq!(answer_from(address, protocol).status, 502);
        let reset = serve_one(|mut stream| {
            stream.read_exact(&mut [0; 5])?;
            socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO))
        });
        assert_eq!(answer_from(reset, protocol).status, 502);
    }
}

#[test]
fn m6_an_origin_that_never_answers_is_a_504() {
    for protocol in BOTH {
        let address = serve_one(|mut stream| {
            std::io::copy(&mut stream, &mut std::io::sink())?;
            Ok(())
        });
        let answer = answer_from(address, protocol);
        let (status, text) = (answer.status, answer.text());
        assert_eq!(status, 504, "{text}");
        assert!(text.contains("timed out"), "{text}");
    }
}

/// Origins with good TLS and broken HTTP.
#[test]
fn m6_an_origin_that_closes_without_an_answer_is_a_502_after_two_tries() {
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
