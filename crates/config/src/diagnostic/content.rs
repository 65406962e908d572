//! Marks the parts of a message that come from a file, so that users who may not read the file can
//! get the message without them.
//!
//! A message is built with marks around each part of a file ([`shown`], [`quoted`]). A
//! [`Diagnostic`](super::Diagnostic) keeps two texts of it: the whole one, and one with `…` in
//! place of each such part. Marks are control characters, which a finished text never has.

use crate::catalogue::is_key_name;

const OPEN: char = '\u{2}';
const CLOSE: char = '\u{3}';

/// A part of a file inside a message.
pub(crate) fn shown(text: &str) -> String {
    let text = text.replace([OPEN, CLOSE], "\u{fffd}");
    format!("{OPEN}{text}{CLOSE}")
}

/// A name or a value of a file inside a message: in backquotes, and cut if it is long. The names of
/// our own keys are not content.
pub(crate) fn quoted(text: &str) -> String {
    const MAX: usize = 80;
    if is_key_name(text) {
        return format!("`{text}`");
    }
    let mut cut: String = text.chars().take(MAX).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("`{}`", shown(&cut))
}

/// The whole message.
pub(super) fn with_content(message: &str) -> String {
    message.replace([OPEN, CLOSE], "")
}

/// The message without the parts that come from a file. An unclosed mark extends to the end.
pub(super) fn without_content(message: &str) -> String {
    let mut rest = String::with_capacity(message.len());
    let mut depth = 0_usize;
    for character in message.chars() {
        match character {
            OPEN => {
                if depth == 0 {
                    rest.push('…');
                }
                depth += 1;
            }
            CLOSE => depth = depth.saturating_sub(1),
            other if depth == 0 => rest.push(other),
            _ => {}
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a1_content_is_marked_once_and_taken_out_whole() {
        let message = format!("bad {}: {}", quoted("x\u{3}y"), shown("why"));
        assert_eq!(with_content(&message), "bad `x\u{fffd}y`: why");
        assert_eq!(without_content(&message), "bad `…`: …");
        let nested = shown(&quoted("inner"));
        assert!(!without_content(&nested).contains("inner"), "{nested:?}");
        assert_eq!(without_content("a\u{2}b"), "a…");
        assert_eq!(without_content(&quoted("mode")), "`mode`");
    }
}
