//! Refused requests: from web pages, with other names, and through the proxy.

use std::net::Ipv4Addr;

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};

use super::{ask, through};

fn status(daemon: &Daemon, fields: &[&str]) -> u16 {
    ask(daemon, "GET", "/health", fields).status
}

#[test]
fn a2_requests_that_a_web_page_made_are_refused() {
    let daemon = Daemon::start(&Config::example());
    for field in [
        "Origin: http://evil.example",
        "Origin: http://localhost",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        let answer = ask(&daemon, "GET", "/health", &["Host: localhost", field]);
        assert_eq!(answer.status, 403, "{field}");
        assert!(answer.text().contains("web pages"), "{}", answer.text());
    }
    for field in ["Sec-Fetch-Site: none", "Sec-Fetch-Site: same-origin"] {
        assert_eq!(status(&daemon, &["Host: localhost", field]), 200, "{field}");
    }
}

#[test]
fn a2_a_page_cannot_change_the_mode_with_a_simple_request() {
    let daemon = Daemon::start(&Config::example());
    let body = r#"{"mode":"limited"}"#;
    let length = format!("Content-Length: {}", body.len());
    let mut connection = Connection::open(daemon.admin_addr());
    connection.send(format!(
        "POST /mode HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://evil.example\r\n\
         Content-Type: text/plain\r\n{length}\r\n\r\n{body}"
    ));
    assert_eq!(connection.read_final_response().status, 403);
    let reported = daemon.admin("GET", "/config", None).json();
    assert_eq!(reported["mode"], "full");
}

#[test]
fn a2_only_a_loopback_host_is_served() {
    let daemon = Daemon::start(&Config::example());
    let own = format!("Host: {}", daemon.admin_addr());
    for host in [
        &*own,
        "Host: localhost",
        "Host: LocalHost:1",
        "Host: 127.0.0.1",
        "Host: [::1]:8080",
    ] {
        assert_eq!(status(&daemon, &[host]), 200, "{host}");
    }
    for host in [
        "Host: rebound.example",
        "Host: localhost.rebound.example",
        "Host: 127.0.0.1.rebound.example",
        "Host: 10.0.0.1",
        "Host: 0.0.0.0",
        "Host: ",
        "Host: user@localhost",
    ] {
        assert_eq!(status(&daemon, &[host]), 403, "{host}");
    }
    assert_eq!(status(&daemon, &[]), 403, "no Host");
    assert_eq!(
        status(&daemon, &["Host: localhost", "Host: localhost"]),
        403
    );
    let other = ask(
        &daemon,
        "GET",
        "http://rebound.example/health",
        &["Host: localhost"],
    );
    assert_eq!(other.status, 403);
}

#[test]
fn a2_a_refusal_is_logged_with_its_reason() {
    let daemon = Daemon::start(&Config::example());
    status(&daemon, &["Host: rebound.example"]);
    daemon.wait_for_log(|line| {
        line.level() == Some("WARN") && line.message_starts_with("refused an admin request")
    });
}

#[test]
fn a2_p6_it_cannot_be_reached_through_the_proxy() {
    let config = Config::new()
        .allow("*")
        .allow("127.0.0.1")
        .allow("localhost")
        .allow("admin.test")
        .host("admin.test", Ipv4Addr::LOCALHOST);
    let daemon = Daemon::start(&config);
    let port = daemon.admin_addr().port();
    for host in ["127.0.0.1", "localhost", "admin.test", "2130706433"] {
        let answer = through(&daemon, "GET", host, port);
        assert_eq!(answer.status, 403, "{host}");
        assert_eq!(answer.json()["reason"], "loop_detected", "{host}");
    }
}
