//! The rows of the lists, as text that is safe to show.
//!
//! Hosts, methods and commands come from clients. Each text is made harmless and shortened once, when it arrives, so
//! nothing behind this module has text of a client.

use codex_network_control::message::{DecisionEntry, ExplainQuery, Question, SessionEntry};
use codex_network_policy::Host;

use crate::listener::user_or_uid;
use crate::output::{bracketed, printable_line, utc};

/// The longest text of a cell, in characters. A host has 253 at most.
const MAX_TEXT: usize = 300;

/// The verdict of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    Deny,
    Ask,
}

/// A decision.
#[derive(Debug)]
pub(super) struct DecisionRow {
    pub(super) time: String,
    pub(super) verdict: Verdict,
    pub(super) destination: String,
    pub(super) protocol: String,
    pub(super) method: String,
    pub(super) reason: String,
    pub(super) source: String,
    pub(super) command: String,
    pub(super) user: String,
    pub(super) session: String,
    pub(super) client: String,
    pub(super) rule: Option<String>,
    pub(super) credential: Option<String>,
    /// All of it in lower case, for the filter.
    pub(super) searched: String,
    /// The question about the policy in force; `None` for a destination that it cannot name.
    pub(super) explain: Option<ExplainQuery>,
}

/// An open question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct QuestionRow {
    /// As the proxy gave it, for the answer.
    pub(super) id: String,
    pub(super) destination: String,
    /// The host as it would be written, where that differs.
    pub(super) written: Option<String>,
    pub(super) protocol: String,
    pub(super) command: String,
    pub(super) user: String,
    pub(super) session: String,
    pub(super) expires: String,
    pub(super) waiting: usize,
    pub(super) explain: ExplainQuery,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SessionRow {
    pub(super) id: String,
    pub(super) user: String,
    pub(super) command: String,
    pub(super) isolation: &'static str,
    pub(super) since: String,
    pub(super) allowed: u64,
    pub(super) refused: u64,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
}

impl Verdict {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Ask => "ask",
        }
    }
}

impl DecisionRow {
    pub(super) fn of(entry: &DecisionEntry) -> Self {
        let verdict = match entry.decision.as_str() {
            "allow" => Verdict::Allow,
            "ask" => Verdict::Ask,
            // A verdict that this version does not know permits nothing.
            _ => Verdict::Deny,
        };
        let mut row = Self {
            time: clock(entry.timestamp),
            verdict,
            destination: destination(&entry.host, entry.port),
            protocol: shown(&entry.protocol),
            method: or_dash(entry.method.as_deref()),
            reason: shown(&entry.reason),
            source: shown(&entry.source),
            command: or_dash(entry.command.as_deref()),
            user: or_dash(entry.user.as_deref()),
            session: or_dash(entry.session.as_deref()),
            client: or_dash(entry.client.as_deref()),
            rule: entry.rule.as_deref().map(shown),
            credential: entry.credential.as_deref().map(shown),
            searched: String::new(),
            explain: explain(entry),
        };
        let texts = [
            verdict.as_str(),
            &row.destination,
            &row.protocol,
            &row.method,
            &row.reason,
            &row.source,
            &row.command,
            &row.user,
            &row.session,
            &row.client,
            row.rule.as_deref().unwrap_or_default(),
            row.credential.as_deref().unwrap_or_default(),
        ];
        row.searched = texts.join(" ").to_lowercase();
        row
    }
}

impl DecisionRow {
    /// Why, in a word. What the lists allow needs none.
    pub(super) fn cause(&self) -> &str {
        match (self.verdict, self.source.as_str()) {
            (Verdict::Allow, "baseline_policy") => "-",
            // The reason of what is allowed nevertheless is why the lists do not allow it.
            (Verdict::Allow, source) => source,
            (Verdict::Deny | Verdict::Ask, _) => &self.reason,
        }
    }
}

impl QuestionRow {
    pub(super) fn of(question: &Question) -> Self {
        let host = Host::parse(&question.host).ok();
        let written = host.and_then(|host| host.with_u_labels());
        let user = question.user.clone();
        Self {
            id: question.id.clone(),
            destination: destination(&question.host, Some(question.port)),
            written: written.as_deref().map(shown),
            protocol: shown(&question.protocol),
            command: or_dash(question.command.as_deref()),
            user: shown(&user.unwrap_or_else(|| user_or_uid(question.uid))),
            session: or_dash(question.session.as_deref()),
            expires: clock(question.expires),
            waiting: question.waiting,
            explain: ExplainQuery {
                url: url(&question.protocol, &question.host, Some(question.port)),
                session: question.session.clone(),
                ..ExplainQuery::default()
            },
        }
    }
}

