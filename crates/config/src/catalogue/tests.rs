//! A row is all that a simple key needs: rows that only this build has are read, checked, bounded,
//! shown and documented, without a line elsewhere.

use serde_json::json;

use super::field::{duration, field};
use super::row::{Bound, Key, KeyRow, TopTable, ValueKind, ZeroDuration};
use super::{InForce, documentation, effective, rows};
use crate::{Loaded, Sources, load};

/// The keys of this test. Their fields belong to other keys, whose defaults they share.
pub(super) static ROWS: &[KeyRow] = &[
    KeyRow::daemon(
        Key("daemon.limits.test_timeout"),
        ValueKind::Duration(
            ZeroDuration::Refused,
            duration!(daemon.limits.drain_timeout),
        ),
    )
    .about("How long the test may take."),
    KeyRow::policy(
        Key("test_switch"),
        ValueKind::Flag(field!(credential_broker)),
    )
    .bound(Bound::Only(false))
    .about("Whether the test is on."),
];

fn sources(text: &str) -> Sources {
    Sources::none().with_text("config.toml", text)
}

fn loaded(text: &str) -> Loaded {
    load(&sources(text)).unwrap_or_else(|errors| panic!("{text}: {errors}"))
}

fn message(sources: &Sources) -> String {
    load(sources).expect_err("an error").one_line()
}

#[test]
fn c3_a_key_with_a_row_is_read_in_every_dialect() {
    for table in [
        "[network_proxy]",
        "[network]",
        "default_permissions = \"dev\"\n[permissions.dev.network]",
    ] {
        let text = format!("{table}\ntest_switch = true\n[daemon.limits]\ntest_timeout = \"5s\"\n");
        let settings = loaded(&text).settings;
        assert!(settings.credential_broker, "{table}");
        assert_eq!(settings.daemon.limits.drain_timeout.as_secs(), 5, "{table}");
    }
}

#[test]
fn c4_a_key_with_a_row_is_checked_and_offered() {
    for (text, expected) in [
        (
            "[daemon.limits]\ntest_timeout = \"0s\"\n",
            "`test_timeout` must not be zero",
        ),
        (
            "[network]\ntest_switch = 1\n",
            "`test_switch` must be `true` or `false`, not an integer",
        ),
        (
            "[network]\ntest_swich = true\n",
            "did you mean `test_switch`?",
        ),
        (
            "[network]\ntest_timeout = \"5s\"\n",
            "`test_timeout` belongs in [daemon.limits]",
        ),
    ] {
        let message = message(&sources(text));
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn c6_a_key_with_a_row_is_bounded() {
    let required = "[experimental_network]\ntest_switch = false\n";
    let required = |text| sources(text).with_requirements_text("requirements.toml", required);
    let message = message(&required("[network]\ntest_switch = true\n"));
    let expected = "invalid value for network.test_switch: true (allowed false)";
    assert!(message.contains(expected), "{message}");
    let settings = load(&required("")).expect("no conflict").settings;
    let pins: Vec<String> = settings
        .managed
        .pins()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(pins, ["false, by requirements.toml:2"]);
    assert_eq!(settings.lines.iter().count(), 1);
}

#[test]
fn a2_a_key_with_a_row_is_shown_and_documented() {
    let settings = loaded("[daemon.limits]\ntest_timeout = \"1m 30s\"\n").settings;
    let now = InForce {
        settings: &settings,
        policy: &settings.policy,
        listen: &settings.listen,
    };
    let shown = effective(&now).find(|(name, _)| *name == "daemon.limits.test_timeout");
    assert_eq!(shown, Some(("daemon.limits.test_timeout", json!("1m 30s"))));
    let tables = documentation();
    let limits = tables.iter().find(|table| table.name == "daemon.limits");
    let key = limits.and_then(|limits| limits.keys.last()).expect("keys");
    assert_eq!(key.name, "test_timeout");
    assert_eq!(key.value, "duration");
    assert_eq!(key.default.as_deref(), Some("\"30s\""));
    assert_eq!(key.about, "How long the test may take.");
}

#[test]
fn c2_no_two_rows_have_one_place() {
    for table in TopTable::ALL {
        let mut paths: Vec<&str> = rows().flat_map(|row| row.paths(table)).collect();
        paths.sort_unstable();
        let count = paths.len();
        paths.dedup();
        assert_eq!(paths.len(), count, "{table:?}: {paths:?}");
    }
}
