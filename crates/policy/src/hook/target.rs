//! Request-targets as hooks see them: a path that can be read in one way only, and a query.
//!
//! Origins differ in what they do to a path before they act on it. They decode it once or twice, take
//! `..` away, read `\` as `/`. A path on which they could differ has no meaning here (SPEC M10).

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::text::ValuePattern;

/// The parts of a request-target.
pub(super) struct Target<'t> {
    /// Percent-decoded. What was encoded is no delimiter, so segments are what they were.
    pub(super) path: Cow<'t, str>,
    /// As it came.
    query: &'t str,
}

/// Why a path could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum PathFlaw {
    /// It does not begin with `/`: an authority, a whole URL, or `*`.
    #[error("a path begins with `/`")]
    NotRooted,
    /// `\`, which some origins read as `/`.
    #[error("the path holds a backslash")]
    Backslash,
    /// `#`, which ends a path in a URL and is not sent.
    #[error("the path holds a `#`")]
    Fragment,
    /// `%` without two hex digits behind it.
    #[error("the path holds a `%` without two hex digits behind it")]
    BadPercent,
    /// `%2F`, `%5C` or `%25`: a delimiter for those who decode first, or a second encoding.
    #[error("the path holds an encoded `/`, `\\` or `%`")]
    EncodedDelimiter,
    /// A segment `.` or `..`, plainly or encoded, also with parameters (`..;a=b`).
    #[error("the path has a segment `.` or `..`")]
    DotSegment,
    /// A control character, plainly or encoded: `%00` ends a text for some, `%0A` is dropped by others.
    #[error("the path holds a control character")]
    Control,
    /// What is encoded is not UTF-8, such as an overlong form of `.` or `/`.
    #[error("the path is not UTF-8 when it is decoded")]
    NotUtf8,
}

impl<'t> Target<'t> {
    pub(super) fn read(target: &'t str) -> Result<Self, PathFlaw> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = decode(path)?;
        check(&path)?;
        Ok(Self { path, query })
    }

    /// Whether each of these names is in the query, and has one of its values wherever it is.
    pub(super) fn query_has(&self, wanted: &[(String, Vec<ValuePattern>)]) -> bool {
        // `;` separates pairs for some origins, and is part of a value for others.
        wanted.is_empty()
            || (!self.query.contains([';', '#'])
                && self.query.split('&').all(decodes)
                && wanted
                    .iter()
                    .all(|(name, values)| self.has_pair(name, values)))
    }

    fn has_pair(&self, wanted: &str, values: &[ValuePattern]) -> bool {
        let mut seen = false;
        for pair in self.query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name.contains('+') {
                // Some read it as a space and some as it is.
                let spaced = name.replace('+', " ");
                if is(name, wanted) || is(&spaced, wanted) {
                    return false;
                }
            }
            if is(name, wanted) {
                seen = true;
                if value.contains('+') || !has_value(value, values) {
                    return false;
                }
            }
        }
        seen
    }
}

fn has_value(encoded: &str, values: &[ValuePattern]) -> bool {
    let decoded = percent_decode(encoded).and_then(text);
    decoded.is_some_and(|value| {
        !value.contains(char::is_control) && values.iter().any(|pattern| pattern.covers(&value))
    })
}

/// Whether an encoded text means a plain one.
fn is(encoded: &str, plain: &str) -> bool {
    percent_decode(encoded).is_some_and(|decoded| *decoded == *plain.as_bytes())
}

fn decodes(text: &str) -> bool {
    percent_decode(text).is_some()
}

/// Decodes a path or a part of one, without judging its segments.
pub(super) fn decode(path: &str) -> Result<Cow<'_, str>, PathFlaw> {
    if path.contains('\\') {
        return Err(PathFlaw::Backslash);
    }
    if path.contains('#') {
        return Err(PathFlaw::Fragment);
    }
    let hidden = |triplet: &str| {
        let delimiters = ["2f", "5c", "25"];
        let digits = triplet.get(..2);
        digits.is_some_and(|digits| {
            delimiters
                .iter()
                .any(|one| one.eq_ignore_ascii_case(digits))
        })
    };
    if path.split('%').skip(1).any(hidden) {
        return Err(PathFlaw::EncodedDelimiter);
    }
    let bytes = percent_decode(path).ok_or(PathFlaw::BadPercent)?;
    text(bytes).ok_or(PathFlaw::NotUtf8)
}

/// Judges a decoded path.
pub(super) fn check(path: &str) -> Result<(), PathFlaw> {
    if !path.starts_with('/') {
        return Err(PathFlaw::NotRooted);
    }
    if path.contains(char::is_control) {
        return Err(PathFlaw::Control);
    }
    let is_dots = |segment: &str| {
        // Java servers cut parameters off before they look at dots (RFC 3986 section 3.3).
        let name = segment.split(';').next();
        matches!(name, Some("." | ".."))
    };
    if path.split('/').any(is_dots) {
        return Err(PathFlaw::DotSegment);
    }
    Ok(())
}

/// What a text stands for; nothing when a `%` has not two hex digits behind it.
fn percent_decode(encoded: &str) -> Option<Cow<'_, [u8]>> {
    let Some((plain, _)) = encoded.split_once('%') else {
        return Some(Cow::Borrowed(encoded.as_bytes()));
    };
    let mut decoded = Vec::with_capacity(encoded.len());
    decoded.extend_from_slice(plain.as_bytes());
    let mut rest = &encoded.as_bytes()[plain.len()..];
    while let Some((&byte, behind)) = rest.split_first() {
        if byte == b'%' {
            let (digits, behind) = behind.split_first_chunk::<2>()?;
            let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
            decoded.push(u8::try_from(high? << 4 | low?).ok()?);
            rest = behind;
        } else {
            decoded.push(byte);
            rest = behind;
        }
    }
    Some(Cow::Owned(decoded))
}

fn text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => core::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}
