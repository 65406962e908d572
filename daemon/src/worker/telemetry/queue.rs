//! A bounded queue between the doors and the exporter. A caller never waits: an event that finds no room is lost and
//! counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use codex_network_engine::AuditEvent;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::message;
use crate::observation::TelemetryRecord;

/// Most events that wait.
pub(super) const MAX_EVENTS: usize = 8192;
/// Most bytes that wait.
const MAX_BYTES: usize = 8 << 20;
/// Most events of one batch.
pub(super) const MAX_BATCH: usize = 512;
/// Bytes after which a batch takes no further event: collectors refuse large requests (4 MiB with gRPC).
const MAX_BATCH_BYTES: usize = 1 << 20;
/// How long events gather for a batch.
const BATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    is_on: AtomicBool,
    is_closing: AtomicBool,
    /// Notified when a batch begins, when it is full, and when the queue closes.
    filled: Notify,
    /// Changes when settings come into force, and when the queue closes.
    changes: watch::Sender<()>,
    record: Arc<TelemetryRecord>,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<Batch>,
    /// The events of all batches.
    events: usize,
    /// The bytes of their records.
    bytes: usize,
    /// Events that were taken and are not settled.
    on_their_way: usize,
}

/// Events that are sent together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) events: usize,
    /// Their records, one after the other.
    pub(super) records: Vec<u8>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.events >= MAX_BATCH || self.records.len() >= MAX_BATCH_BYTES
    }
}

impl Queue {
    pub(super) fn record(&self) -> &Arc<TelemetryRecord> {
        &self.record
    }

    /// Whether events are taken.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Settings with or without a collector came into force. Without one, what waits is lost. Returns how much
    /// that was.
    pub(super) fn switch(&self, is_on: bool) -> usize {
        self.is_on.store(is_on, Ordering::Relaxed);
        self.record.switch(is_on);
        self.changes.send_replace(());
        if is_on { 0 } else { self.drop_waiting() }
    }

    /// Changes when settings come into force, and when the queue closes.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Appends an event, or counts it as lost. Never waits.
    pub(super) fn push(&self, event: &AuditEvent) {
        let record = message::record(event);
        let mut waiting = self.waiting.lock();
        if waiting.events >= MAX_EVENTS || waiting.bytes + record.len() > MAX_BYTES {
            drop(waiting);
            self.record.lost(1);
            return;
        }
        let count = waiting.append(&record);
        self.record.waits();
        drop(waiting);
        if count == 1 || count == MAX_BATCH {
            self.filled.notify_one();
        }
    }

    /// The next batch, once enough wait or the first has waited for long enough; `None` when
    /// the queue is closing and empty.
    pub(super) async fn next(&self) -> Option<Batch> {
        while self.count() == 0 {
            if self.is_closing() {
                return None;
            }
            self.filled.notified().await;
        }
        let gather = async {
            while self.count() < MAX_BATCH && !self.is_closing() {
                self.filled.notified().await;
            }
        };
        // A batch that is not full is sent too.
        let _ = timeout(BATCH_INTERVAL, gather).await;
        Some(self.take())
    }

    fn take(&self) -> Batch {
        let mut waiting = self.waiting.lock();
        let batch = waiting.batches.pop_front().unwrap_or_default();
        waiting.events -= batch.events;
        waiting.bytes -= batch.records.len();
        waiting.on_their_way = batch.events;
        batch
    }

    /// The collector has answered about the events that were taken last: it took some of them.
    pub(super) fn settle(&self, exported: usize) {
        let mut waiting = self.waiting.lock();
        let taken = std::mem::take(&mut waiting.on_their_way);
        let exported = exported.min(taken);
        self.record.settled(taken);
        self.record.exported(exported as u64);
        self.record.lost((taken - exported) as u64);
    }

    /// No further event is taken, and what waits is sent at once.
    pub(super) fn close(&self) {
        self.is_on.store(false, Ordering::Relaxed);
        self.is_closing.store(true, Ordering::Relaxed);
        self.filled.notify_one();
        self.changes.send_replace(());
    }

