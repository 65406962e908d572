//! The change of a text by lines.

use similar::{ChangeTag, TextDiff};

/// The lines around a change that are shown.
const CONTEXT: usize = 3;

/// A unified diff, with this name of the file; empty if the texts are equal.
pub(super) fn unified(name: &str, old: &str, new: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    diff.unified_diff()
        .context_radius(CONTEXT)
        .header(name, name)
        .to_string()
}

/// The new text, whose lines that the old text has too are those of the old text, with their ends of
/// lines. New lines end as the first line of the old text does. Neither text but `old` has `\r\n`.
pub(super) fn with_old_line_ends(old: &str, new: &str) -> String {
    if !old.contains("\r\n") {
        return new.to_owned();
    }
    let end = match old.split_once('\n') {
        Some((first, _)) if first.ends_with('\r') => "\r\n",
        _ => "\n",
    };
    let plain = old.replace("\r\n", "\n");
    let mut old_lines = old.split_inclusive('\n');
    let mut text = String::with_capacity(old.len());
    for change in TextDiff::from_lines(&*plain, new).iter_all_changes() {
        match change.tag() {
            ChangeTag::Equal => text.extend(old_lines.next()),
            ChangeTag::Delete => drop(old_lines.next()),
            ChangeTag::Insert => match change.value().strip_suffix('\n') {
                Some(line) => text.extend([line, end]),
                None => text.push_str(change.value()),
            },
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w3_lines_that_stay_keep_their_ends() {
        let old = "a\r\nb\nc\r\n";
        assert_eq!(
            with_old_line_ends(old, "a\nb\nx\nc\n"),
            "a\r\nb\nx\r\nc\r\n"
        );
        assert_eq!(with_old_line_ends(old, "b\nc\n"), "b\nc\r\n");
        assert_eq!(with_old_line_ends("a\nb\n", "a\nx\n"), "a\nx\n");
    }
}
