//! From texts to one tree: parsing, `-c`, and merging layers (SPEC C1). This module does not know
//! what the keys mean; only `feature_switch` changes a layer before it is merged.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Problems, shown};
use crate::text::{Text, TextKind, TextSpan};
use crate::toml_tree::{TomlEntry, TomlNode, TomlTable, TomlValue};
use crate::{feature_switch, json};

/// Depth of nested tables and arrays: more than any configuration has, and small enough for
/// recursion.
const MAX_DEPTH: usize = 32;
/// Stack for parsing: the deepest tree takes between 2 and 4 MiB in a debug build.
const STACK: usize = 32 << 20;
/// Texts up to this size are searched for further syntax errors.
const MAX_RECOVERY: usize = 1 << 20;

/// The parsed texts.
#[derive(Debug, Default)]
pub(crate) struct Merged<'t> {
    /// All layers, merged.
    pub(crate) root: TomlTable<'t>,
    /// The files with managed constraints, each by itself.
    pub(crate) requirements: Vec<TomlTable<'t>>,
}

/// Parses and merges all texts. Syntax errors go to `problems`; the tree is valid only without
/// them.
///
/// `toml` bounds the depth of lists, inline tables and dotted keys separately, but their product is
/// some thousand levels, which it processes by recursion. So this runs on a stack that is large
/// enough, whatever the caller's is. Nothing deeper than [`MAX_DEPTH`] is returned.
pub(crate) fn merge<'t>(problems: &mut Problems<'t>) -> Merged<'t> {
    let merged = std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("config".to_owned())
            .stack_size(STACK)
            .spawn_scoped(scope, || merge_layers(problems))
            .map(std::thread::ScopedJoinHandle::join)
    });
    match merged {
        Ok(Ok(root)) => root,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(error) => {
            let message = format!("the configuration cannot be parsed: {error}");
            problems.error_about(Diagnostic::about("", &message, None));
            Merged::default()
        }
    }
}

fn merge_layers<'t>(problems: &mut Problems<'t>) -> Merged<'t> {
    let mut merged = Merged::default();
    for (index, text) in problems.texts.iter() {
        let layer = match &text.kind {
            TextKind::File(_) if text.is_json() => json::parse(index, text, MAX_DEPTH, problems),
            TextKind::File(_) | TextKind::Inline => parse_document(index, text, problems),
            TextKind::Override => parse_override(index, text, problems),
            TextKind::Requirements(_) => {
                merged
                    .requirements
                    .extend(parse_document(index, text, problems));
                continue;
            }
        };
        if let Some(mut layer) = layer {
            feature_switch::expand(&mut layer);
            merged.root.merge(layer);
        }
    }
    merged
}

fn parse_document<'t>(
    index: u32,
    text: &'t Text,
    problems: &mut Problems<'_>,
) -> Option<TomlTable<'t>> {
    match DeTable::parse(&text.content) {
        Ok(table) => {
            let start = TextStart { index, offset: 0 };
            Some(convert_table(
                start,
                MAX_DEPTH,
                table.into_inner(),
                problems,
            ))
        }
        Err(first) => {
            let mut errors = vec![first];
            if text.content.len() <= MAX_RECOVERY {
                errors = DeTable::parse_recoverable(&text.content).1;
            }
            report_syntax(index, &errors, problems);
            None
        }
    }
}

/// One error per line: most others on the line follow from the first.
fn report_syntax(index: u32, errors: &[toml::de::Error], problems: &mut Problems<'_>) {
    let mut last = None;
    for error in errors {
        let place = TextSpan::new(index, &error.span().unwrap_or(0..0));
        let line = Some(problems.texts.line(place));
        if last != line {
            let (line, span) = problems.texts.excerpt(place);
            let help = help_for_bare_word(&line[span]);
            let message = format!("not TOML: {}", shown(error.message()));
            problems.error(place, &message, &help);
        }
        last = line;
    }
}

/// An invalid boolean or number is usually a string without its quotes.
fn help_for_bare_word(word: &str) -> String {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*:/".contains(&byte);
    if word.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '*')
        && word.bytes().all(is_word)
    {
        format!(
            "a string is written in quotes: {}",
            shown(&format!("{word:?}"))
        )
    } else {
        String::new()
    }
}

