//! A problem of a configuration: the message, its place, and the remedy.
//!
//! A [`Diagnostic`] is self-contained: it holds a copy of its line, cut and escaped, so it can be
//! printed, logged or sent when the files are gone. This module finds no problems itself.

mod content;
mod problems;

use std::fmt;
use std::sync::Arc;

pub(crate) use content::{quoted, shown};
pub(crate) use problems::Problems;

use crate::text::{TextSpan, Texts};

/// Characters of a line that are shown.
const MAX_WIDTH: usize = 96;
/// Characters shown before the part in question when the line is cut.
const LEAD: usize = 32;
/// Characters of a message that are kept; keys and values in messages are user input.
const MAX_MESSAGE: usize = 400;

/// One problem, warning or note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How much it matters.
    pub severity: Severity,
    /// The file's path, or `-c`; empty for a problem without a source.
    pub source: Arc<str>,
    /// The line, from 1; 0 when the finding is about the whole source.
    pub line: u32,
    /// The column, in characters, from 1; 0 when the finding is about the whole source.
    pub column: u32,
    /// The problem, in one line.
    pub message: String,
    /// The offending line.
    pub excerpt: Option<Excerpt>,
    /// The remedy, in one line.
    pub help: Option<String>,
    /// Message and help without the parts that come from the file.
    outline: Outline,
}

/// The text of a finding for users who may not read the file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outline {
    message: String,
    help: Option<String>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration can be used, but does not do what it seems to say.
    Warning,
    /// Nothing is wrong; there is a newer way to write it.
    Note,
}

/// A line of a source for display: cut to a limited length (`…` marks a cut), tabs as spaces,
/// unprintable characters escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt {
    /// The text.
    pub text: String,
    /// How many characters of `text` stand before the part in question.
    pub start: usize,
    /// How many characters the part has; at least 1.
    pub len: usize,
}

/// All problems of a configuration: at least one error, and the warnings. Findings
/// about a whole file come first, then the others in the order of the layers and of their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    listed: Vec<Diagnostic>,
    unlisted: usize,
}

impl Diagnostics {
    pub(crate) fn of(listed: Vec<Diagnostic>) -> Self {
        Self {
            listed,
            unlisted: 0,
        }
    }

    /// The findings that are listed, at most a hundred errors and a hundred warnings.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.listed.iter()
    }

    /// How many errors there are in all, listed or not.
    pub fn error_count(&self) -> usize {
        let errors = |found: &&Diagnostic| found.severity == Severity::Error;
        self.listed.iter().filter(errors).count() + self.unlisted
    }

    /// All findings for users who may not read the files, each as [`Diagnostic::without_content`],
    /// then the number of errors that are not listed.
    pub fn without_content(&self) -> String {
        let mut texts: Vec<String> = self.iter().map(Diagnostic::without_content).collect();
        texts.extend(self.unlisted_in_words());
        texts.join("\n")
    }

    fn unlisted_in_words(&self) -> Option<String> {
        match self.unlisted {
            0 => None,
            1 => Some("and 1 more error".to_owned()),
            more => Some(format!("and {more} more errors")),
        }
    }

    /// The first error in one line, with how many more there are.
    pub fn one_line(&self) -> String {
        let mut errors = self
            .listed
            .iter()
            .filter(|found| found.severity == Severity::Error);
        let first = errors.next().map(Diagnostic::one_line).unwrap_or_default();
        match self.error_count() {
            0 | 1 => first,
            2 => format!("{first} (and 1 more error)"),
            count => format!("{first} (and {} more errors)", count - 1),
        }
    }
}

impl Diagnostic {
    /// A finding about a whole source.
    pub(crate) fn about(source: &str, message: &str, help: Option<&str>) -> Self {
        Self {
            severity: Severity::Error,
            source: Arc::from(printable(source)),
            line: 0,
            column: 0,
            message: printable(&content::with_content(message)),
            excerpt: None,
            help: help.map(|help| printable(&content::with_content(help))),
            outline: Outline::of(message, help.unwrap_or_default()),
        }
    }

    fn at(severity: Severity, texts: &Texts, place: TextSpan, message: &str, help: &str) -> Self {
        let (line, span) = texts.excerpt(place);
        let column = line[..span.start].chars().count() + 1;
        Self {
            severity,
            source: Arc::from(printable(&texts.text(place).name)),
            line: texts.line(place),
            column: u32::try_from(column).unwrap_or(u32::MAX),
            message: printable(&content::with_content(message)),
            excerpt: Some(Excerpt::new(line, span)),
            help: (!help.is_empty()).then(|| printable(&content::with_content(help))),
            outline: Outline::of(message, help),
        }
    }

