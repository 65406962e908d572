//! Base64 of a value inside of a longer text (RFC 4648), thus also in the Basic scheme.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

/// A value begins at one of so many bytes of a group.
pub(super) const BASE64_PLACES: usize = 3;

/// A value in base64 that begins at this byte of a group of three. These are only the characters that the value
/// alone decides: the characters at both ends may depend on the bytes around it too.
pub(super) fn base64_at(value: &[u8], place: usize) -> Zeroizing<String> {
    let mut padded = Zeroizing::new(Vec::with_capacity(place + value.len()));
    padded.resize(place, 0);
    padded.extend_from_slice(value);
    let encoded = Zeroizing::new(STANDARD_NO_PAD.encode(&*padded));
    let begin = (place * 8).div_ceil(6);
    let end = (padded.len() * 8 / 6).max(begin);
    Zeroizing::new(encoded[begin..end].to_owned())
}

/// The same in the alphabet for URLs (RFC 4648 section 5).
pub(super) fn url_safe(text: &str) -> String {
    text.replace('+', "-").replace('/', "_")
}

/// The six bits that a character of either alphabet stands for.
pub(super) fn bits_of(character: u8) -> Option<u8> {
    let standard = match character {
        b'-' => b'+',
        b'_' => b'/',
        other => other,
    };
    let place = characters().iter().position(|&c| c == standard)?;
    u8::try_from(place).ok()
}

/// The character that stands for six bits, in the usual alphabet.
pub(super) fn character_of(bits: u8) -> u8 {
    characters()[usize::from(bits & 0x3f)]
}

fn characters() -> &'static [u8] {
    alphabet::STANDARD.as_str().as_bytes()
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn b12_base64_is_known_at_each_place() {
        let value = br#"a/b"c\d&e=f"#;
        let forms: Vec<_> = (0..BASE64_PLACES)
            .map(|place| base64_at(value, place))
            .collect();
        let forms: Vec<&str> = forms.iter().map(|form| form.as_str()).collect();
        assert_eq!(
            forms,
            ["YS9iImNcZCZlPW", "EvYiJjXGQmZT1m", "hL2IiY1xkJmU9Z"]
        );
    }

    proptest! {
        #[test]
        fn b12_base64_of_anything_around_a_value_contains_it(
            before in prop::collection::vec(any::<u8>(), 0..7),
            value in prop::collection::vec(any::<u8>(), 8..40),
            after in prop::collection::vec(any::<u8>(), 0..7),
        ) {
            let whole = [&before[..], &value, &after].concat();
            let form = base64_at(&value, before.len() % 3);
            let at = (before.len() * 8).div_ceil(6);
            prop_assert!(STANDARD_NO_PAD.encode(&whole)[at..].starts_with(&**form));
            prop_assert!(URL_SAFE_NO_PAD.encode(&whole)[at..].starts_with(&url_safe(&form)));
            prop_assert!(form.len() * 6 + 10 >= value.len() * 8);
        }
    }
}
