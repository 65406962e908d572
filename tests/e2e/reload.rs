//! Reloads: all or nothing, by every interface, and with effect on open connections (SPEC C7,
//! L6).

mod enabled;
mod failing;
mod listeners;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod memory;

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use e2e::client::{Connection, Response, Socks5Target};
use e2e::daemon::{Config, Daemon, LogLine, Signal};
use e2e::origin::{Answer, Origin};
pub(crate) use e2e::port::Reserved;
use e2e::wait::{TIMEOUT, poll};
use serde_json::{Value, json};

fn get(door: SocketAddr, host: &str, port: u16) -> Response {
    Connection::open(door).exchange(&format!(
        "GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n"
    ))
}

#[test]
fn c7_a_reload_through_the_api_applies_the_file() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let port = origin.addr().port();
    assert_eq!(
        daemon.get(&format!("http://blocked.test:{port}/")).status,
        403
    );
    daemon.rewrite_config(&Config::example().allow("blocked.test").deny("allowed.test"));
    assert_eq!(
        daemon.get(&format!("http://blocked.test:{port}/")).status,
        403,
        "not before it was asked for"
    );
    let answer = daemon.reload();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), r#"{"status":"reloaded"}"#);
    assert_eq!(
        daemon.get(&format!("http://blocked.test:{port}/")).text(),
        "hello"
    );
    let refused = daemon.get(&format!("http://allowed.test:{port}/"));
    assert_eq!(refused.json()["reason"], "denied");
}

#[test]
fn c7_a_reload_by_sighup_applies_the_file() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    daemon.rewrite_config(&Config::example().allow("blocked.test"));
    daemon.signal(Signal::SIGHUP);
    let line = daemon.wait_for_log(|line| line.message() == Some("reloaded"));
    assert_eq!(line.field("allow_rules"), Some(&json!(2)));
    assert_eq!(line.field("generation"), Some(&json!(2)));
    let answer = daemon.get(&origin.url("blocked.test", "/"));
    assert_eq!(answer.text(), "hello");
}

#[test]
fn c7_concurrent_reloads_are_all_answered_and_the_last_file_wins() {
    let daemon = Daemon::start(&Config::example());
    daemon.rewrite_config(&Config::example().allow("new.test"));
    let together = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                together.wait();
                daemon.signal(Signal::SIGHUP);
                assert_eq!(daemon.reload().status, 200);
            });
        }
    });
    let patterns = daemon.admin("GET", "/patterns", None).json();
    assert_eq!(patterns["allowed"], json!(["allowed.test", "new.test"]));
}

/// Reload requests arrive on a few connections at a time, with signals in between. One load answers
/// all requests that arrived before it began.
#[test]
fn c7_hundreds_of_reload_requests_are_merged_and_all_answered() {
    const REQUESTERS: usize = 200;
    let daemon = Daemon::start(&Config::example());
    daemon.rewrite_config(&Config::example().allow("new.test"));
    let together = Barrier::new(REQUESTERS);
    thread::scope(|scope| {
        for number in 0..REQUESTERS {
            let (daemon, together) = (&daemon, &together);
            scope.spawn(move || {
                together.wait();
                if number % 4 == 0 {
                    daemon.signal(Signal::SIGHUP);
                }
                let answer = daemon.reload();
                assert_eq!(answer.status, 200, "{}", answer.text());
            });
        }
    });
    let patterns = daemon.admin("GET", "/patterns", None).json();
    assert_eq!(patterns["allowed"], json!(["allowed.test", "new.test"]));
    let loads = daemon.wait_for_messages(1, "reloaded").len();
    assert!(loads <= REQUESTERS / 4, "{loads} loads");
}

#[test]
fn c7_merged_reload_requests_all_get_the_problems() {
    const REQUESTERS: usize = 20;
    let daemon = Daemon::start(&Config::example());
    daemon.rewrite_config_text("[network]\nallowed_domains = []\nnonsense = 1\n");
    let together = Barrier::new(REQUESTERS);
    thread::scope(|scope| {
        for _ in 0..REQUESTERS {
            scope.spawn(|| {
                together.wait();
                let answer = daemon.reload();
                assert_eq!(answer.status, 500);
                assert!(
                    answer.text().contains(".toml:3:1: unknown key"),
                    "{}",
                    answer.text()
                );
            });
        }
    });
}

