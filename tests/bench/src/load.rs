//! The load: clients that work for a set time, each unit of work after the other.
//!
//! All clients share one thread, so that the load costs little beside the programs that it measures.

pub(crate) mod bytes;
pub(crate) mod idle;
pub(crate) mod intercepted;
pub(crate) mod requests;
pub(crate) mod tunnels;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

/// How long a unit may take after the end of the load.
const LAST_UNIT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a load lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Length {
    /// Units of this time do not count.
    pub(crate) warm_up: Duration,
    pub(crate) measured: Duration,
    /// The time between the units of all clients together. Without it, each client begins its next unit after
    /// its last.
    pub(crate) interval: Option<Duration>,
}

/// The result of a load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Done {
    /// Units of work after the warm-up: requests, tunnels or bytes.
    pub(crate) units: u64,
    /// Latencies after the warm-up, in microseconds, in order.
    pub(crate) latencies: Vec<u32>,
    /// Units that failed.
    pub(crate) failures: u64,
    /// The first failure.
    pub(crate) failure: Option<String>,
}

impl Done {
    /// A percentile of the latencies in microseconds: 50 for the median.
    pub(crate) fn percentile(&self, percent: usize) -> Option<u32> {
        let last = self.latencies.len().checked_sub(1)?;
        self.latencies.get(last * percent / 100).copied()
    }
}

/// Counts the work of all clients while a load runs.
pub(crate) struct Tally {
    begun: Instant,
    length: Length,
    /// Units that have a turn, of a load with an interval.
    turns: Cell<u32>,
    units: Cell<u64>,
    failures: Cell<u64>,
    failure: RefCell<Option<String>>,
    latencies: RefCell<Vec<u32>>,
}

impl Tally {
    /// Whether clients begin another unit.
    pub(crate) fn goes_on(&self) -> bool {
        self.begun.elapsed() < self.length.warm_up + self.length.measured
    }

    /// Waits for the turn of another unit, and gives the time from which its latency counts; `None` after the end.
    ///
    /// A unit whose clients were all busy at its time counts from that time, so that a slow program cannot hide
    /// its delays by slowing the load.
    pub(crate) async fn turn(&self) -> Option<Instant> {
        let mut since = Instant::now();
        if let Some(interval) = self.length.interval {
            let turn = self.turns.get();
            self.turns.set(turn + 1);
            let due = self.begun + interval * turn;
            if due > since {
                tokio::time::sleep_until(due.into()).await;
                // The timer may be late by a millisecond, which is no delay of the program.
                since = Instant::now();
            } else {
                since = due;
            }
        }
        self.goes_on().then_some(since)
    }

    /// Counts a unit that began at `since`, good or failed.
    pub(crate) fn count(&self, since: Instant, result: io::Result<()>) {
        match result {
            Ok(()) => {
                self.add(1);
                if self.is_warm() {
                    let latency = u32::try_from(since.elapsed().as_micros()).unwrap_or(u32::MAX);
                    self.latencies.borrow_mut().push(latency);
                }
            }
            Err(error) => {
                self.failures.set(self.failures.get() + 1);
                self.failure
                    .borrow_mut()
                    .get_or_insert_with(|| error.to_string());
            }
        }
    }

    /// Counts units without latencies, such as bytes.
    pub(crate) fn add(&self, units: u64) {
        if self.is_warm() {
            self.units.set(self.units.get() + units);
        }
    }

    fn is_warm(&self) -> bool {
        self.begun.elapsed() >= self.length.warm_up
    }
}

/// Runs `clients` clients at once. Each is made with its number.
///
/// # Errors
///
/// The runtime does not start.
pub(crate) fn run<C>(
    clients: usize,
    length: Length,
    client: impl Fn(usize, Rc<Tally>) -> C,
) -> io::Result<Done>
where
    C: Future<Output = ()> + 'static,
{
    let tally = Rc::new(Tally {
        begun: Instant::now(),
        length,
        turns: Cell::default(),
        units: Cell::default(),
        failures: Cell::default(),
        failure: RefCell::default(),
        latencies: RefCell::default(),
    });
    let runtime = runtime()?;
    let set = LocalSet::new();
    let tasks: Vec<_> = (0..clients)
        .map(|number| set.spawn_local(client(number, tally.clone())))
        .collect();
    runtime.block_on(set.run_until(async {
        let last = tally.begun + length.warm_up + length.measured + LAST_UNIT_TIMEOUT;
        for task in tasks {
            match tokio::time::timeout_at(last.into(), task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tally.count(Instant::now(), Err(io::Error::other(error))),
                Err(_) => tally.count(Instant::now(), Err(io::ErrorKind::TimedOut.into())),
            }
        }
    }));
    let mut latencies = tally.latencies.take();
    latencies.sort_unstable();
    Ok(Done {
        units: tally.units.get(),
        latencies,
        failures: tally.failures.get(),
        failure: tally.failure.take(),
    })
}

/// A runtime of the calling thread.
pub(crate) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Length = Length {
        warm_up: Duration::ZERO,
        measured: Duration::from_millis(20),
        interval: None,
    };

    #[test]
    fn units_failures_and_latencies_are_counted() {
        let done = run(3, SHORT, |number, tally| async move {
            let failed = || Err(io::Error::other("broken"));
            tally.count(Instant::now(), if number == 0 { failed() } else { Ok(()) });
        });
        let done = done.expect("a runtime");
        assert_eq!((done.units, done.failures, done.latencies.len()), (2, 1, 2));
        assert_eq!(done.failure.as_deref(), Some("broken"));
    }

    #[test]
    fn units_with_an_interval_are_as_many_as_fit_and_count_from_their_turns() {
        let paced = Length {
            interval: Some(Duration::from_millis(5)),
            ..SHORT
        };
        // The first unit takes the whole time of its only client, so the others are late.
        let done = run(1, paced, |_, tally| async move {
            while let Some(since) = tally.turn().await {
                // The client's work.
                std::thread::sleep(Duration::from_millis(12));
                tally.count(since, Ok(()));
            }
        });
        let done = done.expect("a runtime");
        assert!((1..=4).contains(&done.units), "{}", done.units);
        assert!(
            done.latencies.last() > Some(&12_000),
            "{:?}",
            done.latencies
        );
    }

    #[test]
    fn percentiles_come_from_sorted_latencies() {
        let done = Done {
            latencies: (0..=100).collect(),
            ..Done::default()
        };
        assert_eq!(
            [50, 99].map(|percent| done.percentile(percent)),
            [Some(50), Some(99)]
        );
        assert_eq!(Done::default().percentile(50), None);
    }
}
