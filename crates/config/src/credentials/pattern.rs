//! Patterns of credentials: regular expressions that real values match, and from which a matching value can
//! be generated (SPEC B5).

mod prefix;

use std::fmt;
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind};

/// Longest pattern.
const MAX_TEXT: usize = 1024;
/// Most memory of a compiled pattern.
const MAX_COMPILED: usize = 1 << 20;
/// Deepest nesting of groups.
const MAX_DEPTH: u32 = 32;
/// Longest value that is generated.
const MAX_VALUE: usize = 4096;
/// Least number of equally likely values, as a power of two (SPEC B3).
const MIN_BITS: f64 = 128.0;
/// How often an open repetition repeats at least: as one character of 64, it gives enough bits.
const OPEN_REPETITIONS: u32 = 32;
/// How often a value is generated before the pattern is given up. Only assertions such as `\b` make one
/// attempt fail.
const MAX_ATTEMPTS: usize = 64;

/// A regular expression in the syntax of the crate `regex`, over bytes, without Unicode classes. It matches
/// whole values.
#[derive(Clone)]
pub struct CredentialPattern {
    written: Arc<str>,
    regex: Regex,
    tree: Arc<Hir>,
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialPatternError {
    /// Longer than 1024 bytes.
    #[error("the pattern is longer than {MAX_TEXT} bytes")]
    TooLong,
    /// Not a regular expression. Holds the reason in a few words.
    #[error("not a regular expression: {0}")]
    Syntax(String),
    /// The compiled form is too large.
    #[error("the compiled pattern is too large")]
    TooLarge,
    /// Some part can only be something other than printable ASCII without spaces.
    #[error("its values hold something other than printable ASCII without spaces")]
    Unprintable,
    /// Its values are too long.
    #[error("its values are longer than {MAX_VALUE} bytes")]
    LongValues,
    /// Its values could be guessed.
    #[error("it has too few values for a dummy that cannot be guessed: they need 128 random bits")]
    TooFew,
    /// No value was found that matches it.
    #[error("no value that matches it can be generated")]
    NoMatch,
}

impl CredentialPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// A [`CredentialPatternError`] for a text that is not a regular expression, or one from which no
    /// matching value with 128 random bits can be generated.
    pub fn parse(text: &str) -> Result<Self, CredentialPatternError> {
        if text.len() > MAX_TEXT {
            return Err(CredentialPatternError::TooLong);
        }
        let tree = ParserBuilder::new()
            .unicode(false)
            .utf8(false)
            .nest_limit(MAX_DEPTH)
            .build()
            .parse(text)
            .map_err(|error| CredentialPatternError::Syntax(reason(&error)))?;
        // The tree writes itself without the flags of the text, so nothing escapes the group.
        let regex = RegexBuilder::new(&format!(r"\A(?:{tree})\z"))
            .unicode(false)
            .size_limit(MAX_COMPILED)
            .build()
            .map_err(|_| CredentialPatternError::TooLarge)?;
        let shape = shape(&tree)?;
        if shape.length > MAX_VALUE {
            return Err(CredentialPatternError::LongValues);
        }
        if shape.bits < MIN_BITS {
            return Err(CredentialPatternError::TooFew);
        }
        let pattern = Self {
            written: Arc::from(text),
            regex,
            tree: Arc::new(tree),
        };
        // Any sequence does for the check: it is not the source of a dummy.
        let mut seed: u64 = 1;
        let mut below = |limit: u32| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            u32::try_from((seed >> 33) % u64::from(limit)).unwrap_or_default()
        };
        if pattern.generate(&mut below).is_none() {
            return Err(CredentialPatternError::NoMatch);
        }
        Ok(pattern)
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether the whole value matches.
    pub fn matches(&self, value: &[u8]) -> bool {
        self.regex.is_match(value)
    }

    /// The length of the public beginning of a value: the text that the pattern prescribes there, as `ghp_`
    /// in `gh[pousr]_[A-Za-z0-9]{36}`. 0 for a value that has no such beginning.
    pub fn prefix_length(&self, value: &[u8]) -> usize {
        prefix::length(&self.tree, value)
    }

    /// A random value that matches, of printable ASCII without spaces. `below` gives a number below its
    /// argument, which is not zero; with an unpredictable and uniform source the value has at least 128
    /// random bits. `None` if 64 attempts did not match, which only assertions such as `\b` can cause.
    pub fn generate(&self, below: &mut dyn FnMut(u32) -> u32) -> Option<String> {
        (0..MAX_ATTEMPTS).find_map(|_| {
            let mut value = String::new();
            write(&self.tree, &mut value, below);
            self.matches(value.as_bytes()).then_some(value)
        })
    }
}

impl PartialEq for CredentialPattern {
    fn eq(&self, other: &Self) -> bool {
        self.written == other.written
    }
}

impl Eq for CredentialPattern {}

impl fmt::Debug for CredentialPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CredentialPattern")
            .field(&self.written)
            .finish()
    }
}

