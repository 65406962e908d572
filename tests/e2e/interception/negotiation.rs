//! The results of the handshakes: the protocol, the version, the certificate, and whether an
//! earlier session resumes (SPEC M4, M6, M7).

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::setup::TlsSetup;
use e2e::tls::{Client, Server, TLS12, TLS13};
use rustls::pki_types::{CertificateDer, ServerName};

use super::BOTH;

#[test]
fn m6_the_client_is_offered_what_the_origin_speaks() {
    for (origin, client, wanted) in [
        (&["h2", "http/1.1"][..], &["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1", "h2"], &["h2", "http/1.1"], Some("http/1.1")),
        (&["h2", "http/1.1"], &["http/1.1"], Some("http/1.1")),
        (&["http/1.1"], &["h2", "http/1.1"], Some("http/1.1")),
        (&["h2"], &["h2", "http/1.1"], Some("h2")),
        (&["http/1.1", "h2"], &["h2"], Some("h2")),
        (&[], &["h2", "http/1.1"], Some("http/1.1")),
        (&["http/1.1"], &[], None),
        (&["h2", "http/1.1"], &[], None),
        (&[], &[], None),
    ] {
        let setup = TlsSetup::echoing(&Config::limited(), origin);
        let client = setup.client(client);
        let tunnel = setup.tunnel("allowed.test");
        let answer = if wanted == Some("h2") {
            let client = tunnel.into_http2(&client, "allowed.test");
            client.request("GET", &setup.url("allowed.test", "/"), &[], b"")
        } else {
            let (mut client, session) = tunnel.secure(&client, "allowed.test");
            assert_eq!(session.alpn.as_deref(), wanted, "{origin:?}");
            client.exchange(&setup.message("GET", "allowed.test", "/", &[]))
        };
        assert_eq!(answer.status, 200, "{origin:?}: {}", answer.text());
        let version = setup.origin.requests()[0].version.clone();
        let spoken = if wanted == Some("h2") {
            "HTTP/2.0"
        } else {
            "HTTP/1.1"
        };
        assert_eq!(version, spoken, "{origin:?}");
    }
}

/// For example a gRPC program, or `curl --http2-prior-knowledge`.
#[test]
fn m6_an_http2_only_client_is_served_from_an_http_1_1_only_origin() {
    for origin in [&["http/1.1"][..], &[]] {
        let setup = TlsSetup::echoing(&Config::limited(), origin);
        let client = setup.http2("allowed.test");
        for path in ["/1", "/2"] {
            let fields = [("cookie", "a=1"), ("cookie", "b=2"), ("te", "trailers")];
            let answer = client.request("GET", &setup.url("allowed.test", path), &fields, b"");
            assert_eq!(answer.status, 200, "{origin:?}: {}", answer.text());
            assert_eq!(answer.json()["target"], path);
        }
        let answer = client.request("HEAD", &setup.url("allowed.test", "/"), &[], b"");
        assert_eq!(answer.status, 200);
        let refused = client.request("POST", &setup.url("allowed.test", "/"), &[], b"x");
        assert_eq!(refused.status, 403);
        let seen = setup.origin.requests();
        assert_eq!(seen.len(), 3);
        for request in &seen[..2] {
            assert_eq!(request.version, "HTTP/1.1");
            let authority = setup.authority("allowed.test");
            assert_eq!(request.header("host"), Some(&*authority));
            assert_eq!(request.headers.all("cookie"), ["a=1; b=2"]);
        }
    }
}

/// The client gets the error in its own protocol.
#[test]
fn m6_an_origin_without_http_is_a_502() {
    for protocol in BOTH {
        let setup = TlsSetup::echoing(&Config::limited(), &["acme-tls/1"]);
        let answer = setup.ask(protocol, "GET", "allowed.test", "/", &[]);
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(setup.origin.requests().len(), 0);
    }
}

#[test]
fn m6_either_side_may_support_only_one_version_of_tls() {
    for origin in [&TLS12, &TLS13] {
        for client in [&TLS12, &TLS13] {
            for protocol in BOTH {
                let echo = Origin::answering(|_| Answer::Echo);
                let setup = TlsSetup::serving(&Config::limited(), echo, |ca| {
                    Server::of(ca, &TlsSetup::NAMES)
                        .alpn(&[protocol])
                        .only(origin)
                });
                let trusting = setup.client(&[protocol]).only(client);
                let tunnel = setup.tunnel("allowed.test");
                let (status, version) = if protocol == "h2" {
                    let client = tunnel.into_http2(&trusting, "allowed.test");
                    let url = setup.url("allowed.test", "/");
                    let answer = client.request("GET", &url, &[], b"");
                    (answer.status, client.session().version)
                } else {
                    let (mut client, session) = tunnel.secure(&trusting, "allowed.test");
                    let get = setup.message("GET", "allowed.test", "/", &[]);
                    (client.exchange(&get).status, session.version)
                };
                assert_eq!((status, version), (200, client.version));
                let theirs = setup.origin.handshakes()[0].session.clone();
                assert_eq!(theirs.expect("a session").version, origin.version);
            }
        }
    }
}

