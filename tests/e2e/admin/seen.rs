//! The proxy as an operator sees it from outside (SPEC section 17): health in detail, metrics, fingerprints, the page.

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::process;
use e2e::proxyctl::{proxyctl, proxyctl_json};
use e2e::session::Session;
use e2e::wait::{TIMEOUT, poll};
use serde_json::{Value, json};

use super::{ask, through};

#[track_caller]
fn until(mut holds: impl FnMut() -> bool) {
    assert_eq!(poll(TIMEOUT, || holds().then_some(())), Some(()));
}

fn verbose(daemon: &Daemon) -> Value {
    daemon.admin("GET", "/health?verbose", None).json()
}

fn metrics(daemon: &Daemon) -> String {
    let answer = daemon.admin("GET", "/metrics", None);
    assert_eq!(answer.status, 200);
    answer.text()
}

/// The value of a metric with its labels.
fn metric(daemon: &Daemon, name: &str) -> u64 {
    let metrics = metrics(daemon);
    let line = metrics.lines().find_map(|line| {
        let rest = line.strip_prefix("codex_network_proxy_")?;
        rest.strip_prefix(name)?.strip_prefix(' ')
    });
    let value = line.unwrap_or_else(|| panic!("no {name} in {metrics}"));
    value.parse().expect("a whole number")
}

/// The only degraded part.
fn degraded(daemon: &Daemon) -> Value {
    let health = verbose(daemon);
    let parts = health["degraded"].as_array().expect("a list");
    assert_eq!(parts.len(), 1, "{health:#}");
    assert_eq!(health["status"], "degraded");
    parts[0].clone()
}

/// Reads server-sent events until they contain this. The lines that come when nothing changes are five seconds apart.
fn read_until(watcher: &mut Connection, part: &str) -> String {
    let mut seen = String::new();
    while !seen.contains(part) {
        let bytes = watcher.read_some();
        assert!(!bytes.is_empty(), "the stream ended without {part}: {seen}");
        seen.push_str(&String::from_utf8_lossy(&bytes));
        let beats = seen.matches(": still here").count();
        assert!(beats < 12, "no {part}: {seen}");
    }
    seen
}

fn watch_head(daemon: &Daemon) -> e2e::client::Response {
    let mut watcher = Connection::open(daemon.admin_addr());
    watcher.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
    watcher.read_head()
}

fn watch(daemon: &Daemon) -> Connection {
    let mut watcher = Connection::open(daemon.admin_addr());
    watcher.send("GET /events HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin\r\n\r\n");
    let head = watcher.read_head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    watcher
}

