//! Attempt ids (SPEC H11): the id in the CONNECT marks every record inside.

use e2e::client::Connection;
use e2e::daemon::Config;
use e2e::setup::TlsSetup;
use serde_json::{Value, json};

use super::BOTH;

/// `codex-net-attempt-abc.1`, password `secret`.
const BASIC: &str = "Basic Y29kZXgtbmV0LWF0dGVtcHQtYWJjLjE6c2VjcmV0";
/// The same with the id `b2`.
const OTHER: &str = "Basic Y29kZXgtbmV0LWF0dGVtcHQtYjI6c2VjcmV0";

/// A tunnel that was requested with credentials.
fn marked(setup: &TlsSetup) -> Connection {
    let authority = setup.authority("allowed.test");
    let mut client = Connection::open(setup.daemon.http_addr());
    client.send(format!(
        "CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\nProxy-Authorization: {BASIC}\r\n\r\n"
    ));
    assert_eq!(client.read_head().status, 200);
    client
}

#[test]
fn h11_the_credentials_of_the_connect_mark_every_record_inside() {
    for protocol in BOTH {
        let setup = TlsSetup::echoing(&Config::limited(), &BOTH);
        let tunnel = marked(&setup);
        let tls = setup.client(&[protocol]);
        // Fields inside TLS are for the origin: they name no attempt.
        let fields = [("proxy-authorization", OTHER)];
        let asked = [
            ("GET", "allowed.test", 200),
            ("POST", "allowed.test", 403),
            ("GET", "denied.test", 421),
        ];
        if protocol == "h2" {
            let client = tunnel.into_http2(&tls, "allowed.test");
            for (method, host, status) in asked {
                let answer = client.request(method, &setup.url(host, "/"), &fields, b"");
                assert_eq!(answer.status, status, "{method} {host}");
            }
        } else {
            let (mut client, _) = tunnel.secure(&tls, "allowed.test");
            for (method, host, status) in asked {
                let answer = client.exchange(&setup.message(method, host, "/", &fields));
                assert_eq!(answer.status, status, "{method} {host}");
            }
        }
        let entry = |entry: &Value| json!([entry["reason"], entry["attempt_id"]]);
        let entries: Vec<Value> = setup.daemon.blocked().iter().map(entry).collect();
        let wanted = [
            json!(["method_not_allowed", "abc.1"]),
            json!(["policy_denied", "abc.1"]),
        ];
        assert_eq!(entries, wanted, "{protocol}");
        // The CONNECT and the three requests.
        setup.daemon.wait_for_log(|line| {
            line.field("network.policy.reason") == Some(&json!("policy_denied"))
        });
        let events: Vec<Value> = setup
            .daemon
            .logs()
            .iter()
            .filter(|line| line.field("event.name").is_some())
            .map(|line| line.field("attempt_id").cloned().unwrap_or_default())
            .collect();
        assert_eq!(events, vec![json!("abc.1"); 4], "{protocol}");
    }
}
