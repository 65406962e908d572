//! Writing answers: aligned text for people, JSON for programs.
//!
//! Colour is used only on a terminal, and not with `NO_COLOR`. Text from the proxy may come from a
//! client, so control characters never reach a terminal. On a terminal, text is wrapped to its width.
//! Elsewhere each record is one line, for `grep` and `awk`.

mod layout;
mod quantity;

use std::io::{self, IsTerminal as _, Write};

pub(crate) use codex_network_config::{printable, printable_line, quoted};
use serde::Serialize;

pub(crate) use self::layout::{Column, Wrap, padded, wrapped};
use self::layout::{fitted, row, width};
pub(crate) use self::quantity::{
    SHORT_SEQUENCE, ago, counted, grouped, short_sequence, size, span, utc,
};

/// The width of a terminal that does not report it.
const DEFAULT_COLUMNS: usize = 80;
/// The minimum width of text beside a label. A narrower terminal breaks the lines itself.
const MIN_TEXT_COLUMNS: usize = 16;

/// The format of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    /// Text for people.
    Text,
    /// JSON for programs.
    Json,
}

/// The meaning of an emphasis.
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
    format: OutputFormat,
    out: io::Stdout,
    error: io::Stderr,
    colour: Colour,
    colour_of_errors: Colour,
    /// The width of the terminal; `None` for a file or a pipe.
    columns: Option<usize>,
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
    pub(crate) fn new(format: OutputFormat) -> Self {
        let (out, error) = (io::stdout(), io::stderr());
        Self {
            format,
            colour: Colour::for_stream(out.is_terminal()),
            colour_of_errors: Colour::for_stream(error.is_terminal()),
            columns: out.is_terminal().then(|| columns(&out)),
            out,
            error,
        }
    }

    pub(crate) fn format(&self) -> OutputFormat {
        self.format
    }

    /// Emphasised text, if colour is used.
    pub(crate) fn paint(&self, tone: Tone, text: &str) -> String {
        self.colour.paint(tone, text)
    }

    /// Writes one line of an answer, and flushes it for a user who follows.
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

    /// Writes a sentence of an answer.
    pub(crate) fn sentence(&self, text: &str) -> io::Result<()> {
        self.indented("", "  ", text)
    }

    /// Writes a beginning and a text. Further lines of the text begin with `blanks`.
    pub(crate) fn indented(&self, beginning: &str, blanks: &str, text: &str) -> io::Result<()> {
        let Some(columns) = self.columns else {
            return self.line(&format!("{beginning}{text}"));
        };
        let room = columns.saturating_sub(width(beginning).max(width(blanks)));
        let mut beginning = beginning;
        for part in wrapped(text, room.max(MIN_TEXT_COLUMNS)) {
            self.line(&format!("{beginning}{part}"))?;
            beginning = blanks;
        }
        Ok(())
    }

    /// Writes a command to copy. It is never wrapped, since a shell would run its parts.
    pub(crate) fn command(&self, beginning: &str, text: &str) -> io::Result<()> {
        self.line(&format!("{beginning}{text}"))
    }

    /// Whether text that does not fit is wrapped.
    pub(crate) fn wraps(&self) -> bool {
        self.columns.is_some()
    }

    /// Writes labels and their values, aligned. An empty label continues the previous one.
    pub(crate) fn labelled(&self, rows: &[(&str, String)]) -> io::Result<()> {
        let widest = rows
            .iter()
            .map(|(label, _)| width(label))
            .max()
            .unwrap_or(0);
        let blanks = padded("", widest + 4);
        for (label, text) in rows {
            let label = self.paint(Tone::Faint, &padded(label, widest));
            self.indented(&format!("  {label}  "), &blanks, text)?;
        }
        Ok(())
    }

    /// Writes rows in columns, with an emphasised heading. On a terminal that is too narrow, cells
    /// are broken, and dispensable columns are left out.
    pub(crate) fn table<const N: usize>(
        &self,
        columns: &[Column; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let heading = columns.map(|column| column.heading.to_owned());
        let widths = self.widths(columns, [0; N], std::iter::once(&heading).chain(rows));
        self.heading(&heading, &widths)?;
        self.rows(rows, &widths)
    }

    /// Writes rows in columns without a heading, behind blanks.
    pub(crate) fn plain_table<const N: usize>(
        &self,
        blanks: &str,
        columns: &[Column; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let room = self
            .columns
            .map(|columns| columns.saturating_sub(width(blanks)));
        let widths = fitted(columns, natural([0; N], rows.iter()), room);
        for line in rows.iter().flat_map(|cells| row(cells, &widths)) {
            self.line(&format!("{blanks}{line}"))?;
        }
        Ok(())
    }

    /// Writes the heading of a table whose rows come one by one.
    pub(crate) fn open_table<const N: usize>(&self, columns: &[Column; N]) -> io::Result<()> {
        let heading = columns.map(|column| column.heading.to_owned());
        let usual = columns.map(|column| column.usual);
        let widths = self.widths(columns, usual, std::iter::once(&heading));
        self.heading(&heading, &widths)
    }

    /// Writes further rows of an [open table](Self::open_table).
    pub(crate) fn further_rows<const N: usize>(
        &self,
        columns: &[Column; N],
        rows: &[[String; N]],
    ) -> io::Result<()> {
        let heading = columns.map(|column| column.heading.to_owned());
        let usual = columns.map(|column| column.usual);
        let widths = match self.columns {
            // All rows have the widths of the heading.
            Some(_) => self.widths(columns, usual, std::iter::once(&heading)),
            None => self.widths(columns, usual, std::iter::once(&heading).chain(rows)),
        };
        self.rows(rows, &widths)
    }

    fn widths<'r, const N: usize>(
        &self,
        columns: &[Column; N],
        least: [usize; N],
        rows: impl Iterator<Item = &'r [String; N]>,
    ) -> [Option<usize>; N] {
        fitted(columns, natural(least, rows), self.columns)
    }

    fn heading<const N: usize>(
        &self,
        heading: &[String; N],
        widths: &[Option<usize>; N],
    ) -> io::Result<()> {
        for line in row(heading, widths) {
            self.line(&self.paint(Tone::Heading, &line))?;
        }
        Ok(())
    }

    fn rows<const N: usize>(
        &self,
        rows: &[[String; N]],
        widths: &[Option<usize>; N],
    ) -> io::Result<()> {
        for cells in rows {
            for line in row(cells, widths) {
                self.line(&line)?;
            }
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

/// The widths that the cells of these rows need, and no less than `least`.
fn natural<'r, const N: usize>(
    mut least: [usize; N],
    rows: impl Iterator<Item = &'r [String; N]>,
) -> [usize; N] {
    for row in rows {
        for (cell, most) in row.iter().zip(&mut least) {
            *most = width(cell).max(*most);
        }
    }
    least
}

/// The width of the terminal; if it reports none, as a serial line, that of `COLUMNS`.
fn columns(out: &io::Stdout) -> usize {
    let named = || std::env::var("COLUMNS").ok()?.parse().ok();
    let reported = rustix::termios::tcgetwinsize(out).map(|size| usize::from(size.ws_col));
    reported
        .ok()
        .filter(|columns| *columns > 0)
        .or_else(named)
        .filter(|columns| *columns > 0)
        .unwrap_or(DEFAULT_COLUMNS)
}

/// A host before a port: IPv6 addresses are in brackets.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    }
}
