//! Reads sources of credentials again while the service runs, when the worker requests it (SPEC B13): ahead of
//! the end of a value's time, and when an origin refuses a value.
//!
//! A loader reads them, with the privilege of the configuration. A worker that was taken over can make it read
//! the sources in force again and no others, and each at most every [`MIN_INTERVAL`].

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::load::{self, Loading};
use super::sealed::sealed;
use super::{End, Monitor};
use crate::privsep::message::ToWorker;
use crate::privsep::settled::Loaded;

/// Shortest time between the beginnings of two readings of a source. The worker waits longer.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// The loader that reads sources, and the requests for others.
#[derive(Debug, Default)]
pub(super) struct SourceReadings {
    running: Option<Loading>,
    /// The number of the last reading.
    readings: u32,
    /// The sources to read next, by their places in the settings in force.
    waiting: BTreeSet<u32>,
    /// When the last reading of each began.
    begun: HashMap<u32, Instant>,
}

impl SourceReadings {
    /// Notes a request. Whether the source will be read.
    fn request(&mut self, source: u32, now: Instant) -> bool {
        let last = self.begun.get(&source);
        let is_early = last.is_some_and(|last| now.duration_since(*last) < MIN_INTERVAL);
        !is_early && self.waiting.insert(source)
    }

    /// The sources of the next reading. They count as read now.
    fn next(&mut self, now: Instant) -> BTreeSet<u32> {
        let next = std::mem::take(&mut self.waiting);
        self.begun.extend(next.iter().map(|source| (*source, now)));
        next
    }

    /// Cancels what runs and what waits.
    fn cancel(&mut self) {
        if self.running.take().is_some() {
            self.readings = self.readings.wrapping_add(1);
        }
        self.waiting.clear();
    }
}

impl Monitor {
    /// The worker requests the value of a source of the settings in force. A request that was made under other
    /// settings may name another source, or none.
    pub(super) fn credential_requested(&mut self, source: u32) -> Option<End> {
        let count = self.settled.credential_sources.len();
        let is_known = usize::try_from(source).is_ok_and(|source| source < count);
        if is_known && self.source_readings.request(source, Instant::now()) {
            self.read_credentials();
        }
        None
    }

    /// Cancels the readings: a load begins, which reads all sources, or there are other settings.
    pub(super) fn stop_reading_credentials(&mut self) {
        self.source_readings.cancel();
    }

    fn read_credentials(&mut self) {
        let readings = &mut self.source_readings;
        let is_free = readings.running.is_none() && self.reloads.is_idle();
        if !is_free || readings.waiting.is_empty() || self.is_stopping() {
            return;
        }
        let readings = &mut self.source_readings;
        let wanted = readings.next(Instant::now());
        readings.readings = readings.readings.wrapping_add(1);
        let all = &self.settled.credential_sources;
        let sources = wanted.into_iter().filter_map(|source| {
            let source = usize::try_from(source).ok()?;
            all.get(source).cloned()
        });
        let number = readings.readings;
        let started = load::start_reading_credentials(
            &self.arguments,
            sources.collect(),
            number,
            self.events.clone(),
        );
        match started {
            Ok(loading) => self.source_readings.running = Some(loading),
            Err(error) => log_failure(&format!("{error:#}")),
        }
    }

    /// A loader has read sources.
    pub(super) fn credentials_read(&mut self, number: u32, read: anyhow::Result<Loaded>) {
        let readings = &mut self.source_readings;
        if number != readings.readings || readings.running.take().is_none() {
            return;
        }
        match read {
            Ok(Loaded::Credentials(blob)) => match sealed(&blob) {
                Ok(blob) => self.send(&ToWorker::Credentials, &[blob]),
                Err(error) => log_failure(&format!("{error:#}")),
            },
            Ok(Loaded::Settled(_) | Loaded::Problems(_) | Loaded::Files(_)) => {
                log_failure("the loader did something else");
            }
            Err(error) => log_failure(&format!("{error:#}")),
        }
        self.read_credentials();
    }
}

fn log_failure(why: &str) {
    tracing::error!("sources of credentials cannot be read again: {why}; the old values stay");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b13_a_source_is_read_once_for_many_requests_and_not_again_at_once() {
        let mut readings = SourceReadings::default();
        let start = Instant::now();
        assert!(readings.request(3, start));
        assert!(!readings.request(3, start), "it waits already");
        assert!(readings.request(1, start));
        assert_eq!(readings.next(start), BTreeSet::from([1, 3]));
        assert!(readings.next(start).is_empty());
        let early = start + MIN_INTERVAL.saturating_sub(Duration::from_millis(1));
        assert!(!readings.request(3, early));
        assert!(readings.request(2, early), "another source");
        assert!(readings.request(3, start + MIN_INTERVAL));
        readings.cancel();
        assert!(readings.next(start + MIN_INTERVAL).is_empty());
    }
}
