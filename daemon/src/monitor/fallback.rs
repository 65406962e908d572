//! Settings that stand in for a configuration that cannot be used (SPEC L16).
//!
//! A service must not end because of its configuration: its clients would fail, and repeated starts
//! make the service manager give its sockets up. So it starts on the last configuration that a
//! worker ran with, else on one that refuses everything, and tries its own again.

use std::time::{Duration, Instant};

use super::Monitor;
use super::load::{self, Arguments};
use crate::notify;
use crate::privsep::briefing::WhichConfiguration;
use crate::privsep::message::{Fallback, Problems};
use crate::privsep::settled::{Loaded, Power, Settled};

/// The waits before the configuration is tried again: the first and the longest.
const RETRY_INTERVALS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The settings in force stand in for the configuration.
pub(super) struct FallbackState {
    /// Why the configuration cannot be used.
    pub(super) problems: Problems,
    next: Instant,
    wait: Duration,
}

/// The settings to start with, and why they stand in for the configuration if they do.
///
/// # Errors
///
/// Why there are no settings. A program without a service manager always gets the configuration's
/// own problems, since its user sees them.
pub(super) fn first_settings(
    arguments: &Arguments,
    which: WhichConfiguration,
) -> Result<(Settled, Option<FallbackState>), Problems> {
    let problems = match settings(arguments, which) {
        Ok(settled) => return Ok((settled, None)),
        Err(problems) => problems,
    };
    if which == WhichConfiguration::Current {
        return Err(problems);
    }
    for (which, fallback) in [
        (WhichConfiguration::LastGood, Fallback::LastGood),
        (WhichConfiguration::Closed, Fallback::Closed),
    ] {
        if let Ok(mut settled) = settings(arguments, which) {
            settled.fallback = fallback;
            if fallback == Fallback::Closed {
                // Doors that answer say more than ports that refuse. The worker refuses everything.
                settled.power = Power::On;
            }
            return Ok((settled, Some(FallbackState::new(problems))));
        }
    }
    Err(problems)
}

fn settings(arguments: &Arguments, which: WhichConfiguration) -> Result<Settled, Problems> {
    match load::load(arguments, which) {
        Ok(Loaded::Settled(settled)) => Ok(settled),
        Ok(Loaded::Problems(problems)) => Err(problems),
        Ok(Loaded::Files(_) | Loaded::Credentials(_)) => Err(Problems::from(&anyhow::anyhow!(
            "the loader did something else"
        ))),
        Err(error) => Err(Problems::from(&error)),
    }
}

impl FallbackState {
    pub(super) fn new(problems: Problems) -> Self {
        Self {
            problems,
            next: Instant::now() + RETRY_INTERVALS.0,
            wait: RETRY_INTERVALS.0,
        }
    }

    /// When the configuration is tried again.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    fn put_off(&mut self) {
        self.wait = (self.wait * 2).min(RETRY_INTERVALS.1);
        self.next = Instant::now() + self.wait;
    }
}

impl Monitor {
    /// Logs why the configuration cannot be used, and what is in force instead.
    pub(super) fn log_fallback(&self) {
        let Some(fallback) = &self.fallback else {
            return;
        };
        log_problems(&fallback.problems);
        let in_force = match self.settled.fallback {
            Fallback::Closed => "there is no earlier one, so everything is refused",
            Fallback::LastGood | Fallback::None => "the last good one is in force",
        };
        // Set the status before the service reports that it is ready: a script that waits for
        // readiness can then read the status.
        notify::status(&format!("the configuration cannot be used: {in_force}"));
        tracing::error!(
            "the configuration cannot be used: {in_force}; run `codex-network-proxy check` and fix what it prints; \
             the proxy tries it again at least once a minute"
        );
    }

    /// Tries the configuration again, if it is time.
    pub(super) fn try_again(&mut self, now: Instant) {
        if let Some(fallback) = &mut self.fallback
            && fallback.next <= now
        {
            fallback.put_off();
            if let Some(begin) = self.reloads.request_by_signal() {
                self.begin(begin);
            }
        }
    }

    /// The configuration cannot be used, as before or in another way. Returns whether the log has
    /// it already.
    pub(super) fn is_known(&mut self, problems: &Problems) -> bool {
        match &mut self.fallback {
            Some(fallback) if fallback.problems == *problems => true,
            Some(fallback) => {
                fallback.problems = problems.clone();
                false
            }
            None => false,
        }
    }

    /// The settings in force have changed.
    pub(super) fn renew_fallback(&mut self) {
        let was = self.fallback.is_some();
        if self.settled.fallback == Fallback::None {
            self.fallback = None;
            if was {
                tracing::info!("the configuration can be used again, and is in force");
            }
        } else if !was {
            let why = anyhow::anyhow!("no worker starts on the configuration");
            self.fallback = Some(FallbackState::new(Problems::from(&why)));
        }
    }

    /// A worker runs with the settings in force: their copy becomes the last good one.
    pub(super) fn keep_copy(&mut self) {
        let Some(copy) = self.settled.copy.take() else {
            return;
        };
        let place = copy.with_extension("");
        if let Err(error) = std::fs::rename(&copy, &place) {
            // An older copy must not come back. Removing it fails if there is no older copy, which is
            // fine.
            let _ = std::fs::remove_file(&place);
            tracing::warn!(%error, path = %place.display(), "the last good configuration cannot be kept");
        }
    }
}

/// Logs the errors among the problems, a line each.
pub(super) fn log_problems(problems: &Problems) {
    let errors = problems
        .text
        .lines()
        .filter(|line| line.starts_with("error"));
    for line in errors {
        tracing::error!("{line}");
    }
}
