//! The forms in which programs write a character inside of URLs, JSON and JavaScript strings, and HTML (SPEC
//! B12): as it is, `%XX` (RFC 3986 section 2.1), `+` for a space, `\` before punctuation, `\u00XX` (RFC 8259
//! section 7), `\xXX`, `&amp;`, `&#NN;` and `&#xXX;`.
//!
//! Encoders differ in the characters that they encode, so each character of a text is read in each form. A
//! reading needs the character that is expected: then it is unambiguous but for `%`, `&` and `\` themselves,
//! where the longer form counts.

/// Most bytes in which one byte of a text is written.
pub(super) const MAX_WRITTEN_BYTES: usize = 9;
const MAX_DECIMAL_DIGITS: usize = 6;
const MAX_HEXADECIMAL_DIGITS: usize = 5;
/// The named references of HTML that encoders write.
const NAMES: [(&str, char); 5] = [
    ("&amp;", '&'),
    ("&lt;", '<'),
    ("&gt;", '>'),
    ("&quot;", '"'),
    ("&apos;", '\''),
];

/// How a character is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// As it is; a space also as `+`.
    Plainly,
    /// `%XX`, for each of its bytes.
    Percent(Digits),
    /// `\` before it.
    Backslash,
    /// `\uXXXX`.
    Unicode(Digits),
    /// `\xXX`.
    Byte(Digits),
    /// `&NAME;`.
    Named,
    /// `&#NN;` with so many digits.
    Decimal(usize),
    /// `&#xXX;` with so many digits.
    Hexadecimal(usize, Digits),
}

/// The letters among hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digits {
    Upper,
    Lower,
}

/// A character that was looked for at the beginning of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It takes so many bytes.
    Is(usize, Written),
    /// The text ends before that is known.
    Incomplete,
    Differs,
}

/// Whether encoders leave a character as it is, unless they encode every character. Some encode `-`, `_` and `.`,
/// which URLs permit.
pub(super) fn is_unreserved(character: char) -> bool {
    character.is_ascii_alphanumeric()
}

/// Looks for a character at the beginning of a text.
pub(super) fn read(text: &[u8], expected: char) -> Reading {
    let escaped = match text.first() {
        None => return Reading::Incomplete,
        Some(b'\\') => backslash(text, expected),
        Some(b'&') => reference(text, expected),
        Some(_) => Reading::Differs,
    };
    if escaped != Reading::Differs {
        return escaped;
    }
    let mut bytes = [0; 4];
    let mut at = 0;
    let mut written = Written::Plainly;
    for &byte in expected.encode_utf8(&mut bytes).as_bytes() {
        match text.get(at) {
            None => return Reading::Incomplete,
            Some(b'%') => match percent(&text[at..]) {
                Escape::Incomplete => return Reading::Incomplete,
                Escape::Is(decoded, digits) if decoded == u32::from(byte) => {
                    written = Written::Percent(digits);
                    at += 3;
                    continue;
                }
                _ => {}
            },
            Some(_) => {}
        }
        if text[at] != byte && !(byte == b' ' && text[at] == b'+') {
            return Reading::Differs;
        }
        at += 1;
    }
    Reading::Is(at, written)
}

/// Writes a character in the form of another one, and in as many bytes if that is possible.
pub(super) fn write(character: char, form: Written, text: &mut Vec<u8>) {
    let mut bytes = [0; 4];
    let plain = character.encode_utf8(&mut bytes).as_bytes();
    let code = u32::from(character);
    let hexadecimal = |digits, width| match digits {
        Digits::Upper => format!("{code:0width$X}"),
        Digits::Lower => format!("{code:0width$x}"),
    };
    match form {
        Written::Plainly | Written::Named => text.extend_from_slice(plain),
        Written::Backslash => {
            if character.is_ascii_punctuation() {
                text.push(b'\\');
            }
            text.extend_from_slice(plain);
        }
        Written::Percent(digits) => {
            for byte in plain {
                let escaped = match digits {
                    Digits::Upper => format!("%{byte:02X}"),
                    Digits::Lower => format!("%{byte:02x}"),
                };
                text.extend_from_slice(escaped.as_bytes());
            }
        }
        Written::Unicode(digits) => {
            text.extend_from_slice(b"\\u");
            text.extend_from_slice(hexadecimal(digits, 4).as_bytes());
        }
        Written::Byte(digits) => {
            text.extend_from_slice(b"\\x");
            text.extend_from_slice(hexadecimal(digits, 2).as_bytes());
        }
        Written::Decimal(width) => {
            let number = format!("{code:0width$}");
            // Another character, where its number has more digits.
            let number = if number.len() > width { "88" } else { &number };
            text.extend_from_slice(format!("&#{number};").as_bytes());
        }
        Written::Hexadecimal(width, digits) => {
            text.extend_from_slice(b"&#x");
            text.extend_from_slice(hexadecimal(digits, width).as_bytes());
            text.push(b';');
        }
    }
}

