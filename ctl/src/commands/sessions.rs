//! `proxyctl sessions`: lists sessions, and ends one.

use codex_network_control::Client;
use codex_network_control::message::{SessionEntry, SessionId};

use crate::failure::Failure;
use crate::listener::user_or_uid;
use crate::output::{Column, Output, OutputFormat, Wrap, grouped, printable_line, size, utc};

const COLUMNS: [Column; 8] = [
    column("id", Wrap::Never, 0),
    column("user", Wrap::ToWidth(8), 2),
    column("command", Wrap::ToWidth(10), 0),
    column("isolation", Wrap::Never, 4),
    column("since", Wrap::Never, 3),
    column("allowed", Wrap::Never, 0),
    column("refused", Wrap::Never, 0),
    column("bytes", Wrap::Never, 1),
];

const fn column(heading: &'static str, wrap: Wrap, dispensable: u8) -> Column {
    Column {
        heading,
        usual: 0,
        wrap,
        dispensable,
    }
}

/// Lists the sessions that the caller may see.
pub(super) async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let answer = client.sessions().await?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&answer.sessions)?);
    }
    if answer.sessions.is_empty() {
        return Ok(output.sentence("there is no session; `proxyctl run -- COMMAND` makes one")?);
    }
    let rows: Vec<_> = answer.sessions.iter().map(row).collect();
    Ok(output.table(&COLUMNS, &rows)?)
}

/// Ends a session.
pub(super) async fn end(client: &Client, output: &Output, id: String) -> Result<(), Failure> {
    let ended = client.end_session(SessionId { id }).await?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&ended.session)?);
    }
    let session = &ended.session;
    Ok(output.sentence(&format!(
        "ended session {} of {}, process {}",
        printable_line(&session.id),
        printable_line(&session.command),
        session.pid
    ))?)
}

fn row(session: &SessionEntry) -> [String; 8] {
    let user = session.user.clone();
    [
        printable_line(&session.id),
        printable_line(&user.unwrap_or_else(|| user_or_uid(session.uid))),
        printable_line(&session.command),
        session.isolation.as_str().to_owned(),
        utc(session.since),
        grouped(session.allowed),
        grouped(session.refused),
        size(session.bytes_up.saturating_add(session.bytes_down)),
    ]
}
