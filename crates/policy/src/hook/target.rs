//! Request-targets, for hooks: a path that can be read in one way only, and a query.

use alloc::borrow::Cow;

use super::path::{self, PathAmbiguity};
use super::query::Query;

/// The parts of a request-target.
pub(super) struct Target<'t> {
    /// Percent-decoded. An encoded delimiter is refused, so the segments are the same as before.
    pub(super) path: Cow<'t, str>,
    pub(super) query: Query<'t>,
}

impl<'t> Target<'t> {
    pub(super) fn read(target: &'t str) -> Result<Self, PathAmbiguity> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        Ok(Self {
            path: path::unambiguous_path(path)?,
            query: Query::new(query),
        })
    }
}
