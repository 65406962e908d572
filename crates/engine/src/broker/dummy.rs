//! Dummies: values that stand for a credential in a session's programs (SPEC B9, B15).
//!
//! A dummy is random and has the shape of the real value, so that programs which check the form of a
//! token accept it. The part of a value that it repeats is public: a prefix of its pattern or of a known
//! kind of token, and punctuation. `shape` makes such texts, and `jwt` those of tokens that programs
//! parse. `fitness` says which values have a dummy.

mod fitness;
mod jwt;
mod shape;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use codex_network_config::CredentialPattern;
use ring::rand::{SecureRandom as _, SystemRandom};

/// Fewest bytes of a value. Shorter ones could not be told from other content.
pub(crate) const MIN_VALUE_BYTES: usize = 8;
/// Most bytes of a value. Each form of it is held in memory, and looked for.
pub(crate) const MAX_VALUE_BYTES: usize = 4 << 10;
/// Most values of a session, and most bytes of all of them.
pub(crate) const MAX_CREDENTIALS: usize = 64;
pub(crate) const MAX_SESSION_BYTES: usize = 32 << 10;
/// The word that shows a person that a text is a dummy.
const MARK: &str = "masked";
/// The beginnings of tokens whose issuers publish them.
const KNOWN_PREFIXES: &[&str] = &[
    "AIza",
    "cio",
    "dckr_pat_",
    "gho_",
    "ghp_",
    "ghr_",
    "ghs_",
    "ghu_",
    "github_pat_",
    "gldt-",
    "glpat-",
    "glrt-",
    "gsk_",
    "hf_",
    "npm_",
    "pypi-",
    "sk-",
    "sk-admin-",
    "sk-ant-admin01-",
    "sk-ant-api03-",
    "sk-ant-oat01-",
    "sk-or-v1-",
    "sk-proj-",
    "sk-svcacct-",
    "xapp-",
    "xoxa-",
    "xoxb-",
    "xoxp-",
    "xoxs-",
];

/// The text that stands for one credential in one session. `Debug` does not show it, since it is good for
/// requests of its session.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Dummy {
    text: Arc<str>,
    /// The part that requests are searched for.
    searched: Range<usize>,
}

/// Why a value cannot have a dummy. The text never contains a part of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DummyError {
    #[error("is shorter than {MIN_VALUE_BYTES} bytes")]
    TooShort,
    #[error("is longer than {} KiB", MAX_VALUE_BYTES >> 10)]
    TooLong,
    #[error("is not text, or holds a control character")]
    NotText,
    #[error(
        "has fewer than {} different letters and digits",
        fitness::MIN_DIFFERENT
    )]
    Guessable,
    #[error(
        "repeats the same three bytes more than {} times",
        fitness::MAX_REPEATS
    )]
    Repetitive,
    #[error("has too few letters and digits between punctuation")]
    Sparse,
    #[error("is one too many: a session has at most {MAX_CREDENTIALS}, of {} KiB in all", MAX_SESSION_BYTES >> 10)]
    TooMany,
    #[error("matches none of the provider's patterns")]
    NoMatch,
    #[error("has no dummy that matches the provider's pattern")]
    NotGenerable,
    #[error("cannot get a dummy: the system gives no random numbers")]
    NoRandomNumbers,
}

/// Random numbers of the system.
struct RandomNumbers {
    bytes: [u8; 256],
    used: usize,
    has_failed: bool,
}

impl Dummy {
    /// A new dummy for a value. With patterns, the value and the dummy match the same one.
    ///
    /// # Errors
    ///
    /// A [`DummyError`] if the value is no credential of a provider with these patterns.
    pub(crate) fn for_value(
        value: &[u8],
        patterns: &[CredentialPattern],
    ) -> Result<Self, DummyError> {
        if value.len() < MIN_VALUE_BYTES {
            return Err(DummyError::TooShort);
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(DummyError::TooLong);
        }
        let text = std::str::from_utf8(value).map_err(|_| DummyError::NotText)?;
        if text.contains(char::is_control) || text.trim() != text {
            return Err(DummyError::NotText);
        }
        fitness::check(text)?;
        let pattern = patterns.iter().find(|pattern| pattern.matches(value));
        if pattern.is_none() && !patterns.is_empty() {
            return Err(DummyError::NoMatch);
        }
        let mut random = RandomNumbers::new();
        let dummy = like(text, pattern, &mut random);
        if random.has_failed {
            return Err(DummyError::NoRandomNumbers);
        }
        let dummy = dummy.ok_or(DummyError::NotGenerable)?;
        let searched = fitness::random_part(text, &dummy).ok_or(DummyError::Sparse)?;
        Ok(Self {
            text: dummy.into(),
            searched,
        })
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The part of the text that requests are searched for. It is short, and no other text has it.
    pub(crate) fn searched(&self) -> &[u8] {
        &self.text.as_bytes()[self.searched.clone()]
    }
}

impl fmt::Debug for Dummy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dummy(…)")
    }
}

