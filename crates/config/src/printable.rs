//! Text of others for people who read: a terminal, a table, a page. What is not shown as itself is escaped.

/// Text without characters that a terminal would interpret or not show, except for line ends.
pub fn printable(text: &str) -> String {
    escaped(text, |character| character != '\n' && is_hidden(character))
}

/// Like [`printable`], for a name or a cell of a table: it is one line.
pub fn printable_line(text: &str) -> String {
    escaped(text, is_hidden)
}

/// Text that a client chose, in a table or a sentence: one line in quotes, which it can neither leave nor reorder.
/// Letters that are written from right to left would move what stands beside them, so they are escaped (SPEC Q6).
pub fn quoted(text: &str) -> String {
    let is_escaped = |character| matches!(character, '"' | '\\') || moves_others(character);
    format!("\"{}\"", escaped(text, is_escaped))
}

/// Like [`quoted`], for a place that quotes or encloses the text itself: without quotes, and quotes are not escaped.
pub fn contained(text: &str) -> String {
    escaped(text, moves_others)
}

/// Whether a character is not shown as itself, or changes how its neighbours are shown.
fn moves_others(character: char) -> bool {
    is_hidden(character) || is_right_to_left(character)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if is_escaped(character) {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

/// Whether a character has no shape of its own: control and format characters (Unicode's Cc and Cf, such as those
/// that change the direction of text), and separators of lines and paragraphs.
fn is_hidden(character: char) -> bool {
    if character.is_ascii() {
        return character.is_control();
    }
    // The standard library escapes them, and marks only where they begin a text.
    let mut bytes = [0; 8];
    bytes[0] = b'a';
    let length = 1 + character.encode_utf8(&mut bytes[1..]).len();
    let shown = std::str::from_utf8(&bytes[..length]).unwrap_or_default();
    shown.escape_debug().nth(1) != Some(character)
}

/// Whether a character is in a block whose letters are written from right to left (the default of Unicode's
/// `Bidi_Class` there is R or AL).
fn is_right_to_left(character: char) -> bool {
    matches!(
        character,
        '\u{590}'..='\u{8ff}'
            | '\u{fb1d}'..='\u{fdff}'
            | '\u{fe70}'..='\u{feff}'
            | '\u{10800}'..='\u{10fff}'
            | '\u{1e800}'..='\u{1efff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k1_control_characters_are_escaped() {
        assert_eq!(printable("a\x1b[2Jb\tc\nd"), "a\\u{1b}[2Jb\\tc\nd");
    }

    #[test]
    fn k1_characters_without_a_shape_are_escaped() {
        let hidden = [
            '\u{85}',
            '\u{ad}',
            '\u{61c}',
            '\u{200b}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2066}',
            '\u{feff}',
            '\u{e0041}',
        ];
        for character in hidden {
            let escape = format!("a{}b", character.escape_default());
            assert_eq!(printable(&format!("a{character}b")), escape);
        }
        for text in [
            "\"it's\" a\\b",
            "äöü €",
            "日本語",
            "e\u{301}",
            "हिन्दी",
            "🦀",
        ] {
            assert_eq!(printable(text), text);
        }
        assert_eq!(printable_line("a\nb"), "a\\nb");
    }

    #[test]
    fn q6_text_of_a_client_stays_within_its_quotes() {
        for (text, wanted) in [
            ("curl", r#""curl""#),
            (
                "x\"  0a1b  granted  ok.test:1",
                r#""x\"  0a1b  granted  ok.test:1""#,
            ),
            ("a\\", r#""a\\""#),
            ("\u{1b}[2J\n", r#""\u{1b}[2J\n""#),
            ("\u{202e}lru\u{a0}", r#""\u{202e}lru\u{a0}""#),
            ("\u{5d0}b\u{627}", r#""\u{5d0}b\u{627}""#),
            ("日本語 äé", "\"日本語 äé\""),
        ] {
            assert_eq!(quoted(text), wanted);
        }
        assert_eq!(
            contained("\u{5d0}\u{202e}\"b\"\\"),
            r#"\u{5d0}\u{202e}"b"\"#
        );
    }
}
