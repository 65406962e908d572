//! Which values may be brokered, and which part of a dummy is enough to know it by (SPEC B9, B11).
//!
//! A program may ask its origin to send text back, and see whether the answer has it or a dummy. So a value that
//! is easily guessed is no secret from it. Punctuation stays as it is in a dummy, so it does not count.

use std::collections::HashMap;
use std::ops::Range;

use super::{DummyError, MARK};

/// Fewest different letters and digits of a value.
pub(super) const MIN_DIFFERENT: usize = 5;
/// Most times that a value has the same three bytes. It bounds the steps of a search in content that is made to
/// look like the value: at most so many places of the value can match the same bytes.
pub(super) const MAX_REPEATS: usize = 32;
/// Fewest random bits of the part of a dummy that is looked for, in tenths. Other text does not have it by
/// accident.
const MIN_PART_BITS: u32 = 800;
/// Most bytes of that part.
pub(super) const MAX_PART_BYTES: usize = 256;

/// Whether a value may be brokered.
///
/// # Errors
///
/// A [`DummyError`] for a value that is easily guessed, or that repeats itself.
pub(super) fn check(value: &str) -> Result<(), DummyError> {
    let mut different: Vec<char> = Vec::with_capacity(MIN_DIFFERENT);
    for character in value.chars().filter(|c| c.is_alphanumeric()) {
        if different.len() < MIN_DIFFERENT && !different.contains(&character) {
            different.push(character);
        }
    }
    if different.len() < MIN_DIFFERENT {
        return Err(DummyError::Guessable);
    }
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    for three in value.as_bytes().windows(3) {
        let count = seen.entry(three).or_default();
        *count += 1;
        if *count > MAX_REPEATS {
            return Err(DummyError::Repetitive);
        }
    }
    Ok(())
}

/// The part of a dummy to look for, with enough bytes that are not those of the value. It begins with the mark:
/// parts with the same beginning are found at once. Without one, it is the last such part, and if possible one that
/// no encoding of text changes. `None` if no part of a bounded length has enough.
pub(super) fn random_part(value: &str, dummy: &str) -> Option<Range<usize>> {
    if let Some(begin) = dummy.find(MARK) {
        let (mut bits, mark) = (0, begin + MARK.len());
        for (at, byte) in dummy
            .bytes()
            .enumerate()
            .take(begin + MAX_PART_BYTES)
            .skip(mark)
        {
            bits += random_bits(value, at, byte);
            if bits >= MIN_PART_BITS {
                return Some(begin..at + 1);
            }
        }
    }
    let is_unchanged =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    last_part(value, dummy, is_unchanged).or_else(|| last_part(value, dummy, |_| true))
}

fn last_part(value: &str, dummy: &str, may_have: fn(u8) -> bool) -> Option<Range<usize>> {
    let mut end = dummy.len();
    let mut bits = 0;
    for (at, byte) in dummy.bytes().enumerate().rev() {
        if !may_have(byte) {
            (end, bits) = (at, 0);
            continue;
        }
        bits += random_bits(value, at, byte);
        if bits == 0 {
            // It ends with a random byte.
            end = at;
        } else if end - at > MAX_PART_BYTES {
            return None;
        } else if bits >= MIN_PART_BITS {
            return Some(at..end);
        }
    }
    None
}

/// The random bits of a byte of a dummy, in tenths.
fn random_bits(value: &str, at: usize, byte: u8) -> u32 {
    match byte {
        _ if value.as_bytes().get(at) == Some(&byte) => 0,
        b'0'..=b'9' => 33,
        byte if byte.is_ascii_alphabetic() => 47,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b9_a_value_that_is_easily_guessed_or_repeats_itself_is_not_brokered() {
        let repeated = "abcdefgh".repeat(33);
        let dashes = format!("{}abcdefgh", "-".repeat(40));
        for (value, expected) in [
            ("password", Ok(())),
            ("пароль-и-слово", Ok(())),
            ("12341234", Err(DummyError::Guessable)),
            ("aaaaaaaa", Err(DummyError::Guessable)),
            ("-_-!$%&/()=?", Err(DummyError::Guessable)),
            ("a-b-c-d-+-+", Err(DummyError::Guessable)),
            (&repeated[8..], Ok(())),
            (&repeated, Err(DummyError::Repetitive)),
            (&dashes, Err(DummyError::Repetitive)),
        ] {
            assert_eq!(check(value), expected, "{value}");
        }
    }

    #[test]
    fn b11_the_searched_part_of_a_dummy_is_random_and_no_encoding_changes_it() {
        let part = |value, dummy: &'static str| random_part(value, dummy).map(|part| &dummy[part]);
        for (value, dummy, expected) in [
            (
                "sk-proj-abcDEF123-_456ghiJKLmnoPQRxyz",
                "sk-proj-maskedQ0b7WnLx-_Lf9Zt4Rk8YvQ3",
                Some("maskedQ0b7WnLx-_Lf9Zt4Rk8Yv"),
            ),
            // The last random part without a character that is encoded.
            (
                "abcdefghijklmnopqrstuv/abcdefghijklmnopqrstuv/==",
                "MaskedQb7WnLxLf9Zt4Rk8/MaskedZb7WnLxLf9Zt4Rk8/==",
                Some("skedZb7WnLxLf9Zt4Rk8"),
            ),
            // No part is long enough without such a character.
            (
                "abcdef/hijklm/opqrst/vwxyzabc",
                "maskeQ/b7WnLx/Lf9Zt4/k8Yvn1Ms",
                Some("7WnLx/Lf9Zt4/k8Yvn1Ms"),
            ),
            // The end is that of every value.
            (
                "abcdefghijklmnopqrstuv-a-long-end-of-all-values",
                "MaskedQb7WnLxLf9Zt4Rk8-a-long-end-of-all-values",
                Some("skedQb7WnLxLf9Zt4Rk8"),
            ),
            ("abcdefgh", "maskedgh", None),
        ] {
            assert_eq!(part(value, dummy), expected, "{dummy}");
        }
        let apart = |letters: &str| -> String {
            let dashes = "-".repeat(30);
            letters
                .chars()
                .flat_map(|c| [c.to_string(), dashes.clone()])
                .collect()
        };
        let (value, dummy) = (
            apart("abcdefghijklmnopqrstuvwxyz"),
            apart("bcdefghijklmnopqrstuvwxyza"),
        );
        assert_eq!(random_part(&value, &dummy), None, "too long");
    }
}
