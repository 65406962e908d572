//! `GET /metrics`: an [`Observation`] in the text format of `OpenMetrics` (SPEC O1).
//!
//! Each label has few values, which are known in advance: no host, client, user or path is one.

use std::fmt;

use codex_network_engine::OutcomeCounts;
use http::StatusCode;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text::encode};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::{Registry, Unit};

use super::ApiAnswer;
use super::answer::{own, text};
use crate::observation::{Observation, Part};

/// The beginning of each name.
const PREFIX: &str = "codex_network_proxy";
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names and values of labels.
type Labels<const N: usize> = [(&'static str, &'static str); N];
/// The type of the exemplars, of which there are none.
type NoExemplar = Exemplar<Labels<0>, f64>;

/// One scrape.
#[derive(Debug)]
struct Scrape(Observation);

/// The metrics of an observation.
pub(super) fn answer(observation: Observation) -> ApiAnswer {
    match written(observation) {
        Ok(metrics) => own(StatusCode::OK, CONTENT_TYPE, metrics),
        Err(error) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("cannot write the metrics: {error}"),
        ),
    }
}

fn written(observation: Observation) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape(observation)));
    let mut metrics = String::with_capacity(16 * 1024);
    encode(&mut metrics, &registry)?;
    Ok(metrics)
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Self(seen) = self;
        let encoder = &mut encoder;
        build(encoder, seen)?;
        decisions(encoder, seen)?;
        let measured = &seen.measurements;
        let counters = &seen.counters;
        let doors = measured.connections;
        let doors = doors.map(|(door, open)| ([("door", door.as_str())], open as u64));
        gauges(
            encoder,
            "connections_open",
            "Open client connections",
            &doors,
        )?;
        gauge(
            encoder,
            "sessions_open",
            "Open sessions",
            measured.sessions as u64,
        )?;
        let help = "Questions that wait for the answer of a person";
        gauge(
            encoder,
            "questions_pending",
            help,
            measured.questions as u64,
        )?;
        let bytes = [("sent", measured.sent), ("received", measured.received)];
        let bytes = bytes.map(|(direction, count)| ([("direction", direction)], count));
        counters_of(
            encoder,
            "bytes",
            "Bytes that requests and tunnels moved, as clients count",
            &bytes,
        )?;
        durations(
            encoder,
            "dial",
            "Time to reach an address of a host or an upstream proxy",
            &[([], &measured.dial)],
        )?;
        durations(
            encoder,
            "dns",
            "Time to resolve a name, from the cache too",
            &[([], &measured.dns)],
        )?;
        durations(
            encoder,
            "handshake",
            "Time of a TLS handshake of an intercepted connection",
            &[
                ([("side", "client")], &measured.client_handshake),
                ([("side", "origin")], &measured.origin_handshake),
            ],
        )?;
        let help = "Connections to upstreams that wait for a request";
        gauge(encoder, "pool_idle", help, counters.idle_upstream as u64)?;
        let leaves = [
            ("cached", measured.leaves_cached),
            ("issued", measured.leaves_issued),
            ("failed", measured.leaves_failed),
        ];
        let leaves = leaves.map(|(outcome, count)| ([("outcome", outcome)], count));
        counters_of(
            encoder,
            "leaf_cache",
            "Requests for the leaf certificate of a host",
            &leaves,
        )?;
        let reloads = [
            ("applied", seen.reloads_applied),
            ("failed", seen.reloads_failed),
        ];
        let reloads = reloads.map(|(outcome, count)| ([("outcome", outcome)], count));
        counters_of(encoder, "reloads", "Reloads of the configuration", &reloads)?;
        process(encoder, seen)
    }
}

