//! Refused names that were recorded a moment ago (SPEC T1).

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::live_policy::GenerationNumber;

/// Lookups of a refused name within this time are one lookup. A stub resolver repeats a lookup after five
/// seconds.
const RECORD_INTERVAL: Duration = Duration::from_secs(10);
/// Most names that are remembered.
const MAX_NAMES: usize = 256;

/// The names that were refused lately.
#[derive(Debug, Default)]
pub(super) struct RecentRefusals(Mutex<HashMap<Box<str>, (Instant, GenerationNumber)>>);

impl RecentRefusals {
    /// Whether a refusal is new, and so recorded: the same settings have not refused the name within
    /// [`RECORD_INTERVAL`].
    pub(super) fn is_new(&self, name: &str, generation: GenerationNumber) -> bool {
        let mut names = self.0.lock();
        let now = Instant::now();
        let is_recent = |(recorded_at, under): &(Instant, GenerationNumber)| {
            *under == generation && now.duration_since(*recorded_at) < RECORD_INTERVAL
        };
        if names.get(name).is_some_and(is_recent) {
            return false;
        }
        if names.len() >= MAX_NAMES {
            names.retain(|_, recorded| is_recent(recorded));
        }
        // Beyond that, a name is recorded more than once.
        if names.len() < MAX_NAMES {
            names.insert(name.into(), (now, generation));
        }
        true
    }
}
