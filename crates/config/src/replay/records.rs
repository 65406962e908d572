//! Recorded decisions, as text: audit events of a log in JSON, and entries of refusals (`proxyctl blocked --json`, `GET
//! /blocked`). Everything else in the text is skipped.

use codex_network_policy::{Host, Protocol};
use serde_json::{Map, Value};

/// A decision that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedAttempt {
    /// The requested host.
    pub host: Host,
    /// The requested port; 0 if it is not known.
    pub port: u16,
    /// The protocol of the request.
    pub protocol: Protocol,
    /// The HTTP method; `none` if it is not known.
    pub method: String,
    /// Whether it was allowed.
    pub is_allowed: bool,
    /// The part of the policy that decided.
    pub source: String,
    /// Why.
    pub reason: String,
    /// The number of attempts.
    pub count: u64,
}

impl RecordedAttempt {
    /// The records of a text, and how many lines had none.
    pub fn read(text: &str) -> (Vec<Self>, u64) {
        // `proxyctl blocked --json` is one value.
        if let Ok(Value::Object(whole)) = serde_json::from_str(text)
            && let Some(Value::Array(entries)) = whole.get("blocked")
        {
            return each(
                entries
                    .iter()
                    .map(|entry| entry.as_object().and_then(Self::of_entry)),
            );
        }
        each(
            text.lines()
                .filter(|line| !line.trim().is_empty())
                .map(line),
        )
    }

    /// An entry of refusals (SPEC R1), or of the decisions that `proxyctl watch` follows.
    pub fn of_entry(fields: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        Some(Self {
            host: Host::parse(text("host")?).ok()?,
            port: number(fields, "port").try_into().ok()?,
            protocol: protocol(text("protocol")?)?,
            method: text("method").unwrap_or("none").to_owned(),
            is_allowed: text("decision")? == "allow",
            source: text("source")?.to_owned(),
            reason: text("reason")?.to_owned(),
            count: number(fields, "count").max(1),
        })
    }
}

fn each(found: impl Iterator<Item = Option<RecordedAttempt>>) -> (Vec<RecordedAttempt>, u64) {
    let (mut records, mut others) = (Vec::new(), 0);
    for one in found {
        match one {
            Some(record) => records.push(record),
            None => others += 1,
        }
    }
    (records, others)
}

/// A line of a log, with its fields in `fields` or at its top; or an entry of refusals.
fn line(text: &str) -> Option<RecordedAttempt> {
    let Ok(Value::Object(line)) = serde_json::from_str(text) else {
        return None;
    };
    let fields = line
        .get("fields")
        .and_then(Value::as_object)
        .unwrap_or(&line);
    event_of(fields).or_else(|| RecordedAttempt::of_entry(fields))
}

/// An audit event (SPEC R3).
fn event_of(fields: &Map<String, Value>) -> Option<RecordedAttempt> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    (text("event.name") == Some("codex.network_proxy.policy_decision")).then_some(())?;
    Some(RecordedAttempt {
        host: Host::parse(text("server.address")?).ok()?,
        port: number(fields, "server.port").try_into().ok()?,
        protocol: protocol(text("network.transport.protocol")?)?,
        method: text("http.request.method").unwrap_or("none").to_owned(),
        is_allowed: text("network.policy.decision")? == "allow",
        source: text("network.policy.source")?.to_owned(),
        reason: text("network.policy.reason")?.to_owned(),
        count: number(fields, "event.count").max(1),
    })
}

fn number(fields: &Map<String, Value>, name: &str) -> u64 {
    fields.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// A protocol by its name in audit events or in entries.
fn protocol(name: &str) -> Option<Protocol> {
    let all = [
        Protocol::Http,
        Protocol::HttpConnect,
        Protocol::Https,
        Protocol::Socks5Tcp,
        Protocol::Socks5Udp,
        Protocol::Transparent,
        Protocol::Dns,
    ];
    all.into_iter()
        .find(|one| one.audit_name() == name || one.record_name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w5_events_and_entries_are_read_and_other_lines_are_counted() {
        let event = r#"{"timestamp":"t","level":"INFO","fields":{"message":"m","event.name":"codex.network_proxy.policy_decision","network.policy.decision":"allow","network.policy.source":"baseline_policy","network.policy.reason":"allow","network.transport.protocol":"https_connect","server.address":"a.test","server.port":443,"http.request.method":"CONNECT","event.count":3},"target":"codex_otel.network_proxy"}"#;
        let flow = event.replace("policy_decision", "flow");
        let entry = r#"{"host":"b.test","reason":"not_allowed","client":"127.0.0.1:5","method":"GET","mode":"full","protocol":"http","decision":"deny","source":"baseline_policy","port":80,"timestamp":1,"sequence":7}"#;
        let text = format!("{event}\n\nno JSON\n{flow}\n{entry}\n[1]\n");
        let (records, others) = RecordedAttempt::read(&text);
        assert_eq!(others, 3);
        assert_eq!(
            records,
            [
                RecordedAttempt {
                    host: Host::parse("a.test").expect("a host"),
                    port: 443,
                    protocol: Protocol::HttpConnect,
                    method: "CONNECT".to_owned(),
                    is_allowed: true,
                    source: "baseline_policy".to_owned(),
                    reason: "allow".to_owned(),
                    count: 3,
                },
                RecordedAttempt {
                    host: Host::parse("b.test").expect("a host"),
                    port: 80,
                    protocol: Protocol::Http,
                    method: "GET".to_owned(),
                    is_allowed: false,
                    source: "baseline_policy".to_owned(),
                    reason: "not_allowed".to_owned(),
                    count: 1,
                },
            ]
        );
        let whole = format!("{{\n \"blocked\": [{entry},\n {{}}],\n \"next\": 7}}");
        let (entries, others) = RecordedAttempt::read(&whole);
        assert_eq!((entries.as_slice(), others), (&records[1..], 1));
        for length in 0..event.len() {
            if event.is_char_boundary(length) {
                assert_eq!(RecordedAttempt::read(&event[..length]).0, [], "{length}");
            }
        }
    }
}
