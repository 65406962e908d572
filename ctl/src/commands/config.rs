//! `proxyctl config`.

use codex_network_control::Client;
use serde_json::Value;

use crate::Failure;
use crate::output::{Form, Output, Tone, printable};

pub(super) async fn run(client: &Client, output: &Output) -> Result<(), Failure> {
    let config = client.config().await?;
    if output.form() == Form::Json {
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
    Ok(output.table([0, 0], None, &rows)?)
}

/// One row per value, under its dotted key. Where nothing is set stands a dash.
fn flatten(prefix: &str, value: &Value, rows: &mut Vec<[String; 2]>) {
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
        value => value.to_string(),
    };
    // The list of files stands above, the generation belongs to `status`.
    if !matches!(prefix, "files" | "generation") {
        rows.push([printable(prefix), printable(&shown)]);
    }
}
