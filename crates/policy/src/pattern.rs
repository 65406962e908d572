//! One entry of an allow or deny list, as text and parsed (SPEC P2).

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;
use core::net::IpAddr;

use crate::address::AddressClass;
use crate::host::{Host, HostError, check_name, is_localhost, write_scope};

/// The list that a pattern is written in. It matters only for `*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind {
    /// An allow list of the machine's own configuration.
    Allow,
    /// A deny list.
    Deny,
    /// An allow list that an administrator pins for others.
    ManagedAllow,
}

/// A parsed pattern. `Display` gives its canonical text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(pub(crate) Shape);

/// The hosts that a pattern covers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Shape {
    /// `*`: every host.
    Everything,
    /// An address literal; IPv6 without a zone covers every zone.
    Address {
        address: IpAddr,
        scope: Option<String>,
    },
    /// A name, with the depth below it that is covered.
    Name { depth: Depth, name: String },
    /// A name in which some labels hold a `*`: matched label by label.
    Labels {
        depth: Depth,
        /// The labels up to the last one with a `*`.
        front: String,
        /// The name behind them.
        end: String,
    },
}

/// How far below a name a pattern reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Depth {
    /// `example.com`: only this name.
    Exact,
    /// `*.example.com`: one or more labels below, not the name.
    Below,
    /// `**.example.com`: the name and everything below.
    ApexAndBelow,
}

/// Why a text is not a pattern. The message says what to write instead, where possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Nothing, or white space only.
    #[error("the pattern is empty")]
    Empty,
    /// White space inside or around.
    #[error("the pattern holds white space")]
    WhiteSpace,
    /// A URL.
    #[error("a pattern names a host, not a URL: write {0:?}")]
    Url(String),
    /// A path or an address range.
    #[error("a pattern names a host: it has no path and no address range (`/`)")]
    Slash,
    /// A port.
    #[error("a pattern names a host without a port: write {0:?}")]
    Port(String),
    /// A single `*` where it is not allowed.
    #[error("a single `*` is allowed only in an allow list of your own configuration")]
    GlobalWildcard,
    /// `*` in the last label, or wildcards only.
    #[error("the last label of a pattern must be spelled out: write `*.example.com`, not {0:?}")]
    OpenEnd(String),
    /// `**` anywhere but as the first label.
    #[error("`**` may stand only as the first label, as in `**.example.com`")]
    DoubleStar,
    /// A character class or `?`.
    #[error("the pattern holds {0:?}: the only wildcard is `*`")]
    NotAWildcard(char),
    /// The remaining text is not a valid host.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl Pattern {
    /// Parses one list entry.
    ///
    /// - `example.com`: this host.
    /// - `*.example.com`: one or more labels below it, not the apex.
    /// - `**.example.com`: the apex and everything below.
    /// - `region*.v2.example.com`: `*` inside a label stands for any characters of that label.
    /// - `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`: address literals.
    /// - `*`: every host, only in [`ListKind::Allow`].
    ///
    /// # Errors
    ///
    /// A [`PatternError`] for a text that could be read in two ways.
    pub fn parse(text: &str, list: ListKind) -> Result<Self, PatternError> {
        if text.is_empty() {
            return Err(PatternError::Empty);
        }
        if text.contains(char::is_whitespace) {
            return Err(PatternError::WhiteSpace);
        }
        check_not_a_url(text)?;
        if let Some(other) = text.chars().find(|c| matches!(c, '?' | '{' | '}')) {
            return Err(PatternError::NotAWildcard(other));
        }
        if text == "*" {
            return match list {
                ListKind::Allow => Ok(Self(Shape::Everything)),
                ListKind::Deny | ListKind::ManagedAllow => Err(PatternError::GlobalWildcard),
            };
        }
        let (depth, rest) = if let Some(rest) = text.strip_prefix("**.") {
            (Depth::ApexAndBelow, rest)
        } else if let Some(rest) = text.strip_prefix("*.") {
            (Depth::Below, rest)
        } else {
            (Depth::Exact, text)
        };
        if rest.is_empty() {
            return Err(PatternError::OpenEnd(text.to_string()));
        }
        if rest.contains('*') {
            return parse_labels(text, depth, rest);
        }
        check_no_port(text)?;
        let shape = match (Host::parse(rest)?, depth) {
            (Host::Name(name), depth) => Shape::Name {
                depth,
                name: name.as_str().to_string(),
            },
            (Host::V4(address), Depth::Exact) => Shape::Address {
                address: address.into(),
                scope: None,
            },
            (Host::V6(host), Depth::Exact) => Shape::Address {
                address: host.address().into(),
                scope: host.scope().map(ToString::to_string),
            },
            // There are no names below an address.
            (Host::V4(_), _) => return Err(HostError::BadIpv4.into()),
            (Host::V6(_), _) => return Err(HostError::BadIpv6.into()),
        };
        Ok(Self(shape))
    }

    /// Whether this pattern names a host that is known to be local without a lookup: a local or
    /// private address, or `localhost` and names below it. Such an entry of an allow list lifts the
    /// rule against local hosts for that host (SPEC P3).
    pub fn spells_out_local(&self) -> bool {
        match &self.0 {
            Shape::Address { address, .. } => !AddressClass::of(*address).is_public(),
            Shape::Name {
                depth: Depth::Exact,
                name,
            } => is_localhost(name),
            Shape::Everything | Shape::Name { .. } | Shape::Labels { .. } => false,
        }
    }

    /// Whether this is `*`, which covers every host.
    pub fn is_everything(&self) -> bool {
        self.0 == Shape::Everything
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Shape::Everything => f.write_str("*"),
            Shape::Address { address, scope } => {
                address.fmt(f)?;
                scope
                    .as_deref()
                    .map_or(Ok(()), |scope| write_scope(f, scope))
            }
            Shape::Name { depth, name } => write!(f, "{}{name}", depth.prefix()),
            Shape::Labels { depth, front, end } => write!(f, "{}{front}.{end}", depth.prefix()),
        }
    }
}