/// The forms in which encoders write a character; with `every`, also those that encode every character.
pub(super) fn forms(character: char, every: bool) -> Vec<Vec<u8>> {
    let mut bytes = [0; 4];
    let mut forms = vec![character.encode_utf8(&mut bytes).as_bytes().to_vec()];
    if is_unreserved(character) && !every {
        return forms;
    }
    let digits = u32::from(character).to_string().len();
    for letters in [Digits::Upper, Digits::Lower] {
        let width = format!("{:x}", u32::from(character)).len();
        for form in [
            Written::Percent(letters),
            Written::Unicode(letters),
            Written::Byte(letters),
            Written::Hexadecimal(width, letters),
            Written::Decimal(digits),
            Written::Backslash,
        ] {
            let mut text = Vec::new();
            write(character, form, &mut text);
            forms.push(text);
        }
    }
    let named = NAMES.iter().filter(|(_, named)| *named == character);
    forms.extend(named.map(|(name, _)| name.as_bytes().to_vec()));
    forms.extend((character == ' ').then(|| b"+".to_vec()));
    forms
}

/// An escape with a number.
enum Escape {
    Is(u32, Digits),
    Incomplete,
    None,
}

fn percent(text: &[u8]) -> Escape {
    match number(&text[1..], 2, 16) {
        // As RFC 3986 section 2.1 recommends, where no letter shows it.
        Escape::Is(byte, _) if text[1..3].iter().all(u8::is_ascii_digit) => {
            Escape::Is(byte, Digits::Upper)
        }
        escape => escape,
    }
}

/// A number of exactly so many digits.
fn number(text: &[u8], count: usize, radix: u32) -> Escape {
    let mut number = 0;
    let mut letters = None;
    for at in 0..count {
        let Some(&byte) = text.get(at) else {
            return Escape::Incomplete;
        };
        let Some(digit) = char::from(byte).to_digit(radix) else {
            return Escape::None;
        };
        match byte {
            b'a'..=b'f' => letters = Some(Digits::Lower),
            b'A'..=b'F' => letters = Some(Digits::Upper),
            _ => {}
        }
        number = number * radix + digit;
    }
    Escape::Is(number, letters.unwrap_or(Digits::Lower))
}

fn backslash(text: &[u8], expected: char) -> Reading {
    let is = |decoded: u32, length, form| {
        if decoded == u32::from(expected) {
            Reading::Is(length, form)
        } else {
            Reading::Differs
        }
    };
    match text.get(1) {
        None => Reading::Incomplete,
        Some(b'u') => match number(&text[2..], 4, 16) {
            Escape::Is(unit @ 0xd800..=0xdbff, digits) => pair(text, unit, digits, expected),
            Escape::Is(decoded, digits) => is(decoded, 6, Written::Unicode(digits)),
            Escape::Incomplete => Reading::Incomplete,
            Escape::None => Reading::Differs,
        },
        Some(b'x') => match number(&text[2..], 2, 16) {
            Escape::Is(decoded, digits) => is(decoded, 4, Written::Byte(digits)),
            Escape::Incomplete => Reading::Incomplete,
            Escape::None => Reading::Differs,
        },
        Some(&byte) if byte.is_ascii_punctuation() => is(byte.into(), 2, Written::Backslash),
        Some(_) => Reading::Differs,
    }
}

/// A character in two units of UTF-16.
fn pair(text: &[u8], high: u32, digits: Digits, expected: char) -> Reading {
    if expected.len_utf16() == 1 {
        return Reading::Differs;
    }
    let rest = &text[6..];
    if !rest.starts_with(&b"\\u"[..rest.len().min(2)]) {
        return Reading::Differs;
    }
    match number(rest.get(2..).unwrap_or_default(), 4, 16) {
        Escape::Is(low @ 0xdc00..=0xdfff, _) => {
            let decoded = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
            if decoded == u32::from(expected) {
                Reading::Is(12, Written::Unicode(digits))
            } else {
                Reading::Differs
            }
        }
        Escape::Incomplete => Reading::Incomplete,
        _ => Reading::Differs,
    }
}

