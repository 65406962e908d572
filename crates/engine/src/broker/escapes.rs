//! The forms in which programs write a character inside of URLs, JSON and JavaScript strings, and HTML (SPEC
//! B12): as it is, `%XX` (RFC 3986 section 2.1), `+` for a space, `\` before punctuation, `\u00XX` (RFC 8259
//! section 7), `\xXX`, `&amp;`, `&#NN;` and `&#xXX;`.
//!
//! Encoders differ in the characters that they encode, so each character of a text is read in each form. A
//! reading needs the character that is expected: then it is unambiguous but for `%`, `&` and `\` themselves,
//! where the longer form counts.

/// Most bytes in which one byte of a text is written.
pub(super) const MAX_WRITTEN_BYTES: usize = 10;
/// Most bytes in which one character of a text is written.
pub(super) const MAX_FORM_BYTES: usize = 12;
const MAX_DECIMAL_DIGITS: usize = 7;
const MAX_HEXADECIMAL_DIGITS: usize = 6;
/// Most zeros before a number that encoders write, of those that change the first bytes of its form.
const MAX_ZEROS: usize = 2;
/// The named references of HTML for characters of ASCII. Two long ones, `&VerticalLine;` and `&DiacriticalGrave;`,
/// are left out: encoders write the shorter names.
const NAMES: [(&str, char); 41] = [
    ("amp", '&'),
    ("AMP", '&'),
    ("lt", '<'),
    ("LT", '<'),
    ("gt", '>'),
    ("GT", '>'),
    ("quot", '"'),
    ("QUOT", '"'),
    ("apos", '\''),
    ("excl", '!'),
    ("num", '#'),
    ("dollar", '$'),
    ("percnt", '%'),
    ("lpar", '('),
    ("rpar", ')'),
    ("ast", '*'),
    ("midast", '*'),
    ("plus", '+'),
    ("comma", ','),
    ("period", '.'),
    ("sol", '/'),
    ("colon", ':'),
    ("semi", ';'),
    ("equals", '='),
    ("quest", '?'),
    ("commat", '@'),
    ("lsqb", '['),
    ("lbrack", '['),
    ("bsol", '\\'),
    ("rsqb", ']'),
    ("rbrack", ']'),
    ("Hat", '^'),
    ("lowbar", '_'),
    ("UnderBar", '_'),
    ("grave", '`'),
    ("lcub", '{'),
    ("lbrace", '{'),
    ("verbar", '|'),
    ("vert", '|'),
    ("rcub", '}'),
    ("rbrace", '}'),
];
/// The first of these names, which are read without `;` too.
const NAMES_WITHOUT_END: usize = 8;

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
    Decimal(usize, ReferenceEnd),
    /// `&#xXX;` with so many digits.
    Hexadecimal(usize, Digits, HexadecimalMark, ReferenceEnd),
}

/// The end of a numeric reference of HTML.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReferenceEnd {
    Semicolon,
    /// Nothing: what follows is no digit.
    Open,
}

/// The letter before hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HexadecimalMark {
    Upper,
    Lower,
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
        Written::Decimal(width, end) => {
            let number = format!("{code:0width$}");
            // Another character, where its number has more digits.
            let number = if number.len() > width { "88" } else { &number };
            text.extend_from_slice(format!("&#{number}{}", end.text()).as_bytes());
        }
        Written::Hexadecimal(width, digits, mark, end) => {
            text.extend_from_slice(match mark {
                HexadecimalMark::Upper => b"&#X",
                HexadecimalMark::Lower => b"&#x",
            });
            text.extend_from_slice(hexadecimal(digits, width).as_bytes());
            text.extend_from_slice(end.text().as_bytes());
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
    let mut add = |form| {
        let mut text = Vec::new();
        write(character, form, &mut text);
        forms.push(text);
    };
    let digits = u32::from(character).to_string().len();
    let width = format!("{:x}", u32::from(character)).len();
    let end = ReferenceEnd::Semicolon;
    for zeros in 0..=MAX_ZEROS {
        add(Written::Decimal(digits + zeros, end));
    }
    for letters in [Digits::Upper, Digits::Lower] {
        add(Written::Percent(letters));
        add(Written::Unicode(letters));
        add(Written::Byte(letters));
        for mark in [HexadecimalMark::Upper, HexadecimalMark::Lower] {
            for zeros in 0..MAX_ZEROS {
                add(Written::Hexadecimal(width + zeros, letters, mark, end));
            }
        }
    }
    add(Written::Backslash);
    let named = NAMES.iter().filter(|(_, named)| *named == character);
    forms.extend(named.map(|(name, _)| format!("&{name};").into_bytes()));
    forms.extend((character == ' ').then(|| b"+".to_vec()));
    forms
}

