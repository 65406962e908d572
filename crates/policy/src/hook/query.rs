//! Queries, for hooks: pairs whose names servers read in different ways (SPEC M9, M10).
//!
//! PHP writes `_` for a `.` or a blank in a name, drops leading blanks, and ends a name at a NUL.
//! PHP, Rack and qs read `state[]`, `state[x]` and `[state]` as `state`. Data binders read
//! `state.id` as a part of it. ASP.NET ignores case. If one of them could read a name
//! as a name that a hook checks, the query is ambiguous, unless the two names are equal.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use super::ambiguity::Ambiguity;
use super::path::percent_decode;
use super::text::ValuePattern;
use crate::field::method_overrides;

/// Names of pairs that make servers act on another method than that of the request line, besides
/// those named like the method-override fields.
const METHOD_OVERRIDES: [&str; 2] = ["_method", "_httpmethod"];

/// A query, without its `?`.
pub(super) struct Query<'t>(&'t str);

/// Whether a request has a name that a hook judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It does not.
    Missing,
    /// Every occurrence has one of the hook's values.
    Covered,
    /// An occurrence has another value.
    OtherValue,
}

/// Whether some origin could act on another method than that of the request line because of the query of this
/// request-target, as Rails, Symfony and Laravel do with `_method` (SPEC B8). A query that cannot be decoded counts
/// too. `target` is in origin-form.
///
/// ```
/// use codex_network_policy::query_overrides_method;
///
/// assert!(query_overrides_method("/issues?_method=DELETE"));
/// assert!(!query_overrides_method("/issues?method=email"));
/// ```
pub fn query_overrides_method(target: &str) -> bool {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = query.split(['&', ';']).filter(|pair| !pair.is_empty());
    pairs.any(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        let Some(name) = percent_decode(name) else {
            return true;
        };
        let folded = Folded::new(&name);
        let is_alike = |known: &str| folded.is_alike(&Folded::new(known.as_bytes()));
        // Folded, `method` is the same as `_method`, and no server reads it as that.
        let begins_plainly = name.first().is_some_and(u8::is_ascii_alphanumeric);
        method_overrides().any(is_alike)
            || (!begins_plainly && METHOD_OVERRIDES.into_iter().any(is_alike))
    })
}

/// A name in the form that the most lenient server reads.
struct Folded {
    /// Its letters and digits without case, and `_` for each run of other characters between them.
    text: String,
    /// The lengths of the prefixes that a server could read as the whole name. The last is the name
    /// itself.
    ends: Vec<usize>,
}

impl<'t> Query<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self(text)
    }

    /// Refuses a query that overrides the method by a name that is not in `wanted`.
    pub(super) fn check_overrides(
        &self,
        wanted: &[(String, Vec<ValuePattern>)],
    ) -> Result<(), Ambiguity> {
        // Some servers separate pairs by `;` too.
        for pair in self.0.split(['&', ';']).filter(|pair| !pair.is_empty()) {
            let name = pair.split_once('=').map_or(pair, |(name, _)| name);
            let name = percent_decode(name).ok_or(Ambiguity::QueryEncoding)?;
            let name = Folded::new(&name);
            let is_wanted = |name: &Folded| {
                let alike =
                    |(wanted, _): &(String, _)| name.is_alike(&Folded::new(wanted.as_bytes()));
                wanted.iter().any(alike)
            };
            let is_override = METHOD_OVERRIDES
                .into_iter()
                .chain(method_overrides())
                .any(|known| name.is_alike(&Folded::new(known.as_bytes())));
            if is_override && !is_wanted(&name) {
                return Err(Ambiguity::QueryMethod);
            }
        }
        Ok(())
    }

    /// Whether each of these names is in the query, and each occurrence has one of its values.
    pub(super) fn has(&self, wanted: &[(String, Vec<ValuePattern>)]) -> Result<bool, Ambiguity> {
        let presence = self.presence(wanted)?;
        Ok(presence.iter().all(|one| *one == Presence::Covered))
    }

    /// For each of these names, whether it is in the query with its values.
    pub(super) fn presence(
        &self,
        wanted: &[(String, Vec<ValuePattern>)],
    ) -> Result<Vec<Presence>, Ambiguity> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        // `;` separates pairs for some origins, and is part of a value for others.
        if self.0.contains([';', '#']) {
            return Err(Ambiguity::QueryDelimiter);
        }
        let pairs = self.pairs().collect::<Result<Vec<_>, _>>()?;
        // An ambiguity counts in any pair.
        wanted
            .iter()
            .map(|(name, values)| presence_of(&pairs, name, values))
            .collect()
    }

    fn pairs(&self) -> impl Iterator<Item = Result<Pair<'t>, Ambiguity>> {
        self.0.split('&').map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = percent_decode(name).zip(percent_decode(value));
            let (decoded_name, decoded_value) = decoded.ok_or(Ambiguity::QueryEncoding)?;
            if decoded_name.iter().any(|byte| b"&=;#%".contains(byte)) {
                return Err(Ambiguity::QueryDelimiter);
            }
            Ok(Pair {
                folded: Folded::new(&decoded_name),
                name: decoded_name,
                value: decoded_value,
                // Some servers read it as a blank, others as it is.
                plus_in_name: name.contains('+'),
                plus_in_value: value.contains('+'),
            })
        })
    }
}

