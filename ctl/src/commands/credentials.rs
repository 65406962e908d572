//! `proxyctl credentials`: the credentials of sessions, without their values (SPEC B13).

use codex_network_control::Client;
use codex_network_control::message::CredentialEntry;

use crate::failure::Failure;
use crate::output::{Column, Output, OutputFormat, Wrap, ago, grouped, printable, utc};

const COLUMNS: [Column; 8] = [
    column("session", Wrap::Never, 0),
    column("id", Wrap::Never, 0),
    column("env", Wrap::ToWidth(16), 0),
    column("destinations", Wrap::ToWidth(20), 2),
    column("source", Wrap::ToWidth(20), 3),
    column("age", Wrap::Never, 4),
    column("uses", Wrap::Never, 0),
    column("last used", Wrap::Never, 1),
];

const fn column(heading: &'static str, wrap: Wrap, dispensable: u8) -> Column {
    Column {
        heading,
        usual: 0,
        wrap,
        dispensable,
    }
}

/// Lists the credentials of the sessions that the caller may see.
pub(super) async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let answer = client.credentials().await?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&answer.credentials)?);
    }
    if answer.credentials.is_empty() {
        let none = "no session has credentials; `credential_broker = true` and `proxyctl run` give it some";
        return Ok(output.sentence(none)?);
    }
    let rows: Vec<_> = answer.credentials.iter().map(row).collect();
    output.table(&COLUMNS, &rows)?;
    for credential in &answer.credentials {
        if let Some(why) = &credential.failure {
            let (session, id) = (&credential.session, &credential.id);
            let lacks = match credential.read_at {
                Some(_) => "the value before stays in use",
                None => "the session has no dummy for it",
            };
            output.sentence(&format!(
                "{}: the credential {} {}; {lacks}",
                printable(session),
                printable(id),
                printable(why)
            ))?;
        }
    }
    Ok(())
}

fn row(credential: &CredentialEntry) -> [String; 8] {
    let destinations = match credential.destinations.as_slice() {
        [] => "none".to_owned(),
        all => all.join(" "),
    };
    [
        printable(&credential.session),
        printable(&credential.id),
        printable(&credential.env.join(" ")),
        printable(&destinations),
        printable(&credential.source),
        credential.read_at.map_or_else(|| "-".to_owned(), ago),
        grouped(credential.uses),
        credential.last_used.map_or_else(|| "never".to_owned(), utc),
    ]
}