/// The characters that a text may begin with, in any form that is complete. A reading tells whether it does.
pub(super) fn candidates(text: &[u8]) -> impl Iterator<Item = char> {
    let plain = match text.first() {
        Some(b'+') => Some(' '),
        Some(byte) if byte.is_ascii() => Some(char::from(*byte)),
        _ => None,
    };
    let escaped = match text.first() {
        Some(b'\\') => backslashed(text),
        Some(b'&') => referred(text),
        _ => unescaped(text),
    };
    plain
        .into_iter()
        .chain(escaped.filter(|c| Some(*c) != plain))
}

/// The character of the first bytes, each of them as it is or as `%XX`.
fn unescaped(text: &[u8]) -> Option<char> {
    let mut bytes = [0; 4];
    let mut at = 0;
    for length in 1..=bytes.len() {
        let byte = *text.get(at)?;
        let escape = match byte {
            b'%' => percent(&text[at..]),
            _ => Escape::None,
        };
        (bytes[length - 1], at) = match escape {
            Escape::Is(decoded, _) => (u8::try_from(decoded).ok()?, at + 3),
            _ => (byte, at + 1),
        };
        match std::str::from_utf8(&bytes[..length]) {
            Ok(character) => return character.chars().next(),
            Err(error) if error.error_len().is_some() => return None,
            Err(_) => {}
        }
    }
    None
}

fn backslashed(text: &[u8]) -> Option<char> {
    let code = match (text.get(1)?, text.get(2..).unwrap_or_default()) {
        (b'u', rest) => match number(rest, 4, 16) {
            Escape::Is(high @ 0xd800..=0xdbff, _) => {
                return char::from_u32(low_unit(text).map(|low| joined(high, low))?);
            }
            escape => escape.number()?,
        },
        (b'x', rest) => number(rest, 2, 16).number()?,
        (&byte, _) => u32::from(byte),
    };
    char::from_u32(code)
}

fn referred(text: &[u8]) -> Option<char> {
    if text.get(1) != Some(&b'#') {
        let rest = &text[1..];
        let is_it = |(at, (name, _)): &(usize, &(&str, char))| {
            let end = rest.strip_prefix(name.as_bytes());
            end.is_some_and(|end| *at < NAMES_WITHOUT_END || end.starts_with(b";"))
        };
        let (_, (_, character)) = NAMES.iter().enumerate().find(is_it)?;
        return Some(*character);
    }
    let numeric = Numeric::of(text);
    char::from_u32(number(&text[numeric.begin..], numeric.count, numeric.radix).number()?)
}

/// A text with the characters that `%XX` stands for; `None` if it has none. Other bytes than text become U+FFFD.
pub(super) fn without_percent(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = match bytes[at] {
            b'%' => percent(&bytes[at..]),
            _ => Escape::None,
        };
        if let Some(byte) = escape.number().and_then(|byte| u8::try_from(byte).ok()) {
            decoded.push(byte);
            at += 3;
        } else {
            decoded.push(bytes[at]);
            at += 1;
        }
    }
    (decoded.len() < bytes.len()).then(|| String::from_utf8_lossy(&decoded).into_owned())
}