#[test]
fn m6_tls_sessions_are_resumed_on_both_sides() {
    for version in [&TLS12, &TLS13] {
        for protocol in BOTH {
            let setup = TlsSetup::echoing(&Config::limited(), &[protocol]);
            let client = setup.client(&[protocol]).only(version);
            let mut resumed = Vec::new();
            for _ in 0..3 {
                let tunnel = setup.tunnel("allowed.test");
                resumed.push(if protocol == "h2" {
                    let client = tunnel.into_http2(&client, "allowed.test");
                    let url = setup.url("allowed.test", "/");
                    assert_eq!(client.request("GET", &url, &[], b"").status, 200);
                    client.session().resumed
                } else {
                    let (mut client, session) = tunnel.secure(&client, "allowed.test");
                    let get = setup.message("GET", "allowed.test", "/", &[]);
                    assert_eq!(client.exchange(&get).status, 200);
                    session.resumed
                });
                // The next client gets another connection to the origin.
                setup.daemon.reload_with(&Config::limited());
            }
            assert_eq!(resumed, [false, true, true], "{protocol} {version:?}");
            let upstream = setup.origin.handshakes();
            let theirs = upstream.last().and_then(|last| last.session.clone());
            assert!(theirs.expect("a session").resumed, "upstream");
        }
    }
}

/// A session is not a permission: each request of a resumed one is decided like any other.
#[test]
fn p7_a_resumed_session_is_judged_like_any_other() {
    let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    let client = setup.client(&["http/1.1"]);
    for wanted in [false, true] {
        let tunnel = setup.tunnel("allowed.test");
        let (mut inside, session) = tunnel.secure(&client, "allowed.test");
        assert_eq!(session.resumed, wanted);
        for (method, status) in [("GET", 200), ("POST", 403)] {
            let message = setup.message(method, "allowed.test", "/", &[]);
            assert_eq!(inside.exchange(&message).status, status);
        }
    }
}

fn assert_is_for(certificate: &[u8], name: &str) {
    let der = CertificateDer::from(certificate);
    let parsed = rustls::server::ParsedCertificate::try_from(&der).expect("a certificate");
    let verify = |name: &str| {
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        rustls::client::verify_server_name(&parsed, &name)
    };
    verify(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    verify("another.test").expect_err("the leaf is for one name");
}

#[test]
fn m7_without_a_server_name_the_leaf_is_for_the_authority() {
    let setup = TlsSetup::echoing(&Config::limited().allow("127.0.0.1"), &["http/1.1"]);
    let client = setup.client(&["http/1.1"]).without_server_name();
    for host in ["allowed.test", "127.0.0.1"] {
        let (mut inside, session) = setup.tunnel(host).secure(&client, host);
        assert_is_for(&session.certificates[0], host);
        let answer = inside.exchange(&setup.message("GET", host, "/", &[]));
        assert_eq!(answer.status, 200, "{host}: {}", answer.text());
        let upstream = setup.origin.handshakes().pop().expect("a handshake");
        let wanted = (host == "allowed.test").then_some(host);
        assert_eq!(upstream.server_name.as_deref(), wanted, "SNI upstream");
    }
}

/// The leaf has only the properties that clients require.
#[test]
fn m4_a_leaf_has_one_name_a_short_validity_and_its_own_serial_number() {
    let setup = TlsSetup::echoing(&Config::limited().allow("127.0.0.1"), &["http/1.1"]);
    let client = setup.client(&["http/1.1"]);
    let leaf = |host: &str| {
        let (_, session) = setup.tunnel(host).secure(&client, host);
        session.certificates[0].clone()
    };
    let one = leaf("allowed.test");
    assert_eq!(one, leaf("allowed.test"), "it is kept");
    assert_ne!(one, leaf("127.0.0.1"));
    let theirs = Client::trusting(&setup.ca);
    let (_, direct) = Connection::open(setup.origin.addr()).secure(&theirs, "allowed.test");
    assert_ne!(one, direct.certificates[0]);
}

#[test]
fn m7_a_server_name_that_differs_from_connect_gets_an_alert_and_is_recorded() {
    let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    for (host, sni) in [
        ("allowed.test", "hooked.test"),
        ("allowed.test", "sub.allowed.test"),
        ("allowed.test", "denied.test"),
    ] {
        let refused = setup
            .tunnel(host)
            .try_secure(&setup.client(&["http/1.1"]), sni);
        let error = refused.err().expect("no session").to_string();
        assert!(error.contains("UnrecognisedName"), "{error}");
    }
    let entries = setup.daemon.blocked();
    assert_eq!(entries.len(), 3);
    for entry in entries {
        assert_eq!(entry["reason"], "policy_denied");
        assert_eq!(entry["detail"], "sni_mismatch");
        assert_eq!(entry["host"], "allowed.test");
    }
    assert_eq!(
        setup.origin.handshakes().len(),
        0,
        "the origin is not contacted"
    );
}

#[test]
fn m7_a_server_name_in_a_tunnel_to_an_address_is_a_mismatch() {
    let setup = TlsSetup::echoing(&Config::limited().allow("127.0.0.1"), &["http/1.1"]);
    let refused = setup
        .tunnel("127.0.0.1")
        .try_secure(&setup.client(&[]), "allowed.test");
    assert!(refused.is_err());
    assert_eq!(setup.blocked("policy_denied")["detail"], "sni_mismatch");
}
