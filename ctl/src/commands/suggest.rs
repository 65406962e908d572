//! `proxyctl suggest [--since SEQUENCE] [--session ID]`: entries that would allow what was refused (SPEC W2).

use codex_network_control::Client;
use codex_network_control::message::{BlockedEntry, BlockedQuery};
use serde_json::json;

use super::blocked::{is_allowable, remark_dropped, whole};
use crate::failure::Failure;
use crate::output::{Output, OutputFormat, printable};
use crate::proposal::{NeededDestination, Proposal};

pub(super) async fn run(
    client: &Client,
    output: &Output,
    since: u64,
    session: Option<&str>,
) -> Result<(), Failure> {
    let since = whole(client, since).await?;
    let found = client.blocked(BlockedQuery { since, wait: 0 }).await?;
    let of_session =
        |entry: &&BlockedEntry| session.is_none() || entry.session.as_deref() == session;
    let proposal = proposal(found.blocked.iter().filter(of_session));
    let policy = proposal.to_toml(false, &remarks(session));
    if output.format() == OutputFormat::Json {
        let answer = json!({
            "proposal": proposal,
            "policy": policy,
            "next": found.next,
            "dropped": found.dropped,
        });
        return Ok(output.json(&answer)?);
    }
    remark_dropped(output, &found);
    if proposal.entries.is_empty() {
        return Ok(output.sentence("nothing was refused that an allow entry would allow")?);
    }
    for line in policy.lines() {
        output.line(line)?;
    }
    Ok(())
}

fn remarks(session: Option<&str>) -> Vec<String> {
    let of = session.map_or_else(String::new, |id| format!(" in session {}", printable(id)));
    vec![
        format!("Entries for the hosts that were not allowed{of}. Keep those that you trust."),
        "In a configuration that you have: `proxyctl allow PATTERN` for each.".to_owned(),
    ]
}

fn proposal<'a>(entries: impl Iterator<Item = &'a BlockedEntry>) -> Proposal {
    let (allowable, others): (Vec<_>, Vec<_>) = entries.partition(|entry| is_allowable(entry));
    let needed = allowable.into_iter().map(|entry| NeededDestination {
        host: entry.host.clone(),
        port: entry.port.unwrap_or(0),
        count: entry.count.max(1),
        // It was not looked up.
        is_local: false,
    });
    let denied = others.into_iter().filter(|entry| entry.reason == "denied");
    Proposal::of(needed, &denied.map(|entry| entry.host.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w2_only_what_an_allow_entry_lifts_is_proposed() {
        let entry = |host: &str, reason: &str, source: &str| BlockedEntry {
            host: host.to_owned(),
            reason: reason.to_owned(),
            source: source.to_owned(),
            port: Some(443),
            count: 2,
            ..BlockedEntry::default()
        };
        let looked_up = |host: &str| BlockedEntry {
            port: None,
            protocol: "dns".to_owned(),
            ..entry(host, "not_allowed", "baseline_policy")
        };
        let entries = [
            entry("a.test", "not_allowed", "baseline_policy"),
            entry("a.test", "not_allowed", "baseline_policy"),
            entry("b.test", "denied", "baseline_policy"),
            entry("10.0.0.1", "not_allowed_local", "baseline_policy"),
            entry("c.test", "not_allowed", "session"),
            BlockedEntry {
                would_deny: true,
                ..entry("d.test", "not_allowed", "session")
            },
            entry("e.test", "method_not_allowed", "mode_guard"),
            looked_up("f.test"),
            looked_up("local"),
            entry("not a host", "not_allowed", "baseline_policy"),
        ];
        let proposal = proposal(entries.iter());
        let proposed: Vec<_> = proposal
            .entries
            .iter()
            .map(|entry| (entry.pattern.as_str(), entry.count, entry.ports.as_slice()))
            .collect();
        let expected: [(&str, u64, &[u16]); 3] = [
            ("a.test", 4, &[443]),
            ("d.test", 2, &[443]),
            ("f.test", 2, &[]),
        ];
        assert_eq!(proposed, expected);
    }
}
