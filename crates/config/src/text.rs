//! The texts of the configuration, and places in them.
//!
//! A value keeps its [`TextSpan`], twelve bytes without a lifetime, until it has been checked. Lines
//! and columns are computed only for reports.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use codex_network_policy::ConfigLine;

/// A part of one text, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TextSpan {
    /// Index into [`Texts`], which is the order of the layers: a later layer has a higher one.
    pub(crate) text: u32,
    pub(crate) start: u32,
    pub(crate) end: u32,
}

/// One file or one `-c`.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) kind: TextKind,
    /// Its name in messages.
    pub(crate) name: Arc<str>,
    pub(crate) content: String,
    /// The byte order mark that the content began with.
    mark: Option<char>,
    /// Where each line begins.
    lines: Vec<u32>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TextKind {
    /// A TOML document from a file.
    File(PathBuf),
    /// A TOML document that the caller holds.
    Inline,
    /// A TOML document with managed constraints, which is not a layer.
    Requirements(PathBuf),
    /// `dotted.key=value`.
    Override,
}

/// All texts, the weakest layer first, requirements last.
#[derive(Debug, Default)]
pub(crate) struct Texts(Vec<Text>);

impl Text {
    /// `content` has at most [`MAX_BYTES`](crate::layers::MAX_BYTES), so offsets fit 32 bits.
    /// A byte order mark is dropped: it does not count as a column.
    pub(crate) fn new(kind: TextKind, name: &str, mut content: String) -> Self {
        let mark = content.starts_with('\u{feff}').then(|| content.remove(0));
        let starts = content.bytes().enumerate();
        let lines = std::iter::once(0)
            .chain(
                starts
                    .filter(|(_, byte)| *byte == b'\n')
                    .map(|(at, _)| offset(at + 1)),
            )
            .collect();
        Self {
            kind,
            name: Arc::from(name),
            content,
            mark,
            lines,
        }
    }

    /// Its kind, and the content as it was read, with its byte order mark.
    pub(crate) fn into_read(mut self) -> (TextKind, String) {
        if let Some(mark) = self.mark {
            self.content.insert(0, mark);
        }
        (self.kind, self.content)
    }

    /// Whether it is a file with a configuration in JSON, by the end of its name.
    pub(crate) fn is_json(&self) -> bool {
        match &self.kind {
            TextKind::File(path) => path.extension().is_some_and(|end| end == "json"),
            TextKind::Inline | TextKind::Requirements(_) | TextKind::Override => false,
        }
    }

    /// Line of a byte, from 0.
    fn line(&self, at: u32) -> usize {
        self.lines.partition_point(|start| *start <= at) - 1
    }
}

impl Texts {
    pub(crate) fn push(&mut self, text: Text) {
        self.0.push(text);
    }

    /// The texts themselves.
    pub(crate) fn into_iter(self) -> impl Iterator<Item = Text> {
        self.0.into_iter()
    }

    /// Each text with its index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Text)> {
        (0..).zip(&self.0)
    }

    /// Whether one of them is in JSON.
    pub(crate) fn has_json(&self) -> bool {
        self.0.iter().any(Text::is_json)
    }

    pub(crate) fn text(&self, place: TextSpan) -> &Text {
        &self.0[place.text as usize]
    }

    /// The line that a place begins on, from 1.
    pub(crate) fn line(&self, place: TextSpan) -> u32 {
        offset(self.text(place).line(place.start) + 1)
    }

    /// The line's text without its end, and the place's part of it in bytes. A place that extends
    /// beyond the line is cut at the end of the line.
    pub(crate) fn excerpt(&self, place: TextSpan) -> (&str, std::ops::Range<usize>) {
        let text = self.text(place);
        let line = text.line(place.start);
        let start = text.lines[line] as usize;
        let end = text
            .lines
            .get(line + 1)
            .map_or(text.content.len(), |next| *next as usize - 1);
        let content = &text.content[start..end];
        let content = content.strip_suffix('\r').unwrap_or(content);
        let from = floor(content, place.start as usize - start);
        let to = floor(content, (place.end as usize).saturating_sub(start));
        (content, from..to.max(from))
    }

    /// `FILE:LINE`, for naming a second place in a message.
    pub(crate) fn file_and_line(&self, place: TextSpan) -> String {
        format!("{}:{}", self.text(place).name, self.line(place))
    }

    /// The same as a [`ConfigLine`], to be kept.
    pub(crate) fn config_line(&self, place: TextSpan) -> ConfigLine {
        ConfigLine {
            file: Arc::clone(&self.text(place).name),
            line: self.line(place),
        }
    }

    /// Whether a place is in a `-c`.
    pub(crate) fn is_override(&self, place: TextSpan) -> bool {
        self.text(place).kind == TextKind::Override
    }

    /// The base of a text's relative paths: its file's directory, or `None` for `-c`, whose paths
    /// are relative to the working directory.
    pub(crate) fn directory(&self, place: TextSpan) -> Option<&Path> {
        match &self.text(place).kind {
            TextKind::File(path) | TextKind::Requirements(path) => path.parent(),
            TextKind::Inline | TextKind::Override => None,
        }
    }
}

impl TextSpan {
    /// A part of text number `text`.
    pub(crate) fn new(text: u32, span: &std::ops::Range<usize>) -> Self {
        Self {
            text,
            start: offset(span.start),
            end: offset(span.end),
        }
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

/// The character boundary at or before a byte. (`str::floor_char_boundary` needs Rust 1.91.)
fn floor(text: &str, at: usize) -> usize {
    let at = at.min(text.len());
    (0..=at)
        .rev()
        .find(|at| text.is_char_boundary(*at))
        .unwrap_or(0)
}