impl fmt::Display for CredentialPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// The values that [`write()`] writes.
#[derive(Clone, Copy, Default)]
struct Shape {
    /// The longest one.
    length: usize,
    /// The logarithm of how many there are.
    bits: f64,
}

impl Shape {
    fn and(self, other: Self) -> Self {
        Self {
            length: self.length.saturating_add(other.length),
            bits: self.bits + other.bits,
        }
    }
}

fn shape(tree: &Hir) -> Result<Shape, CredentialPatternError> {
    match tree.kind() {
        HirKind::Empty | HirKind::Look(_) => Ok(Shape::default()),
        HirKind::Literal(literal) => {
            if !literal.0.iter().all(u8::is_ascii_graphic) {
                return Err(CredentialPatternError::Unprintable);
            }
            Ok(Shape {
                length: literal.0.len(),
                bits: 0.0,
            })
        }
        HirKind::Class(class) => match u32::try_from(graphic(class).len()) {
            Ok(0) | Err(_) => Err(CredentialPatternError::Unprintable),
            Ok(count) => Ok(Shape {
                length: 1,
                bits: f64::from(count).log2(),
            }),
        },
        HirKind::Repetition(repetition) => {
            let count = repetitions(repetition.min, repetition.max);
            if count == 0 {
                return Ok(Shape::default());
            }
            let one = shape(&repetition.sub)?;
            Ok(Shape {
                length: one.length.saturating_mul(count as usize),
                bits: one.bits * f64::from(count),
            })
        }
        HirKind::Capture(capture) => shape(&capture.sub),
        HirKind::Concat(parts) => {
            let mut whole = Shape::default();
            for part in parts {
                whole = whole.and(shape(part)?);
            }
            Ok(whole)
        }
        HirKind::Alternation(alternatives) => richest(alternatives).1,
    }
}

/// Writes a value. Its length does not vary: only the characters of classes are random.
fn write(tree: &Hir, value: &mut String, below: &mut dyn FnMut(u32) -> u32) {
    match tree.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => value.extend(literal.0.iter().copied().map(char::from)),
        HirKind::Class(class) => {
            let choices = graphic(class);
            let count = u32::try_from(choices.len()).unwrap_or(1);
            value.extend(
                choices
                    .get(below(count.max(1)) as usize)
                    .copied()
                    .map(char::from),
            );
        }
        HirKind::Repetition(repetition) => {
            for _ in 0..repetitions(repetition.min, repetition.max) {
                write(&repetition.sub, value, below);
            }
        }
        HirKind::Capture(capture) => write(&capture.sub, value, below),
        HirKind::Concat(parts) => {
            for part in parts {
                write(part, value, below);
            }
        }
        HirKind::Alternation(alternatives) => {
            if let Some(alternative) = richest(alternatives).0 {
                write(alternative, value, below);
            }
        }
    }
}

/// The alternative with the most values, the first of several, and its shape. Alternatives without a
/// printable value do not count.
fn richest(alternatives: &[Hir]) -> (Option<&Hir>, Result<Shape, CredentialPatternError>) {
    let mut richest = (None, Err(CredentialPatternError::Unprintable));
    for alternative in alternatives {
        if let Ok(shape) = shape(alternative)
            && richest
                .1
                .as_ref()
                .map_or(true, |best: &Shape| best.bits < shape.bits)
        {
            richest = (Some(alternative), Ok(shape));
        }
    }
    richest
}

/// How often a repetition repeats in a generated value: often enough, if it may.
fn repetitions(min: u32, max: Option<u32>) -> u32 {
    min.max(OPEN_REPETITIONS.min(max.unwrap_or(OPEN_REPETITIONS)))
}

/// The printable characters of a class, without the space.
fn graphic(class: &Class) -> Vec<u8> {
    let is_in = |byte: u8| match class {
        Class::Unicode(class) => {
            let mut ranges = class.iter();
            ranges.any(|range| (range.start()..=range.end()).contains(&char::from(byte)))
        }
        Class::Bytes(class) => {
            let mut ranges = class.iter();
            ranges.any(|range| (range.start()..=range.end()).contains(&byte))
        }
    };
    (b'!'..=b'~').filter(|byte| is_in(*byte)).collect()
}

