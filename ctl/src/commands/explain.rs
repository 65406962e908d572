//! `proxyctl explain URL [--method METHOD]`.

use codex_network_control::Client;
use codex_network_control::message::{ExplainQuery, Explained};

use crate::Failure;
use crate::output::{Form, Output, Tone, bracketed, printable};

pub(super) async fn run(
    client: &Client,
    output: &Output,
    url: String,
    method: Option<String>,
) -> Result<(), Failure> {
    let explained = client.explain(ExplainQuery { url, method }).await?;
    if output.form() == Form::Json {
        return Ok(output.json(&explained)?);
    }
    let verdict = match explained.decision.as_str() {
        "allow" => output.paint(Tone::Good, "allowed"),
        "deny" => output.paint(Tone::Bad, "refused"),
        other => printable(other),
    };
    output.line(&format!("{} is {verdict}", what(&explained)))?;
    let mut rows = vec![
        (
            "reason",
            format!("{} ({})", explained.reason, explained.source),
        ),
        // It names the rule and where that is written.
        ("because", explained.because.clone()),
    ];
    if !explained.remedy.is_empty() {
        rows.push(("remedy", explained.remedy.clone()));
    }
    rows.extend(explained.notes.iter().map(|note| ("note", note.clone())));
    for (_, text) in &mut rows {
        *text = printable(text);
    }
    Ok(output.labelled(&rows)?)
}

/// `GET http://example.com:80`, `CONNECT example.com:443`.
fn what(explained: &Explained) -> String {
    let host = bracketed(&explained.host);
    let authority = format!("{host}:{}", explained.port);
    let text = match (explained.protocol.as_str(), &explained.method) {
        ("http", Some(method)) => format!("{method} http://{authority}"),
        ("https_connect", _) => format!("CONNECT {authority}"),
        ("socks5_tcp", _) => format!("SOCKS5 to {authority}"),
        (protocol, _) => format!("{protocol} to {authority}"),
    };
    format!(
        "{} in {} mode",
        printable(&text),
        printable(&explained.mode)
    )
}
