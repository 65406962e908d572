//! The hourly reminder that hosts which are merely not allowed are let through (SPEC P12). Report-only is meant for the
//! weeks in which an allow list is made; forgotten, it would be a proxy that protects from little.

use std::time::Duration;

use codex_network_engine::Engine;
use codex_network_policy::Enforcement;

const REMINDER_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Logs a warning every hour while report-only is in force. It never ends.
pub(super) async fn remind(engine: Engine) {
    every_hour(|| reported(&engine), log).await;
}

async fn every_hour(reported: impl Fn() -> Option<u64>, mut log: impl FnMut(u64)) {
    loop {
        tokio::time::sleep(REMINDER_INTERVAL).await;
        if let Some(count) = reported() {
            log(count);
        }
    }
}

/// `reported`: the attempts since the start that would have been refused.
fn log(reported: u64) {
    tracing::warn!(
        reported,
        "report-only is in force (enforcement = \"report\"): hosts that are merely not allowed are let through"
    );
}

/// The attempts that would have been refused; `None` while everything is enforced.
fn reported(engine: &Engine) -> Option<u64> {
    let generation = engine.current();
    let policy = generation.policy();
    let reports = policy.is_enabled() && policy.enforcement() == Enforcement::Report;
    reports.then(|| engine.counters().reported)
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::sync::Arc;

    use codex_network_config::Settings;
    use codex_network_engine::EngineParts;
    use codex_network_policy::{Policy, PolicySpec};

    use super::*;

    fn engine(spec: &PolicySpec) -> Engine {
        let settings = Settings {
            policy: Arc::new(Policy::compile(spec).expect("short lists")),
            ..Settings::default()
        };
        Engine::new(Arc::new(settings), EngineParts::default()).expect("an engine")
    }

    #[tokio::test]
    async fn p12_only_a_proxy_that_reports_and_is_on_has_a_reminder() {
        let with = |enforcement, enabled| PolicySpec {
            enforcement,
            enabled,
            ..PolicySpec::default()
        };
        let reporting = engine(&with(Enforcement::Report, true));
        assert_eq!(reported(&reporting), Some(0));
        for silent in [
            with(Enforcement::Enforce, true),
            with(Enforcement::Report, false),
        ] {
            assert_eq!(reported(&engine(&silent)), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn p12_the_reminder_comes_every_hour_for_as_long_as_there_is_a_cause() {
        let (reports, lines) = (Cell::new(true), RefCell::new(Vec::new()));
        let reminded = every_hour(
            || reports.get().then_some(7),
            |count| lines.borrow_mut().push(count),
        );
        let minutes = async {
            for minute in 1..=300_u64 {
                tokio::time::sleep(Duration::from_secs(60)).await;
                // A minute after each hour, the reminder has been written.
                if minute % 60 == 1 {
                    let hours = usize::try_from(minute / 60).expect("a few");
                    assert_eq!(lines.borrow().len(), hours.min(2), "minute {minute}");
                }
                reports.set(minute < 150);
            }
        };
        tokio::select! {
            () = reminded => unreachable!("it never ends"),
            () = minutes => {}
        }
    }
}