/// The reason of an error, without the pattern.
fn reason(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "its syntax is not supported".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers that differ from seed to seed.
    fn numbers(mut seed: u64) -> impl FnMut(u32) -> u32 {
        move |limit| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99_991);
            u32::try_from((seed >> 33) % u64::from(limit)).expect("below a u32")
        }
    }

    #[test]
    fn b5_a_value_can_be_generated_from_each_pattern() {
        for text in [
            "ghp_[A-Za-z0-9]{36}",
            "github_pat_[A-Za-z0-9_]{82}",
            "gh[pousr]_[A-Za-z0-9]{36,}",
            "[0-9a-f]{40}",
            r"sk-(proj|svcacct)-[\w-]{20,}",
            r"xox[bp](-\d+){2}-[a-zA-Z0-9]+",
            "^tok_.*$",
            "(?i)tok_[a-f]{64}",
            "(?x) tok_ # a comment )\n [a-z]{40}",
            r"(short|\btok\b-[a-z]{40})",
            "a|b|[a-z]{30}|c",
            "[^a-z]{40}",
            ".{24}",
            r"\S+",
        ] {
            let pattern =
                CredentialPattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            let mut seen = std::collections::BTreeSet::new();
            for seed in 1..20 {
                let value = pattern.generate(&mut numbers(seed)).expect(text);
                assert!(pattern.matches(value.as_bytes()), "{text}: {value}");
                assert!(
                    value.bytes().all(|byte| byte.is_ascii_graphic()),
                    "{text}: {value}"
                );
                assert!(seen.insert(value), "{text}: twice the same");
            }
        }
    }

    #[test]
    fn b5_patterns_without_a_value_that_cannot_be_guessed_are_refused() {
        use CredentialPatternError as E;
        for (text, expected) in [
            ("", E::TooFew),
            ("secret", E::TooFew),
            ("[0-9]{38}", E::TooFew),
            ("[01]{127}", E::TooFew),
            ("(ab|cd){200}", E::TooFew),
            ("[a-z]{10,20}", E::TooFew),
            ("tok [a-z]{40}", E::Unprintable),
            ("größe[a-z]{40}", E::Unprintable),
            (r"\s{40}", E::Unprintable),
            (r"[\x00-\x1f]{90}", E::Unprintable),
            ("[a-z]{5000}", E::LongValues),
            (r"[a-z]{40}$a", E::NoMatch),
            (r"a^[a-z]{40}", E::NoMatch),
            (r"[a-z]{40}\B-", E::NoMatch),
            ("[a-z&&[0-9]]{40}", E::Unprintable),
            ("((([a-z]{999}){999}){999}){999}", E::TooLarge),
        ] {
            assert_eq!(CredentialPattern::parse(text), Err(expected), "{text}");
        }
        let long = "a".repeat(MAX_TEXT + 1);
        assert_eq!(CredentialPattern::parse(&long), Err(E::TooLong));
        for text in [
            "(",
            "[a-",
            "a{2",
            "*",
            "(?=a)b",
            r"\1",
            "(?P<a>x)(?P<a>y)",
            "a)(b",
            r"\p{Greek}",
            "(?z)",
        ] {
            let error = CredentialPattern::parse(text);
            assert!(matches!(error, Err(E::Syntax(_))), "{text}: {error:?}");
        }
        let deep = "(".repeat(40) + "a" + &")".repeat(40);
        assert!(matches!(CredentialPattern::parse(&deep), Err(E::Syntax(_))));
    }

    #[test]
    fn b5_a_pattern_matches_whole_values() {
        let pattern = CredentialPattern::parse("tok_[a-z]{40}|key_[a-z]{40}").expect("a pattern");
        let letters = "x".repeat(40);
        for (value, matches) in [
            (format!("tok_{letters}"), true),
            (format!("key_{letters}"), true),
            (format!("tok_{letters}x"), false),
            (format!(" tok_{letters}"), false),
            (format!("tok_{letters}\n"), false),
            (format!("tok_{letters}\nkey_{letters}"), false),
            (String::new(), false),
        ] {
            assert_eq!(pattern.matches(value.as_bytes()), matches, "{value:?}");
        }
    }

    #[test]
    fn b5_an_error_about_a_pattern_is_one_line_without_the_pattern() {
        let error = CredentialPattern::parse("hunter2[")
            .expect_err("not closed")
            .to_string();
        assert!(
            !error.contains("hunter2") && !error.contains('\n'),
            "{error}"
        );
    }

    /// Text of any kind, and text that is often a pattern.
    fn texts() -> impl Strategy<Value = String> {
        let parts = [
            "tok_",
            " ",
            "a|",
            "(",
            ")",
            "(?:b|c)",
            "[a-z]{40}",
            "[ -~]{30}",
            ".{24}",
            "[^a-z]*",
            r"\S+",
            r"\b",
            "^",
            "$",
            "{3}",
            "{0,99}",
            "?",
            "é",
        ];
        let of_parts = prop::collection::vec(prop::sample::select(parts.to_vec()), 0..7);
        prop_oneof![
            r"[a-c0-9\[\](){}|*+?.^$\\,:<>_é -]{0,24}",
            of_parts.prop_map(|parts| parts.concat()),
        ]
    }

    proptest! {
        /// In bounded time and without a panic.
        #[test]
        fn b5_any_text_is_a_pattern_with_a_value_or_an_error(
            text in texts(),
            seed in any::<u64>(),
        ) {
            if let Ok(pattern) = CredentialPattern::parse(&text)
                && let Some(value) = pattern.generate(&mut numbers(seed))
            {
                prop_assert!(pattern.matches(value.as_bytes()));
                prop_assert!(value.len() <= MAX_VALUE);
                prop_assert!(value.bytes().all(|byte| byte.is_ascii_graphic()), "{value:?}");
            }
        }
    }
}
