//! The time of an event, by both clocks.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::audit::Rfc3339;

/// The time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// For deadlines.
    pub(super) at: Instant,
    /// For lists, in seconds since 1970 (UTC).
    pub(super) wall: i64,
}

/// A later time for lists.
pub(super) fn later(wall: i64, time: Duration) -> i64 {
    wall.saturating_add(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// A time as records show it.
pub(super) fn shown(wall: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(wall).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    Rfc3339::milliseconds(time).to_string()
}
