//! `GET /blocked`: its entries, `since`, and how to empty it.

use e2e::daemon::{Config, Daemon};
use serde_json::Value;

use super::through;

/// Causes this many refusals, each for a host of its own: `n1.test` and so on.
fn refuse(daemon: &Daemon, count: usize) {
    for number in 1..=count {
        let answer = through(daemon, "GET", &format!("n{number}.test"), 80);
        assert_eq!(answer.status, 403);
    }
}

fn hosts(daemon: &Daemon, query: &str) -> Vec<String> {
    let answer = daemon.admin("GET", &format!("/blocked{query}"), None);
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let listed = answer.json();
    let host = |entry: &Value| entry["host"].as_str().expect("a host").to_owned();
    let entries = listed["blocked"].as_array().expect("a list");
    entries.iter().map(host).collect()
}

fn sequences(daemon: &Daemon) -> Vec<u64> {
    let sequence = |entry: &Value| entry["sequence"].as_u64().expect("a number");
    daemon.blocked().iter().map(sequence).collect()
}

#[test]
fn a1_nothing_blocked_is_an_empty_list() {
    let daemon = Daemon::start(&Config::example());
    let answer = daemon.admin("GET", "/blocked", None);
    assert_eq!(answer.text(), r#"{"blocked":[]}"#);
}

#[test]
fn a1_entries_are_listed_from_a_sequence_number_on() {
    let daemon = Daemon::start(&Config::example());
    refuse(&daemon, 3);
    for _ in 0..2 {
        assert_eq!(hosts(&daemon, ""), ["n1.test", "n2.test", "n3.test"]);
    }
    let [first, second, third] = sequences(&daemon)[..] else {
        panic!("three entries");
    };
    assert_eq!((second, third), (first + 1, first + 2));
    let since = |number| hosts(&daemon, &format!("?since={number}"));
    assert_eq!(since(0), ["n1.test", "n2.test", "n3.test"]);
    assert_eq!(since(first), ["n2.test", "n3.test"]);
    assert_eq!(since(third), [""; 0]);
    assert_eq!(hosts(&daemon, "?since=18446744073709551615"), [""; 0]);
    assert_eq!(
        hosts(&daemon, &format!("?drain=false&since={second}")),
        ["n3.test"]
    );
    assert_eq!(hosts(&daemon, "?"), ["n1.test", "n2.test", "n3.test"]);
}

#[test]
fn a1_drain_returns_each_entry_once_and_numbers_continue() {
    let daemon = Daemon::start(&Config::example());
    refuse(&daemon, 2);
    let second = sequences(&daemon)[1];
    assert_eq!(hosts(&daemon, "?drain=true"), ["n1.test", "n2.test"]);
    assert_eq!(hosts(&daemon, ""), [""; 0]);
    refuse(&daemon, 1);
    assert_eq!(sequences(&daemon), [second + 1]);
}

#[test]
fn a1_a_bad_query_is_400_and_drains_nothing() {
    let daemon = Daemon::start(&Config::example());
    refuse(&daemon, 1);
    for query in [
        "?since=",
        "?since=-1",
        "?since=1.5",
        "?since=18446744073709551616",
        "?since",
        "?drain",
        "?drain=1",
        "?drain=yes",
        "?limit=3",
        "?drain=true&sine=1",
        "?drain=true&since=x",
    ] {
        let answer = daemon.admin("GET", &format!("/blocked{query}"), None);
        assert_eq!(answer.status, 400, "{query}");
    }
    assert_eq!(hosts(&daemon, ""), ["n1.test"]);
}