    /// Counts everything that is not exported as lost. Returns how much that was.
    pub(super) fn abandon(&self) -> usize {
        let on_their_way = std::mem::take(&mut self.waiting.lock().on_their_way);
        self.record.settled(on_their_way);
        self.record.lost(on_their_way as u64);
        on_their_way + self.drop_waiting()
    }

    fn drop_waiting(&self) -> usize {
        let lost = {
            let mut waiting = self.waiting.lock();
            waiting.batches.clear();
            waiting.bytes = 0;
            std::mem::take(&mut waiting.events)
        };
        self.record.settled(lost);
        self.record.lost(lost as u64);
        lost
    }

    fn count(&self) -> usize {
        self.waiting.lock().events
    }
}

impl Waiting {
    /// Appends a record. Returns how many events wait.
    fn append(&mut self, record: &[u8]) -> usize {
        if self.batches.back().is_none_or(Batch::is_full) {
            self.batches.push_back(Batch::default());
        }
        if let Some(batch) = self.batches.back_mut() {
            batch.records.extend_from_slice(record);
            batch.events += 1;
        }
        self.bytes += record.len();
        self.events += 1;
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logging::sample_event;

    #[tokio::test(start_paused = true)]
    async fn o2_a_full_queue_loses_new_events_and_counts_them() {
        let queue = Queue::default();
        for _ in 0..MAX_EVENTS + 3 {
            queue.push(&sample_event());
        }
        assert_eq!(queue.record.counts().lost, 3);
        let mut taken = 0;
        queue.close();
        while let Some(batch) = queue.next().await {
            assert!(batch.events <= MAX_BATCH);
            taken += batch.events;
            queue.settle(batch.events);
        }
        assert_eq!(taken, MAX_EVENTS);
        let counts = queue.record.counts();
        assert_eq!((counts.exported, counts.lost), (MAX_EVENTS as u64, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn o2_events_gather_for_a_second_and_a_full_batch_goes_at_once() {
        let queue = Queue::default();
        let begun = tokio::time::Instant::now();
        queue.push(&sample_event());
        queue.push(&sample_event());
        assert_eq!(queue.next().await.map(|batch| batch.events), Some(2));
        assert_eq!(begun.elapsed(), BATCH_INTERVAL);
        let begun = tokio::time::Instant::now();
        // It waits already when the batch fills.
        let fill = async {
            for _ in 0..MAX_BATCH {
                queue.push(&sample_event());
                tokio::task::yield_now().await;
            }
        };
        let (batch, ()) = tokio::join!(queue.next(), fill);
        assert_eq!(batch.map(|batch| batch.events), Some(MAX_BATCH));
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn o2_events_that_the_collector_does_not_take_count_as_lost() {
        let queue = Queue::default();
        for _ in 0..5 {
            queue.push(&sample_event());
        }
        let batch = queue.next().await.expect("a batch");
        queue.settle(batch.events - 2);
        let counts = queue.record.counts();
        assert_eq!((counts.exported, counts.lost, counts.waiting), (3, 2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn o2_events_that_are_on_their_way_at_the_end_are_lost_too() {
        let queue = Queue::default();
        for _ in 0..MAX_BATCH + 5 {
            queue.push(&sample_event());
        }
        let batch = queue.next().await.expect("a batch");
        assert_eq!(queue.abandon(), batch.events + 5);
        assert_eq!(queue.record.counts().lost, (batch.events + 5) as u64);
        assert_eq!(queue.abandon(), 0, "each is counted once");
    }

    #[tokio::test(start_paused = true)]
    async fn o2_the_bytes_that_wait_are_bounded() {
        let queue = Queue::default();
        let mut large = sample_event();
        large.method = Some("M".repeat(60_000).into());
        for _ in 0..200 {
            queue.push(&large);
        }
        let waiting = queue.count();
        assert!(waiting * 60_000 <= MAX_BYTES, "{waiting}");
        assert_eq!(queue.record.counts().lost, 200 - waiting as u64);
        let batch = queue.next().await.expect("a batch");
        assert!(batch.events * 60_000 <= MAX_BATCH_BYTES + 60_000);
    }
}