/// A name and its value, decoded.
struct Pair<'t> {
    name: Cow<'t, [u8]>,
    folded: Folded,
    value: Cow<'t, [u8]>,
    plus_in_name: bool,
    plus_in_value: bool,
}

impl Presence {
    /// After a further occurrence, whose value the hook covers or not.
    pub(super) fn and(self, is_covered: bool) -> Self {
        match self {
            Self::Missing | Self::Covered if is_covered => Self::Covered,
            _ => Self::OtherValue,
        }
    }
}

fn presence_of(
    pairs: &[Pair<'_>],
    wanted: &str,
    values: &[ValuePattern],
) -> Result<Presence, Ambiguity> {
    let folded = Folded::new(wanted.as_bytes());
    let mut presence = Presence::Missing;
    for pair in pairs {
        if *pair.name == *wanted.as_bytes() && !pair.plus_in_name {
            if pair.plus_in_value {
                return Err(Ambiguity::QueryPlus);
            }
            presence = presence.and(has_value(&pair.value, values));
        } else if pair.folded.is_alike(&folded) {
            return Err(Ambiguity::QueryName);
        }
    }
    Ok(presence)
}

fn has_value(value: &[u8], values: &[ValuePattern]) -> bool {
    core::str::from_utf8(value).is_ok_and(|value| {
        !value.contains(char::is_control) && values.iter().any(|pattern| pattern.covers(value))
    })
}

impl Folded {
    fn new(name: &[u8]) -> Self {
        let name = String::from_utf8_lossy(name);
        let (mut text, mut ends) = (String::with_capacity(name.len()), Vec::new());
        let mut between = false;
        for c in name.chars() {
            if c.is_alphanumeric() {
                if between && !text.is_empty() {
                    text.push('_');
                }
                between = false;
                // Some compare in upper case and some in lower case.
                text.extend(c.to_uppercase().flat_map(char::to_lowercase));
            } else {
                between = true;
                let is_end = matches!(c, '[' | ']' | '.' | '\0');
                if is_end && !text.is_empty() && ends.last() != Some(&text.len()) {
                    ends.push(text.len());
                }
            }
        }
        ends.push(text.len());
        Self { text, ends }
    }

    /// Whether some server reads one of the names as the other, or as a part of the other.
    fn is_alike(&self, other: &Self) -> bool {
        self.begins_with(other) || other.begins_with(self)
    }

    fn begins_with(&self, other: &Self) -> bool {
        self.text.starts_with(&other.text) && self.ends.contains(&other.text.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b8_a_query_overrides_the_method_in_every_spelling_that_a_server_reads() {
        for (target, overrides) in [
            ("/a", false),
            ("/_method=DELETE", false),
            ("/a?", false),
            ("/a?method=GET&x=_method", false),
            ("/a?http_method=x&methods[]=y&payment_method=z", false),
            ("/a?_method=DELETE", true),
            ("/a?x=1;_method", true),
            ("/a?%5Fmethod=DELETE", true),
            ("/a?+_method=DELETE", true),
            ("/a?.method=DELETE", true),
            ("/a?_METHOD[]=DELETE", true),
            ("/a?_HttpMethod=DELETE", true),
            ("/a?X-HTTP-Method-Override=DELETE", true),
            ("/a?x_http_method_override=DELETE", true),
            ("/a?%zz=1", true),
        ] {
            assert_eq!(query_overrides_method(target), overrides, "{target}");
        }
    }
}
