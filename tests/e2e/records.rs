//! The records of a decision: the audit event, the violation line, the blocked entry (SPEC R1 to
//! R3, P10, H11).

mod attempt;
mod audit;
mod blocked;
mod floods;

use std::net::Ipv4Addr;

use e2e::client::{Connection, Response, Socks5Target};
use e2e::daemon::{Config, Daemon, LogLine};
use e2e::origin::{Answer, Origin};
use e2e::wait::{TIMEOUT, poll};
use serde_json::Value;

const VIOLATION: &str = "CODEX_NETWORK_POLICY_VIOLATION ";
const AUDIT: &str = "codex_otel.network_proxy";

/// A request through the proxy, with optional further header lines.
fn http(client: &mut Connection, method: &str, url: &str, fields: &str) -> Response {
    let authority = url.trim_start_matches("http://").split(['/', '?']).next();
    let authority = authority.expect("a URL has an authority");
    client.exchange(&format!(
        "{method} {url} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n"
    ))
}

fn socks5(daemon: &Daemon, name: &str, port: u16) -> u8 {
    let mut client = Connection::open(daemon.socks_addr());
    client.socks5_connect(&Socks5Target::name(name, port)).reply
}

/// The lines that `look` accepts, once there are `count` of them and a reload has finished, so that
/// a surplus line would be there too.
fn lines(daemon: &Daemon, count: usize, look: impl Fn(&LogLine) -> bool) -> Vec<LogLine> {
    let find = || {
        let mut lines = daemon.logs();
        lines.retain(&look);
        lines
    };
    poll(TIMEOUT, || (find().len() >= count).then_some(()))
        .unwrap_or_else(|| panic!("there are not {count} such lines"));
    let reloads = |line: &LogLine| line.message() == Some("reloaded");
    let before = daemon.logs().iter().filter(|line| reloads(line)).count();
    assert_eq!(daemon.reload().status, 200);
    poll(TIMEOUT, || {
        let now = daemon.logs().iter().filter(|line| reloads(line)).count();
        (now > before).then_some(())
    })
    .expect("the log has the reload");
    let lines = find();
    assert_eq!(lines.len(), count, "{lines:#?}");
    lines
}

fn audit_events(daemon: &Daemon, count: usize) -> Vec<LogLine> {
    lines(daemon, count, |line| line.target() == Some(AUDIT))
}

fn violations(daemon: &Daemon, count: usize) -> Vec<Value> {
    let is_one = |line: &LogLine| line.message_starts_with(VIOLATION);
    let parse = |line: &LogLine| {
        let json = line
            .message()
            .and_then(|message| message.strip_prefix(VIOLATION));
        serde_json::from_str(json.expect("a violation line")).expect("JSON")
    };
    lines(daemon, count, is_one).iter().map(parse).collect()
}

#[test]
fn r2_each_block_is_one_line_whose_json_is_the_blocked_entry() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let port = origin.addr().port();
    daemon.get(&format!("http://denied.test:{port}/a?b"));
    daemon.get("http://blocked.test/");
    Connection::open(daemon.http_addr()).connect("blocked.test:443");
    socks5(&daemon, "blocked.test", 22);
    socks5(&daemon, "a b.test", 22);
    daemon.get(&format!("http://allowed.test:{port}/"));
    let reported = violations(&daemon, 5);
    assert_eq!(reported, daemon.blocked());
    let answer = daemon.admin("GET", "/blocked", None).text();
    for entry in reported {
        let text = entry.to_string();
        assert!(answer.contains(&text), "{text} is not in {answer}");
    }
}

#[test]
fn r1_r3_paths_and_queries_are_in_no_record() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let port = origin.addr().port();
    for host in ["allowed.test", "denied.test", "blocked.test", "not valid"] {
        daemon.get(&format!("http://{host}:{port}/s3cret-path?token=s3cret"));
    }
    http(
        &mut Connection::open(daemon.http_addr()),
        "GET",
        &format!("http://user:s3cret@allowed.test:{port}/"),
        "",
    );
    audit_events(&daemon, 3);
    assert_eq!(daemon.blocked().len(), 2);
    for line in daemon.logs() {
        assert!(!line.raw.contains("s3cret"), "{}", line.raw);
    }
    let blocked = daemon.admin("GET", "/blocked", None).text();
    assert!(!blocked.contains("s3cret"), "{blocked}");
}

