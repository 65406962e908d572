//! The forms in which a value is written in content: plain, percent-encoded (RFC 3986 section 2.1), in a
//! JSON string (RFC 8259 section 7), and in base64 (RFC 4648) at each of the three places in a group.
//! The Basic scheme is base64.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// A form in which a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is.
    Plain,
    /// All bytes but the unreserved ones, or all bytes, as `%XX`.
    Percent(Percent),
    /// In a JSON string.
    Json(JsonEscapes),
    /// In base64. The value begins at this byte of a group of three.
    Base64(Base64Alphabet, usize),
}

/// How a value is percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Percent {
    every_byte: bool,
    upper_case: bool,
}

/// The characters that are escaped in a JSON string, besides `"` and `\`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JsonEscapes {
    /// None.
    Required,
    /// `/`, as `\/`.
    Slash,
    /// `&`, `<`, `>`, as `\u0026` and so on.
    Html,
    /// `&`, `<`, `>`, `=`, `'`, `+`, `/`, likewise.
    HtmlStrict,
}

/// The two alphabets of base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base64Alphabet {
    /// With `+` and `/`.
    Standard,
    /// With `-` and `_`.
    UrlSafe,
}

impl Encoding {
    /// The forms that an origin may answer with.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let percent = [(false, true), (false, false), (true, true), (true, false)];
        let percent = percent.map(|(every_byte, upper_case)| {
            Self::Percent(Percent {
                every_byte,
                upper_case,
            })
        });
        let json = [
            JsonEscapes::Required,
            JsonEscapes::Slash,
            JsonEscapes::Html,
            JsonEscapes::HtmlStrict,
        ];
        [Self::Plain]
            .into_iter()
            .chain(percent)
            .chain(json.map(Self::Json))
            .chain(Self::all_base64())
    }

    /// Base64, at each place in a group and with both alphabets.
    pub(super) fn all_base64() -> impl Iterator<Item = Self> {
        let alphabets = [Base64Alphabet::Standard, Base64Alphabet::UrlSafe];
        let at = |alphabet| (0..3).map(move |phase| Self::Base64(alphabet, phase));
        alphabets.into_iter().flat_map(at)
    }

    /// The value in this form. In base64 these are only the characters that the value alone decides: the
    /// characters at both ends may depend on the bytes around it too.
    pub(super) fn encode(self, value: &[u8]) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Plain => Zeroizing::new(value.to_vec()),
            Self::Percent(percent) => percent.encode(value),
            Self::Json(escapes) => escapes.encode(value),
            Self::Base64(alphabet, phase) => alphabet.encode(value, phase),
        }
    }
}

/// Upper or lower case hexadecimal digits.
fn hexadecimal(upper_case: bool) -> &'static [u8; 16] {
    if upper_case {
        b"0123456789ABCDEF"
    } else {
        b"0123456789abcdef"
    }
}

impl Percent {
    fn encode(self, value: &[u8]) -> Zeroizing<Vec<u8>> {
        let digits = hexadecimal(self.upper_case);
        let mut text = Zeroizing::new(Vec::with_capacity(3 * value.len()));
        for &byte in value {
            let is_unreserved =
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
            if is_unreserved && !self.every_byte {
                text.push(byte);
            } else {
                let [high, low] = [byte >> 4, byte & 15].map(|digit| digits[usize::from(digit)]);
                text.extend_from_slice(&[b'%', high, low]);
            }
        }
        text
    }
}

impl JsonEscapes {
    fn encode(self, value: &[u8]) -> Zeroizing<Vec<u8>> {
        let digits = hexadecimal(false);
        let mut text = Zeroizing::new(Vec::with_capacity(6 * value.len()));
        for &byte in value {
            let as_unicode = match self {
                Self::Required | Self::Slash => false,
                Self::Html => matches!(byte, b'&' | b'<' | b'>'),
                Self::HtmlStrict => {
                    matches!(byte, b'&' | b'<' | b'>' | b'=' | b'\'' | b'+' | b'/')
                }
            };
            if as_unicode || byte < 0x20 {
                let [high, low] = [byte >> 4, byte & 15].map(|digit| digits[usize::from(digit)]);
                text.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
            } else {
                if matches!(byte, b'"' | b'\\') || byte == b'/' && self == Self::Slash {
                    text.push(b'\\');
                }
                text.push(byte);
            }
        }
        text
    }
}

