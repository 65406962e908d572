//! Which parts of a hook a request misses, for people (SPEC K5).
//!
//! It makes the same checks as [`Hooks::judge`], one by one. It names no value of the hook, since that
//! may be a secret.

use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;

use super::ambiguity::Ambiguity;
use super::query::Presence;
use super::target::Target;
use super::text::{HeaderNameText, HookMethod, PathPrefix};
use super::{HookId, HookRequest, HookSpec, Hooks, field_presence};

/// How many methods or prefixes of a hook a sentence lists at most.
const MAX_LISTED: usize = 6;

/// A hook that does not cover a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookMiss<'h> {
    /// The hook.
    pub hook: HookId,
    /// The parts that do not cover the request, at least one.
    pub clauses: Vec<MissedClause<'h>>,
}

/// A part of a hook that does not cover a request. `Display` writes a clause for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissedClause<'h> {
    /// The method is not one of these.
    Method(&'h [HookMethod]),
    /// The path begins with none of these.
    Path(&'h [PathPrefix]),
    /// There is no field of this name.
    HeaderMissing(&'h HeaderNameText),
    /// A field of this name has a value that is not one of the hook's.
    HeaderValue(&'h HeaderNameText),
    /// The query lacks this name.
    QueryMissing(&'h str),
    /// This name in the query has a value that is not one of the hook's.
    QueryValue(&'h str),
    /// Servers could read the query in more than one way.
    Ambiguous(Ambiguity),
}

impl Hooks {
    /// For each hook of the host, the parts that do not cover the request. The hook with the fewest
    /// comes first. Empty for a path that could be read in two ways.
    pub fn misses(&self, request: &HookRequest<'_>) -> Vec<HookMiss<'_>> {
        let Ok(target) = Target::read(request.target) else {
            return Vec::new();
        };
        let ids = self.by_host.get(request.host);
        let mut misses: Vec<_> = ids
            .into_iter()
            .flatten()
            .map(|id| HookMiss {
                hook: *id,
                clauses: self.hooks[id.0].missed(request, &target),
            })
            .filter(|miss| !miss.clauses.is_empty())
            .collect();
        misses.sort_by_key(|miss| miss.clauses.len());
        misses
    }
}

impl HookSpec {
    fn missed(&self, request: &HookRequest<'_>, target: &Target<'_>) -> Vec<MissedClause<'_>> {
        let mut missed = Vec::new();
        if !self.covers_method(request) {
            missed.push(MissedClause::Method(&self.methods));
        }
        if !self.covers_path(target) {
            missed.push(MissedClause::Path(&self.path_prefixes));
        }
        for (name, values) in &self.headers {
            match field_presence(request.fields, name, values) {
                Presence::Covered => {}
                Presence::Missing => missed.push(MissedClause::HeaderMissing(name)),
                Presence::OtherValue => missed.push(MissedClause::HeaderValue(name)),
            }
        }
        if let Err(ambiguity) = target.query.check_overrides(&self.query) {
            missed.push(MissedClause::Ambiguous(ambiguity));
            return missed;
        }
        match target.query.presence(&self.query) {
            Err(ambiguity) => missed.push(MissedClause::Ambiguous(ambiguity)),
            Ok(presence) => missed.extend(self.query.iter().zip(presence).filter_map(
                |((name, _), presence)| match presence {
                    Presence::Covered => None,
                    Presence::Missing => Some(MissedClause::QueryMissing(name)),
                    Presence::OtherValue => Some(MissedClause::QueryValue(name)),
                },
            )),
        }
        missed
    }
}

impl fmt::Display for MissedClause<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Method(methods) => {
                f.write_str("the method is not ")?;
                list(f, methods)
            }
            Self::Path(prefixes) => {
                f.write_str("the path does not begin with ")?;
                list(f, prefixes)
            }
            Self::HeaderMissing(name) => write!(f, "the header field {name} is missing"),
            Self::HeaderValue(name) => write!(f, "the header field {name} has another value"),
            Self::QueryMissing(name) => write!(f, "the query lacks {name}"),
            Self::QueryValue(name) => write!(f, "{name} in the query has another value"),
            Self::Ambiguous(ambiguity) => f.write_str(ambiguity.as_str()),
        }
    }
}

/// `GET, HEAD or POST`, and how many more there are.
fn list(f: &mut fmt::Formatter<'_>, items: &[impl ToString]) -> fmt::Result {
    let shown = items.len().min(MAX_LISTED);
    for (index, item) in items[..shown].iter().enumerate() {
        let between = match index {
            0 => "",
            _ if index + 1 == items.len() => " or ",
            _ => ", ",
        };
        write!(f, "{between}{}", item.to_string())?;
    }
    match items.len() - shown {
        0 => Ok(()),
        further => write!(f, " or {further} more"),
    }
}
