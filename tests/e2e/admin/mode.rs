//! `POST /mode`: what it accepts, and its effect on open connections.

use e2e::client::{Connection, Response};
use e2e::daemon::{Config, Daemon, LogLine};
use e2e::origin::{Answer, Origin};
use e2e::program;

use super::through;

const LIMITED: &str = r#"{"mode":"limited"}"#;

fn post(daemon: &Daemon, head: &str, body: impl AsRef<[u8]>) -> Response {
    let mut connection = Connection::open(daemon.admin_addr());
    let head = format!("POST /mode HTTP/1.1\r\nHost: localhost\r\n{head}\r\n");
    connection.send([head.as_bytes(), body.as_ref()].concat());
    connection.read_final_response()
}

fn mode(daemon: &Daemon) -> String {
    let reported = daemon.admin("GET", "/config", None).json();
    reported["mode"].as_str().expect("a mode").to_owned()
}

#[test]
fn a1_curl_changes_the_mode_with_its_default_content_type() {
    let daemon = Daemon::start(&Config::example());
    let url = format!("http://{}/mode", daemon.admin_addr());
    let run = program::run("curl", &["-s", "-d", LIMITED, &url]);
    assert_eq!(
        run.succeeded().stdout,
        r#"{"status":"ok","mode":"limited"}"#
    );
    assert_eq!(mode(&daemon), "limited");
    let answer = daemon.admin("POST", "/mode", Some(" {\"mode\": \"full\"}\n"));
    assert_eq!(answer.text(), r#"{"status":"ok","mode":"full"}"#);
    assert_eq!(mode(&daemon), "full");
}

#[test]
fn a1_a_change_of_mode_is_logged() {
    let daemon = Daemon::start(&Config::example());
    daemon.admin("POST", "/mode", Some(LIMITED));
    let line = daemon
        .wait_for_log(|line| line.message() == Some("the mode was changed through the admin API"));
    assert_eq!(line.field("mode").expect("a mode"), "limited");
}

#[cfg(target_os = "linux")]
#[test]
fn a2_the_log_names_the_user_of_each_change() {
    let daemon = Daemon::start(&Config::example());
    through(&daemon, "GET", "blocked.test", 1);
    let own = nix::unistd::Uid::effective().as_raw();
    for (method, target, body, message) in [
        (
            "POST",
            "/mode",
            Some(LIMITED),
            "the mode was changed through the admin API",
        ),
        (
            "POST",
            "/reload",
            None,
            "a reload was requested through the admin API",
        ),
        (
            "GET",
            "/blocked?drain=true",
            None,
            "the record of refusals was drained through the admin API",
        ),
    ] {
        assert_eq!(daemon.admin(method, target, body).status, 200, "{target}");
        let line = daemon.wait_for_log(|line| line.message() == Some(message));
        let cannot_ask = |line: &LogLine| line.message_starts_with("the kernel's socket tables");
        if !daemon.logs().iter().any(cannot_ask) {
            assert_eq!(line.field("uid"), Some(&own.into()), "{line:?}");
        }
        let client = line.field("client").and_then(|client| client.as_str());
        assert!(client.is_some_and(|client| client.starts_with("127.0.0.1:")));
    }
}

#[test]
fn a1_a_change_of_mode_applies_to_open_connections() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let authority = format!("allowed.test:{}", origin.addr().port());
    let request = |method: &str| {
        format!(
            "{method} http://{authority}/ HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\n\r\n"
        )
    };
    let mut client = Connection::open(daemon.http_addr());
    assert_eq!(client.exchange(&request("POST")).status, 200);
    assert_eq!(daemon.admin("POST", "/mode", Some(LIMITED)).status, 200);
    let refused = client.exchange(&request("POST"));
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["reason"], "method_not_allowed");
    assert_eq!(client.exchange(&request("GET")).status, 200);
    daemon.admin("POST", "/mode", Some(r#"{"mode":"full"}"#));
    assert_eq!(client.exchange(&request("POST")).status, 200);
    assert_eq!(origin.requests().len(), 3);
}

#[test]
fn a1_full_mode_lasts_until_the_next_reload_and_limited_mode_until_it_is_lifted() {
    let daemon = Daemon::start(&Config::example());
    daemon.admin("POST", "/mode", Some(LIMITED));
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(mode(&daemon), "limited");
    assert_eq!(through(&daemon, "POST", "allowed.test", 1).status, 403);
    daemon.admin("POST", "/mode", Some(r#"{"mode":"full"}"#));
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(through(&daemon, "POST", "allowed.test", 1).status, 502);
    daemon.reload_with(&Config::limited());
    assert_eq!(mode(&daemon), "limited");
    daemon.admin("POST", "/mode", Some(r#"{"mode":"full"}"#));
    assert_eq!(mode(&daemon), "full");
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(mode(&daemon), "limited");
}

#[test]
fn a1_a_body_that_is_missing_or_wrong_is_400_and_changes_nothing() {
    let daemon = Daemon::start(&Config::example());
    for body in ["", " \r\n\t"] {
        let answer = daemon.admin("POST", "/mode", Some(body));
        assert_eq!((answer.status, &*answer.text()), (400, "missing body"));
    }
    let answer = daemon.admin("POST", "/mode", None);
    assert_eq!((answer.status, &*answer.text()), (400, "missing body"));
    for body in [
        "{",
        "mode=limited",
        "null",
        "[]",
        "\"limited\"",
        "{}",
        r#"{"mode":1}"#,
        r#"{"mode":null}"#,
        r#"{"mode":"limited","mode":"full"}"#,
        r#"{"mode":"limited","more":1}"#,
        r#"{"mode":"limited"} trailing"#,
        r#"{"mode":"strict"}"#,
        r#"{"mode":"Limited"}"#,
        r#"{"mode":""}"#,
        "\u{feff}{\"mode\":\"limited\"}",
    ] {
        let answer = daemon.admin("POST", "/mode", Some(body));
        assert_eq!(answer.status, 400, "{body}");
        assert!(
            answer.text().starts_with("invalid json"),
            "{body}: {}",
            answer.text()
        );
    }
    let answer = post(&daemon, "Content-Length: 2\r\n", [0xff, 0xfe]);
    assert_eq!(answer.status, 400);
    assert_eq!(mode(&daemon), "full");
}

#[test]
fn a1_the_error_for_an_unknown_mode_names_the_valid_ones() {
    let daemon = Daemon::start(&Config::example());
    let answer = daemon.admin("POST", "/mode", Some(r#"{"mode":"strict"}"#));
    let text = answer.text();
    assert!(text.contains("full") && text.contains("limited"), "{text}");
}

#[test]
fn a1_a_body_of_8_kib_is_read_and_a_larger_one_is_413() {
    let daemon = Daemon::start(&Config::example());
    let padded = |length: usize| format!("{LIMITED:<length$}");
    let sized = |body: String| {
        let head = format!("Content-Length: {}\r\n", body.len());
        post(&daemon, &head, body)
    };
    let chunked = |body: String| {
        let body = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        post(&daemon, "Transfer-Encoding: chunked\r\n", body)
    };
    assert_eq!(sized(padded(8 * 1024)).status, 200);
    assert_eq!(chunked(padded(8 * 1024)).status, 200);
    daemon.admin("POST", "/mode", Some(r#"{"mode":"full"}"#));
    for answer in [sized(padded(8 * 1024 + 1)), chunked(padded(8 * 1024 + 1))] {
        assert_eq!(answer.status, 413);
        assert_eq!(answer.text(), "the body is larger than 8 KiB");
    }
    assert_eq!(mode(&daemon), "full");
}

/// A reset must not destroy the answer when most of the body was not read.
#[test]
fn a1_curl_sees_the_413_however_large_the_body_is() {
    let daemon = Daemon::start(&Config::example());
    let url = format!("http://{}/mode", daemon.admin_addr());
    for length in [100_000, 900_000, 4_000_000] {
        let run = program::Program::new("curl")
            .args(["-s", "-w", " %{http_code}", "--data-binary", "@-", &url])
            .stdin(" ".repeat(length).as_bytes())
            .run();
        run.says("the body is larger than 8 KiB 413");
    }
}

#[test]
fn a1_a_body_that_breaks_off_changes_nothing() {
    let daemon = Daemon::start(&Config::example());
    let mut connection = Connection::open(daemon.admin_addr());
    connection.send(format!(
        "POST /mode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{LIMITED}"
    ));
    connection.finish_sending();
    connection.read_to_end();
    assert_eq!(mode(&daemon), "full");
}
