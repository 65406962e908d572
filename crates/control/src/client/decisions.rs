//! The call about decisions as they are made (SPEC W4).

use std::time::Duration;

use super::{CALL_TIMEOUT, CallError, Client, settle, within};
use crate::message::{Decisions, DecisionsQuery};
use crate::version;

impl Client {
    /// The decisions that the caller may see, since the last call over this connection. Waits for one if the query
    /// says so.
    ///
    /// # Errors
    ///
    /// [`CallError::TooOld`] when the daemon shows no decisions; otherwise as every call.
    pub async fn decisions(&self, query: DecisionsQuery) -> Result<Decisions, CallError> {
        self.require_protocol(version::DECISIONS)?;
        let deadline = CALL_TIMEOUT.saturating_add(Duration::from_secs(query.wait));
        settle(self.calls.decisions(within(deadline), query).await)
    }
}