/// An escape with a number.
enum Escape {
    Is(u32, Digits),
    Incomplete,
    None,
}

impl Escape {
    fn number(self) -> Option<u32> {
        match self {
            Self::Is(number, _) => Some(number),
            Self::Incomplete | Self::None => None,
        }
    }
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
        Escape::Is(low @ 0xdc00..=0xdfff, _) if joined(high, low) == u32::from(expected) => {
            Reading::Is(12, Written::Unicode(digits))
        }
        Escape::Incomplete => Reading::Incomplete,
        _ => Reading::Differs,
    }
}

/// The second unit of a pair.
fn low_unit(text: &[u8]) -> Option<u32> {
    let rest = text.get(6..)?.strip_prefix(b"\\u")?;
    let low = number(rest, 4, 16).number()?;
    (0xdc00..=0xdfff).contains(&low).then_some(low)
}

fn joined(high: u32, low: u32) -> u32 {
    0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)
}

/// A numeric reference: `&#`, `x` if it is hexadecimal, and digits.
struct Numeric {
    mark: Option<HexadecimalMark>,
    radix: u32,
    /// Where the digits begin.
    begin: usize,
    /// The digits, and one if there are more than encoders write.
    count: usize,
    most: usize,
}

impl Numeric {
    fn of(text: &[u8]) -> Self {
        let mark = match text.get(2) {
            Some(b'x') => Some(HexadecimalMark::Lower),
            Some(b'X') => Some(HexadecimalMark::Upper),
            _ => None,
        };
        let (begin, radix, most) = match mark {
            Some(_) => (3, 16, MAX_HEXADECIMAL_DIGITS),
            None => (2, 10, MAX_DECIMAL_DIGITS),
        };
        let is_digit = |byte: &&u8| char::from(**byte).is_digit(radix);
        let digits = text[begin..].iter().take(most + 1).take_while(is_digit);
        Self {
            mark,
            radix,
            begin,
            count: digits.count(),
            most,
        }
    }
}

fn reference(text: &[u8], expected: char) -> Reading {
    match text.get(1) {
        None => return Reading::Incomplete,
        Some(b'#') => {}
        Some(_) => return named(&text[1..], expected),
    }
    let numeric = Numeric::of(text);
    let after = numeric.begin + numeric.count;
    let end = match text.get(after) {
        _ if numeric.count > numeric.most => return Reading::Differs,
        None => return Reading::Incomplete,
        Some(b';') => ReferenceEnd::Semicolon,
        Some(_) => ReferenceEnd::Open,
    };
    let count = numeric.count;
    match number(&text[numeric.begin..], count, numeric.radix) {
        Escape::Is(decoded, digits) if count > 0 && decoded == u32::from(expected) => {
            let form = match numeric.mark {
                Some(mark) => Written::Hexadecimal(count, digits, mark, end),
                None => Written::Decimal(count, end),
            };
            Reading::Is(after + end.text().len(), form)
        }
        _ => Reading::Differs,
    }
}

/// A named reference, without its `&`.
fn named(text: &[u8], expected: char) -> Reading {
    let mut reading = Reading::Differs;
    for (at, (name, character)) in NAMES.iter().enumerate() {
        let name = name.as_bytes();
        if *character != expected {
            continue;
        }
        match (text.strip_prefix(name), name.starts_with(text)) {
            (Some([b';', ..]), _) => return Reading::Is(name.len() + 2, Written::Named),
            (Some([_, ..]), _) if at < NAMES_WITHOUT_END => {
                return Reading::Is(name.len() + 1, Written::Named);
            }
            (Some([]), _) | (None, true) => reading = Reading::Incomplete,
            _ => {}
        }
    }
    reading
}

impl ReferenceEnd {
    fn text(self) -> &'static str {
        match self {
            Self::Semicolon => ";",
            Self::Open => "",
        }
    }
}

#[cfg(test)]
mod tests;
