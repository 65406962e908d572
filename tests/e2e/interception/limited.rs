//! Limited mode over HTTPS: reads only (SPEC M1, P7, H5, R1, R3).

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::origin::Answer;
use e2e::setup::TlsSetup;
use serde_json::{Value, json};

use super::BOTH;

#[test]
fn p7_only_get_head_and_options_pass() {
    for protocol in BOTH {
        let setup = TlsSetup::new(&Config::limited(), &[protocol], |_| Answer::text("read"));
        for method in ["GET", "HEAD", "OPTIONS"] {
            let answer = setup.ask(protocol, method, "allowed.test", "/p?q", &[]);
            assert_eq!(answer.status, 200, "{protocol} {method}");
            let body = if method == "HEAD" { "" } else { "read" };
            assert_eq!(answer.text(), body, "{protocol} {method}");
        }
        let seen = setup.origin.requests().len();
        assert_eq!(seen, 3);
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "get", "PROPFIND"] {
            let answer = setup.ask(protocol, method, "allowed.test", "/p?q", &[]);
            assert_eq!(answer.status, 403, "{protocol} {method}");
        }
        assert_eq!(setup.origin.requests().len(), seen);
    }
}

#[test]
fn h5_a_block_inside_tls_looks_like_a_block_of_connect() {
    for protocol in BOTH {
        let setup = TlsSetup::echoing(&Config::limited(), &[protocol]);
        let answer = setup.ask(protocol, "POST", "allowed.test", "/secret?token=x", &[]);
        let port = setup.origin.addr().port();
        let decision = format!(
            r#"{{"decision":"deny","reason":"method_not_allowed","source":"mode_guard","protocol":"https","host":"allowed.test","port":{port}}}"#
        );
        assert_eq!(answer.status, 403);
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(
            answer.header("x-proxy-error"),
            Some("blocked-by-method-policy")
        );
        assert_eq!(answer.header("x-network-policy-decision"), Some(&*decision));
        let text = answer.text();
        let (first, sentence) = text.split_once('\n').expect("two lines");
        assert_eq!(first, format!("CODEX_NETWORK_POLICY_DECISION {decision}"));
        assert!(sentence.contains("limited mode"), "{sentence}");
        assert!(!text.contains("token"), "{text}");
    }
}

#[test]
fn r1_r3_every_request_inside_tls_is_recorded() {
    for protocol in BOTH {
        let setup = TlsSetup::echoing(&Config::limited(), &[protocol]);
        setup.ask(protocol, "GET", "allowed.test", "/s3cret", &[]);
        setup.ask(protocol, "POST", "allowed.test", "/s3cret", &[]);
        let entry = setup.blocked("method_not_allowed");
        assert_eq!(entry["protocol"], "https");
        assert_eq!(entry["method"], "POST");
        assert_eq!(entry["host"], "allowed.test");
        assert_eq!(entry["port"], setup.origin.addr().port());
        assert_eq!(entry["mode"], "limited");
        assert_eq!(entry["source"], "mode_guard");
        let events = || {
            let audited = |name| {
                move |line: &e2e::daemon::LogLine| -> Value {
                    line.field(name).cloned().unwrap_or_default()
                }
            };
            let mut lines = setup.daemon.logs();
            lines.retain(|line| line.target() == Some("codex_otel.network_proxy"));
            lines
                .iter()
                .map(|line| {
                    json!([
                        audited("network.policy.decision")(line),
                        audited("network.policy.reason")(line),
                        audited("network.transport.protocol")(line),
                        audited("http.request.method")(line),
                    ])
                })
                .collect::<Vec<_>>()
        };
        e2e::wait::poll(e2e::wait::TIMEOUT, || (events().len() >= 4).then_some(()));
        let connect = json!(["allow", "allow", "https_connect", "CONNECT"]);
        let read = json!(["allow", "allow", "https", "GET"]);
        let write = json!(["deny", "method_not_allowed", "https", "POST"]);
        assert_eq!(events(), [connect.clone(), read, connect, write]);
        assert!(
            !setup
                .daemon
                .logs()
                .iter()
                .any(|line| line.raw.contains("s3cret"))
        );
    }
}

#[test]
fn p7_a_websocket_is_refused_in_limited_mode() {
    let setup = TlsSetup::new(&Config::limited(), &["http/1.1"], |_| {
        Answer::Upgrade(Vec::new())
    });
    let mut client = setup.http1("allowed.test");
    let answer = client.exchange(&setup.message(
        "GET",
        "allowed.test",
        "/",
        &[("Connection", "Upgrade"), ("Upgrade", "websocket")],
    ));
    assert_eq!(answer.status, 403);
    assert_eq!(setup.origin.requests().len(), 0);
    let entry = setup.blocked("method_not_allowed");
    assert_eq!(
        (&entry["protocol"], &entry["method"]),
        (&"https".into(), &"GET".into())
    );
}

#[test]
fn p7_method_overrides_are_removed_inside_tls() {
    for protocol in BOTH {
        let setup = TlsSetup::echoing(&Config::limited(), &[protocol]);
        let fields = [
            ("x-http-method-override", "DELETE"),
            ("x_http_method", "DELETE"),
            ("x-method-override", "DELETE"),
            ("x-kept", "1"),
        ];
        let answer = setup.ask(protocol, "GET", "allowed.test", "/", &fields);
        assert_eq!(answer.status, 200);
        let text = answer.text();
        assert!(
            text.contains("x-kept") && !text.contains("DELETE"),
            "{text}"
        );
    }
}

/// A host that policy refuses is refused at the CONNECT, and so is any host without interception.
#[test]
fn m1_limited_mode_without_interception_permits_no_tunnel() {
    let setup = TlsSetup::echoing(&Config::limited(), &["http/1.1"]);
    for (host, reason) in [("denied.test", "denied"), ("blocked.test", "not_allowed")] {
        let mut client = Connection::open(setup.daemon.http_addr());
        assert_eq!(client.connect(&setup.authority(host)).status, 403);
        assert_eq!(setup.blocked(reason)["protocol"], "http-connect");
    }
    let off = Config::limited().set("network", "mitm", "false");
    setup.daemon.reload_with(&off);
    let mut client = Connection::open(setup.daemon.http_addr());
    let answer = client.connect(&setup.authority("allowed.test"));
    assert_eq!(answer.status, 403);
    assert_eq!(
        answer.header("x-proxy-error"),
        Some("blocked-by-mitm-required")
    );
    assert_eq!(setup.origin.handshakes().len(), 0);
}
