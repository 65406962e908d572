//! Second generation: everything flat in `[network]`.

use super::{COMMON, Found, LISTS, Schema, find_at_top};
use crate::merge::Table;

/// The table's name.
pub(crate) const TABLE: &str = "network";

pub(crate) static SCHEMA: Schema = Schema(&[COMMON, LISTS]);

pub(crate) fn find<'t>(root: &'t Table<'t>) -> Option<Found<'t>> {
    find_at_top(root, TABLE, &SCHEMA)
}