    /// The same as a warning, behind what it leads to.
    fn into_warning(mut self, leads_to: &str) -> Self {
        let behind = |leads_to: &str, message: &str| printable(&format!("{leads_to}: {message}"));
        self.severity = Severity::Warning;
        self.message = behind(&content::with_content(leads_to), &self.message);
        self.outline.message = behind(&content::without_content(leads_to), &self.outline.message);
        self
    }

    /// `source:line:column: message (help)`, without the excerpt.
    pub fn one_line(&self) -> String {
        let mut line = self.location();
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&self.message);
        if let Some(help) = &self.help {
            line.push_str(" (");
            line.push_str(help);
            line.push(')');
        }
        line
    }

    /// The finding for users who may not read the file: severity, place, message and help, with `…`
    /// for parts of the file, and without the line.
    pub fn without_content(&self) -> String {
        let place = self.location();
        let colon = if place.is_empty() { "" } else { ": " };
        let Outline { message, help } = &self.outline;
        let help = help.as_ref().map(|help| format!("\n  help: {help}"));
        let help = help.unwrap_or_default();
        format!("{}: {place}{colon}{message}{help}", self.severity)
    }

    /// `source:line:column`, without the parts that are unknown.
    fn location(&self) -> String {
        match (self.source.is_empty(), self.line) {
            (true, _) => String::new(),
            (false, 0) => self.source.to_string(),
            (false, line) => format!("{}:{line}:{}", self.source, self.column),
        }
    }
}

impl Outline {
    fn of(message: &str, help: &str) -> Self {
        let outline = |text: &str| printable(&content::without_content(text));
        Self {
            message: outline(message),
            help: (!help.is_empty()).then(|| outline(help)),
        }
    }
}

impl Excerpt {
    fn new(line: &str, span: std::ops::Range<usize>) -> Self {
        let before: Vec<char> = line[..span.start].chars().rev().take(LEAD + 1).collect();
        // A line that fits is shown whole; only then may the lead be longer.
        let fits = line.len() <= MAX_WIDTH;
        let mut text = String::new();
        if fits {
            line[..span.start]
                .chars()
                .for_each(|c| push_printable(&mut text, c));
        } else {
            if before.len() > LEAD {
                text.push('…');
            }
            let lead = before.iter().take(LEAD).rev();
            lead.for_each(|c| push_printable(&mut text, *c));
        }
        let start = text.chars().count();
        let mut width = start;
        let mut end = start;
        for (at, character) in line[span.start..].char_indices() {
            let length = text.len();
            push_printable(&mut text, character);
            width += text[length..].chars().count();
            if !fits && width > MAX_WIDTH {
                text.truncate(length);
                text.push('…');
                break;
            }
            if span.start + at < span.end {
                end = width;
            }
        }
        Self {
            text,
            start,
            len: (end - start).max(1),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// All findings, each as [`Diagnostic`] displays itself, then the number of errors that are not
/// listed.
impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, found) in self.listed.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            found.fmt(f)?;
        }
        match self.unlisted_in_words() {
            None => Ok(()),
            Some(words) => write!(f, "\n{words}"),
        }
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// ```text
/// error: config.toml:4:1: unknown key `allowed_domain` in [network]
///   4 | allowed_domain = ["x"]
///     | ^^^^^^^^^^^^^^
///   help: did you mean `allowed_domains`?
/// ```
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.location();
        let colon = if place.is_empty() { "" } else { ": " };
        write!(f, "{}: {place}{colon}{}", self.severity, self.message)?;
        if let Some(excerpt) = &self.excerpt {
            let number = self.line.to_string();
            let gutter = number.len();
            write!(f, "\n  {number} | {}", excerpt.text)?;
            let carets = "^".repeat(excerpt.len);
            let indent = excerpt.start;
            write!(f, "\n  {:gutter$} | {:indent$}{carets}", "", "")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        })
    }
}

/// A message without characters that a terminal or a log line interprets.
fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars();
    for character in characters.by_ref().take(MAX_MESSAGE) {
        push_printable(&mut out, character);
    }
    if characters.next().is_some() {
        out.push('…');
    }
    out
}

/// Quotes and backslashes stay as they are; tabs become spaces; unprintable characters (control
/// characters, text direction marks) are escaped.
fn push_printable(out: &mut String, character: char) {
    match character {
        '\t' => out.push_str("    "),
        '"' | '\'' | '\\' => out.push(character),
        _ => out.extend(character.escape_debug()),
    }
}
