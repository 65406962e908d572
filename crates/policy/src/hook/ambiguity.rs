//! Why a request can be read in more than one way and so matches no hook (SPEC M10).

use super::path::PathAmbiguity;

/// A part of a request that servers read in different ways. `Display` writes a clause for people,
/// without any part of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{}", self.as_str())]
pub enum Ambiguity {
    /// The path.
    Path(PathAmbiguity),
    /// A name in the query that overrides the method for some servers.
    QueryMethod,
    /// A name in the query that some servers take for one that the hook judges.
    QueryName,
    /// A `%` that two hex digits do not follow.
    QueryEncoding,
    /// A `;`, which separates pairs for some servers, or a delimiter in a name.
    QueryDelimiter,
    /// A `+` in a value that the hook judges.
    QueryPlus,
}

impl Ambiguity {
    /// The clause for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Path(ambiguity) => ambiguity.as_str(),
            Self::QueryMethod => "the query has a name by which servers take another method",
            Self::QueryName => {
                "the query has a name that servers could take for one that a hook judges"
            }
            Self::QueryEncoding => "the query holds a `%` without two hex digits behind it",
            Self::QueryDelimiter => "the query holds a `;` or `#`, or a delimiter in a name",
            Self::QueryPlus => "the query holds a `+` in a value that a hook judges",
        }
    }
}