/// The loader waits for a pipe without a writer.
#[test]
fn c7_stopping_ends_a_loader_that_hangs() {
    let daemon = Daemon::start(&Config::example());
    let path = daemon.replace_config_by_pipe();
    daemon.signal(Signal::SIGHUP);
    // Returns when the loader has opened the other end, where it waits.
    let pipe = std::fs::File::create(path).expect("a pipe that is read");
    let loader = daemon
        .children()
        .into_iter()
        .find(|pid| e2e::process::command_line(*pid).ends_with("load"))
        .expect("a loader");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.wait_exit().code, Some(0));
    poll(TIMEOUT, || e2e::process::has_ended(loader).then_some(())).expect("no loader is left");
    drop(pipe);
}

/// Neither policy permits these requests. Only a mixture would: the allow list of one policy with
/// the mode or the deny list of the other.
#[test]
fn c7_every_request_is_judged_by_one_whole_policy() {
    const RELOADS: usize = 10;
    const CLIENTS: usize = 3;
    let origin = Origin::start(|_| Answer::text("hello"));
    let base = || {
        Config::new()
            .host("first.test", Ipv4Addr::LOCALHOST)
            .host("second.test", Ipv4Addr::LOCALHOST)
    };
    let one = base()
        .allow("first.test")
        .set("network", "mode", r#""limited""#);
    let other = base().allow("second.test").deny("second.test");
    let daemon = Daemon::start(&one);
    let (door, port) = (daemon.http_addr(), origin.addr().port());
    let reloading = AtomicBool::new(true);
    let client = || {
        let mut seen = Vec::new();
        let mut client = Connection::open(door);
        while reloading.load(Ordering::Relaxed) || seen.len() < 200 {
            for (host, reasons) in [
                ("first.test", ["method_not_allowed", "not_allowed"]),
                ("second.test", ["not_allowed", "denied"]),
            ] {
                let answer = client.exchange(&format!(
                    "POST http://{host}:{port}/ HTTP/1.1\r\nHost: {host}:{port}\r\n\
                     Content-Length: 0\r\n\r\n"
                ));
                assert_eq!(answer.status, 403, "{}", answer.text());
                let reason = answer.json()["reason"]
                    .as_str()
                    .expect("a reason")
                    .to_owned();
                assert!(reasons.contains(&&*reason), "{host}: {reason}");
                seen.push(reason);
            }
        }
        seen
    };
    let seen = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        for number in 0..RELOADS {
            daemon.reload_with(if number % 2 == 0 { &other } else { &one });
        }
        reloading.store(false, Ordering::Relaxed);
        let all = clients
            .into_iter()
            .flat_map(|client| client.join().expect("a client"));
        all.collect::<Vec<_>>()
    });
    assert!(seen.len() >= 300);
    for reason in ["method_not_allowed", "not_allowed", "denied"] {
        assert!(
            seen.iter().any(|seen| seen == reason),
            "{reason} was never seen"
        );
    }
    assert_eq!(origin.connections(), 0);
}

