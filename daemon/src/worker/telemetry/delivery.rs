//! Delivers the batches of the queue, one after the other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use codex_network_engine::Engine;
use tokio::sync::watch;
use tokio::time::timeout;

use super::message::Origin;
use super::outcome::{MAX_WAIT, Outcome};
use super::queue::{MAX_EVENTS, Queue};
use super::transport::Transport;
use crate::observation::Turn;

/// The wait after the first failure. It doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The wait while the process ends, which has little time.
const LAST_WAIT: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Delivery {
    queue: Arc<Queue>,
    engine: Engine,
    origin: Origin,
    transport: Transport,
    /// Failures in a row.
    failures: u32,
}

impl Delivery {
    pub(super) fn new(queue: Arc<Queue>, engine: Engine, origin: Origin) -> Self {
        Self {
            queue,
            engine,
            origin,
            transport: Transport::default(),
            failures: 0,
        }
    }

    /// Runs until the queue is closed and empty.
    pub(super) async fn run(mut self) {
        while let Some(batch) = self.queue.next().await {
            let events = batch.events;
            if events == 0 {
                // A reload without a collector dropped them meanwhile.
                continue;
            }
            let body = Bytes::from(self.origin.request(&batch.records));
            drop(batch);
            let exported = self.deliver(events, &body).await;
            self.queue.settle(exported);
        }
    }

    /// Sends a batch until the collector takes it or refuses it. Returns how many events it took.
    async fn deliver(&mut self, events: usize, body: &Bytes) -> usize {
        loop {
            // A change from here on ends the wait; one from before is in what the attempt reads.
            let changes = self.queue.changes();
            let generation = self.engine.current();
            let settings = generation.settings().daemon.telemetry.clone();
            drop(generation);
            if settings.collector.is_none() {
                tracing::warn!(
                    lost = events,
                    "audit events were not exported: there is no collector any more"
                );
                return 0;
            }
            match self.transport.send(&self.engine, &settings, body).await {
                Outcome::Taken { rejected } => return self.taken(events, rejected),
                Outcome::Refused(why) => {
                    self.fails(&why);
                    return 0;
                }
                Outcome::Later(why, wait) => {
                    self.fails(&why);
                    self.wait(wait, changes).await;
                }
            }
        }
    }

    fn taken(&mut self, events: usize, rejected: u64) -> usize {
        self.failures = 0;
        if self.queue.record().works() == Turn::Changed {
            let lost = self.queue.record().counts().lost;
            tracing::info!(lost, "the collector takes audit events again");
        }
        if rejected > 0 {
            tracing::warn!(rejected, "the collector rejected audit events");
        }
        events.saturating_sub(usize::try_from(rejected).unwrap_or(usize::MAX))
    }

    fn fails(&mut self, why: &str) {
        self.failures = self.failures.saturating_add(1);
        if self.queue.record().fails(why) == Turn::Changed {
            tracing::warn!(
                "the collector does not take audit events: {why}; up to {MAX_EVENTS} wait, and further ones are lost"
            );
        }
    }

    /// Waits before the next attempt: at least as long as the collector asks for, within a bound. New settings
    /// end the wait, and so does the end of the process.
    async fn wait(&self, asked: Option<Duration>, mut changes: watch::Receiver<()>) {
        let doubled = FIRST_WAIT * 2_u32.pow(self.failures.saturating_sub(1).min(5));
        let wait = asked
            .map_or(doubled, |asked| asked.max(FIRST_WAIT))
            .min(MAX_WAIT);
        if self.queue.is_closing() {
            tokio::time::sleep(LAST_WAIT).await;
        } else {
            // Both ends of the wait lead to the next attempt.
            let _ = timeout(wait, changes.changed()).await;
        }
    }
}
