//! The cost of an audit event (SPEC R3), in JSON. `typed` is the way of the service: the event is queued
//! as a value and formatted by the thread that writes. `tracing` is its twin: the event is formatted
//! where it happens, as for an embedder. Quote ratios.
//!
//! - `queued`: 1000 events are put into the log's queue. This is the cost on the path of a request.
//! - `written`: the same, until the thread has written them (nowhere).
//! - `line`: one event becomes a line.
//! - `record`: one event becomes a record for a collector (SPEC O2), as each request pays for it.

use criterion::{criterion_group, criterion_main};

/// The service's own modules, which its library does not export.
#[path = "../src/worker/telemetry"]
#[expect(unused, reason = "the head of a request is not measured")]
mod telemetry {
    mod message;
    mod wire;

    pub(crate) fn record(event: &codex_network_engine::AuditEvent) -> Vec<u8> {
        message::record(event)
    }
}

/// The service's own modules, which its library does not export.
#[path = "../src/logging"]
#[expect(
    unused,
    reason = "the journal, text and the modules' tests are not measured"
)]
mod logging {
    mod captured;
    mod entry;
    mod format;
    mod outlet;
    #[cfg(test)]
    mod sample;

    use std::hint::black_box;
    use std::io;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use self::entry::{Logged, QueuedAudit};
    use self::format::LineFormat;
    use self::outlet::{Outlet, Sink, WaitingEntry};
    use codex_network_engine::{
        AuditEvent, AuditMetadata, AuditSink, ClientAddress, Override, Scope, ServerAddress,
        TracingAudit,
    };
    use codex_network_policy::{Host, Policy, PolicySpec, Protocol};
    use criterion::{BatchSize, Criterion, Throughput};
    use time::OffsetDateTime;
    use tracing::dispatcher::{Dispatch, with_default};
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{EnvFilter, fmt, registry};

    const EVENTS: u64 = 1000;

    type Lines = Outlet<Logged<Vec<u8>>>;
    /// Makes the sink whose lines go to a queue.
    type SinkOf = fn(Arc<Lines>) -> Arc<dyn AuditSink>;

    /// Formats what `tracing` has not, and writes it nowhere.
    #[derive(Default)]
    struct Nowhere(Vec<u8>);

    impl Sink<Logged<Vec<u8>>> for Nowhere {
        fn write(&mut self, entries: &[WaitingEntry<Logged<Vec<u8>>>]) -> (usize, io::Result<()>) {
            self.0.clear();
            for waiting in entries {
                match &waiting.entry {
                    Logged::Event(line) => self.0.extend_from_slice(line),
                    Logged::Audit(event) => LineFormat::Json.append(event, &mut self.0),
                }
            }
            black_box(&self.0);
            (entries.len(), Ok(()))
        }
    }

    /// Puts lines that `tracing-subscriber` has formatted into the queue, or drops them.
    struct Formatted(Option<Arc<Lines>>);

    impl<'a> MakeWriter<'a> for Formatted {
        type Writer = &'a Self;

        fn make_writer(&'a self) -> Self::Writer {
            self
        }
    }

    impl io::Write for &Formatted {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if let Some(outlet) = &self.0 {
                outlet.push(Logged::Event(line.to_vec()));
            }
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[cfg(test)]
    pub(crate) fn sample_event() -> AuditEvent {
        sample::event(None, "listed.test")
    }

    fn event(host: &Host, metadata: &Arc<AuditMetadata>) -> AuditEvent {
        let policy = Policy::compile(&PolicySpec::default()).expect("a policy");
        let decision = policy.decide_invalid_host();
        AuditEvent {
            timestamp: OffsetDateTime::now_utc(),
            scope: Scope::Domain,
            decision,
            reason: decision.reason().as_str().into(),
            overridden: Override::Kept,
            protocol: Protocol::Http,
            server_address: ServerAddress::Host(host.clone()),
            server_port: 443,
            method: Some("GET".into()),
            client_address: Some(ClientAddress::Connection(SocketAddr::from((
                [127, 0, 0, 1],
                54_321,
            )))),
            attempt_id: None,
            session: None,
            credential: None,
            rule: None,
            approval: None,
            metadata: Arc::clone(metadata),
            count: 1,
        }
    }

    fn outlet() -> Arc<Lines> {
        Outlet::new(|lost| Logged::Event(lost.to_string().into_bytes()))
    }

    /// A subscriber with the log's filter, whose lines go to this queue.
    fn subscriber(outlet: Option<&Arc<Lines>>) -> Dispatch {
        let lines = fmt::layer().json();
        let lines = lines.with_writer(Formatted(outlet.map(Arc::clone)));
        Dispatch::new(registry().with(EnvFilter::new("info")).with(lines))
    }

    pub(crate) fn audit(criterion: &mut Criterion) {
        let event = event(
            &Host::parse("registry.npmjs.org").expect("a host"),
            &Arc::default(),
        );
        let sinks: [(&str, SinkOf); 2] = [
            ("typed", |outlet| Arc::new(QueuedAudit(outlet))),
            ("tracing", |_| Arc::new(TracingAudit)),
        ];

        let mut group = criterion.benchmark_group("queued");
        group.throughput(Throughput::Elements(EVENTS));
        for (name, sink) in sinks {
            let fresh = || {
                let outlet = outlet();
                (subscriber(Some(&outlet)), sink(outlet))
            };
            group.bench_function(name, |bencher| {
                bencher.iter_batched(
                    fresh,
                    |(subscriber, sink)| {
                        with_default(&subscriber, || {
                            (0..EVENTS).for_each(|_| sink.record(event.clone()));
                        });
                        (subscriber, sink)
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();

        let mut group = criterion.benchmark_group("written");
        group.throughput(Throughput::Elements(EVENTS));
        for (name, sink) in sinks {
            let outlet = outlet();
            outlet.start(Nowhere::default()).expect("a thread");
            let (subscriber, sink) = (subscriber(Some(&outlet)), sink(Arc::clone(&outlet)));
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    with_default(&subscriber, || {
                        (0..EVENTS).for_each(|_| sink.record(event.clone()));
                    });
                    outlet.flush(Duration::from_secs(10));
                });
            });
        }
        group.finish();

        let mut group = criterion.benchmark_group("line");
        let mut batch = Vec::new();
        group.bench_function("typed", |bencher| {
            bencher.iter(|| {
                batch.clear();
                LineFormat::Json.append(black_box(&event), &mut batch);
            });
        });
        with_default(&subscriber(None), || {
            group.bench_function("tracing", |bencher| {
                bencher.iter(|| TracingAudit.record(event.clone()));
            });
        });
        group.finish();

        criterion.bench_function("record", |bencher| {
            bencher.iter(|| crate::telemetry::record(black_box(&event)));
        });
    }
}

criterion_group!(benches, logging::audit);
criterion_main!(benches);
