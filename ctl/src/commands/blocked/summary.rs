//! `proxyctl blocked --summary`: the refusals by host, and the command that would allow each.

use std::collections::{BTreeMap, BTreeSet};

use codex_network_config::allow_command;
use codex_network_control::Client;
use codex_network_control::message::{BlockedEntry, BlockedQuery};
use serde::Serialize;

use super::{column, is_allowable, remark_dropped, whole};
use crate::failure::Failure;
use crate::output::{Column, Output, OutputFormat, Wrap, grouped, printable_line};

/// The columns. A narrow terminal leaves out the ports first.
const COLUMNS: [Column; 5] = [
    column("HOST", 28, Wrap::ToWidth(22), 0),
    column("PORTS", 8, Wrap::ToWidth(8), 2),
    column("TIMES", 6, Wrap::Never, 0),
    column("REASON", 16, Wrap::ToWidth(16), 0),
    // A command to copy is whole.
    column("TO ALLOW IT", 30, Wrap::Never, 0),
];

/// The refusals of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct HostSummary {
    host: String,
    ports: BTreeSet<u16>,
    count: u64,
    reasons: BTreeSet<String>,
    /// The command that would allow it, if an allow entry is all that it lacks.
    #[serde(skip_serializing_if = "Option::is_none")]
    allow: Option<String>,
}

pub(in crate::commands) async fn run(
    client: &Client,
    output: &Output,
    since: u64,
) -> Result<(), Failure> {
    let since = whole(client, since).await?;
    let found = client.blocked(BlockedQuery { since, wait: 0 }).await?;
    let hosts = by_host(&found.blocked);
    if output.format() == OutputFormat::Json {
        let answer = serde_json::json!({
            "hosts": hosts,
            "next": found.next,
            "dropped": found.dropped,
        });
        return Ok(output.json(&answer)?);
    }
    if hosts.is_empty() {
        return Ok(output.sentence("nothing was refused")?);
    }
    remark_dropped(output, &found);
    let rows: Vec<_> = hosts.iter().map(row).collect();
    Ok(output.table(&COLUMNS, &rows)?)
}

/// The most refused host first.
fn by_host(entries: &[BlockedEntry]) -> Vec<HostSummary> {
    let mut hosts: BTreeMap<&str, HostSummary> = BTreeMap::new();
    for entry in entries {
        let summary = hosts.entry(&entry.host).or_default();
        summary.host.clone_from(&entry.host);
        summary.ports.extend(entry.port);
        summary.count += entry.count.max(1);
        let reason = if entry.would_deny {
            format!("{}, let through", entry.reason)
        } else {
            entry.reason.clone()
        };
        summary.reasons.insert(reason);
        if is_allowable(entry) {
            summary.allow = Some(allow_command(&entry.host));
        }
    }
    let mut hosts: Vec<HostSummary> = hosts.into_values().collect();
    // Hosts with equal counts stay in the order of their names.
    hosts.sort_by_key(|host| std::cmp::Reverse(host.count));
    hosts
}

fn row(host: &HostSummary) -> [String; 5] {
    let ports: Vec<String> = host.ports.iter().map(ToString::to_string).collect();
    let reasons: Vec<&str> = host.reasons.iter().map(String::as_str).collect();
    let cells = [
        host.host.clone(),
        ports.join(", "),
        grouped(host.count),
        reasons.join("; "),
        host.allow.clone().unwrap_or_else(|| "-".to_owned()),
    ];
    cells.map(|cell| printable_line(&cell))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w2_refusals_are_counted_by_host_and_only_allowable_ones_have_a_command() {
        let entry = |host: &str, port, reason: &str, count| BlockedEntry {
            host: host.to_owned(),
            reason: reason.to_owned(),
            source: "baseline_policy".to_owned(),
            port: Some(port),
            count,
            ..BlockedEntry::default()
        };
        let summary = by_host(&[
            entry("b.test", 443, "denied", 0),
            entry("a.test", 443, "not_allowed", 0),
            entry("a.test", 80, "not_allowed", 7),
            entry("c.test", 22, "denied", 0),
        ]);
        let hosts: Vec<_> = summary
            .iter()
            .map(|host| (host.host.as_str(), host.count, host.allow.as_deref()))
            .collect();
        assert_eq!(
            hosts,
            [
                ("a.test", 8, Some("proxyctl allow a.test")),
                ("b.test", 1, None),
                ("c.test", 1, None)
            ]
        );
        assert_eq!(
            row(&summary[0]),
            [
                "a.test",
                "80, 443",
                "8",
                "not_allowed",
                "proxyctl allow a.test"
            ]
        );
    }
}
