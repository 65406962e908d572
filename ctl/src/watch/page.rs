//! A page of text over the lists: the help, or the explanation of a decision or a question.

use codex_network_control::message::Explained;

use super::rows::{DecisionRow, QuestionRow, shown};
use crate::output::wrapped;

/// The page.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) lines: Vec<String>,
    /// The first line on the screen.
    pub(super) top: usize,
    /// The number of the call whose answer takes the place of the last line.
    waits: Option<u64>,
}

const WAITING: &str = "asking the proxy ...";

const HELP: &[&str] = &[
    "Tab, Shift-Tab    the next list, the list before",
    "j k, arrows       one row down, up; below the top, the decisions stand still",
    "PgDn PgUp         ten rows",
    "g Home, G End     the newest (the list runs again), the oldest",
    "Enter             explain the row: the rule, why, and how to change it;",
    "                  on a session: show its decisions",
    "Space, p          let the decisions stand still, or run",
    "/                 filter: a row has all words, and none of those after !;",
    "                  as in: deny example.com !dns",
    "v                 show all decisions, the refused, the allowed",
    "Esc               back: to the lists, to the newest row, to no filter",
    "",
    "On a question:",
    "a                 approve it for its session (without one, for 15 minutes)",
    "o                 approve it for one connection",
    "r                 reject it; a rejection wins over an approval",
    "",
    "q, Ctrl-C         quit",
    "",
    "Times are in UTC. While the screen is open, the proxy asks those questions that",
    "this user may answer, as with `approvals --follow`.",
];

impl Page {
    pub(super) fn help() -> Self {
        Self {
            title: "Keys".to_owned(),
            lines: HELP.iter().map(|line| (*line).to_owned()).collect(),
            top: 0,
            waits: None,
        }
    }

    pub(super) fn of_decision(row: &DecisionRow, call: u64) -> Self {
        let mut lines = vec![
            format!("time        {}", row.time),
            format!("verdict     {}", row.verdict.as_str()),
            format!("reason      {} ({})", row.reason, row.source),
            format!("rule        {}", row.rule.as_deref().unwrap_or("none")),
            format!("protocol    {}, method {}", row.protocol, row.method),
            format!("client      {}", row.client),
        ];
        if row.session != "-" {
            let (session, command, user) = (&row.session, &row.command, &row.user);
            lines.push(format!("session     {session}: {command} of {user}"));
        }
        if let Some(credential) = &row.credential {
            lines.push(format!("credential  {credential}"));
        }
        Self::asking(&row.destination, lines, call)
    }

    pub(super) fn of_question(row: &QuestionRow, call: u64) -> Self {
        let mut lines = Vec::new();
        if let Some(written) = &row.written {
            lines.push(format!("written     \"{written}\""));
        }
        lines.extend([
            format!("protocol    {}", row.protocol),
            format!(
                "session     {}: {} of {}",
                row.session, row.command, row.user
            ),
            format!("waiting     {}", row.waiting),
            format!("expires     {}", row.expires),
        ]);
        Self::asking(&row.destination, lines, call)
    }

    fn asking(title: &str, mut lines: Vec<String>, call: u64) -> Self {
        lines.extend([String::new(), WAITING.to_owned()]);
        Self {
            title: title.to_owned(),
            lines,
            top: 0,
            waits: Some(call),
        }
    }

    /// The answer of the proxy, in lines.
    pub(super) fn policy_now(explained: &Explained) -> Vec<String> {
        let detail = explained.detail.as_ref();
        let detail = detail.map(|detail| format!(": {detail}"));
        let mut lines = vec![
            "The policy in force now".to_owned(),
            format!("decision    {}", shown(&explained.decision)),
            shown(&format!(
                "reason      {} ({}){}",
                explained.reason,
                explained.source,
                detail.unwrap_or_default()
            )),
            format!("because     {}", long(&explained.because)),
        ];
        if !explained.remedy.is_empty() {
            lines.push(format!("remedy      {}", long(&explained.remedy)));
        }
        let notes = explained.notes.iter();
        lines.extend(notes.map(|note| format!("note        {}", long(note))));
        lines
    }

    /// Shows the answer to this call, if the page waits for it.
    pub(super) fn answered(&mut self, call: u64, lines: Vec<String>) {
        if self.waits == Some(call) {
            self.waits = None;
            self.lines.pop();
            self.lines.extend(lines);
        }
    }

    /// The lines on a screen with this many columns.
    pub(super) fn text(&self, columns: u16) -> Vec<String> {
        let room = usize::from(columns).saturating_sub(3);
        let lines = self.lines.iter();
        lines.flat_map(|line| indented(line, room)).collect()
    }

    /// Scrolls on a screen with this many columns, of which the text has this many lines.
    pub(super) fn scroll_by(&mut self, rows: isize, columns: u16, height: usize) {
        let last = self.text(columns).len().saturating_sub(height);
        self.top = self.top.min(last).saturating_add_signed(rows).min(last);
    }
}

/// A line as the lines that it takes. Further lines begin below the text behind a label.
fn indented(text: &str, room: usize) -> Vec<String> {
    const LABEL: usize = 12;
    let is_labelled = text.is_char_boundary(LABEL)
        && text.len() > LABEL
        && text[..LABEL].ends_with(' ')
        && !text.starts_with(' ');
    if !is_labelled || text.chars().count() <= room {
        return wrapped(text, room);
    }
    let (label, rest) = text.split_at(LABEL);
    let lines = wrapped(rest.trim_start(), room.saturating_sub(LABEL).max(1));
    let mut beginning = label.to_owned();
    let indent = |line: &String| {
        let begin = std::mem::replace(&mut beginning, " ".repeat(LABEL));
        format!("{begin}{line}")
    };
    lines.iter().map(indent).collect()
}

/// Harmless text of several sentences.
fn long(text: &str) -> String {
    const MAX_LENGTH: usize = 2000;
    let text: String = text.chars().take(MAX_LENGTH).collect();
    crate::output::printable_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w4_an_answer_goes_to_the_page_that_waits_for_it_only() {
        let mut help = Page::help();
        help.answered(1, vec!["late".to_owned()]);
        assert_eq!(help, Page::help());
        let mut page = Page::asking("a.test:443", vec!["fact".to_owned()], 2);
        page.answered(1, vec!["of an earlier page".to_owned()]);
        page.answered(2, vec!["answer".to_owned()]);
        page.answered(2, vec!["again".to_owned()]);
        assert_eq!(page.lines, ["fact", "", "answer"]);
    }

    #[test]
    fn w4_a_page_scrolls_to_the_end_of_its_text_and_back() {
        let mut page = Page::help();
        page.lines = vec!["word ".repeat(100)];
        let lines = page.text(23).len();
        assert!(lines > 20, "{lines}");
        page.scroll_by(isize::MAX, 23, 10);
        assert_eq!(page.top, lines - 10);
        page.scroll_by(-1, 23, 10);
        assert_eq!(page.top, lines - 11);
        page.scroll_by(1, 200, 10);
        assert_eq!(page.top, 0, "all of it fits on a larger screen");
    }

    #[test]
    fn w4_an_explanation_is_harmless() {
        let explained = Explained {
            because: "a\u{1b}[31m\nb".to_owned(),
            detail: Some("\u{202e}".to_owned()),
            ..Explained::default()
        };
        let lines = Page::policy_now(&explained);
        assert!(
            !lines
                .iter()
                .any(|line| line.contains(['\u{1b}', '\u{202e}', '\n']))
        );
        assert!(lines.contains(&"because     a\\u{1b}[31m\\nb".to_owned()));
    }
}
