//! Writing answers: aligned text for people, JSON for programs.
//!
//! Colour is used only on a terminal, and not with `NO_COLOR`. Text from the proxy may come from a
//! client, so control characters never reach a terminal.

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The audience of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Why a word is emphasised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Doubtful,
    Bad,
    Heading,
    Faint,
}

/// Standard output and error.
#[derive(Debug)]
pub(crate) struct Output {
    form: Form,
    out: io::Stdout,
    error: io::Stderr,
    colour: Colour,
    colour_of_errors: Colour,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colour {
    Always,
    Never,
}

impl Colour {
    fn for_stream(is_terminal: bool) -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        if is_terminal && !unwanted {
            Self::Always
        } else {
            Self::Never
        }
    }

    fn paint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Doubtful => "33",
            Tone::Bad => "31",
            Tone::Heading => "1",
            Tone::Faint => "2",
        };
        match self {
            Self::Always => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::Never => text.to_owned(),
        }
    }
}

impl Output {
    pub(crate) fn new(form: Form) -> Self {
        let (out, error) = (io::stdout(), io::stderr());
        Self {
            form,
            colour: Colour::for_stream(out.is_terminal()),
            colour_of_errors: Colour::for_stream(error.is_terminal()),
            out,
            error,
        }
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Emphasised text, if colour is used.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        self.colour.paint(tone, text)
    }

    /// Writes one line of an answer at once, for a user who follows.
    pub(crate) fn line(&self, line: &str) -> io::Result<()> {
        let mut out = self.out.lock();
        writeln!(out, "{line}")?;
        out.flush()
    }

    /// Writes an answer as JSON, over several lines.
    pub(crate) fn json(&self, answer: &impl Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string_pretty(answer)?)
    }

    /// Writes one of many answers as JSON, in one line.
    pub(crate) fn json_line(&self, answer: &impl Serialize) -> io::Result<()> {
        self.line(&serde_json::to_string(answer)?)
    }

    /// Writes labels and their values, aligned. An empty label continues the previous one.
    pub(crate) fn labelled(&self, rows: &[(&str, String)]) -> io::Result<()> {
        let width = rows
            .iter()
            .map(|(label, _)| width(label))
            .max()
            .unwrap_or(0);
        for (label, text) in rows {
            let label = self.paint(Tone::Faint, &padded(label, width));
            self.line(&format!("  {label}  {text}"))?;
        }
        Ok(())
    }

    /// Writes rows in columns, each as wide as its widest cell and at least as `least`; the last is
    /// not padded. The heading is emphasised.
    pub(crate) fn table<const N: usize>(
        &self,
        least: [usize; N],
        heading: Option<[&str; N]>,
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let heading = heading.map(|names| names.map(str::to_owned));
        let mut widths = least;
        for row in heading.iter().chain(rows) {
            for (cell, most) in row.iter().zip(&mut widths) {
                *most = width(cell).max(*most);
            }
        }
        let line = |row: &[String; N]| {
            let cells = row.iter().zip(widths);
            let cells: Vec<_> = cells.map(|(cell, width)| padded(cell, width)).collect();
            cells.join("  ").trim_end().to_owned()
        };
        if let Some(heading) = &heading {
            self.line(&self.paint(Tone::Heading, &line(heading)))?;
        }
        for row in rows {
            self.line(&line(row))?;
        }
        Ok(())
    }

    /// Prints an error. A closed standard error is ignored.
    pub(crate) fn complain(&self, message: &str) {
        let error = self.colour_of_errors.paint(Tone::Bad, "error");
        let _ = writeln!(self.error.lock(), "{error}: {}", printable(message));
    }

    /// Prints a remark beside the answer.
    pub(crate) fn remark(&self, message: &str) {
        let _ = writeln!(self.error.lock(), "{}", printable(message));
    }
}

/// Text without characters that a terminal would interpret, except for line ends.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// A host before a port: IPv6 addresses are in brackets.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}

/// `1 rule`, `2 rules`.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        _ => format!("{count} {many}"),
    }
}

/// A time span in its two largest units: `2d 3h`, `4m 0s`, `7s`.
pub(crate) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, _, _) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

/// How long ago a time was, by this machine's clock.
pub(crate) fn ago(unix_seconds: i64) -> String {
    let passed = OffsetDateTime::now_utc().unix_timestamp() - unix_seconds;
    span(u64::try_from(passed).unwrap_or(0))
}

/// A time in UTC, in the form of RFC 3339.
pub(crate) fn utc(unix_seconds: i64) -> String {
    OffsetDateTime::from_unix_timestamp(unix_seconds)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| unix_seconds.to_string())
}

fn width(text: &str) -> usize {
    text.chars().count()
}

pub(crate) fn padded(text: &str, to: usize) -> String {
    let blanks = to.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(blanks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units() {
        let told = [0, 59, 60, 3599, 3600, 86399, 86400, 200_000].map(span);
        assert_eq!(
            told,
            [
                "0s", "59s", "1m 0s", "59m 59s", "1h 0m", "23h 59m", "1d 0h", "2d 7h"
            ]
        );
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(printable("a\x1b[2Jb\tc\nd"), "a\\u{1b}[2Jb\\tc\nd");
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(utc(1_700_000_000), "2023-11-14T22:13:20Z");
    }
}
