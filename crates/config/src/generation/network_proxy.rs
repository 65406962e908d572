//! First generation: `[network_proxy]` with `[network_proxy.policy]` and `[network_proxy.mitm]`.

use super::{COMMON, Found, Key, LISTS, Schema, Slot, find_at_top};
use crate::merge::Table;

/// The table's name.
pub(crate) const TABLE: &str = "network_proxy";

pub(crate) static SCHEMA: Schema = Schema(&[
    COMMON,
    &[
        // The first name of `dangerously_allow_non_loopback_proxy`.
        (
            "dangerously_allow_non_loopback",
            Slot::Value(Key::NonLoopbackProxy),
        ),
        ("policy", Slot::Table(&POLICY)),
    ],
]);

static POLICY: Schema = Schema(&[
    LISTS,
    &[
        ("allow_local_binding", Slot::Value(Key::AllowLocalBinding)),
        ("allow_unix_sockets", Slot::Value(Key::AllowUnixSockets)),
    ],
]);

pub(crate) fn find<'t>(root: &'t Table<'t>) -> Option<Found<'t>> {
    find_at_top(root, TABLE, &SCHEMA)
}
