//! `proxyctl explain URL [--method METHOD] [--header FIELD]… [--resolve]`.

use codex_network_control::Client;
use codex_network_control::message::{ExplainQuery, Explained, ExplainedAddress, MissedHook};

use crate::failure::Failure;
use crate::output::{Output, OutputFormat, Tone, bracketed, printable};

pub(super) async fn run(
    client: &Client,
    output: &Output,
    query: ExplainQuery,
) -> Result<(), Failure> {
    let explained = client.explain(query).await?;
    if output.format() == OutputFormat::Json {
        return Ok(output.json(&explained)?);
    }
    let verdict = match explained.decision.as_str() {
        "allow" if explained.would_deny => {
            output.paint(Tone::Doubtful, "let through, and would be refused")
        }
        "allow" => output.paint(Tone::Good, "allowed"),
        // The policy permits it.
        "deny" if explained.reason == "dns_failure" => output.paint(Tone::Bad, "not resolved"),
        "deny" => output.paint(Tone::Bad, "refused"),
        other => printable(other),
    };
    output.sentence(&format!("{} is {verdict}", what(&explained)))?;
    let detail = match &explained.detail {
        Some(detail) => format!(": {detail}"),
        None => String::new(),
    };
    let mut rows = vec![
        (
            "reason",
            format!("{} ({}){detail}", explained.reason, explained.source),
        ),
        // It names the rule and where that is written.
        ("because", explained.because.clone()),
    ];
    let hooks = explained.hooks.iter();
    rows.extend(hooks.map(|hook| ("hook", missed(hook))));
    let addresses = explained.addresses.iter().flatten();
    rows.extend(addresses.map(|address| ("address", judged(address))));
    if !explained.remedy.is_empty() {
        rows.push(("remedy", explained.remedy.clone()));
    }
    rows.extend(explained.notes.iter().map(|note| ("note", note.clone())));
    for (_, text) in &mut rows {
        *text = printable(text);
    }
    Ok(output.labelled(&rows)?)
}

/// `read (policy.toml:4) does not match: the method is not GET`.
fn missed(hook: &MissedHook) -> String {
    let place = hook.place.as_ref().map(|place| format!(" ({place})"));
    format!(
        "{}{} does not match: {}",
        hook.name,
        place.unwrap_or_default(),
        hook.missed.join("; ")
    )
}

/// `10.0.0.1 is local or private: refused, not_allowed_local`.
fn judged(address: &ExplainedAddress) -> String {
    let standing = match address.standing.as_str() {
        "public" => "public",
        "local" => "local or private",
        "this_machine" => "of this machine",
        "own_listener" => "the proxy's own listener",
        "denied" => "on the deny list",
        other => other,
    };
    let rule = address.rule.as_ref().map(|rule| match rule.place() {
        Some(place) => format!(" ({} {place})", rule.pattern),
        None => format!(" ({})", rule.pattern),
    });
    let verdict = match address.decision.as_str() {
        "allow" => "allowed".to_owned(),
        _ => format!("refused, {}", address.reason),
    };
    format!(
        "{} is {standing}{}: {verdict}",
        address.address,
        rule.unwrap_or_default()
    )
}

/// `GET http://example.com:80`, `CONNECT example.com:443`.
fn what(explained: &Explained) -> String {
    if explained.host.is_empty() {
        return format!("this destination in {} mode", printable(&explained.mode));
    }
    let host = bracketed(&explained.host);
    let authority = format!("{host}:{}", explained.port);
    let text = match (explained.protocol.as_str(), &explained.method) {
        ("http", Some(method)) => format!("{method} http://{authority}"),
        ("https_connect", _) => format!("CONNECT {authority}"),
        ("socks5_tcp", _) => format!("SOCKS5 to {authority}"),
        ("transparent_tcp", _) => format!("TCP from a jail to {authority}"),
        ("dns", _) => format!("the lookup of {host} in a jail"),
        ("socks5_udp", _) => format!("UDP to {authority}"),
        (protocol, _) => format!("{protocol} to {authority}"),
    };
    format!(
        "{} in {} mode",
        printable(&text),
        printable(&explained.mode)
    )
}