impl Base64Alphabet {
    fn encode(self, value: &[u8], phase: usize) -> Zeroizing<Vec<u8>> {
        let mut padded = Zeroizing::new(Vec::with_capacity(phase + value.len()));
        padded.resize(phase, 0);
        padded.extend_from_slice(value);
        let encoded = Zeroizing::new(match self {
            Self::Standard => STANDARD_NO_PAD.encode(&*padded),
            Self::UrlSafe => URL_SAFE_NO_PAD.encode(&*padded),
        });
        let begin = (phase * 8).div_ceil(6);
        let end = (padded.len() * 8 / 6).max(begin);
        Zeroizing::new(encoded.as_bytes()[begin..end].to_vec())
    }

    /// The six bits that a character stands for.
    pub(super) fn decode(self, character: u8) -> Option<u8> {
        let place = self.characters().iter().position(|&c| c == character)?;
        u8::try_from(place).ok()
    }

    /// The character that stands for six bits.
    pub(super) fn character(self, bits: u8) -> u8 {
        self.characters()[usize::from(bits & 0x3f)]
    }

    fn characters(self) -> &'static [u8] {
        match self {
            Self::Standard => alphabet::STANDARD.as_str().as_bytes(),
            Self::UrlSafe => alphabet::URL_SAFE.as_str().as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn b12_a_value_is_known_in_each_form() {
        let value = br#"a/b"c\d&e=f"#;
        let forms: Vec<String> = Encoding::all()
            .map(|encoding| String::from_utf8(encoding.encode(value).to_vec()).expect("ASCII"))
            .collect();
        assert_eq!(
            forms,
            [
                r#"a/b"c\d&e=f"#,
                "a%2Fb%22c%5Cd%26e%3Df",
                "a%2fb%22c%5cd%26e%3df",
                "%61%2F%62%22%63%5C%64%26%65%3D%66",
                "%61%2f%62%22%63%5c%64%26%65%3d%66",
                r#"a/b\"c\\d&e=f"#,
                r#"a\/b\"c\\d&e=f"#,
                r#"a/b\"c\\d\u0026e=f"#,
                r#"a\u002fb\"c\\d\u0026e\u003df"#,
                "YS9iImNcZCZlPW",
                "EvYiJjXGQmZT1m",
                "hL2IiY1xkJmU9Z",
                "YS9iImNcZCZlPW",
                "EvYiJjXGQmZT1m",
                "hL2IiY1xkJmU9Z",
            ]
        );
    }

    proptest! {
        #[test]
        fn b12_base64_of_anything_around_a_value_contains_one_of_its_forms(
            before in prop::collection::vec(any::<u8>(), 0..7),
            value in prop::collection::vec(any::<u8>(), 8..40),
            after in prop::collection::vec(any::<u8>(), 0..7),
        ) {
            let whole = [&before[..], &value, &after].concat();
            let phase = before.len() % 3;
            for (alphabet, text) in [
                (Base64Alphabet::Standard, STANDARD_NO_PAD.encode(&whole)),
                (Base64Alphabet::UrlSafe, URL_SAFE_NO_PAD.encode(&whole)),
            ] {
                let form = Encoding::Base64(alphabet, phase).encode(&value);
                let at = (before.len() * 8).div_ceil(6);
                prop_assert!(text.as_bytes()[at..].starts_with(&form));
                prop_assert!(form.len() * 6 + 10 >= value.len() * 8);
            }
        }
    }
}
