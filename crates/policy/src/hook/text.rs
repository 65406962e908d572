//! The texts of hooks: methods, field names, path prefixes, values (SPEC M9).

use alloc::borrow::{Cow, ToOwned};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::glob::Glob;
use super::path::{self, PathAmbiguity};

/// Prefix of a text that is taken literally.
const LITERAL: &str = "literal:";
/// Prefix of a text in which `*` stands for any characters but `/`.
const PATTERN: &str = "pattern:";

/// A method that a hook covers, in upper case. Never `CONNECT`: inside TLS it is refused before
/// hooks are asked (SPEC M7). Never `TRACE`: its answer holds the request's fields, credentials
/// among them (RFC 9110 section 9.3.8).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HookMethod(String);

/// The name of a header field, in lower case (RFC 9110 section 5.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HeaderNameText(String);

/// A text that is not a token (RFC 9110 section 5.6.2), or a method that hooks cannot cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAToken {
    /// It is empty, or holds a character that a token cannot have.
    #[error(
        "a method or field name has letters, digits and hyphens, and neither spaces nor colons"
    )]
    Characters,
    /// `CONNECT` as a hook's method.
    #[error("no hook can be for `CONNECT`: it is refused inside TLS")]
    Connect,
    /// `TRACE` as a hook's method.
    #[error("no hook can be for `TRACE`: its answer is the request, with what a hook injects")]
    Trace,
}

/// The beginning of a path. `Display` writes it as in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix {
    written: String,
    glob: Glob,
}

/// Why a text is not a path prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathPrefixError {
    /// No path that a hook can cover begins like this.
    #[error("{0}, so no request can match it")]
    Ambiguous(#[from] PathAmbiguity),
    /// A `?`: in a URL the query follows it.
    #[error("a path prefix has no query (`?`)")]
    Query,
    /// Syntax of other globs.
    #[error(transparent)]
    Wildcard(#[from] WildcardError),
}

/// A value of a query name or a field. `Display` writes it as in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValuePattern {
    written: String,
    glob: Glob,
}

/// Why a text is not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValuePatternError {
    /// No request that a hook can cover has this value.
    #[error("the value holds a control character, so no request can match it")]
    Control,
    /// Syntax of other globs.
    #[error(transparent)]
    Wildcard(#[from] WildcardError),
}

/// Syntax of other globs, which would silently match nothing here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WildcardError {
    /// `?`, a class, or alternatives.
    #[error("the pattern holds {0:?}: the only wildcard is `*`")]
    NotAWildcard(char),
    /// `**`.
    #[error("`**` means nothing here: `*` does not cross `/`")]
    DoubleStar,
}

impl HookMethod {
    /// Reads a method in any case: a lower-case method is a mistake, never an intention.
    ///
    /// # Errors
    ///
    /// Returns an error if it is not a token, or is `CONNECT` or `TRACE`.
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        let method = token(text)?.to_ascii_uppercase();
        match method.as_str() {
            "CONNECT" => Err(NotAToken::Connect),
            "TRACE" => Err(NotAToken::Trace),
            _ => Ok(Self(method)),
        }
    }

    /// The method in upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl HeaderNameText {
    /// Reads a field name in any case.
    ///
    /// # Errors
    ///
    /// Returns an error if it is not a token.
    pub fn parse(text: &str) -> Result<Self, NotAToken> {
        Ok(Self(token(text)?.to_ascii_lowercase()))
    }

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HeaderNameText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PathPrefix {
    /// Reads a prefix. A bare text, or one behind `literal:`, is taken literally. Behind
    /// `pattern:`, `*` stands for any characters of one segment.
    ///
    /// Both are prefixes of the path's text, without the query and percent-decoded: `/repos/a`
    /// covers `/repos/a`, `/repos/a/b` and `/repos/ab`; `/repos/a/` covers only paths below it. The
    /// same holds for patterns: `pattern:/repos/*/issues` covers `/repos/x/issues` and
    /// `/repos/x/issues/1`. A percent-encoded character is literal, so `%2A` is a star and not a
    /// wildcard.
    ///
    /// # Errors
    ///
    /// A [`PathPrefixError`] for a text that no request could match or that means nothing.
    pub fn parse(text: &str) -> Result<Self, PathPrefixError> {
        let (pattern, path) = split(text);
        if path.contains('?') {
            return Err(PathPrefixError::Query);
        }
        let pieces: Vec<Cow<'_, str>> = if pattern {
            path.split('*')
                .map(path::decode)
                .collect::<Result<_, _>>()?
        } else {
            [path::decode(path)?].into()
        };
        path::check(&pieces.join("*"))?;
        if pattern {
            check_wildcards(path)?;
        }
        Ok(Self {
            written: text.to_owned(),
            glob: Glob::of(pieces.iter().map(|piece| &**piece)),
        })
    }

    /// Whether a decoded path begins like this.
    pub(super) fn covers(&self, path: &str) -> bool {
        self.glob.begins(path)
    }
}

impl ValuePattern {
    /// Reads a value. A bare text, or one behind `literal:`, is taken literally. Behind `pattern:`,
    /// `*` stands for any characters but `/`. It must match the whole value, with its case.
    ///
    /// # Errors
    ///
    /// A [`ValuePatternError`] for a text that no request could match or that means nothing.
    pub fn parse(text: &str) -> Result<Self, ValuePatternError> {
        if text.contains(char::is_control) {
            return Err(ValuePatternError::Control);
        }
        let (pattern, value) = split(text);
        let glob = if pattern {
            check_wildcards(value)?;
            Glob::of(value.split('*'))
        } else {
            Glob::literal(value)
        };
        Ok(Self {
            written: text.to_owned(),
            glob,
        })
    }

    /// Whether the whole value matches.
    pub(super) fn covers(&self, value: &str) -> bool {
        self.glob.covers(value)
    }
}

impl fmt::Display for HookMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

impl fmt::Display for ValuePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

/// Returns whether a text is a pattern, and the text without its prefix.
fn split(text: &str) -> (bool, &str) {
    match text.strip_prefix(PATTERN) {
        Some(pattern) => (true, pattern),
        None => (false, text.strip_prefix(LITERAL).unwrap_or(text)),
    }
}

fn check_wildcards(pattern: &str) -> Result<(), WildcardError> {
    let is_other = |c: &char| matches!(c, '?' | '[' | ']' | '{' | '}');
    if let Some(other) = pattern.chars().find(is_other) {
        return Err(WildcardError::NotAWildcard(other));
    }
    if pattern.contains("**") {
        return Err(WildcardError::DoubleStar);
    }
    Ok(())
}

fn token(text: &str) -> Result<&str, NotAToken> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(NotAToken::Characters);
    }
    Ok(text)
}