impl Depth {
    /// The part of the pattern's text before the name.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Exact => "",
            Self::Below => "*.",
            Self::ApexAndBelow => "**.",
        }
    }
}

/// Whether a label matches a pattern's label, in which each `*` stands for any run of characters.
/// Both are at most 63 bytes, so going back to the last `*` is cheap.
pub(crate) fn label_matches(pattern: &[u8], label: &[u8]) -> bool {
    let (mut p, mut l) = (0, 0);
    // Position of the last `*`, and how much of the label it covers so far.
    let mut star: Option<(usize, usize)> = None;
    while l < label.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, l));
            p += 1;
        } else if pattern.get(p) == Some(&label[l]) {
            p += 1;
            l += 1;
        } else if let Some((at, swallowed)) = star {
            star = Some((at, swallowed + 1));
            p = at + 1;
            l = swallowed + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

fn check_not_a_url(text: &str) -> Result<(), PatternError> {
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        return Err(PatternError::Url(host.to_string()));
    }
    if text.contains('/') {
        return Err(PatternError::Slash);
    }
    Ok(())
}

fn check_no_port(text: &str) -> Result<(), PatternError> {
    // One colon outside brackets, or text behind the bracket: a port. More colons: IPv6.
    let host = match (text.rfind("]:"), text.split_once(':')) {
        (Some(end), _) => &text[..=end],
        (None, Some((host, rest))) if !rest.contains(':') => host,
        _ => return Ok(()),
    };
    Err(PatternError::Port(host.to_string()))
}

/// Labels with a `*` are ASCII: a `*` has no defined meaning in a label that is converted to
/// punycode. The rest after the last of them is an ordinary name.
fn parse_labels(text: &str, depth: Depth, rest: &str) -> Result<Pattern, PatternError> {
    if rest.contains("**") {
        return Err(PatternError::DoubleStar);
    }
    let star = rest.rfind('*').unwrap_or(0);
    let open_end = || PatternError::OpenEnd(text.to_string());
    let dot = star + rest[star..].find('.').ok_or_else(open_end)?;
    let (front, end) = (rest[..dot].to_ascii_lowercase(), &rest[dot + 1..]);
    if end.is_empty() {
        return Err(open_end());
    }
    check_no_port(text)?;
    let end = match Host::parse(end)? {
        Host::Name(name) => name.as_str().to_string(),
        // `*1.0.0.1`: it would match an address.
        Host::V4(_) | Host::V6(_) => return Err(HostError::BadIpv4.into()),
    };
    // The characters that a `*` stands for are checked in the host itself.
    check_name(&format!("{}.{end}", front.replace('*', "x")))?;
    Ok(Pattern(Shape::Labels { depth, front, end }))
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::label_matches;

    /// The meaning of `*`, in a few lines.
    fn matches_naively(pattern: &[u8], label: &[u8]) -> bool {
        match (pattern, label) {
            ([b'*', rest @ ..], _) => {
                (0..=label.len()).any(|taken| matches_naively(rest, &label[taken..]))
            }
            ([first, rest @ ..], [letter, more @ ..]) => {
                first == letter && matches_naively(rest, more)
            }
            (pattern, label) => pattern.is_empty() && label.is_empty(),
        }
    }

    /// All texts of up to `longest` bytes over an alphabet.
    fn texts(alphabet: &[u8], longest: usize) -> Vec<Vec<u8>> {
        let mut all = std::vec![Vec::new()];
        let mut from = 0;
        for _ in 0..longest {
            let until = all.len();
            for index in from..until {
                for letter in alphabet {
                    let mut text = all[index].clone();
                    text.push(*letter);
                    all.push(text);
                }
            }
            from = until;
        }
        all
    }

    #[test]
    fn p2_every_short_label_pattern_matches_as_its_naive_twin() {
        let labels = texts(b"ab", 6);
        for pattern in texts(b"ab*", 5) {
            for label in &labels {
                assert_eq!(
                    label_matches(&pattern, label),
                    matches_naively(&pattern, label),
                    "{pattern:?} {label:?}"
                );
            }
        }
    }
}
