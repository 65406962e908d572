//! The admin HTTP API: what it shows, what it changes, and which requests it refuses (SPEC section
//! 8).

mod blocked;
mod busy;
mod guard;
mod mode;
mod seen;

use e2e::client::{Connection, Response};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use serde_json::json;

const GETS: [&str; 4] = ["/health", "/config", "/patterns", "/blocked"];
const POSTS: [&str; 2] = ["/mode", "/reload"];

/// A request to the API with these field lines besides `Connection`. The lines have no CR LF.
fn ask(daemon: &Daemon, method: &str, target: &str, fields: &[&str]) -> Response {
    let fields = fields.join("\r\n");
    let end = if fields.is_empty() { "" } else { "\r\n" };
    Connection::open(daemon.admin_addr()).exchange(&format!(
        "{method} {target} HTTP/1.1\r\n{fields}{end}Connection: close\r\n\r\n"
    ))
}

/// A request through the proxy, on a connection of its own.
fn through(daemon: &Daemon, method: &str, host: &str, port: u16) -> Response {
    Connection::open(daemon.http_addr()).exchange(&format!(
        "{method} http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
    ))
}

#[test]
fn a1_health_says_ok_and_nothing_else() {
    let daemon = Daemon::start(&Config::example());
    let answer = daemon.admin("GET", "/health", None);
    assert_eq!((answer.status, &*answer.text()), (200, "ok"));
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[test]
fn a1_config_returns_the_settings_in_force_under_their_keys() {
    let config = Config::limited()
        .set("daemon.limits", "header_timeout", r#""1m30s""#)
        .set("daemon.limits", "max_connections", "77");
    let daemon = Daemon::start(&config);
    let answer = daemon.admin("GET", "/config", None);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let reported = answer.json();
    assert_eq!(reported["files"], json!([daemon.config_path()]));
    for (key, value) in [
        ("generation", json!(1)),
        ("enabled", json!(true)),
        ("mode", json!("limited")),
        ("allow_local_binding", json!(true)),
        ("allowed_domains", json!(["allowed.test"])),
        ("denied_domains", json!(["denied.test"])),
        ("enable_socks5", json!(true)),
        ("dangerously_allow_all_unix_sockets", json!(false)),
    ] {
        assert_eq!(reported[key], value, "{key}");
    }
    let limits = &reported["daemon"]["limits"];
    assert_eq!(limits["max_connections"], 77);
    assert_eq!(limits["header_timeout"], "1m 30s");
    assert_eq!(limits["blocked_buffer"], 200);
    assert_eq!(reported["daemon"]["admin"]["read_only"], false);
}

#[test]
fn a1_patterns_lists_both_lists_and_follows_a_reload() {
    let daemon = Daemon::start(&Config::example().allow("*.example.com").deny("10.0.0.1"));
    let answer = daemon.admin("GET", "/patterns", None);
    assert_eq!(
        answer.text(),
        r#"{"allowed":["allowed.test","*.example.com"],"denied":["denied.test","10.0.0.1"]}"#
    );
    daemon.rewrite_config(&Config::new());
    assert_eq!(daemon.reload().text(), r#"{"status":"reloaded"}"#);
    let answer = daemon.admin("GET", "/patterns", None);
    assert_eq!(answer.text(), r#"{"allowed":[],"denied":[]}"#);
}

#[test]
fn a1_head_is_answered_like_get_without_the_body() {
    let daemon = Daemon::start(&Config::example());
    for path in GETS {
        let get = daemon.admin("GET", path, None);
        let mut connection = Connection::open(daemon.admin_addr());
        connection.send(format!(
            "HEAD {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ));
        let head = connection.read_head();
        assert_eq!(head.status, 200, "{path}");
        assert_eq!(
            head.header("content-length"),
            get.header("content-length"),
            "{path}"
        );
        assert_eq!(connection.read_to_end(), b"", "{path}");
    }
}

#[test]
fn a1_an_unknown_path_is_404_with_the_valid_paths() {
    let daemon = Daemon::start(&Config::example());
    for path in ["//", "/Health", "/health/", "/blocked/1", "/%68ealth", "*"] {
        let method = if path == "*" { "OPTIONS" } else { "GET" };
        let answer = ask(&daemon, method, path, &["Host: localhost"]);
        assert_eq!(answer.status, 404, "{path}");
        assert!(answer.text().contains("/health"), "{}", answer.text());
    }
}

#[test]
fn a1_a_wrong_method_is_405_and_names_the_right_one() {
    let daemon = Daemon::start(&Config::example());
    for (paths, wrong, allow) in [
        (&GETS[..], ["POST", "PUT", "DELETE", "OPTIONS"], "GET, HEAD"),
        (&POSTS[..], ["GET", "HEAD", "PUT", "DELETE"], "POST"),
    ] {
        for path in paths {
            for method in wrong {
                let answer = ask(&daemon, method, path, &["Host: localhost"]);
                assert_eq!(answer.status, 405, "{method} {path}");
                assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
            }
        }
    }
}

#[test]
fn a1_requests_follow_one_another_on_a_connection() {
    let daemon = Daemon::start(&Config::example());
    let mut connection = Connection::open(daemon.admin_addr());
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for path in GETS {
        assert_eq!(connection.exchange(&request(path)).status, 200, "{path}");
    }
    connection.send(request("/health").repeat(3));
    for _ in 0..3 {
        assert_eq!(connection.read_response().text(), "ok");
    }
}

#[test]
fn c5_a_read_only_api_answers_and_changes_nothing() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example().set("daemon.admin", "read_only", "true"));
    let port = origin.addr().port();
    assert_eq!(through(&daemon, "GET", "blocked.test", port).status, 403);
    for path in GETS {
        assert_eq!(daemon.admin("GET", path, None).status, 200, "{path}");
    }
    for (method, target, body) in [
        ("POST", "/mode", Some(r#"{"mode":"limited"}"#)),
        ("POST", "/reload", None),
        ("GET", "/blocked?drain=true", None),
    ] {
        let answer = daemon.admin(method, target, body);
        assert_eq!(answer.status, 403, "{target}");
        for named in ["[daemon.admin] read_only = true", "proxyctl"] {
            assert!(answer.text().contains(named), "{}", answer.text());
        }
    }
    assert_eq!(daemon.blocked().len(), 1, "nothing was drained");
    let reported = daemon.admin("GET", "/config", None).json();
    assert_eq!(
        (&reported["mode"], &reported["generation"]),
        (&json!("full"), &json!(1))
    );
}

#[test]
fn c5_a_reload_changes_what_the_api_permits_and_shows() {
    let config = Config::example();
    let daemon = Daemon::start(&config);
    let locked = config
        .set("daemon.admin", "show_config", "false")
        .set("daemon.admin", "show_patterns", "false")
        .set("daemon.admin", "read_only", "true");
    daemon.reload_with(&locked);
    for (method, target, setting, command) in [
        ("GET", "/config", "show_config = false", "proxyctl config"),
        (
            "GET",
            "/patterns",
            "show_patterns = false",
            "proxyctl patterns",
        ),
        ("POST", "/mode", "read_only = true", "proxyctl"),
    ] {
        let answer = daemon.admin(method, target, None);
        assert_eq!(answer.status, 403, "{target}");
        for named in [&format!("[daemon.admin] {setting}"), command] {
            assert!(answer.text().contains(named), "{}", answer.text());
        }
    }
    for target in ["/health", "/blocked"] {
        assert_eq!(daemon.admin("GET", target, None).status, 200, "{target}");
    }
}

#[test]
fn c5_an_api_that_is_off_binds_nothing() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example().set("daemon.admin", "enabled", "false"));
    let listeners: Vec<_> = daemon
        .logs()
        .iter()
        .filter(|line| line.message() == Some("listening"))
        .filter_map(|line| Some(line.field("listener")?.as_str()?.to_owned()))
        .collect();
    assert!(
        !listeners.contains(&"admin".to_owned()) && listeners.contains(&"http".to_owned()),
        "{listeners:?}"
    );
    let answer = through(&daemon, "GET", "allowed.test", origin.addr().port());
    assert_eq!(answer.text(), "hello");
}

/// hyper alone would answer without a body.
#[test]
fn a1_a_malformed_request_gets_an_explanation() {
    let daemon = Daemon::start(&Config::example());
    let long = "x".repeat(70_000);
    for (what, head, status) in [
        ("target", "GET /<x> HTTP/1.1\r\n\r\n".to_owned(), 400),
        (
            "field",
            "GET /health HTTP/1.1\r\nno colon\r\n\r\n".to_owned(),
            400,
        ),
        ("version", "GET /health HTTP/3.0\r\n\r\n".to_owned(), 400),
        ("method", "G(T /health HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("TLS", "\x16\x03\x01\x02\0\x01\0".to_owned(), 400),
        ("long target", format!("GET /{long} HTTP/1.1\r\n\r\n"), 414),
        (
            "many fields",
            format!("GET /health HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200)),
            431,
        ),
    ] {
        let mut client = Connection::open(daemon.admin_addr());
        client.send(&head);
        let answer = client.read_final_response();
        assert_eq!(answer.status, status, "{what}");
        assert_ne!(answer.text(), "", "{what}");
        assert!(answer.headers.closes(), "{what}");
        assert!(
            answer
                .header("content-type")
                .is_some_and(|kind| kind.starts_with("text/plain")),
            "{what}"
        );
    }
    assert_eq!(daemon.admin("GET", "/health", None).text(), "ok");
}
