//! The event at the end of a permitted attempt, under the target `codex_network_proxy.flow` (SPEC R5).
//! It has the fields of the decision, so one query finds both.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use codex_network_config::LogFlows;

use super::AuditEvent;
use crate::outcome::Ending;

const TARGET: &str = "codex_network_proxy.flow";

/// The level of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlowLevel {
    Info,
    Debug,
}

/// The end of a permitted attempt.
pub(crate) struct FlowEvent<'a> {
    pub(crate) decided: AuditEvent,
    pub(crate) ending: &'a Ending,
    /// Bytes from the client to the upstream, and back.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) duration: Duration,
    pub(crate) peer: Option<SocketAddr>,
}

impl FlowLevel {
    /// The level of an event with this end.
    pub(crate) fn of(ending: &Ending, log: LogFlows) -> Self {
        match (log, ending.is_failure()) {
            (LogFlows::All, _) | (LogFlows::Failures, true) => Self::Info,
            (LogFlows::Failures, false) => Self::Debug,
        }
    }

    /// Whether a subscriber takes events of this level. It is cheap, and checked before formatting.
    pub(crate) fn is_enabled(self) -> bool {
        match self {
            Self::Info => tracing::enabled!(target: TARGET, tracing::Level::INFO),
            Self::Debug => tracing::enabled!(target: TARGET, tracing::Level::DEBUG),
        }
    }
}

/// The event at one level, which `tracing` needs as a constant.
macro_rules! write_at {
    ($level:expr, $flow:expr, $milliseconds:expr) => {
        decided!(
            TARGET,
            $level,
            "codex.network_proxy.flow",
            &$flow.decided,
            network.flow.outcome = $flow.ending.outcome.as_str(),
            network.flow.reason = $flow.ending.reason.map(|reason| reason.as_str()),
            network.flow.fault = $flow.ending.fault.map(|fault| fault.as_str()),
            network.flow.cause = $flow.ending.cause.as_deref(),
            network.flow.detail = $flow.ending.detail.as_deref(),
            network.flow.sent_bytes = $flow.sent,
            network.flow.received_bytes = $flow.received,
            network.flow.duration_ms = $milliseconds,
            network.peer.address = $flow.peer.map(|peer| tracing::field::display(peer.ip())),
            network.peer.port = $flow.peer.map(|peer| peer.port()),
            "{}",
            $flow,
        )
    };
}

impl FlowEvent<'_> {
    pub(crate) fn write(&self, level: FlowLevel) {
        let milliseconds = self.milliseconds();
        match level {
            FlowLevel::Info => write_at!(tracing::Level::INFO, self, milliseconds),
            FlowLevel::Debug => write_at!(tracing::Level::DEBUG, self, milliseconds),
        }
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.duration.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The message: `upstream_failed http a.test:80: the connection was refused (0 bytes sent, 0 received,
/// 3 ms)`.
impl fmt::Display for FlowEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            decided,
            ending,
            sent,
            received,
            ..
        } = self;
        let outcome = ending.outcome.as_str();
        write!(
            f,
            "{outcome} {} {}:{}",
            decided.protocol, decided.server_address, decided.server_port
        )?;
        if let Some(cause) = &ending.cause {
            write!(f, ": {cause}")?;
        }
        if let Some(detail) = &ending.detail {
            write!(f, ": {detail}")?;
        }
        let milliseconds = self.milliseconds();
        write!(
            f,
            " ({sent} bytes sent, {received} received, {milliseconds} ms)"
        )
    }
}