#[test]
fn p10_a_block_names_the_rule_with_its_file_and_line() {
    let daemon = Daemon::start(&Config::example().deny("*.tracker.example"));
    daemon.get("http://a.tracker.example/");
    daemon.get("http://blocked.test/");
    let file = std::fs::read_to_string(daemon.config_path()).expect("the file");
    let (number, _) = (1..)
        .zip(file.lines())
        .find(|(_, line)| line.contains("*.tracker.example"))
        .expect("the rule's line");
    let rule = format!(
        "*.tracker.example ({}:{number})",
        daemon.config_path().display()
    );
    let entries = daemon.blocked();
    assert_eq!(entries[0]["rule"], rule);
    assert_eq!(entries[1].get("rule"), None, "no rule decided");
}

#[test]
fn p10_a_denied_address_is_reported_as_the_rule() {
    let config = Config::example().deny("127.0.0.0").deny("127.0.0.1");
    let daemon = Daemon::start(&config);
    daemon.get("http://allowed.test/");
    let entry = &daemon.blocked()[0];
    assert_eq!(
        (&entry["host"], &entry["reason"]),
        (&"allowed.test".into(), &"denied".into())
    );
    let rule = entry["rule"].as_str().expect("a rule");
    assert!(rule.starts_with("127.0.0.1 (/"), "{rule}");
}

#[test]
fn h11_records_contain_attempt_ids_and_no_other_credentials() {
    let origin = Origin::start(|_| Answer::text("hello"));
    let daemon = Daemon::start(&Config::example());
    let port = origin.addr().port();
    // codex-net-attempt-abc.1 and alice, each with the password `secret`.
    let attempt = "Proxy-Authorization: Basic Y29kZXgtbmV0LWF0dGVtcHQtYWJjLjE6c2VjcmV0\r\n";
    let alice = "Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n";
    for field in [attempt, alice] {
        let mut client = Connection::open(daemon.http_addr());
        let allowed = format!("http://allowed.test:{port}/");
        assert_eq!(http(&mut client, "GET", &allowed, field).status, 200);
        assert_eq!(
            http(&mut client, "GET", "http://blocked.test/", field).status,
            403
        );
    }
    for user in ["codex-net-attempt-abc.1", "alice"] {
        for name in ["allowed.test", "blocked.test"] {
            let mut client = Connection::open(daemon.socks_addr());
            assert_eq!(client.socks5_greet(&[2]), 2);
            assert_eq!(client.socks5_authenticate(user, "secret"), 0);
            client.socks5_request(1, &Socks5Target::name(name, port));
        }
    }
    let id = |line: &LogLine| line.field("attempt_id").cloned();
    let events: Vec<_> = audit_events(&daemon, 8).iter().map(id).collect();
    let wanted = [true, true, false, false, true, true, false, false]
        .map(|marked| marked.then(|| Value::from("abc.1")));
    assert_eq!(events, wanted);
    let entries = violations(&daemon, 4);
    let ids: Vec<_> = entries
        .iter()
        .map(|entry| entry.get("attempt_id").cloned())
        .collect();
    let marked = Some(Value::from("abc.1"));
    assert_eq!(ids, [marked.clone(), None, marked, None]);
    for line in daemon.logs() {
        assert!(
            !line.raw.contains("secret") && !line.raw.contains("alice"),
            "{}",
            line.raw
        );
    }
}

#[test]
fn r2_a_text_log_holds_unprintable_hosts_escaped_on_one_line() {
    let config = Config::example()
        .set("daemon", "log_format", r#""text""#)
        .host("six.test", Ipv4Addr::LOCALHOST);
    let daemon = Daemon::launch().config(&config).spawn();
    let line = daemon.wait_for_log(|line| line.raw.contains("listener=\"socks5\""));
    let address = line.raw.split("address=").nth(1).expect("an address");
    let address = address.split(' ').next().expect("an address");
    daemon.wait_for_log(|line| line.raw.contains(" ready "));
    let mut client = Connection::open(address.parse().expect("an address"));
    let name = b"\x1b[31mevil\r\nINFO forged\x07.test";
    client.send([&[5, 1, 0, 5, 1, 0, 3, 28], &name[..], &[0, 80]].concat());
    assert_eq!(name.len(), 28);
    assert_eq!(client.read_exact(2), [5, 0]);
    assert_eq!(client.socks5_reply().reply, 2);
    let line = daemon.wait_for_log(|line| line.raw.contains(VIOLATION));
    assert!(
        line.raw
            .contains(r"\\x1b[31mevil\\r\\nINFO forged\\x07.test"),
        "{}",
        line.raw
    );
    for line in daemon.logs() {
        assert!(!line.raw.chars().any(char::is_control), "{:?}", line.raw);
        assert!(!line.raw.starts_with("INFO"), "{:?}", line.raw);
    }
}
