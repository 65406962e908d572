//! Changes the lists of hosts in the configuration files, and leaves everything else in them as it is
//! (SPEC W3).
//!
//! - `configuration`: which files the proxy reads.
//! - `layers`: their documents.
//! - `form`: the tables that hold the lists.
//! - `destination`: which file a change belongs in.
//! - `document`: the change of one document. `list` and `map` know the two kinds of tables.
//! - `judgement`: whether the change has its effect, and no other.
//! - `difference`: the change by lines.
//! - `replacement`: replaces a file at once, under a lock.

mod configuration;
mod destination;
mod difference;
mod document;
mod form;
mod judgement;
mod layers;
mod list;
mod map;
mod plan;
mod replacement;

use codex_network_policy::Pattern;

pub(crate) use self::configuration::{Configuration, ReadByProxy};
pub(crate) use self::judgement::Refused;
pub(crate) use self::plan::{Plan, Planned, plan};
pub(crate) use self::replacement::Replacement;

/// A change of the lists.
#[derive(Clone, Debug)]
pub(crate) struct ListChange {
    pub(crate) verb: Verb,
    pub(crate) pattern: Pattern,
    /// A comment for the entry, without its `#`.
    pub(crate) comment: Option<String>,
}

/// The kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Adds an entry that allows.
    Allow,
    /// Adds an entry that denies, in place of one for the same pattern that allows.
    Deny,
    /// Removes the entry.
    Unset,
}

impl Verb {
    /// The command.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Unset => "unset",
        }
    }
}