#[test]
fn c7_changed_lists_are_logged_as_a_difference() {
    let daemon = Daemon::start(&Config::example().deny("*.old.example"));
    let new = Config::new()
        .allow("allowed.test")
        .allow("**.new.example")
        .deny("denied.test")
        .set("network", "mode", r#""limited""#);
    daemon.rewrite_config(&new);
    daemon.reload();
    let reported = |line: &LogLine| {
        let field = |name| line.field(name).and_then(Value::as_str).map(str::to_owned);
        [field("list"), field("change"), field("pattern")].map(Option::unwrap_or_default)
    };
    let changes: Vec<_> = daemon
        .wait_for_messages(2, "a rule changes")
        .iter()
        .map(reported)
        .collect();
    assert_eq!(
        changes,
        [
            ["allow", "added", "**.new.example"],
            ["deny", "removed", "*.old.example"]
        ]
    );
    let mode = &daemon.wait_for_messages(1, "the mode changes")[0];
    assert_eq!(mode.field("from"), Some(&json!("full")));
    assert_eq!(mode.field("to"), Some(&json!("limited")));
}

#[test]
fn c7_a_difference_of_thousands_is_truncated() {
    let daemon = Daemon::start(&Config::example());
    let many = (0..3000).fold(Config::example(), |config, number| {
        config.allow(&format!("n{number}.example"))
    });
    daemon.rewrite_config(&many);
    daemon.reload();
    let more = &daemon.wait_for_messages(1, "more rules change")[0];
    let reported = daemon.wait_for_messages(1, "a rule changes").len() as u64;
    let cut = more
        .field("more")
        .and_then(Value::as_u64)
        .expect("a number");
    assert_eq!(reported + cut, 3000);
    assert!(reported <= 100, "{reported} lines");
}

#[test]
fn c7_a_reload_without_changes_reports_it_and_keeps_tunnels() {
    let origin = Origin::echoing_bytes().start();
    let daemon = Daemon::start(&Config::example());
    let mut tunnel = Connection::open(daemon.socks_addr());
    let target = Socks5Target::name("allowed.test", origin.addr().port());
    assert_eq!(tunnel.socks5_connect(&target).reply, 0);
    for _ in 0..3 {
        assert_eq!(daemon.reload().status, 200);
    }
    tunnel.send("still");
    assert_eq!(tunnel.read_exact(5), b"still");
    let logs = daemon.logs();
    let changes = |line: &&LogLine| line.message() == Some("a rule changes");
    assert_eq!(logs.iter().filter(changes).count(), 0);
}

/// The configuration is a pipe, so the reload waits until the test writes to it.
#[test]
fn c7_a_slow_reload_blocks_no_client_and_outlives_its_requester() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let path = daemon.replace_config_by_pipe();
    let mut asker = Connection::open(daemon.admin_addr());
    asker.send("POST /reload HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // Returns when the other end is opened: the reload has begun.
    let mut pipe = std::fs::File::create(path).expect("a pipe that is read");
    drop(asker);
    for _ in 0..10 {
        let answer = daemon.get(&origin.url("allowed.test", "/"));
        assert_eq!(answer.text(), "hello");
        assert_eq!(daemon.admin("GET", "/health", None).text(), "ok");
    }
    let text = Config::example()
        .allow("late.test")
        .write(daemon.directory());
    pipe.write_all(text.as_bytes())
        .expect("a pipe that is read");
    drop(pipe);
    daemon.wait_for_messages(1, "reloaded");
    let patterns = daemon.admin("GET", "/patterns", None).json();
    assert_eq!(patterns["allowed"], json!(["allowed.test", "late.test"]));
}

#[test]
fn r1_blocked_entries_survive_a_reload() {
    let daemon = Daemon::start(&Config::example());
    daemon.get("http://one.test/");
    daemon.reload_with(&Config::new());
    daemon.get("http://two.test/");
    let entries = daemon.blocked();
    let hosts: Vec<_> = entries.iter().map(|entry| &entry["host"]).collect();
    assert_eq!(hosts, ["one.test", "two.test"]);
    let sequence = |entry: &Value| entry["sequence"].as_u64().expect("a number");
    assert_eq!(sequence(&entries[1]), sequence(&entries[0]) + 1);
}

#[test]
fn c5_a_smaller_blocked_buffer_applies_after_a_reload() {
    let daemon = Daemon::start(&Config::example());
    for number in 0..5 {
        daemon.get(&format!("http://n{number}.test/"));
    }
    daemon.reload_with(&Config::example().set("daemon.limits", "blocked_buffer", "2"));
    daemon.get("http://last.test/");
    let hosts: Vec<_> = daemon
        .blocked()
        .iter()
        .map(|entry| entry["host"].clone())
        .collect();
    assert_eq!(hosts, [json!("n4.test"), json!("last.test")]);
}

#[test]
fn c5_a_changed_log_filter_is_applied_or_a_warning() {
    let daemon = Daemon::start(&Config::example());
    let quiet = Config::example().set("daemon", "log", r#""error""#);
    daemon.reload_with(&quiet);
    daemon.get("http://blocked.test/");
    assert_eq!(daemon.blocked().len(), 1);
    // An error passes every filter, and is logged after all earlier lines.
    daemon.rewrite_config_text("broken");
    assert_eq!(daemon.reload().status, 500);
    daemon.wait_for_log(|line| line.level() == Some("ERROR"));
    let logs = daemon.logs();
    let applied = !logs.iter().any(|line| line.raw.contains("VIOLATION"));
    let warned = logs
        .iter()
        .any(|line| line.level() == Some("WARN") && line.message_contains("log"));
    assert!(
        applied || warned,
        "the setting neither takes effect nor causes a warning"
    );
}
