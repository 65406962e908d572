//! `proxyctl config`.

use codex_network_control::Client;
use serde_json::Value;

use super::patterns;
use crate::failure::Failure;
use crate::output::{Column, Output, OutputFormat, Tone, Wrap, printable, size};

/// The values come last, since lists may be long.
const COLUMNS: [Column; 3] = [
    column("KEY", 20, 0),
    column("SET BY", 12, 1),
    column("VALUE", 16, 0),
];

const fn column(heading: &'static str, least: usize, dispensable: u8) -> Column {
    Column {
        heading,
        usual: 0,
        wrap: Wrap::ToWidth(least),
        dispensable,
    }
}

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    let config = client.config().await?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&config.settings)?);
    }
    match config.files.as_slice() {
        [] => output.line("# no configuration files: built-in defaults")?,
        files => {
            for file in files {
                output.line(&output.paint(Tone::Faint, &format!("# {}", printable(file))))?;
            }
        }
    }
    let mut rows = Vec::new();
    flatten("", &config.settings, &mut rows);
    let rows: Vec<[String; 3]> = rows
        .into_iter()
        .map(|[key, value]| {
            let source = printable(source(&config.settings, &key));
            let value = match bound(&config.settings, &key) {
                Some(bound) => format!("{value}  {}", output.paint(Tone::Faint, &bound)),
                None => value,
            };
            [key, source, value]
        })
        .collect();
    output.table(&COLUMNS, &rows)?;
    // Permanent answers say there who added the entry, when and why.
    let entries = patterns::commented(&client.patterns().await?);
    if entries.is_empty() {
        return Ok(());
    }
    output.line("")?;
    output.line(&output.paint(Tone::Heading, "comments beside entries of the lists"))?;
    Ok(output.plain_table("  ", &patterns::COLUMNS, &entries)?)
}

/// The line that set a value. A value without a line of its own has that of its table.
fn source<'v>(settings: &'v Value, key: &str) -> &'v str {
    let mut ancestors = std::iter::successors(Some(key), |key| Some(key.rsplit_once('.')?.0));
    ancestors
        .find_map(|key| settings["sources"][key].as_str())
        .unwrap_or("default")
}

/// The values that a requirement permits (SPEC C6).
fn bound(settings: &Value, key: &str) -> Option<String> {
    let pin = &settings["pinned"][key];
    let (allowed, by) = (pin["allowed"].as_str()?, pin["by"].as_str()?);
    Some(printable(&format!("(allowed {allowed}, by {by})")))
}

/// One row per value, with its dotted key. A value without a source has a dash.
fn flatten(prefix: &str, value: &Value, rows: &mut Vec<[String; 2]>) {
    // The list of files is above, the generation is part of `status`, the others belong to each
    // value.
    if matches!(prefix, "files" | "generation" | "sources" | "pinned") {
        return;
    }
    if let Value::Object(keys) = value {
        for (key, value) in keys {
            let key = match prefix {
                "" => key.clone(),
                prefix => format!("{prefix}.{key}"),
            };
            flatten(&key, value, rows);
        }
        return;
    }
    let shown = match value {
        Value::Null => "-".to_owned(),
        Value::Number(bytes) if prefix.ends_with("_bytes") => match bytes.as_u64() {
            Some(many) => format!("{bytes} ({})", size(many)),
            None => bytes.to_string(),
        },
        value => value.to_string(),
    };
    rows.push([printable(prefix), printable(&shown)]);
}
