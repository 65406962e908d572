//! `GET /`: one page that shows the state, the last refusals and the sessions (SPEC O3).
//!
//! It is written here as a whole and changes nothing. Its style and its script are part of it, and a policy of contents
//! permits exactly these two by their hashes. Hosts, programs and users are text that others chose: [`Text`] is the only
//! way into the page, and it escapes. The page is bounded, whatever the sizes of the record and of the sessions are.

use std::fmt::{self, Write as _};
use std::net::SocketAddr;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use codex_network_config::contained;
use codex_network_engine::{BlockedEntry, Generation, SessionInfo, SessionTotals};
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::ApiAnswer;
use super::answer::own;
use crate::observation::{Condition, Observation};

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/script.js");

const NO_SESSION: &str = "<p>No session is open.</p>";
/// Most rows of one table.
pub(super) const MAX_ROWS: usize = 200;

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = |content: &str| STANDARD.encode(Sha256::digest(content));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    )
});

/// The content of the page.
pub(super) struct Shown<'a> {
    pub(super) observation: &'a Observation,
    pub(super) condition: Condition,
    pub(super) generation: &'a Generation,
    pub(super) listening: Vec<(&'static str, SocketAddr)>,
    /// `None` if nothing but their number is shown.
    pub(super) sessions: Option<Vec<(SessionInfo, SessionTotals)>>,
}

/// The changing parts of the page, by the id of the element that each one fills.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) state: String,
    pub(super) blocked: String,
    pub(super) sessions: String,
}

/// Reads one part.
type ReadPart = fn(&Parts) -> &str;

impl Parts {
    /// Each part with its id.
    pub(super) const BY_ID: [(&str, ReadPart); 3] = [
        ("state", |parts| &parts.state),
        ("blocked", |parts| &parts.blocked),
        ("sessions", |parts| &parts.sessions),
    ];
}

/// Text that is escaped when it is written.
struct Text<'a>(&'a str);

/// A time for people, in UTC.
struct Time(i64);

/// The page with these parts.
pub(super) fn answer(parts: &Parts) -> ApiAnswer {
    let Parts {
        state,
        blocked,
        sessions,
    } = parts;
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>codex-network-proxy</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#blocked-title\">Skip to the refused requests</a>\n\
         <header><h1>codex-network-proxy</h1>\n\
         <p><span id=\"live\" role=\"status\">not live</span> <button id=\"pause\" type=\"button\" hidden>Pause</button></p>\
         </header>\n<main>\n\
         <section aria-labelledby=\"state-title\"><h2 id=\"state-title\">State</h2>\n<div id=\"state\">{state}</div></section>\n\
         <section aria-labelledby=\"sessions-title\"><h2 id=\"sessions-title\">Sessions</h2>\n\
         <div id=\"sessions\">{sessions}</div></section>\n\
         <section aria-labelledby=\"blocked-title\"><h2 id=\"blocked-title\" tabindex=\"-1\">Refused requests</h2>\n\
         <div id=\"blocked\">{blocked}</div></section>\n\
         </main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    );
    let mut answer = own(StatusCode::OK, "text/html; charset=utf-8", page);
    let headers = answer.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        // The values are ASCII.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    answer
}

/// The parts that change. A part that is unchanged need not be written again.
pub(super) fn parts(shown: &Shown<'_>, blocked: &[BlockedEntry]) -> Parts {
    Parts {
        state: state(shown),
        blocked: refusals(blocked),
        sessions: match &shown.sessions {
            Some(open) => sessions(open),
            None => hidden_sessions(shown.observation.measurements.sessions),
        },
    }
}