/// The first that matches: a token of the same form, a text of the same shape with the mark, one without,
/// any text that the pattern generates.
fn like(
    value: &str,
    pattern: Option<&CredentialPattern>,
    random: &mut RandomNumbers,
) -> Option<String> {
    let prefix = prefix_length(value, pattern);
    let fits = |dummy: &String| {
        pattern.is_none_or(|pattern| pattern.matches(dummy.as_bytes())) && dummy != value
    };
    jwt::like(value, random)
        .filter(fits)
        .or_else(|| Some(shape::like(value, prefix, MARK, random)).filter(fits))
        .or_else(|| Some(shape::like(value, prefix, "", random)).filter(fits))
        .or_else(|| {
            pattern?
                .generate(&mut |limit| random.below(limit))
                .filter(fits)
        })
}

/// The length of the public beginning of a value. Some of the value must remain.
fn prefix_length(value: &str, pattern: Option<&CredentialPattern>) -> usize {
    let known = KNOWN_PREFIXES
        .iter()
        .filter(|prefix| value.starts_with(**prefix));
    let known = known.map(|prefix| prefix.len()).max().unwrap_or(0);
    let prescribed = pattern.map_or(0, |pattern| pattern.prefix_length(value.as_bytes()));
    let length = known.max(prescribed);
    if length < value.len() && value.is_char_boundary(length) {
        length
    } else {
        0
    }
}

impl RandomNumbers {
    fn new() -> Self {
        Self {
            bytes: [0; 256],
            used: 256,
            has_failed: false,
        }
    }

    /// A uniform number below the limit; 0 without a limit.
    fn below(&mut self, limit: u32) -> u32 {
        let Some(end) = u32::MAX.checked_rem(limit).map(|rest| u32::MAX - rest) else {
            return 0;
        };
        loop {
            let number = self.next();
            if number < end || self.has_failed {
                return number % limit;
            }
        }
    }