/// `dotted.key=value`: the key as in TOML, the value as TOML or else as a plain string.
fn parse_override<'t>(
    index: u32,
    text: &'t Text,
    problems: &mut Problems<'_>,
) -> Option<TomlTable<'t>> {
    let content: &'t str = &text.content;
    let whole = TextSpan::new(index, &(0..content.len()));
    let help = "write it as `table.key=value`";
    let Some(equals) = find_equals(content) else {
        problems.error(whole, "an override needs a key and a value", help);
        return None;
    };
    let key = &content[..equals];
    let key_place = TextSpan::new(index, &(0..equals));
    let Some(path) = key_path(key) else {
        problems.error(key_place, "this is not a dotted TOML key", help);
        return None;
    };
    let raw = content[equals + 1..].trim();
    let offset = content.len() - content[equals + 1..].trim_start().len();
    let mut node = match DeValue::parse(raw) {
        Ok(value) => {
            let start = TextStart { index, offset };
            convert(start, MAX_DEPTH, value, problems)?
        }
        Err(_) => TomlNode {
            at: TextSpan::new(index, &(offset..offset + raw.len())),
            value: TomlValue::String(Cow::Borrowed(raw)),
        },
    };
    for (name, span) in path.into_iter().rev() {
        let at = TextSpan::new(index, &span);
        let name = Cow::Owned(name);
        let value = TomlValue::Table(TomlTable::new(vec![TomlEntry { name, at, node }]));
        node = TomlNode { at, value };
    }
    match node.value {
        TomlValue::Table(layer) => Some(layer),
        _ => None,
    }
}

/// The first `=` outside quotes.
fn find_equals(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'=') => return Some(at),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(b'"'), b'\\') if !escaped => {
                escaped = true;
                continue;
            }
            (Some(open), _) if open == byte && !escaped => quote = None,
            _ => {}
        }
        escaped = false;
    }
    None
}

/// The parts of a dotted key, with their places.
fn key_path(key: &str) -> Option<Vec<(String, Range<usize>)>> {
    // Line ends and comments would let a key add a header or a second key.
    if key.contains(['\n', '\r']) {
        return None;
    }
    let document = format!("{key}= 0");
    let mut table = DeTable::parse(&document).ok()?.into_inner();
    let mut path = Vec::new();
    loop {
        let mut entries = table.into_iter();
        let (Some((name, value)), None) = (entries.next(), entries.next()) else {
            return None;
        };
        path.push((name.get_ref().to_string(), name.span()));
        match value.into_inner() {
            DeValue::Table(inner) => table = inner,
            _ => return Some(path),
        }
    }
}

/// The text that spans count in, and the offset.
#[derive(Clone, Copy)]
struct TextStart {
    index: u32,
    offset: usize,
}

impl TextStart {
    fn span(self, span: &Range<usize>) -> TextSpan {
        TextSpan::new(
            self.index,
            &(self.offset + span.start..self.offset + span.end),
        )
    }
}

fn convert<'t>(
    start: TextStart,
    depth: usize,
    value: Spanned<DeValue<'t>>,
    problems: &mut Problems<'_>,
) -> Option<TomlNode<'t>> {
    let at = start.span(&value.span());
    let Some(depth) = depth.checked_sub(1) else {
        problems.error(at, "tables and lists are nested too deeply here", "");
        return None;
    };
    let value = match value.into_inner() {
        DeValue::String(text) => TomlValue::String(text),
        DeValue::Integer(integer) => {
            TomlValue::Integer(i64::from_str_radix(integer.as_str(), integer.radix()).ok())
        }
        DeValue::Float(_) => TomlValue::Float,
        DeValue::Boolean(boolean) => TomlValue::Boolean(boolean),
        DeValue::Datetime(_) => TomlValue::Datetime,
        DeValue::Array(array) => TomlValue::Array(
            array
                .into_iter()
                .filter_map(|item| convert(start, depth, item, problems))
                .collect(),
        ),
        DeValue::Table(table) => TomlValue::Table(convert_table(start, depth, table, problems)),
    };
    Some(TomlNode { at, value })
}

fn convert_table<'t>(
    start: TextStart,
    depth: usize,
    table: DeTable<'t>,
    problems: &mut Problems<'_>,
) -> TomlTable<'t> {
    let entries = table
        .into_iter()
        .filter_map(|(name, value)| {
            let at = start.span(&name.span());
            let node = convert(start, depth, value, problems)?;
            let name = name.into_inner();
            Some(TomlEntry { name, at, node })
        })
        .collect();
    TomlTable::new(entries)
}