fn state(shown: &Shown<'_>) -> String {
    let Shown {
        observation: seen,
        condition,
        generation,
        listening,
        sessions: _,
    } = shown;
    let policy = generation.policy();
    let counters = &seen.counters;
    let mut rows = String::new();
    let mut row = |label: &str, value: &dyn fmt::Display| {
        // A string takes everything.
        let _ = write!(rows, "<div><dt>{label}</dt><dd>{value}</dd></div>");
    };
    let verdict = match (condition, seen.is_sound()) {
        (Condition::Closed, _) => "<strong class=\"bad\">everything is refused</strong>",
        (_, false) => "<strong class=\"bad\">degraded</strong>",
        (_, true) => "<strong class=\"good\">ok</strong>",
    };
    row("health", &verdict);
    for fault in &seen.faults {
        let since = Time(fault.since);
        row(
            fault.part.as_str(),
            &format_args!("{}, since {since}", Text(&fault.detail)),
        );
    }
    row(
        "version",
        &format_args!("{}, since {}", Text(seen.version), Time(seen.started)),
    );
    let switch = if policy.is_enabled() {
        ""
    } else {
        ", switched off"
    };
    row(
        "policy",
        &format_args!(
            "{} mode, {}{switch}; {} and {}",
            policy.mode().as_str(),
            policy.enforcement().as_str(),
            counted(policy.allowed().len(), "allow rule"),
            counted(policy.denied().len(), "deny rule")
        ),
    );
    row("generation", &generation.number().get());
    let prints = &seen.fingerprints;
    for (label, print) in [
        ("settings", &prints.settings),
        ("rules", &prints.rules),
        ("requirements", &prints.requirements),
        ("CA", &prints.ca),
    ] {
        let missing = if prints.settings.is_none() && label != "CA" {
            "not shown"
        } else {
            "none"
        };
        let print = print.as_deref().unwrap_or(missing);
        row(label, &format_args!("<code>{}</code>", Text(print)));
    }
    row(
        "reloads",
        &format_args!(
            "{} applied, {} failed",
            seen.reloads_applied, seen.reloads_failed
        ),
    );
    let doors = listening.iter();
    let doors: Vec<_> = doors
        .map(|(name, address)| format!("{name} {address}"))
        .collect();
    row("listening", &Text(&doors.join(", ")));
    row(
        "connections",
        &format_args!(
            "{} open, {} idle to upstreams",
            counters.connections, counters.idle_upstream
        ),
    );
    row(
        "decisions",
        &format_args!("{} allowed, {} refused", counters.allowed, counters.blocked),
    );
    row(
        "questions",
        &format_args!("{} open", seen.measurements.questions),
    );
    format!("<dl>{rows}</dl>")
}

/// A number of things whose plural ends in `s`.
fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// The number of sessions alone.
fn hidden_sessions(open: usize) -> String {
    if open == 0 {
        return NO_SESSION.to_owned();
    }
    let verb = if open == 1 { "is" } else { "are" };
    let open = counted(open, "session");
    format!(
        "<p>{open} {verb} open. <code>proxyctl sessions</code> shows you those that you may see; \
         <code>[daemon.admin] show_sessions = true</code> shows all of them here.</p>"
    )
}

/// The newest first.
fn sessions(sessions: &[(SessionInfo, SessionTotals)]) -> String {
    if sessions.is_empty() {
        return NO_SESSION.to_owned();
    }
    let mut table = Table::new(
        "sessions",
        &[
            "Since", "Session", "User", "Program", "Kind", "Allowed", "Refused",
        ],
    );
    for (info, totals) in sessions.iter().rev().take(MAX_ROWS) {
        let uid = format!("uid {}", info.uid);
        table.row(&[
            &Time(info.since),
            &Text(&info.id),
            &Text(info.user.as_deref().unwrap_or(&uid)),
            &Text(&info.command),
            &Text(info.isolation),
            &totals.allowed,
            &totals.refused,
        ]);
    }
    table.end() + &more(sessions.len())
}

/// The newest entry first.
fn refusals(entries: &[BlockedEntry]) -> String {
    if entries.is_empty() {
        return "<p>No request was refused.</p>".to_owned();
    }
    let mut table = Table::new(
        "blocked",
        &["Time", "Host", "Reason", "Protocol", "Client", "Rule"],
    );
    for entry in entries.iter().rev().take(MAX_ROWS) {
        let port = entry
            .port
            .map(|port| format!(":{port}"))
            .unwrap_or_default();
        let host = format!("{}{port}", entry.host);
        let times = match entry.count {
            0 | 1 => String::new(),
            count => format!(", {count} times"),
        };
        let would = if entry.would_deny {
            " (let through)"
        } else {
            ""
        };
        let reason = format!("{}{times}{would}", entry.reason);
        let client = match (&entry.user, &entry.session) {
            (Some(user), Some(session)) => format!("{user}, session {session}"),
            _ => entry.client.clone().unwrap_or_default(),
        };
        let method = entry.method.as_deref().unwrap_or_default();
        let protocol = format!("{} {method}", entry.protocol);
        table.row(&[
            &Time(entry.timestamp),
            &Text(&host),
            &Text(&reason),
            &Text(&protocol),
            &Text(&client),
            &Text(entry.rule.as_deref().unwrap_or_default()),
        ]);
    }
    table.end()
}

/// Says that further rows are left out.
fn more(rows: usize) -> String {
    match rows.saturating_sub(MAX_ROWS) {
        0 => String::new(),
        more => format!("<p>{more} older ones are not shown.</p>"),
    }
}

/// A table that becomes a list of cards on a narrow screen.
struct Table<'a> {
    columns: &'a [&'a str],
    html: String,
}

