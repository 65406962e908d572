//! Counts of the export of audit events (SPEC O2). The exporter writes them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;

use super::unix_seconds;

/// The fate of the audit events of this process.
#[derive(Debug, Default)]
pub(crate) struct TelemetryRecord {
    counts: Mutex<TelemetryCounts>,
    waiting: AtomicU64,
}

/// The same, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TelemetryCounts {
    /// Whether there is a collector.
    pub(crate) is_on: bool,
    /// Events that a collector took.
    pub(crate) exported: u64,
    /// Events that no collector took and that do not wait.
    pub(crate) lost: u64,
    /// When the last of them was lost.
    pub(crate) last_lost: Option<SystemTime>,
    /// Events that wait, those on their way included.
    pub(crate) waiting: u64,
    /// Since when the collector takes nothing, in seconds since 1970, and why. The text has no name.
    pub(crate) failing: Option<(i64, String)>,
}

/// Whether something changed that the log should say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    Changed,
    Same,
}

#[cfg_attr(
    not(feature = "service"),
    expect(dead_code, reason = "a library exports nothing")
)]
impl TelemetryRecord {
    pub(crate) fn counts(&self) -> TelemetryCounts {
        TelemetryCounts {
            waiting: self.waiting.load(Ordering::Relaxed),
            ..self.counts.lock().clone()
        }
    }

    pub(crate) fn switch(&self, is_on: bool) {
        let mut counts = self.counts.lock();
        counts.is_on = is_on;
        if !is_on {
            counts.failing = None;
        }
    }

    /// A further event waits.
    pub(crate) fn waits(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Events wait no longer.
    pub(crate) fn settled(&self, events: usize) {
        self.waiting.fetch_sub(events as u64, Ordering::Relaxed);
    }

    pub(crate) fn lost(&self, events: u64) {
        if events > 0 {
            let mut counts = self.counts.lock();
            counts.lost += events;
            counts.last_lost = Some(SystemTime::now());
        }
    }

    pub(crate) fn exported(&self, events: u64) {
        self.counts.lock().exported += events;
    }

    /// The collector takes events.
    pub(crate) fn works(&self) -> Turn {
        match self.counts.lock().failing.take() {
            Some(_) => Turn::Changed,
            None => Turn::Same,
        }
    }

    /// The collector takes none.
    pub(crate) fn fails(&self, why: &str) -> Turn {
        let mut counts = self.counts.lock();
        if let Some((_, known)) = &mut counts.failing {
            why.clone_into(known);
            return Turn::Same;
        }
        counts.failing = Some((unix_seconds(SystemTime::now()), why.to_owned()));
        Turn::Changed
    }
}
