//! Adds an entry to a list, and removes one. Comments and the form of the list stay.
//!
//! `toml_edit` keeps the text between two elements in front of the second one. So a comment behind an
//! element, on its line, is a part of the next element, or of the end of the list.

use codex_network_policy::Pattern;
use toml_edit::{Array, RawString, Value};

use super::map::is_pattern;

/// The indentation of an element whose list has none to copy.
const INDENTATION: &str = "    ";

/// Whether the list has an entry for the pattern, in any spelling.
pub(super) fn has(list: &Array, pattern: &Pattern) -> bool {
    list.iter().any(|value| is(value, pattern))
}

/// Appends an entry. A comment makes it a line of its own.
pub(super) fn append(list: &mut Array, pattern: &Pattern, comment: Option<&str>) {
    // That of the last element that begins a line.
    let before = list.iter().map(|value| text(value.decor().prefix()));
    let lines = before.filter_map(|before| Some(before.rsplit_once('\n')?.1.to_owned()));
    let indentation = lines.last();
    let end = list.len().checked_sub(1);
    let before_last = end.and_then(|end| list.get(end));
    let before_last = before_last.map(|value| text(value.decor().prefix()).to_owned());
    // The text between the last element, without its comma, and the bracket.
    let mut tail = String::new();
    if let Some(value) = end.and_then(|end| list.get_mut(end)) {
        text(value.decor().suffix()).clone_into(&mut tail);
        value.decor_mut().set_suffix("");
    }
    tail.push_str(text(Some(list.trailing())));

    let (before, mut end) = match tail.rsplit_once('\n') {
        // The bracket has a line of its own, and `line` is its indentation.
        Some((comments, line)) => {
            let indentation = indentation.unwrap_or_else(|| format!("{line}{INDENTATION}"));
            let comments = comments.trim_end();
            if list.is_empty() {
                list.set_trailing_comma(true);
            }
            (format!("{comments}\n{indentation}"), format!("\n{line}"))
        }
        None if comment.is_some() || indentation.is_some() => {
            let indentation = indentation.unwrap_or_else(|| INDENTATION.to_owned());
            (format!("\n{indentation}"), tail)
        }
        None => {
            let blank = if list.len() > 1 { before_last } else { None };
            let first = if list.is_empty() { "" } else { " " };
            (blank.unwrap_or_else(|| first.to_owned()), tail)
        }
    };
    if let Some(comment) = comment {
        if !end.starts_with('\n') {
            end.insert(0, '\n');
            list.set_trailing_comma(true);
        }
        end = format!(" # {comment}{end}");
    }
    let mut value = Value::from(pattern.to_string());
    value.decor_mut().set_prefix(before);
    value.decor_mut().set_suffix("");
    list.push_formatted(value);
    list.set_trailing(end);
}

/// Removes the entries for a pattern, each with the comment behind it. Comments above it stay. Returns
/// whether there were any.
pub(super) fn remove(list: &mut Array, pattern: &Pattern) -> bool {
    let mut found = false;
    for index in (0..list.len()).rev() {
        if list.get(index).is_some_and(|value| is(value, pattern)) {
            remove_at(list, index);
            found = true;
        }
    }
    if found {
        close_up(list);
    }
    found
}

fn remove_at(list: &mut Array, index: usize) {
    let removed = list.remove(index);
    let before = text(removed.decor().prefix());
    let is_last = index == list.len();
    let after = match list.get(index) {
        Some(next) => text(next.decor().prefix()).to_owned(),
        None => format!(
            "{}{}",
            text(removed.decor().suffix()),
            text(Some(list.trailing()))
        ),
    };
    let between = match (before.rsplit_once('\n'), after.find('\n')) {
        // It ends a line that it shares with the element before it.
        (None, _) if index > 0 => after,
        (comments, Some(line_end)) => {
            let comments = comments.map_or("", |(comments, _)| comments);
            format!("{comments}{}", &after[line_end..])
        }
        (_, None) if !is_last => before.to_owned(),
        (Some((comments, _)), None) => format!("{comments}\n"),
        (None, None) => String::new(),
    };
    match list.get_mut(index) {
        Some(next) => next.decor_mut().set_prefix(between),
        None => list.set_trailing(between),
    }
}

/// Puts the bracket of a list behind its last element, if only that bracket has another line. Such a list was one
/// line before an entry with a comment came.
fn close_up(list: &mut Array) {
    let end = text(Some(list.trailing()));
    let is_blank = end.trim().is_empty() && end.contains('\n');
    let has_lines = list.iter().any(|value| {
        let decor = value.decor();
        text(decor.prefix()).contains('\n') || text(decor.suffix()).contains('\n')
    });
    if is_blank && !has_lines {
        list.set_trailing("");
        list.set_trailing_comma(false);
    }
}

fn is(value: &Value, pattern: &Pattern) -> bool {
    value.as_str().is_some_and(|text| is_pattern(text, pattern))
}

/// The text of a document's part, which has one since the document was parsed from a text.
fn text(part: Option<&RawString>) -> &str {
    part.and_then(RawString::as_str).unwrap_or_default()
}
