//! The state of the proxy as those see it who look from outside (SPEC O): `/health?verbose`, `/metrics`, the page and
//! `proxyctl status` all show one [`Observation`], so they agree.

mod faults;
mod fingerprint;
mod telemetry;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use codex_network_engine::{Counters, Engine, Measurements};
use parking_lot::Mutex;

use self::faults::{Facts, Memory};
pub(crate) use self::faults::{Fault, Part};
use self::fingerprint::Fingerprinter;
pub(crate) use self::fingerprint::Fingerprints;
#[cfg(feature = "service")]
pub(crate) use self::telemetry::Turn;
pub(crate) use self::telemetry::{TelemetryCounts, TelemetryRecord};

/// Whether the configuration is in force (SPEC L16).
#[cfg_attr(
    not(feature = "service"),
    expect(dead_code, reason = "an embedded proxy runs on its own settings")
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The configuration is in force.
    Sound,
    /// The configuration cannot be used; the last good one is in force.
    LastGood,
    /// The configuration cannot be used; everything is refused.
    Closed,
}

/// Observes one proxy.
#[derive(Debug)]
pub(crate) struct Observer {
    started: (SystemTime, Instant),
    process: ProcessFacts,
    fingerprinter: Fingerprinter,
    applied: AtomicU64,
    failed: AtomicU64,
    /// Since when reloads fail; `None` after one that succeeded.
    failing_since: Mutex<Option<i64>>,
    memory: Mutex<Memory>,
}

/// Facts about the process. A library has none of them: its process belongs to another program.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProcessFacts {
    /// How many workers came before this one.
    pub(crate) restarts: Option<u32>,
    /// Returns how many descriptors are open, and how many may be.
    pub(crate) descriptors: Option<fn() -> (u64, u64)>,
    /// Returns the losses of the log.
    pub(crate) log_losses: Option<fn() -> LogLosses>,
    /// The export of audit events.
    pub(crate) telemetry: Option<Arc<TelemetryRecord>>,
}

/// Log lines that were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogLosses {
    /// How many since the start.
    pub(crate) lines: u64,
    /// When the last of them was lost.
    pub(crate) last: Option<SystemTime>,
}

/// The state of a proxy at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    pub(crate) version: &'static str,
    /// Seconds since 1970.
    pub(crate) started: i64,
    /// Seconds, by a monotonic clock.
    pub(crate) uptime: u64,
    pub(crate) fingerprints: Fingerprints,
    /// The degraded parts, in a fixed order.
    pub(crate) faults: Vec<Fault>,
    pub(crate) counters: Counters,
    pub(crate) measurements: Measurements,
    pub(crate) restarts: Option<u32>,
    pub(crate) reloads_applied: u64,
    pub(crate) reloads_failed: u64,
    pub(crate) log_lines_lost: Option<u64>,
    /// The export of audit events.
    pub(crate) telemetry: Option<TelemetryCounts>,
    /// How many descriptors are open, and how many may be.
    pub(crate) descriptors: Option<(u64, u64)>,
}

impl Observer {
    /// Begins to observe a proxy that has just started.
    pub(crate) fn new(process: ProcessFacts) -> Self {
        Self {
            started: (SystemTime::now(), Instant::now()),
            process,
            fingerprinter: Fingerprinter::default(),
            applied: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            failing_since: Mutex::default(),
            memory: Mutex::default(),
        }
    }

    /// A reload has ended.
    pub(crate) fn reloaded<T, E>(&self, outcome: &Result<T, E>) {
        let mut failing = self.failing_since.lock();
        if outcome.is_ok() {
            self.applied.fetch_add(1, Ordering::Relaxed);
            *failing = None;
        } else {
            self.failed.fetch_add(1, Ordering::Relaxed);
            failing.get_or_insert_with(|| unix_seconds(SystemTime::now()));
        }
    }

    /// The fingerprints of what is in force.
    pub(crate) fn fingerprints(&self, engine: &Engine) -> Fingerprints {
        self.fingerprinter.of(&engine.current())
    }

    /// Observes the proxy now.
    pub(crate) fn observe(&self, engine: &Engine, condition: Condition) -> Observation {
        let descriptors = self.process.descriptors.map(|count| count());
        let losses = self.process.log_losses.map(|losses| losses());
        let (started, since_start) = self.started;
        Observation {
            version: env!("CARGO_PKG_VERSION"),
            started: unix_seconds(started),
            uptime: since_start.elapsed().as_secs(),
            fingerprints: self.fingerprints(engine),
            faults: self.faults(engine, condition, descriptors, losses),
            counters: engine.counters(),
            measurements: engine.measurements(),
            restarts: self.process.restarts,
            reloads_applied: self.applied.load(Ordering::Relaxed),
            reloads_failed: self.failed.load(Ordering::Relaxed),
            log_lines_lost: losses.map(|losses| losses.lines),
            telemetry: self.telemetry(),
            descriptors,
        }
    }

    /// Looks for faults, so that each has the time when it began. Call it now and then.
    #[cfg(feature = "service")]
    pub(crate) fn look(&self, engine: &Engine, condition: Condition) {
        let descriptors = self.process.descriptors.map(|count| count());
        let losses = self.process.log_losses.map(|losses| losses());
        self.faults(engine, condition, descriptors, losses);
    }

    fn telemetry(&self) -> Option<TelemetryCounts> {
        self.process
            .telemetry
            .as_ref()
            .map(|record| record.counts())
    }

    fn faults(
        &self,
        engine: &Engine,
        condition: Condition,
        descriptors: Option<(u64, u64)>,
        losses: Option<LogLosses>,
    ) -> Vec<Fault> {
        let generation = engine.current();
        let facts = Facts {
            condition,
            reloads_failing_since: *self.failing_since.lock(),
            descriptors,
            name_servers: generation.name_servers(),
            losses,
            telemetry: self.telemetry(),
            ca: generation.supplied().files.ca.clone(),
            restarts: self.process.restarts,
            started: self.started.0,
            uptime: self.started.1.elapsed(),
            leaf_over_bound: engine.last_leaf_over_bound(),
        };
        self.memory.lock().note(facts.found(SystemTime::now()))
    }
}

impl Observation {
    /// Whether nothing is degraded.
    pub(crate) fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Seconds since 1970 (UTC).
pub(crate) fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
