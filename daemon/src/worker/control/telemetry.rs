//! The export of audit events, for `status` (SPEC O2).

use codex_network_config::Settings;
use codex_network_control::message::TelemetryExport;

use crate::observation::TelemetryCounts;

/// The counts; `None` if there is no collector.
pub(super) fn exported(
    settings: &Settings,
    counts: Option<TelemetryCounts>,
) -> Option<TelemetryExport> {
    let telemetry = &settings.daemon.telemetry;
    let (collector, counts) = (telemetry.collector.as_ref()?, counts?);
    Some(TelemetryExport {
        collector: collector.to_string(),
        protocol: telemetry.protocol.as_str().to_owned(),
        exported: counts.exported,
        lost: counts.lost,
        waiting: counts.waiting,
    })
}
