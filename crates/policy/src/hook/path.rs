//! Paths of request-targets, and parts of paths in hooks: decoded, and judged whether they can be read
//! in one way only.
//!
//! Origins change a path in different ways before they act on it: they decode it once or twice,
//! remove `..`, or read `\` as `/`. A path that they could read differently matches no hook (SPEC
//! M10).

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

/// Why a path could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum PathAmbiguity {
    /// It does not begin with `/`: an authority, a whole URL, or `*`.
    NotRooted,
    /// `\`, which some origins read as `/`.
    Backslash,
    /// `#`, which ends a path in a URL and is not sent.
    Fragment,
    /// `%` without two hex digits behind it.
    BadPercent,
    /// An encoded `/`, `\`, `%`, `?`, `#` or `;`. Servers that decode first read a delimiter, and
    /// an encoded `%` begins a second encoding.
    EncodedDelimiter,
    /// `;`: Java servers remove it with the rest of its segment (RFC 3986 section 3.3).
    Parameters,
    /// `//`, which most origins read as `/`, and some as the beginning of an authority.
    EmptySegment,
    /// A segment `.` or `..`, plain or encoded, or one of dots and blanks alone: Windows removes
    /// those at the end of a name.
    DotSegment,
    /// A control character, plain or encoded: `%00` ends a text for some servers, others drop
    /// `%0A`.
    Control,
    /// A character that becomes a delimiter or a dot when Unicode is normalised or mapped to a code
    /// page (as the full-width `/`, U+FF0F).
    Lookalike,
    /// The decoded bytes are not UTF-8, such as an overlong form of `.` or `/`.
    NotUtf8,
}

impl PathAmbiguity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::NotRooted => "a path begins with `/`",
            Self::Backslash => "the path holds a backslash",
            Self::Fragment => "the path holds a `#`",
            Self::BadPercent => "the path holds a `%` without two hex digits behind it",
            Self::EncodedDelimiter => "the path holds an encoded `/`, `\\`, `%`, `?`, `#` or `;`",
            Self::Parameters => "the path holds a `;`",
            Self::EmptySegment => "the path has an empty segment (`//`)",
            Self::DotSegment => "the path has a segment of dots, as `.` or `..`",
            Self::Control => "the path holds a control character",
            Self::Lookalike => "the path holds a character that can become a delimiter or a dot",
            Self::NotUtf8 => "the path is not UTF-8 when it is decoded",
        }
    }
}

/// The path of a request-target, percent-decoded, if it can be read in one way only (SPEC M10). `path`
/// is without the query.
///
/// # Errors
///
/// A [`PathAmbiguity`] if origins could read it differently.
pub fn unambiguous_path(path: &str) -> Result<Cow<'_, str>, PathAmbiguity> {
    let path = decode(path)?;
    check(&path)?;
    Ok(path)
}

/// Decodes a path or a part of one, without judging its segments.
pub(super) fn decode(path: &str) -> Result<Cow<'_, str>, PathAmbiguity> {
    if path.contains('\\') {
        return Err(PathAmbiguity::Backslash);
    }
    if path.contains('#') {
        return Err(PathAmbiguity::Fragment);
    }
    let hidden = |triplet: &str| {
        let delimiters = ["2f", "5c", "25", "3f", "23", "3b"];
        let digits = triplet.get(..2);
        digits.is_some_and(|digits| {
            delimiters
                .iter()
                .any(|one| one.eq_ignore_ascii_case(digits))
        })
    };
    if path.split('%').skip(1).any(hidden) {
        return Err(PathAmbiguity::EncodedDelimiter);
    }
    let bytes = percent_decode(path).ok_or(PathAmbiguity::BadPercent)?;
    text(bytes).ok_or(PathAmbiguity::NotUtf8)
}

/// Judges a decoded path.
pub(super) fn check(path: &str) -> Result<(), PathAmbiguity> {
    if !path.starts_with('/') {
        return Err(PathAmbiguity::NotRooted);
    }
    if path.contains(char::is_control) {
        return Err(PathAmbiguity::Control);
    }
    if path.contains(is_lookalike) {
        return Err(PathAmbiguity::Lookalike);
    }
    let is_dots = |segment: &str| {
        !segment.is_empty() && segment.chars().all(|c| c == '.' || c.is_whitespace())
    };
    if path.split('/').any(is_dots) {
        return Err(PathAmbiguity::DotSegment);
    }
    if path.contains("//") {
        return Err(PathAmbiguity::EmptySegment);
    }
    if path.contains(';') {
        return Err(PathAmbiguity::Parameters);
    }
    Ok(())
}

/// Whether a character outside ASCII turns into `.`, `/`, `\`, `%`, `?`, `#` or `;`, or a text with
/// one of them, by Unicode's compatibility decomposition or by the best fit of Windows' code pages.
fn is_lookalike(c: char) -> bool {
    matches!(c,
        '\u{37e}' | '\u{2024}'..='\u{2026}' | '\u{2044}' | '\u{20e5}' | '\u{2100}' | '\u{2101}'
        | '\u{2105}' | '\u{2106}' | '\u{2215}' | '\u{2216}' | '\u{2488}'..='\u{249b}' | '\u{3002}'
        | '\u{fe19}' | '\u{fe30}' | '\u{fe52}' | '\u{fe54}' | '\u{fe56}' | '\u{fe5f}' | '\u{fe68}'
        | '\u{fe6a}' | '\u{ff03}' | '\u{ff05}' | '\u{ff0e}' | '\u{ff0f}' | '\u{ff1b}' | '\u{ff1f}'
        | '\u{ff3c}' | '\u{ff61}')
}

/// Decodes a text; `None` when a `%` is not followed by two hex digits.
pub(super) fn percent_decode(encoded: &str) -> Option<Cow<'_, [u8]>> {
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