/// The metrics of the process, and of what is degraded.
fn process(encoder: &mut DescriptorEncoder, seen: &Observation) -> fmt::Result {
    if let Some(restarts) = seen.restarts {
        let help = "Workers that were replaced since the start of the service";
        counters_of(encoder, "worker_restarts", help, &[([], restarts.into())])?;
    }
    if let Some(lost) = seen.log_lines_lost {
        counters_of(
            encoder,
            "log_lines_lost",
            "Log lines that were lost",
            &[([], lost)],
        )?;
    }
    if let Some(counts) = &seen.telemetry {
        let help = "Audit events that the collector took";
        let exported = [([], counts.exported)];
        counters_of(encoder, "telemetry_events_exported", help, &exported)?;
        let help = "Audit events that no collector took";
        counters_of(encoder, "telemetry_events_lost", help, &[([], counts.lost)])?;
        let help = "Audit events that wait for the collector";
        gauge(encoder, "telemetry_events_waiting", help, counts.waiting)?;
    }
    if let Some((open, limit)) = seen.descriptors {
        gauge(encoder, "descriptors_open", "Open file descriptors", open)?;
        gauge(
            encoder,
            "descriptors_limit",
            "File descriptors that may be open",
            limit,
        )?;
    }
    let degraded = Part::ALL.map(|part| {
        let is_degraded = seen.faults.iter().any(|fault| fault.part == part);
        ([("part", part.as_str())], u64::from(is_degraded))
    });
    gauges(
        encoder,
        "degraded",
        "Whether a part of the proxy is degraded",
        &degraded,
    )
}

fn build(encoder: &mut DescriptorEncoder, seen: &Observation) -> fmt::Result {
    let prints = &seen.fingerprints;
    let labels = [
        ("version", seen.version),
        (
            "fingerprint",
            prints.settings.as_deref().unwrap_or_default(),
        ),
        ("rules", prints.rules.as_deref().unwrap_or_default()),
        (
            "requirements",
            prints.requirements.as_deref().unwrap_or_default(),
        ),
        ("ca", prints.ca.as_deref().unwrap_or_default()),
    ];
    let help = "The version, and the fingerprints of what is in force";
    let mut metric = encoder.encode_descriptor("build", help, None, MetricType::Info)?;
    metric.encode_info(&labels)
}

fn decisions(encoder: &mut DescriptorEncoder, seen: &Observation) -> fmt::Result {
    let decisions = seen.measurements.decisions.iter();
    let decisions: Vec<_> = decisions
        .map(|made| {
            let labels = [
                ("verdict", made.verdict.as_str()),
                ("reason", made.reason.as_str()),
                ("protocol", made.protocol.audit_name()),
            ];
            (labels, made.count)
        })
        .collect();
    counters_of(encoder, "decisions", "Decisions about requests", &decisions)
}

fn counters_of<const N: usize>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: &[(Labels<N>, u64)],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, count) in values {
        if N == 0 {
            metric.encode_counter(count, None::<&NoExemplar>)?;
        } else {
            let mut metric = metric.encode_family(labels)?;
            metric.encode_counter(count, None::<&NoExemplar>)?;
        }
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: u64) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    metric.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))
}

fn gauges<const N: usize>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: &[(Labels<N>, u64)],
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (labels, value) in values {
        let mut metric = metric.encode_family(labels)?;
        metric.encode_gauge(&i64::try_from(*value).unwrap_or(i64::MAX))?;
    }
    Ok(())
}

/// Histograms in seconds, for each outcome. `extra` are further labels.
fn durations<const N: usize>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    values: &[(Labels<N>, &OutcomeCounts)],
) -> fmt::Result {
    let unit = Unit::Seconds;
    let mut metric = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
    for (extra, counts) in values {
        for (outcome, counts) in [("succeeded", &counts.succeeded), ("failed", &counts.failed)] {
            let mut labels = extra.to_vec();
            labels.push(("outcome", outcome));
            let mut metric = metric.encode_family(&labels)?;
            metric.encode_histogram(
                counts.sum,
                counts.count(),
                &counts.buckets,
                None::<&std::collections::HashMap<usize, NoExemplar>>,
            )?;
        }
    }
    Ok(())
}
