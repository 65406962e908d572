//! Values of credentials that were read again while the engine runs (SPEC B13).

use std::time::Duration;

use codex_network_config::CredentialReading;

use super::Engine;

/// Shortest time between two looks at the ages of values.
const MIN_LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Engine {
    /// Takes results of reading sources of credentials again. Sessions use the new values from then on, under
    /// the same dummies. A source that could not be read leaves the value as it is, and is logged when the cause
    /// is a new one.
    pub fn renew_credentials(&self, later: &[CredentialReading]) {
        let before = self.current();
        let mut readings = before.supplied().credentials.clone();
        for reading in later {
            let old = readings.of(&reading.source);
            let old = old.and_then(|old| old.failure.as_ref());
            if let Some(why) = reading.failure.as_ref().filter(|why| old != Some(*why)) {
                let source = &reading.source;
                tracing::warn!("a credential ({source}) {why}; the value before stays in use");
            }
            readings = readings.renewed(reading);
        }
        self.shared.live().renew_credentials(&readings);
        self.renew_values(&readings);
        let sources = later.iter().map(|reading| &reading.source);
        self.shared.renewals.note(sources);
    }

    /// Has values read again ahead of the end of their time, until the drain begins.
    pub fn follow_credentials(&self) {
        let engine = self.clone();
        self.shared.drain.spawn_until_begun(async move {
            let mut generations = engine.shared.live().watch();
            let mut results = engine.shared.renewals.results();
            loop {
                let now = engine.shared.recorder().now();
                let current = engine.current();
                let readings = &current.supplied().credentials;
                let due = engine.shared.renewals.request_due(readings, now);
                drop(current);
                let other = generations.changed();
                match due {
                    Some(due) => {
                        let look = tokio::time::sleep(due.max(MIN_LOOK_INTERVAL));
                        tokio::select! {
                            () = look => {}
                            // The engine has them.
                            _ = results.changed() => {}
                            other = other => if other.is_err() { return },
                        }
                    }
                    None if other.await.is_err() => return,
                    None => {}
                }
            }
        });
    }
}
