//! `proxyctl blocked [--follow | --summary] [--since SEQUENCE]`.

pub(super) mod summary;

use codex_network_control::Client;
use codex_network_control::client::CallError;
use codex_network_control::message::{Blocked, BlockedEntry, BlockedQuery, MAX_WAIT};

use crate::failure::Failure;
use crate::find;
use crate::output::{
    Column, Output, OutputFormat, SHORT_SEQUENCE, Wrap, bracketed, counted, grouped,
    printable_line, short_sequence, utc,
};
use crate::proposal::is_suggested;

/// The columns. A narrow terminal leaves out the method first.
const COLUMNS: [Column; 6] = [
    column("#", 6, Wrap::Never, 1),
    column("TIME", 20, Wrap::Never, 2),
    column("DESTINATION", 28, Wrap::ToWidth(22), 0),
    column("PROTOCOL", 12, Wrap::Never, 3),
    column("METHOD", 7, Wrap::Never, 4),
    column("REASON", 24, Wrap::ToWidth(16), 0),
];

const fn column(heading: &'static str, usual: usize, wrap: Wrap, dispensable: u8) -> Column {
    Column {
        heading,
        usual,
        wrap,
        dispensable,
    }
}

/// Lists the last refusals.
pub(super) async fn list(client: &Client, output: &Output, since: u64) -> Result<(), Failure> {
    let since = whole(client, since).await?;
    let found = client.blocked(BlockedQuery { since, wait: 0 }).await?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&found)?);
    }
    if found.blocked.is_empty() {
        return Ok(output.sentence("nothing was refused")?);
    }
    remark_dropped(output, &found);
    let rows: Vec<_> = found.blocked.iter().map(row).collect();
    Ok(output.table(&COLUMNS, &rows)?)
}

/// The whole sequence number. A short one stands for the newest that ends with these digits, as the
/// list shows them.
pub(super) async fn whole(client: &Client, since: u64) -> Result<u64, Failure> {
    if since == 0 || since >= SHORT_SEQUENCE {
        return Ok(since);
    }
    // After a number beyond the last entry, `next` is that of the last entry.
    let query = BlockedQuery {
        since: u64::MAX,
        wait: 0,
    };
    Ok(newest(client.blocked(query).await?.next, since))
}

/// The largest number up to `last` that ends with these digits.
fn newest(last: u64, digits: u64) -> u64 {
    let behind = (last % SHORT_SEQUENCE + SHORT_SEQUENCE - digits) % SHORT_SEQUENCE;
    last.checked_sub(behind).unwrap_or(digits)
}

/// Lists the last refusals, and new ones until the proxy stops or the reader ends. Sequence numbers
/// rise across workers, so the list continues when another worker replaces the first.
pub(super) async fn follow(mut client: Client, output: &Output, since: u64) -> Result<(), Failure> {
    let since = whole(&client, since).await?;
    let mut query = BlockedQuery { since, wait: 0 };
    if output.format() == OutputFormat::Text {
        output.open_table(&COLUMNS)?;
    }
    loop {
        let found = match client.blocked(query).await {
            Err(CallError::Disconnected) => {
                client = find::connect_again(&client).await?;
                output.remark(
                    "(the proxy's worker was replaced; the earlier entries are in the log)",
                );
                continue;
            }
            found => found?,
        };
        match output.format() {
            OutputFormat::Json => {
                for entry in &found.blocked {
                    output.json_line(entry)?;
                }
            }
            OutputFormat::Text => {
                remark_dropped(output, &found);
                let rows: Vec<_> = found.blocked.iter().map(row).collect();
                output.further_rows(&COLUMNS, &rows)?;
            }
        }
        if found.ending {
            return Err(Failure::Unreachable("the proxy is stopping".to_owned()));
        }
        query = BlockedQuery {
            since: found.next,
            wait: MAX_WAIT.as_secs(),
        };
    }
}

pub(super) fn remark_dropped(output: &Output, found: &Blocked) {
    if found.dropped > 0 {
        let dropped = usize::try_from(found.dropped).unwrap_or(usize::MAX);
        let entries = counted(dropped, "older entry is", "older entries are");
        output.remark(&format!("({entries} no longer kept)"));
    }
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
    let reason = if entry.would_deny {
        format!("{reason}, let through")
    } else {
        reason
    };
    let reason = match entry.count {
        0 | 1 => reason,
        count => format!("{reason} ({} times)", grouped(count)),
    };
    let cells = [
        short_sequence(entry.sequence),
        utc(entry.timestamp),
        destination,
        entry.protocol.clone(),
        entry.method.clone().unwrap_or_else(|| "-".to_owned()),
        reason,
    ];
    cells.map(|cell| printable_line(&cell))
}

/// Whether an allow entry is all that the request lacked. What a session is limited to is no part of the policy.
pub(super) fn is_allowable(entry: &BlockedEntry) -> bool {
    let by_session = entry.source == "session" && !entry.would_deny;
    entry.reason == "not_allowed"
        && !by_session
        && is_suggested(&entry.host, entry.port.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_the_last_digits_stand_for_the_newest_number_that_ends_with_them() {
        for (last, digits, wanted) in [
            (1_839_083_467_192_322, 192_321, 1_839_083_467_192_321),
            (1_839_083_467_192_322, 192_322, 1_839_083_467_192_322),
            (1_839_083_467_192_322, 192_323, 1_839_083_466_192_323),
            (1_839_083_467_000_001, 999_999, 1_839_083_466_999_999),
            (5, 3, 3),
            (5, 7, 7),
        ] {
            assert_eq!(newest(last, digits), wanted, "{digits} up to {last}");
        }
    }
}
