//! `proxyctl patterns`.

use codex_network_control::Client;
use codex_network_control::message::Rule;

use crate::failure::Failure;
use crate::output::{Column, Output, OutputFormat, Tone, Wrap, printable_line};

/// A pattern, and where it is written.
const COLUMNS: [Column; 2] = [column(18), column(14)];

const fn column(least: usize) -> Column {
    Column {
        heading: "",
        usual: 0,
        wrap: Wrap::ToWidth(least),
        dispensable: 0,
    }
}

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    let patterns = client.patterns().await?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&patterns)?);
    }
    list(output, "allow", &patterns.allowed)?;
    list(output, "deny", &patterns.denied)
}

fn list(output: &Output, name: &str, rules: &[Rule]) -> Result<(), Failure> {
    let heading = output.paint(Tone::Heading, name);
    if rules.is_empty() {
        let nothing = match name {
            "allow" => "nothing, so everything is refused",
            _ => "nothing",
        };
        return Ok(output.line(&format!("{heading} {nothing}"))?);
    }
    output.line(&heading)?;
    let rows: Vec<_> = rules
        .iter()
        .map(|rule| {
            let place = rule.place().unwrap_or_default();
            [printable_line(&rule.pattern), printable_line(&place)]
        })
        .collect();
    Ok(output.plain_table("  ", &COLUMNS, &rows)?)
}
