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

#[cfg(test)]
mod tests {
    use codex_network_policy::ListKind;
    use toml_edit::DocumentMut;

    use super::*;

    /// The text between two parts of a list.
    const GAPS: [&str; 6] = ["", " ", "\n  ", " # N\n  ", "\n  # N\n  ", " # N\n  # n\n"];

    /// Lists of two elements with these texts before, between and behind them, with and without a last
    /// comma. Each comment has the number of its place.
    fn lists() -> impl Iterator<Item = ([String; 3], String)> {
        let three = GAPS
            .into_iter()
            .flat_map(|a| GAPS.map(|b| (a, b)))
            .flat_map(|(a, b)| GAPS.map(|c| [a, b, c]));
        three.flat_map(|gaps| {
            let mut number = 0;
            let gaps = gaps.map(|gap| {
                number += 1;
                gap.replace('N', &format!("{number}!"))
                    .replace('n', &format!("{number}?"))
            });
            ["", ","].map(|comma| {
                let [before, between, behind] = &gaps;
                let list = format!("l = [{before}\"a.test\",{between}\"b.test\"{comma}{behind}]\n");
                (gaps.clone(), list)
            })
        })
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, ListKind::Allow).expect("a pattern")
    }

    /// The list after a change, and its elements as a new parser reads them.
    fn changed(text: &str, change: impl FnOnce(&mut Array)) -> (String, Vec<String>) {
        let mut document: DocumentMut = text.parse().expect("TOML");
        change(document["l"].as_array_mut().expect("a list"));
        let after = document.to_string();
        let read: DocumentMut = after
            .parse()
            .unwrap_or_else(|error| panic!("{error}: {text} became {after}"));
        let list = read["l"].as_array().expect("a list");
        let elements = list.iter().filter_map(Value::as_str).map(str::to_owned);
        (after.clone(), elements.collect())
    }

    #[test]
    fn w3_every_comment_of_a_list_stays_where_an_entry_is_added() {
        for (gaps, text) in lists() {
            for comment in [None, Some("why")] {
                let (after, elements) =
                    changed(&text, |list| append(list, &pattern("x.test"), comment));
                assert_eq!(elements, ["a.test", "b.test", "x.test"], "{text}{after}");
                for mark in gaps.iter().flat_map(|gap| gap.split_whitespace()) {
                    assert!(after.contains(mark), "{mark}: {text}{after}");
                }
                let line = after.lines().find(|line| line.contains("x.test"));
                let line = line.unwrap_or_default();
                assert_eq!(line.contains("# why"), comment.is_some(), "{text}{after}");
            }
        }
    }

    #[test]
    fn w3_the_comments_of_other_entries_stay_where_one_is_removed() {
        for ([before, between, behind], text) in lists() {
            let kept = |name: &str, whole: &[&String], rest: &String, left: &str| {
                let (after, elements) = changed(&text, |list| {
                    assert!(remove(list, &pattern(name)), "{text}");
                });
                assert_eq!(elements, [left], "{text}{after}");
                // A comment behind the entry goes; those on lines of their own stay.
                let rest = rest.split_once('\n').map_or("", |(_, lines)| lines);
                let marks = whole.iter().map(|gap| gap.as_str()).chain([rest]);
                for mark in marks.flat_map(str::split_whitespace) {
                    assert!(after.contains(mark), "{mark}: {text}{after}");
                }
            };
            kept("a.test", &[&before, &behind], &between, "b.test");
            kept("b.test", &[&before, &between], &behind, "a.test");
        }
    }
}