    fn next(&mut self) -> u32 {
        if self.used >= self.bytes.len() {
            self.has_failed |= SystemRandom::new().fill(&mut self.bytes).is_err();
            self.used = 0;
        }
        let mut number = [0; 4];
        number.copy_from_slice(&self.bytes[self.used..self.used + 4]);
        self.used += 4;
        u32::from_ne_bytes(number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn dummy(value: &str, patterns: &[&str]) -> Result<String, DummyError> {
        let patterns: Vec<CredentialPattern> = patterns
            .iter()
            .map(|text| CredentialPattern::parse(text).expect("a pattern"))
            .collect();
        Dummy::for_value(value.as_bytes(), &patterns).map(|dummy| dummy.as_str().to_owned())
    }

    #[test]
    fn b9_a_dummy_has_the_shape_of_the_value() {
        for (value, patterns, prefix) in [
            (
                "ghp_0123456789abcdefABCDEF0123456789abcd",
                &[][..],
                "ghp_masked",
            ),
            (
                "github_pat_11ABCDEFG0abcdefghijkl_0123456789abcdefghijABCDEFGHIJ",
                &[],
                "github_pat_masked",
            ),
            (
                "sk-proj-abcDEF123-_456ghiJKLmnoPQRstuVWXyz0123",
                &[],
                "sk-proj-masked",
            ),
            ("sk-abcDEF123456ghiJKLmnoPQRstuVWXyz0123", &[], "sk-masked"),
            ("corp_abcDEF123456ghiJKLmnoPQRstuVWXyz0123", &[], "masked_"),
            (
                "corp_abcDEF123456ghiJKLmnoPQRstuVWXyz0123",
                &["corp_[A-Za-z0-9]{36}"],
                "corp_masked",
            ),
            (
                "gha_abcDEF123456ghiJKLmnoPQRstuVWXyz0123",
                &["gh[ab]_[A-Za-z0-9]{36}"],
                "gha_masked",
            ),
            (
                "corp-0123456789abcdef0123456789abcdef0123",
                &["corp-[0-9a-f]{36}"],
                "corp-",
            ),
            (
                "0f8fad5b-d9cb-469f-a165-70867728950e-0f8fad5b",
                &[],
                "masked",
            ),
        ] {
            let dummy = dummy(value, patterns).expect("a dummy");
            if prefix == "masked_" {
                // No run of the prefix has room for the mark.
                assert!(dummy[4..].starts_with("_masked"), "{value} {dummy}");
            } else {
                assert!(dummy.starts_with(prefix), "{value} {dummy}");
            }
            assert_eq!(dummy.len(), value.len(), "{value} {dummy}");
            for (one, other) in value.chars().zip(dummy.chars()) {
                assert!(
                    one.is_ascii_alphanumeric() == other.is_ascii_alphanumeric(),
                    "{value} {dummy}"
                );
            }
            for pattern in patterns {
                let pattern = CredentialPattern::parse(pattern).expect("a pattern");
                assert!(pattern.matches(dummy.as_bytes()), "{pattern} {dummy}");
            }
        }
    }

    #[test]
    fn b9_a_value_without_room_for_128_bits_gets_a_longer_dummy() {
        for value in ["password", "12345678", "hunter2-hunter2", "пароль-и-слово"] {
            let dummy = dummy(value, &[]).expect("a dummy");
            assert!(dummy.len() >= 24, "{dummy}");
            assert!(dummy.contains(MARK), "{dummy}");
        }
        let pattern = "[0-9]{4}-[a-z]{40}|p[0-9]{7}";
        let dummy = dummy("p1234567", &[pattern]).expect("a dummy");
        assert_eq!(dummy.len(), 45, "{dummy}");
    }

    #[test]
    fn b9_some_values_have_no_dummy() {
        for (value, patterns, expected) in [
            ("1234567", &[][..], DummyError::TooShort),
            ("a\nbcdefgh", &[], DummyError::NotText),
            ("a\tbcdefgh", &[], DummyError::NotText),
            (" abcdefgh", &[], DummyError::NotText),
            ("abcdefgh ", &[], DummyError::NotText),
            ("abcdefgh", &["x[a-z]{40}"], DummyError::NoMatch),
            ("11111111", &[], DummyError::Guessable),
            ("-#-+-#-+-*", &[], DummyError::Guessable),
        ] {
            assert_eq!(dummy(value, patterns), Err(expected), "{value:?}");
        }
        let numbers = (0..MAX_VALUE_BYTES).map(|number| (number * number * 31).to_string());
        let long = numbers.collect::<Vec<_>>().join("abcdefghijklmnop");
        let long = &long[..=MAX_VALUE_BYTES];
        assert_eq!(dummy(long, &[]), Err(DummyError::TooLong));
        let apart: String = ('a'..='z')
            .flat_map(|c| [c.to_string(), ".,:;_/-+=!?()*'~<>".to_owned()])
            .collect();
        assert_eq!(dummy(&apart, &[]), Err(DummyError::Sparse));
        let not_text = Dummy::for_value(b"\xff\xfe0123456789", &[]);
        assert_eq!(not_text, Err(DummyError::NotText));
    }

    #[test]
    fn b9_no_two_dummies_are_equal_and_debug_shows_none() {
        let value = "ghp_0123456789abcdefABCDEF0123456789abcd";
        let dummies: HashSet<String> = (0..500).filter_map(|_| dummy(value, &[]).ok()).collect();
        assert_eq!(dummies.len(), 500);
        let dummy = Dummy::for_value(value.as_bytes(), &[]).expect("a dummy");
        assert_eq!(format!("{dummy:?}"), "Dummy(…)");
    }

    #[test]
    fn b9_random_numbers_are_uniform_below_their_limit() {
        let mut random = RandomNumbers::new();
        assert_eq!(random.below(0), 0);
        assert_eq!(random.below(1), 0);
        let mut seen = [0u32; 10];
        for _ in 0..10_000 {
            seen[random.below(10) as usize] += 1;
        }
        assert!(
            seen.iter().all(|count| (800..1200).contains(count)),
            "{seen:?}"
        );
    }

    proptest! {
        #[test]
        fn b9_a_dummy_repeats_only_the_public_part_of_a_value(
            value in "(ghp_|sk-proj-|)[A-Za-z0-9]{20,60}([-_.+/=][A-Za-z0-9]{0,20}){0,3}",
        ) {
            let dummy = dummy(&value, &[]).expect("a dummy");
            prop_assert!(dummy.len() >= value.len());
            let prefix = prefix_length(&value, None);
            let equal = value[prefix..]
                .bytes()
                .zip(dummy[prefix..].bytes())
                .filter(|(one, other)| one == other && one.is_ascii_alphanumeric())
                .count();
            let digits = value.bytes().filter(u8::is_ascii_digit).count();
            prop_assert!(equal <= 20 + digits / 2, "{} {}", value, dummy);
        }

        #[test]
        fn b9_any_text_of_a_fitting_length_has_a_dummy(value in "\\PC{0,40}") {
            let dummy = Dummy::for_value(value.as_bytes(), &[]);
            let is_text = value.trim() == value && !value.contains(char::is_control);
            let different: HashSet<char> = value.chars().filter(|c| c.is_alphanumeric()).collect();
            let is_fit = is_text && value.len() >= MIN_VALUE_BYTES && different.len() >= 5;
            prop_assert_eq!(dummy.is_ok(), is_fit);
        }
    }
}
