//! The way to the collector of audit events, for the owner of an engine that exports them (SPEC O2).

use std::time::Duration;

use codex_network_config::Settings;
use codex_network_policy::Authority;

use super::Engine;
use crate::upstream::{CollectorConnection, CollectorError};

/// The place of the collector.
pub(super) fn collector_of(settings: &Settings) -> Option<&Authority> {
    let collector = settings.daemon.telemetry.collector.as_ref();
    collector.map(|collector| &collector.authority)
}

impl Engine {
    /// Opens a connection to the collector in the settings in force, with the proxy's resolver, dialler and TLS. It
    /// leads nowhere else. No client can reach the addresses of the collector at its port.
    ///
    /// # Errors
    ///
    /// Returns an error if the settings name no collector, it cannot be reached within `limit`, or it
    /// cannot be verified.
    pub async fn connect_collector(
        &self,
        limit: Duration,
    ) -> Result<CollectorConnection, CollectorError> {
        let generation = self.current();
        let (upstream, enforcer) = (&self.shared.upstream, &self.shared.enforcer);
        upstream
            .connect_collector(enforcer, &generation, limit)
            .await
    }
}