impl SessionRow {
    pub(super) fn of(session: &SessionEntry) -> Self {
        let user = session.user.clone();
        Self {
            id: shown(&session.id),
            user: shown(&user.unwrap_or_else(|| user_or_uid(session.uid))),
            command: shown(&session.command),
            isolation: session.isolation.as_str(),
            since: clock(session.since),
            allowed: session.allowed,
            refused: session.refused,
            bytes_up: session.bytes_up,
            bytes_down: session.bytes_down,
        }
    }
}

/// Harmless text of a bounded length.
pub(super) fn shown(text: &str) -> String {
    let text: String = text.chars().take(MAX_TEXT).collect();
    let mut text = printable_line(&text);
    // An escape takes more room than its character.
    if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
        text.truncate(end);
    }
    text
}

fn or_dash(text: Option<&str>) -> String {
    text.map_or_else(|| "-".to_owned(), shown)
}

fn destination(host: &str, port: Option<u16>) -> String {
    let host = shown(&bracketed(host));
    match port {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// The time of the day, in UTC.
pub(super) fn clock(unix_seconds: i64) -> String {
    let time = utc(unix_seconds);
    time.get(11..19).map_or(time.clone(), str::to_owned)
}

fn explain(entry: &DecisionEntry) -> Option<ExplainQuery> {
    // An invalid host has no URL.
    Host::parse(&entry.host).ok()?;
    let has_method = matches!(entry.protocol.as_str(), "http" | "https");
    Some(ExplainQuery {
        url: url(&entry.protocol, &entry.host, entry.port),
        method: entry.method.clone().filter(|_| has_method),
        session: entry.session.clone(),
        ..ExplainQuery::default()
    })
}

/// The URL that `explain` reads as a request of this protocol.
fn url(protocol: &str, host: &str, port: Option<u16>) -> String {
    let host = bracketed(host);
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    match protocol {
        "http" => format!("http://{host}{port}/"),
        "socks5" => format!("socks5h://{host}{port}"),
        "socks5-udp" => format!("udp://{host}{port}"),
        "transparent" => format!("tcp://{host}{port}"),
        "dns" => format!("dns://{host}"),
        _ => format!("https://{host}{port}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w4_text_of_clients_is_harmless_and_short() {
        let entry = DecisionEntry {
            host: "a\u{1b}[2J\u{202e}b".to_owned(),
            port: Some(443),
            method: Some("X".repeat(5000)),
            command: Some("\u{9b}31m\r\n".to_owned()),
            decision: "later".to_owned(),
            ..DecisionEntry::default()
        };
        let row = DecisionRow::of(&entry);
        assert_eq!(row.destination, "a\\u{1b}[2J\\u{202e}b:443");
        assert_eq!(row.command, "\\u{9b}31m\\r\\n");
        assert_eq!(row.method.len(), MAX_TEXT);
        assert_eq!(shown(&"\u{202e}".repeat(5000)).len(), MAX_TEXT);
        assert_eq!(
            row.verdict,
            Verdict::Deny,
            "an unknown word permits nothing"
        );
        assert!(row.explain.is_none(), "there is no such host");
        assert!(!row.searched.contains(char::is_control));
    }

    #[test]
    fn w4_a_decision_is_explained_as_its_door_judged_it() {
        for (protocol, method, wanted, asked) in [
            ("http", Some("GET"), "http://a.test:80/", Some("GET")),
            ("http-connect", Some("CONNECT"), "https://a.test:80/", None),
            ("https", Some("PUT"), "https://a.test:80/", Some("PUT")),
            ("socks5", None, "socks5h://a.test:80", None),
            ("socks5-udp", None, "udp://a.test:80", None),
            ("transparent", None, "tcp://a.test:80", None),
            ("dns", None, "dns://a.test", None),
        ] {
            let entry = DecisionEntry {
                host: "a.test".to_owned(),
                port: Some(80),
                protocol: protocol.to_owned(),
                method: method.map(str::to_owned),
                session: Some("s".to_owned()),
                ..DecisionEntry::default()
            };
            let query = DecisionRow::of(&entry).explain.expect("a host");
            assert_eq!(query.url, wanted);
            assert_eq!(query.method.as_deref(), asked, "{protocol}");
            assert_eq!(query.session.as_deref(), Some("s"));
        }
    }

    #[test]
    fn w4_the_time_of_a_row_is_of_the_day() {
        assert_eq!(clock(1_700_000_000), "22:13:20");
    }
}