fn reference(text: &[u8], expected: char) -> Reading {
    if text.len() == 1 {
        return Reading::Incomplete;
    }
    if text[1] != b'#' {
        for (name, character) in NAMES {
            if character == expected && text.starts_with(name.as_bytes()) {
                return Reading::Is(name.len(), Written::Named);
            }
            if character == expected && name.as_bytes().starts_with(text) {
                return Reading::Incomplete;
            }
        }
        return Reading::Differs;
    }
    let is_hexadecimal = text.get(2).is_some_and(|byte| matches!(byte, b'x' | b'X'));
    let (begin, radix, most) = if is_hexadecimal {
        (3, 16, MAX_HEXADECIMAL_DIGITS)
    } else {
        (2, 10, MAX_DECIMAL_DIGITS)
    };
    let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
    let count = text[begin..].iter().take_while(is_digit).count();
    let end = begin + count;
    match text.get(end) {
        _ if count > most => Reading::Differs,
        None => Reading::Incomplete,
        Some(b';') => match number(&text[begin..end], count, radix) {
            Escape::Is(decoded, digits) if count > 0 && decoded == u32::from(expected) => {
                let form = if is_hexadecimal {
                    Written::Hexadecimal(count, digits)
                } else {
                    Written::Decimal(count)
                };
                Reading::Is(end + 1, form)
            }
            _ => Reading::Differs,
        },
        Some(_) => Reading::Differs,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn b12_a_character_is_read_in_each_form() {
        let upper = Digits::Upper;
        let lower = Digits::Lower;
        for (text, expected, reading) in [
            ("ab", 'a', Reading::Is(1, Written::Plainly)),
            ("+b", ' ', Reading::Is(1, Written::Plainly)),
            ("%2Fb", '/', Reading::Is(3, Written::Percent(upper))),
            ("%2fb", '/', Reading::Is(3, Written::Percent(lower))),
            ("%25", '%', Reading::Is(3, Written::Percent(upper))),
            ("%%", '%', Reading::Is(1, Written::Plainly)),
            ("%2", '%', Reading::Incomplete),
            ("%2", 'a', Reading::Incomplete),
            (r"\/", '/', Reading::Is(2, Written::Backslash)),
            (r"\\", '\\', Reading::Is(2, Written::Backslash)),
            (r"\_", '_', Reading::Is(2, Written::Backslash)),
            (r"\-", '-', Reading::Is(2, Written::Backslash)),
            (r"\-", '_', Reading::Differs),
            (r"\n", 'n', Reading::Differs),
            (r"\u002f", '/', Reading::Is(6, Written::Unicode(lower))),
            (r"\u00", '/', Reading::Incomplete),
            (r"\u043F", 'п', Reading::Is(6, Written::Unicode(upper))),
            (
                r"\ud83d\ude00",
                '😀',
                Reading::Is(12, Written::Unicode(lower)),
            ),
            (r"\ud83d\ude01", '😀', Reading::Differs),
            (r"\ud83d\u", '😀', Reading::Incomplete),
            (r"\ud83dx", '😀', Reading::Differs),
            (r"\x2F", '/', Reading::Is(4, Written::Byte(upper))),
            ("&amp;", '&', Reading::Is(5, Written::Named)),
            ("&am", '&', Reading::Incomplete),
            ("&b", '&', Reading::Is(1, Written::Plainly)),
            ("&#47;", '/', Reading::Is(5, Written::Decimal(2))),
            ("&#047;", '/', Reading::Is(6, Written::Decimal(3))),
            (
                "&#x2f;",
                '/',
                Reading::Is(6, Written::Hexadecimal(2, lower)),
            ),
            (
                "&#X02F;",
                '/',
                Reading::Is(7, Written::Hexadecimal(3, upper)),
            ),
            ("&#x", '/', Reading::Incomplete),
            ("&#;", '/', Reading::Differs),
            ("&#0000047;", '/', Reading::Differs),
            ("%D0%bf", 'п', Reading::Is(6, Written::Percent(lower))),
            ("", 'a', Reading::Incomplete),
        ] {
            assert_eq!(
                read(text.as_bytes(), expected),
                reading,
                "{text} {expected}"
            );
        }
    }

    proptest! {
        #[test]
        fn b12_each_form_of_a_character_is_read_as_it(character in any::<char>(), rest in "[a-z]{0,3}") {
            prop_assume!(!matches!(character, '%' | '&' | '\\'));
            for form in forms(character, true) {
                let text = [&form[..], rest.as_bytes()].concat();
                let Reading::Is(length, _) = read(&text, character) else {
                    // These numbers have other forms, which encoders write.
                    prop_assert!(!character.is_ascii(), "{:?} {:?}", character, form);
                    continue;
                };
                prop_assert_eq!(length, form.len());
                prop_assert!(length <= MAX_WRITTEN_BYTES * character.len_utf8());
                for end in 0..length {
                    let part = read(&text[..end], character);
                    prop_assert_eq!(part, Reading::Incomplete, "{:?}", &text[..end]);
                }
            }
        }
    }
}
