//! The export of audit events to an OpenTelemetry collector (SPEC O2).
//!
//! The doors write records of events into a bounded [`Queue`], which never makes a request wait. From there they go
//! in batches to the collector: one batch at a time, until it takes it or refuses it for good. While the collector
//! takes nothing, the queue fills up and further events are lost and counted.
//!
//! The worker opens no file and dials only through the engine: the header fields and certificates are in the
//! settings, and the engine connects to the collector in them and to nothing else.

mod delivery;
mod grpc;
mod http1;
mod link;
mod message;
mod outcome;
mod queue;
mod transport;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use codex_network_engine::{AuditEvent, AuditSink, Engine, Volume};
use tokio::task::JoinHandle;

use self::delivery::Delivery;
use self::message::Origin;
use self::queue::Queue;
use crate::observation::TelemetryRecord;

/// How long an ending process goes on to export what waits. The monitor waits a little longer.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// The exporter of this process.
#[derive(Debug)]
pub(super) struct Telemetry {
    queue: Arc<Queue>,
    origin: Origin,
}

/// The exporter at work.
#[derive(Debug)]
pub(super) struct Exporting {
    queue: Arc<Queue>,
    delivery: JoinHandle<()>,
}

/// Takes each event for the log and for the collector.
struct LogAndCollector {
    log: Arc<dyn AuditSink>,
    queue: Arc<Queue>,
}

impl Telemetry {
    /// Finds out on which machine the process runs. Call it before the process is confined.
    pub(super) fn new() -> Self {
        Self {
            queue: Arc::new(Queue::default()),
            origin: Origin::of_process(),
        }
    }

    /// The counts.
    pub(super) fn record(&self) -> Arc<TelemetryRecord> {
        Arc::clone(self.queue.record())
    }

    /// A sink of audit events that are logged and exported.
    pub(super) fn sink(&self, log: Arc<dyn AuditSink>) -> Arc<dyn AuditSink> {
        Arc::new(LogAndCollector {
            log,
            queue: Arc::clone(&self.queue),
        })
    }

    /// Begins to export. Call it in the runtime that does.
    pub(super) fn start(self, engine: Engine) -> Exporting {
        let exporting = |delivery| Exporting {
            queue: Arc::clone(&self.queue),
            delivery,
        };
        follow(&self.queue, &engine);
        let delivery = Delivery::new(Arc::clone(&self.queue), engine, self.origin);
        exporting(tokio::spawn(delivery.run()))
    }
}

impl Exporting {
    /// Settings were put in force: goes on with their collector.
    pub(super) fn follow(&self, engine: &Engine) {
        follow(&self.queue, engine);
    }

    /// Exports what waits within a bound. The rest is lost, and the log says how much.
    pub(super) async fn finish(self) {
        self.queue.close();
        let mut delivery = self.delivery;
        if tokio::time::timeout(FINISH_TIMEOUT, &mut delivery)
            .await
            .is_err()
        {
            delivery.abort();
        }
        let lost = self.queue.abandon();
        if lost > 0 {
            tracing::warn!(lost, "audit events were not exported before the end");
        }
    }
}

fn follow(queue: &Queue, engine: &Engine) {
    let generation = engine.current();
    let telemetry = &generation.settings().daemon.telemetry;
    let lost = queue.switch(telemetry.collector.is_some());
    if lost > 0 {
        tracing::warn!(
            lost,
            "audit events were not exported: there is no collector any more"
        );
    }
}

impl AuditSink for LogAndCollector {
    fn record(&self, event: AuditEvent) {
        if !self.queue.is_on() {
            return self.log.record(event);
        }
        self.queue.push(&event);
        if self.log.is_enabled() {
            self.log.record(event);
        }
    }

    fn is_enabled(&self) -> bool {
        self.queue.is_on() || self.log.is_enabled()
    }

    fn volume(&self) -> Volume {
        Volume::Bounded
    }
}
