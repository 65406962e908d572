//! The engine's side of records (SPEC R, W4): the last refusals, and decisions as they are made.

use std::sync::Arc;

use super::Engine;
use crate::blocked::BlockedLog;
use crate::decisions::DecisionFeed;

impl Engine {
    /// The last refusals.
    pub fn blocked(&self) -> &BlockedLog {
        &self.shared.recorder().blocked
    }

    /// Decisions as they are made.
    pub fn decisions(&self) -> &Arc<DecisionFeed> {
        &self.shared.recorder().followed
    }
}