#[test]
fn o4_health_status_and_metrics_agree_about_a_failed_reload() {
    let daemon = Daemon::start(&Config::example());
    let health = verbose(&daemon);
    assert_eq!(
        (&health["status"], &health["degraded"]),
        (&json!("ok"), &json!([]))
    );
    assert_eq!(metric(&daemon, r#"degraded{part="configuration"}"#), 0);
    daemon.rewrite_config_text("[network\n");
    assert_eq!(daemon.reload().status, 500);
    let part = degraded(&daemon);
    assert_eq!(part["part"], "configuration");
    assert!(
        part["since"].as_i64() >= health["started"].as_i64(),
        "{part}"
    );
    let status = proxyctl_json(&daemon, &["status"]);
    assert_eq!(status["degraded"], json!([part]));
    assert_eq!(metric(&daemon, r#"degraded{part="configuration"}"#), 1);
    assert_eq!(metric(&daemon, r#"reloads_total{outcome="failed"}"#), 1);
    proxyctl(&daemon, &["status"])
        .succeeded()
        .says("the last reload failed");
    let detail = part["detail"].as_str().expect("a sentence").to_owned();
    let page = daemon.admin("GET", "/", None).text();
    assert!(page.contains(&detail), "{page}");
    assert!(page.contains("0 applied, 1 failed"), "{page}");
    // The settings in force work.
    assert_eq!(daemon.admin("GET", "/health", None).text(), "ok");
    daemon.reload_with(&Config::example());
    assert_eq!(verbose(&daemon)["degraded"], json!([]));
    assert_eq!(metric(&daemon, r#"reloads_total{outcome="applied"}"#), 1);
}

#[test]
fn o4_the_page_status_and_metrics_agree_about_what_was_decided() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let port = origin.addr().port();
    for (host, status) in [
        ("allowed.test", 200),
        ("blocked.test", 403),
        ("allowed.test", 200),
    ] {
        assert_eq!(through(&daemon, "GET", host, port).status, status);
    }
    let labels = r#"{verdict="allow",reason="allow",protocol="http"}"#;
    assert_eq!(metric(&daemon, &format!("decisions_total{labels}")), 2);
    let status = proxyctl_json(&daemon, &["status"]);
    let counters = &status["counters"];
    assert_eq!(
        (&counters["allowed"], &counters["blocked"]),
        (&json!(2), &json!(1))
    );
    let page = daemon.admin("GET", "/", None).text();
    assert!(page.contains("2 allowed, 1 refused"), "{page}");
    let health = verbose(&daemon);
    for key in ["version", "started"] {
        assert_eq!(status[key], health[key], "{key}");
    }
    let idle = metric(&daemon, "pool_idle");
    assert_eq!(counters["idle_upstream"], idle);
    assert!(
        page.contains(&format!("{idle} idle to upstreams")),
        "{page}"
    );
}

#[test]
fn o4_a_replaced_worker_is_seen() {
    let daemon = Daemon::start(&Config::example());
    assert_eq!(metric(&daemon, "worker_restarts_total"), 0);
    let worker = daemon.worker();
    process::kill_process(worker);
    until(|| daemon.children().iter().any(|child| *child != worker));
    daemon.wait_for_logs(2, |line| {
        line.field("listener").is_some_and(|name| name == "admin")
    });
    let part = degraded(&daemon);
    assert_eq!(part["part"], "worker");
    assert_eq!(part["since"], verbose(&daemon)["started"]);
    assert_eq!(metric(&daemon, "worker_restarts_total"), 1);
}

#[test]
fn o5_the_fingerprint_is_the_same_everywhere_and_changes_with_the_policy() {
    let daemon = Daemon::start(&Config::example());
    let first = verbose(&daemon)["fingerprints"].clone();
    let print = first["settings"].as_str().expect("text").to_owned();
    assert_eq!(print.len(), 16);
    let status = proxyctl_json(&daemon, &["status"]);
    assert_eq!(status["fingerprints"]["settings"], first["settings"]);
    assert_eq!(status["fingerprints"]["ca"], first["ca"]);
    proxyctl(&daemon, &["status"]).succeeded().says(&print);
    let label = format!("fingerprint=\"{print}\"");
    assert!(metrics(&daemon).contains(&label), "{label}");
    let found = proxyctl(&daemon, &["doctor", "settings", "--json"]);
    let found: Value = serde_json::from_str(&found.stdout).expect("JSON");
    assert_eq!(
        found[0]["fingerprints"]["settings"], first["settings"],
        "{found:#}"
    );
    assert_eq!(daemon.reload().status, 200);
    let line = daemon.wait_for_log(|line| line.message() == Some("reloaded"));
    assert_eq!(line.field("fingerprint"), Some(&first["settings"]));
    assert_eq!(
        line.field("version"),
        Some(&json!(env!("CARGO_PKG_VERSION")))
    );
    daemon.set_mode("limited");
    let limited = verbose(&daemon)["fingerprints"].clone();
    assert_ne!(limited["settings"], first["settings"]);
    assert_eq!(limited["ca"], first["ca"]);
}

#[test]
fn o1_metrics_count_what_was_done_and_name_no_host() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let port = origin.addr().port();
    for _ in 0..3 {
        assert_eq!(
            through(&daemon, "GET", "allowed.test", port).text(),
            "hello"
        );
    }
    assert_eq!(through(&daemon, "GET", "blocked.test", port).status, 403);
    let decided = |verdict, reason| {
        let labels = format!(r#"{{verdict="{verdict}",reason="{reason}",protocol="http"}}"#);
        metric(&daemon, &format!("decisions_total{labels}"))
    };
    assert_eq!(decided("allow", "allow"), 3);
    assert_eq!(decided("deny", "not_allowed"), 1);
    until(|| metric(&daemon, r#"bytes_total{direction="received"}"#) == 15);
    let resolved = metric(&daemon, r#"dns_seconds_count{outcome="succeeded"}"#);
    assert!(resolved >= 1, "{resolved}");
    let dialled = metric(&daemon, r#"dial_seconds_count{outcome="succeeded"}"#);
    assert!(dialled >= 1, "{dialled}");
    assert_eq!(
        metric(
            &daemon,
            r#"dial_seconds_bucket{le="+Inf",outcome="succeeded"}"#
        ),
        dialled
    );
    let held = Connection::open(daemon.http_addr());
    until(|| metric(&daemon, r#"connections_open{door="http"}"#) == 1);
    drop(held);
    until(|| metric(&daemon, r#"connections_open{door="http"}"#) == 0);
    let (open, limit) = (
        metric(&daemon, "descriptors_open"),
        metric(&daemon, "descriptors_limit"),
    );
    assert!(open > 5 && open < limit, "{open} of {limit}");
    let answer = daemon.admin("GET", "/metrics", None);
    let kind = answer.header("content-type").expect("a type");
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    let text = answer.text();
    assert!(
        text.ends_with("# EOF\n") && !text.contains(".test"),
        "{text}"
    );
}

#[test]
fn o3_the_page_shows_the_state_the_refusals_and_nothing_of_others() {
    let daemon = Daemon::start(&Config::example());
    assert_eq!(through(&daemon, "GET", "blocked.test", 80).status, 403);
    let page = daemon.admin("GET", "/", None);
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let text = page.text();
    let print = verbose(&daemon)["fingerprints"]["settings"]
        .as_str()
        .map(str::to_owned);
    let listening = format!("admin {}", daemon.admin_addr());
    for shown in [
        "blocked.test:80",
        &listening,
        "not_allowed",
        "full mode",
        &print.expect("text"),
    ] {
        assert!(text.contains(shown), "{shown} in {text}");
    }
    for external in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!text.contains(external), "{external}");
    }
}

#[test]
fn j2_no_program_sees_the_sessions_of_others_unless_they_are_shown() {
    let daemon = Daemon::start(&Config::example());
    let session = Session::open(&daemon);
    let answer = {
        let mut client = Connection::open(session.doors[0]);
        client.send("GET http://of-session.test/ HTTP/1.1\r\nHost: of-session.test\r\n\r\n");
        client.read_final_response()
    };
    assert_eq!(answer.status, 403);
    let id = session.opened.id.as_str();
    let listed = daemon.admin("GET", "/blocked", None).text();
    let seen = |text: &str| text.contains(id) || text.contains("curl");
    let page = daemon.admin("GET", "/", None).text();
    let event = read_until(&mut watch(&daemon), "of-session.test:80");
    for text in [&listed, &page, &event] {
        assert!(text.contains("of-session.test") && !seen(text), "{text}");
    }
    assert!(page.contains("1 session is open"), "{page}");
    let entry = daemon.blocked().pop().expect("an entry");
    assert!(entry.get("session").is_none_or(Value::is_null), "{entry}");
    assert!(entry.get("user").is_none_or(Value::is_null), "{entry}");
    daemon.reload_with(&Config::example().set("daemon.admin", "show_sessions", "true"));
    assert!(seen(&daemon.admin("GET", "/blocked", None).text()));
    let page = daemon.admin("GET", "/", None).text();
    assert!(page.contains(id) && page.contains("curl"), "{page}");
    read_until(&mut watch(&daemon), id);
}

#[test]
fn o5_settings_that_the_api_hides_have_no_fingerprint_there() {
    let config = Config::example();
    let daemon = Daemon::start(&config);
    let shown = verbose(&daemon)["fingerprints"].clone();
    let print = shown["rules"].as_str().expect("text").to_owned();
    for hides in ["show_config", "show_patterns"] {
        daemon.reload_with(&config.clone().set("daemon.admin", hides, "false"));
        let prints = verbose(&daemon)["fingerprints"].clone();
        assert_eq!(
            (
                &prints["settings"],
                &prints["rules"],
                &prints["requirements"]
            ),
            (&Value::Null, &Value::Null, &Value::Null),
            "{hides}"
        );
        assert_eq!(prints["ca"], shown["ca"]);
        assert!(metrics(&daemon).contains("fingerprint=\"\",rules=\"\""));
        for text in [metrics(&daemon), daemon.admin("GET", "/", None).text()] {
            assert!(!text.contains(&print), "{text}");
        }
        // Who may use the control socket sees it, and that the rules are the same.
        let status = proxyctl_json(&daemon, &["status"]);
        assert_eq!(status["fingerprints"]["rules"], print.as_str());
    }
}

#[test]
fn a1_every_answer_forbids_guessing_its_type_and_the_paths_are_named() {
    let daemon = Daemon::start(&Config::example());
    for path in [
        "/",
        "/events",
        "/metrics",
        "/health",
        "/health?verbose",
        "/config",
        "/blocked",
        "/nothing",
    ] {
        let answer = daemon.admin("HEAD", path, None);
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{path}"
        );
    }
    let events = watch_head(&daemon);
    assert_eq!(events.header("x-content-type-options"), Some("nosniff"));
    let unknown = daemon.admin("GET", "/nothing", None).text();
    for path in [
        "/events",
        "/metrics",
        "/health",
        "/config",
        "/patterns",
        "/blocked",
        "/mode",
        "/reload",
    ] {
        assert!(unknown.contains(path), "{path}: {unknown}");
    }
}

#[test]
fn o3_a_watcher_gets_changes_across_a_reload_until_the_proxy_stops() {
    let daemon = Daemon::start(&Config::example());
    let mut watcher = watch(&daemon);
    read_until(&mut watcher, "full mode");
    assert_eq!(through(&daemon, "GET", "blocked.test", 80).status, 403);
    let event = read_until(&mut watcher, "blocked.test:80");
    assert!(event.contains("data: {"), "{event}");
    daemon.reload_with(&Config::example().allow("other.test"));
    read_until(&mut watcher, "2 allow rules");
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    watcher.read_to_end();
}

#[test]
fn o3_a2_no_other_origin_sees_anything() {
    let daemon = Daemon::start(&Config::example());
    for path in ["/", "/events", "/metrics", "/health?verbose"] {
        for field in [
            "Origin: http://evil.example",
            "Origin: http://localhost",
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Site: same-site",
        ] {
            let answer = ask(&daemon, "GET", path, &["Host: localhost", field]);
            assert_eq!(answer.status, 403, "{path} {field}");
        }
        let rebound = ask(&daemon, "GET", path, &["Host: rebound.example"]);
        assert_eq!(rebound.status, 403, "{path}");
        let wrong = ask(&daemon, "POST", path, &["Host: localhost"]);
        assert_eq!(
            (wrong.status, wrong.header("allow")),
            (405, Some("GET, HEAD")),
            "{path}"
        );
    }
}

#[test]
fn o3_a_hundred_watchers_leave_room_for_others_and_one_more_than_the_limit_is_refused() {
    let daemon = Daemon::start(&Config::example());
    // One user gets half of the places.
    let mut watchers: Vec<_> = (0..128).map(|_| watch(&daemon)).collect();
    for watcher in &mut watchers {
        read_until(watcher, "full mode");
    }
    let more = ask(&daemon, "GET", "/events", &["Host: localhost"]);
    assert_eq!(more.status, 503);
    assert!(more.text().contains("close one of them"), "{}", more.text());
    assert_eq!(daemon.admin("GET", "/health", None).text(), "ok");
    assert_eq!(through(&daemon, "GET", "blocked.test", 80).status, 403);
    for watcher in &mut watchers {
        read_until(watcher, "blocked.test:80");
    }
    drop(watchers);
    until(|| {
        let mut next = Connection::open(daemon.admin_addr());
        next.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        next.read_head().status == 200
    });
}
