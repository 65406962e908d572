//! `proxyctl blocked [--follow] [--since SEQUENCE]`.

use codex_network_control::Client;
use codex_network_control::client::CallError;
use codex_network_control::message::{Blocked, BlockedEntry, BlockedQuery, MOST_WAIT};

use crate::output::{Form, Output, bracketed, counted, printable, utc};
use crate::{Failure, find};

/// While following, widths that are rarely exceeded, so that new lines stay aligned with earlier
/// ones.
const LEAST: [usize; 6] = [16, 20, 28, 12, 7, 0];

const HEADING: [&str; 6] = ["#", "TIME", "DESTINATION", "PROTOCOL", "METHOD", "REASON"];

/// Lists the last refusals.
pub(super) async fn list(client: &Client, output: &Output, since: u64) -> Result<(), Failure> {
    let found = client.blocked(BlockedQuery { since, wait: 0 }).await?;
    if output.form() == Form::Json {
        return Ok(output.json(&found)?);
    }
    if found.blocked.is_empty() {
        return Ok(output.line("nothing was refused")?);
    }
    rows(output, &found, [0; 6], Some(HEADING))
}

/// Lists the last refusals and the new ones. Ends with the proxy or the reader. Numbers never go
/// back, so it continues at its place when another worker has replaced the first.
pub(super) async fn follow(mut client: Client, output: &Output, since: u64) -> Result<(), Failure> {
    let mut query = BlockedQuery { since, wait: 0 };
    if output.form() == Form::Text {
        output.table(LEAST, Some(HEADING), &[])?;
    }
    loop {
        let found = match client.blocked(query).await {
            Err(CallError::HungUp) => {
                client = find::connect_again(&client).await?;
                output.remark(
                    "(the proxy's worker was replaced; the earlier entries are in the log)",
                );
                continue;
            }
            found => found?,
        };
        match output.form() {
            Form::Json => {
                for entry in &found.blocked {
                    output.json_line(entry)?;
                }
            }
            Form::Text => rows(output, &found, LEAST, None)?,
        }
        if found.ending {
            return Err(Failure::Unreachable("the proxy is stopping".to_owned()));
        }
        query = BlockedQuery {
            since: found.next,
            wait: MOST_WAIT.as_secs(),
        };
    }
}

fn rows(
    output: &Output,
    found: &Blocked,
    least: [usize; 6],
    heading: Option<[&str; 6]>,
) -> Result<(), Failure> {
    if found.dropped > 0 {
        let dropped = usize::try_from(found.dropped).unwrap_or(usize::MAX);
        let entries = counted(dropped, "older entry is", "older entries are");
        output.remark(&format!("({entries} no longer kept)"));
    }
    let rows: Vec<_> = found.blocked.iter().map(row).collect();
    Ok(output.table(least, heading, &rows)?)
}

fn row(entry: &BlockedEntry) -> [String; 6] {
    let host = bracketed(&entry.host);
    let destination = match entry.port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    let reason = match &entry.rule {
        Some(rule) => format!("{}: {rule}", entry.reason),
        None => entry.reason.clone(),
    };
    let reason = match entry.count {
        0 | 1 => reason,
        count => format!("{reason} ({count} times)"),
    };
    let cells = [
        entry.sequence.to_string(),
        utc(entry.timestamp),
        destination,
        entry.protocol.clone(),
        entry.method.clone().unwrap_or_else(|| "-".to_owned()),
        reason,
    ];
    cells.map(|cell| printable(&cell))
}