impl<'a> Table<'a> {
    fn new(name: &str, columns: &'a [&'a str]) -> Self {
        let mut html = format!(
            "<div class=\"wide\" role=\"region\" tabindex=\"0\" aria-labelledby=\"{name}-title\"><table><thead><tr>"
        );
        for column in columns {
            let _ = write!(html, "<th scope=\"col\">{column}</th>");
        }
        html.push_str("</tr></thead><tbody>");
        Self { columns, html }
    }

    fn row(&mut self, cells: &[&dyn fmt::Display]) {
        self.html.push_str("<tr>");
        for (column, cell) in self.columns.iter().zip(cells) {
            let _ = write!(self.html, "<td data-label=\"{column}\">{cell}</td>");
        }
        self.html.push_str("</tr>");
    }

    fn end(mut self) -> String {
        self.html.push_str("</tbody></table></div>");
        self.html
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in contained(self.0).chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                character => f.write_char(character)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = OffsetDateTime::from_unix_timestamp(self.0);
        let time = time.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = time.to_calendar_date();
        let (hour, minute, second) = time.to_hms();
        let month = u8::from(month);
        let date = format!("{year:04}-{month:02}-{day:02}");
        let clock = format!("{hour:02}:{minute:02}:{second:02}");
        write!(
            f,
            "<time datetime=\"{date}T{clock}Z\">{date} {clock} UTC</time>"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(host: &str) -> BlockedEntry {
        BlockedEntry {
            host: host.to_owned(),
            reason: "not_allowed".into(),
            client: Some("127.0.0.1:5".to_owned()),
            method: Some("GET".to_owned()),
            mode: None,
            protocol: "http",
            decision: "deny",
            source: "baseline_policy",
            port: Some(80),
            timestamp: 1_764_500_000,
            attempt_id: None,
            session: None,
            user: None,
            uid: None,
            rule: None,
            detail: None,
            credential: None,
            approval_id: None,
            would_deny: false,
            count: 1,
            sequence: 1,
        }
    }

    #[test]
    fn o3_no_text_of_others_is_markup() {
        let hostile = "<script>\"'&</script>";
        let mut hostile_entry = entry(hostile);
        hostile_entry.reason = hostile.into();
        hostile_entry.method = Some(hostile.to_owned());
        hostile_entry.rule = Some(hostile.to_owned());
        let mut of_session = hostile_entry.clone();
        of_session.user = Some(hostile.to_owned());
        of_session.session = Some(hostile.to_owned());
        let session = SessionInfo {
            id: hostile.into(),
            uid: 0,
            user: Some(hostile.into()),
            command: hostile.into(),
            pid: 1,
            isolation: "jail",
            profile: None,
            since: 0,
        };
        let written = refusals(&[hostile_entry, of_session])
            + &sessions(&[(session, SessionTotals::default())]);
        assert!(!written.contains("<script"), "{written}");
        let escaped = "&lt;script&gt;&quot;&#39;&amp;&lt;/script&gt;";
        assert_eq!(written.matches(escaped).count(), 13, "{written}");
    }

    #[test]
    fn o3_characters_that_are_not_shown_or_move_others_are_escaped() {
        let written = refusals(&[entry("a\u{202e}b\u{200b}c\u{5d0}d\u{7}\n.test")]);
        let shown = "a\\u{202e}b\\u{200b}c\\u{5d0}d\\u{7}\\n.test:80";
        assert!(written.contains(shown), "{written}");
    }

    #[test]
    fn o3_a_long_record_makes_no_long_page() {
        let many: Vec<_> = (0..3 * MAX_ROWS)
            .map(|n| entry(&format!("{n}.test")))
            .collect();
        let written = refusals(&many);
        assert_eq!(written.matches("<tr>").count(), MAX_ROWS + 1);
        assert!(written.contains(">599.test:80<") && !written.contains(">399.test:80<"));
        let session = |number: usize| SessionInfo {
            id: number.to_string().into(),
            uid: 0,
            user: None,
            command: "curl".into(),
            pid: 1,
            isolation: "jail",
            profile: None,
            since: 0,
        };
        let open: Vec<_> = (0..MAX_ROWS + 2)
            .map(|number| (session(number), SessionTotals::default()))
            .collect();
        let written = sessions(&open);
        assert_eq!(written.matches("<tr>").count(), MAX_ROWS + 1);
        assert!(written.contains("2 older ones are not shown"), "{written}");
        assert!(written.contains(">201<") && !written.contains(">1<"));
    }

    #[test]
    fn o3_the_newest_refusal_is_first_and_times_are_utc() {
        let written = refusals(&[entry("old.test"), entry("new.test")]);
        assert!(written.find("new.test:80") < written.find("old.test:80"));
        let time = "<time datetime=\"2025-11-30T10:53:20Z\">2025-11-30 10:53:20 UTC</time>";
        assert!(written.contains(time), "{written}");
    }

    #[test]
    fn o3_the_policy_of_contents_permits_the_style_and_the_script_of_the_page_alone() {
        let page = answer(&Parts::default());
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str();
        let policy = policy.expect("ASCII");
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        for never in ["unsafe", "*", "http"] {
            assert!(!policy.contains(never), "{policy}");
        }
        for content in [STYLE, SCRIPT] {
            assert!(!content.contains("</"), "it would end its element");
            let hash = STANDARD.encode(Sha256::digest(content));
            assert!(policy.contains(&format!("'sha256-{hash}'")), "{policy}");
        }
    }
}
