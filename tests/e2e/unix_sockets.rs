//! Requests to unix sockets on a platform that does not serve them (SPEC H10): the daemon's
//! answers, their order, and the records. The engine's tests cover platforms that serve unix sockets:
//! the daemon has no setting for the platform.

use e2e::client::{Connection, Response};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use serde_json::{Value, json};

use crate::startup::check;

const SOCKET: &str = "x-unix-socket: /var/run/docker.sock\r\n";

fn ask(daemon: &Daemon, method: &str, url: &str, fields: &str) -> Response {
    let mut client = Connection::open(daemon.http_addr());
    client.exchange(&format!("{method} {url} HTTP/1.1\r\n{fields}\r\n"))
}

fn listing(list: &str) -> Config {
    Config::example().set("network", "allow_unix_sockets", list)
}

#[test]
fn h10_a_request_to_a_unix_socket_is_501_whatever_is_allowed() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let url = format!("http://allowed.test:{}/", origin.addr().port());
    for config in [
        Config::example(),
        listing(r#"["/var/run/docker.sock"]"#),
        Config::example().set("network", "dangerously_allow_all_unix_sockets", "true"),
    ] {
        let daemon = Daemon::start(&config);
        for fields in [SOCKET, "X-Unix-Socket: relative\r\n"] {
            let answer = ask(&daemon, "GET", &url, fields);
            assert_eq!(answer.status, 501, "{}", answer.text());
            assert_eq!(answer.text(), "unix sockets unsupported");
            assert_eq!(answer.header("content-type"), Some("text/plain"));
            assert_eq!(answer.header("x-proxy-error"), Some("blocked-by-policy"));
            let decision = answer.header("x-network-policy-decision");
            assert_eq!(
                decision,
                Some(
                    r#"{"decision":"deny","reason":"unix_socket_unsupported","source":"proxy_state","protocol":"http","host":"unix-socket","port":0}"#
                )
            );
        }
        // The host is not the destination of such a request, and the next request is decided by
        // itself.
        assert_eq!(ask(&daemon, "GET", &url, "").text(), "hello");
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn r3_a_unix_socket_is_recorded_without_its_path() {
    let daemon = Daemon::start(&listing(r#"["/var/run/docker.sock"]"#));
    ask(&daemon, "GET", "http://localhost/containers/json", SOCKET);
    let entry = &daemon.blocked()[0];
    for (key, value) in [
        ("host", json!("unix-socket")),
        ("reason", json!("unix_socket_unsupported")),
        ("method", json!("GET")),
        ("protocol", json!("http")),
        ("decision", json!("deny")),
        ("source", json!("proxy_state")),
        ("port", Value::Null),
    ] {
        assert_eq!(entry[key], value, "{key}");
    }
    let event = daemon.wait_for_log(|line| line.field("network.policy.decision").is_some());
    for (field, value) in [
        ("network.policy.scope", json!("non_domain")),
        ("network.policy.decision", json!("deny")),
        ("network.policy.source", json!("proxy_state")),
        ("network.policy.reason", json!("unix_socket_unsupported")),
        ("network.transport.protocol", json!("http")),
        ("server.address", json!("unix-socket")),
        ("server.port", json!(0)),
        ("http.request.method", json!("GET")),
    ] {
        assert_eq!(event.field(field), Some(&value), "{field}");
    }
    // The violation line in the log format for terminals.
    daemon.wait_for_log(|line| line.raw.contains("VIOLATION"));
    for line in daemon.logs() {
        let names_it = line.raw.contains("docker.sock") || line.raw.contains("/containers");
        // Except in the warning about the setting, which is for the operator.
        assert!(!names_it || line.level() == Some("WARN"), "{}", line.raw);
    }
}

#[test]
fn h10_switch_method_and_platform_are_checked_in_this_order() {
    let limited = Config::limited().set("network", "mitm", "false");
    let daemon = Daemon::start(&limited);
    let url = "http://localhost/";
    for (method, fields, status) in [
        ("GET", "", 501),
        ("OPTIONS", "", 501),
        ("POST", "", 403),
        ("GET", "Connection: upgrade\r\nUpgrade: websocket\r\n", 403),
    ] {
        let answer = ask(&daemon, method, url, &format!("{SOCKET}{fields}"));
        assert_eq!(answer.status, status, "{method} {fields}");
        if status == 403 {
            assert_eq!(answer.json()["reason"], "method_not_allowed");
            let error = answer.header("x-proxy-error");
            assert_eq!(error, Some("blocked-by-method-policy"));
        }
    }
    daemon.reload_with(&limited.set("network", "enabled", "false"));
    let answer = ask(&daemon, "POST", url, SOCKET);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.text(), "network proxy is disabled");
    let reasons: Vec<_> = daemon
        .blocked()
        .iter()
        .map(|entry| entry["reason"].clone())
        .collect();
    let unsupported = "unix_socket_unsupported";
    assert_eq!(
        reasons,
        [
            unsupported,
            unsupported,
            "method_not_allowed",
            "method_not_allowed",
            "proxy_disabled"
        ]
    );
}

#[test]
fn h10_a_field_without_a_path_is_400_and_no_decision() {
    let daemon = Daemon::start(&Config::example());
    for fields in [SOCKET.repeat(2), "x-unix-socket:\r\n".to_owned()] {
        let answer = ask(&daemon, "GET", "http://localhost/", &fields);
        assert_eq!(answer.status, 400, "{fields}");
        assert!(answer.text().contains("x-unix-socket field"));
    }
    assert!(daemon.blocked().is_empty());
}

#[test]
fn h10_check_warns_that_this_platform_has_no_unix_sockets() {
    let run =
        check("[network]\nmode = \"full\"\nallow_unix_sockets = [\"/var/run/docker.sock\"]\n");
    run.succeeded()
        .says("warning: policy.toml:3:1: unix sockets are served only on macOS")
        .says("gets 501");
    let none = check("[network]\nallow_unix_sockets = []\n");
    assert!(!none.succeeded().stderr.contains("macOS"), "{none:?}");
}

#[test]
fn l8_with_unix_sockets_every_listener_is_on_loopback_whatever_is_opted_in() {
    let everywhere = Config::example()
        .set("network", "proxy_url", r#""http://0.0.0.0:0""#)
        .set("network", "socks_url", r#""socks5h://0.0.0.0:0""#)
        .set("network", "admin_url", r#""http://0.0.0.0:0""#)
        .set("network", "dangerously_allow_non_loopback_proxy", "true")
        .set("network", "dangerously_allow_non_loopback_admin", "true");
    let on = everywhere.set(
        "network",
        "allow_unix_sockets",
        r#"["/var/run/docker.sock"]"#,
    );
    let daemon = Daemon::start(&on);
    for address in [daemon.http_addr(), daemon.socks_addr(), daemon.admin_addr()] {
        assert!(address.ip().is_loopback(), "{address}");
    }
}
