//! Reloading: all of the new settings, or none of them (SPEC C7).

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use codex_network_config::{Diagnostic, Diagnostics, Loaded, Settings, Sources, load};
use codex_network_control::message::{LastReload, Outcome};
use codex_network_engine::Engine;
use codex_network_policy::{DomainSet, Policy};

use super::control::{Admitted, SystemDirectory};
use super::listen::Doors;

/// How many changed rules of a list are logged one by one.
const LOGGED_RULES: usize = 20;

/// Loads the configuration again and puts it in force, one reload at a time.
#[derive(Debug)]
pub(super) struct Reloader {
    engine: Engine,
    sources: Sources,
    doors: Mutex<Doors>,
    /// What is known about the settings in force and how they came about.
    told: Mutex<Told>,
    /// Held for the whole of a reload: a second one waits and then sees newer files.
    one_at_a_time: tokio::sync::Mutex<()>,
}

/// What `status` tells about settings and reloads, and whom the settings admit.
#[derive(Debug)]
struct Told {
    /// A generation's number, and when it came into force.
    generation: (u64, i64),
    last: Option<LastReload>,
    /// What the settings in force do not do although they seem to say so.
    warnings: Vec<String>,
    admitted: Arc<Admitted>,
}

/// Settings with what was looked up for them.
struct Prepared {
    loaded: Loaded,
    admitted: Admitted,
    warnings: Vec<String>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    /// The files have problems.
    #[error("{0}")]
    Configuration(Diagnostics),
    /// The settings are sound but cannot be put in force here.
    #[error("{0:#}")]
    Unusable(anyhow::Error),
}

impl Reloader {
    /// For an engine that was just started with `settings`. Logs the `warnings` about them.
    pub(super) fn new(
        engine: Engine,
        sources: Sources,
        settings: &Settings,
        warnings: &[Diagnostic],
    ) -> Arc<Self> {
        let (admitted, warnings) = look_up(settings, warnings);
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let told = Told {
            generation: (engine.current().number(), unix_seconds(SystemTime::now())),
            last: None,
            warnings,
            admitted: Arc::new(admitted),
        };
        Arc::new(Self {
            engine,
            sources,
            doors: Mutex::default(),
            told: Mutex::new(told),
            one_at_a_time: tokio::sync::Mutex::new(()),
        })
    }

    /// Takes the open listeners over.
    pub(super) fn keep(&self, doors: Doors) {
        *self.doors() = doors;
    }

    /// The open listeners: name and address.
    pub(super) fn listeners(&self) -> Vec<(&'static str, SocketAddr)> {
        self.doors().listening()
    }

    /// The last reload, whatever came of it.
    pub(super) fn last(&self) -> Option<LastReload> {
        self.told().last.clone()
    }

    /// What the settings in force do not do although they seem to say so, a line each.
    pub(super) fn warnings(&self) -> Vec<String> {
        self.told().warnings.clone()
    }

    /// The callers of the control socket whom the settings in force admit.
    pub(super) fn admitted(&self) -> Arc<Admitted> {
        Arc::clone(&self.told().admitted)
    }

    /// Remembers since when a generation is in force: since now.
    pub(super) fn note_generation(&self, number: u64) {
        let mut told = self.told();
        // Two changes may get here in either order.
        if number > told.generation.0 {
            told.generation = (number, unix_seconds(SystemTime::now()));
        }
    }

    /// Since when a generation is in force, in seconds since 1970, if that was noted.
    pub(super) fn in_force_since(&self, number: u64) -> Option<i64> {
        let (noted, since) = self.told().generation;
        (noted == number).then_some(since)
    }

    /// Closes the listeners.
    pub(super) fn close(&self) {
        *self.doors() = Doors::default();
    }

    /// Reloads. On any error the old settings stay in force, and the log says why.
    pub(super) async fn reload(self: &Arc<Self>) -> Result<(), ReloadError> {
        let _turn = self.one_at_a_time.lock().await;
        let reloaded = self.try_reload().await;
        match &reloaded {
            Ok(()) => {}
            Err(ReloadError::Configuration(problems)) => {
                for problem in problems {
                    tracing::error!("{}", problem.one_line());
                }
                tracing::error!("the reload failed: the old settings stay in force");
            }
            Err(ReloadError::Unusable(error)) => {
                tracing::error!("the reload failed: {error:#}; the old settings stay in force");
            }
        }
        let (outcome, problems) = match &reloaded {
            Ok(()) => (Outcome::Applied, self.warnings()),
            Err(ReloadError::Configuration(problems)) => (
                Outcome::Failed,
                problems.iter().map(Diagnostic::one_line).collect(),
            ),
            Err(ReloadError::Unusable(error)) => (Outcome::Failed, vec![format!("{error:#}")]),
        };
        self.told().last = Some(LastReload {
            at: unix_seconds(SystemTime::now()),
            outcome,
            problems,
        });
        reloaded
    }

    async fn try_reload(self: &Arc<Self>) -> Result<(), ReloadError> {
        let sources = self.sources.clone();
        // Long lists take a while to compile, and files may be slow: not on a thread that serves.
        let prepared = tokio::task::spawn_blocking(move || prepare(&sources))
            .await
            .map_err(|error| ReloadError::Unusable(error.into()))?
            .map_err(ReloadError::Configuration)?;
        let settings = Arc::new(prepared.loaded.settings);
        let pending = self
            .doors()
            .prepare(&self.engine, self, &settings)
            .map_err(ReloadError::Unusable)?;
        let old = self.engine.current();
        let number = self
            .engine
            .replace(&settings)
            .map_err(|error| ReloadError::Unusable(error.into()))?;
        // The new listeners accept already; only now do the old ones close.
        self.doors().apply(pending);
        self.note_generation(number);
        for warning in &prepared.warnings {
            tracing::warn!("{warning}");
        }
        if old.settings().daemon.control.socket != settings.daemon.control.socket {
            tracing::warn!("the control socket stays where it is until the proxy is restarted");
        }
        self.tell(prepared.warnings, prepared.admitted);
        let (before, after) = (old.policy().clone(), Arc::clone(&settings.policy));
        let logged = tokio::task::spawn_blocking(move || log_changes(&before, &after)).await;
        if let Err(error) = logged {
            tracing::warn!(%error, "the changes of the lists could not be logged");
        }
        tracing::info!(
            generation = number,
            mode = settings.policy.mode().as_str(),
            allow_rules = settings.policy.allowed().len(),
            deny_rules = settings.policy.denied().len(),
            "reloaded"
        );
        Ok(())
    }

    fn tell(&self, warnings: Vec<String>, admitted: Admitted) {
        let mut told = self.told();
        told.warnings = warnings;
        told.admitted = Arc::new(admitted);
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything about a reload that may take a while.
fn prepare(sources: &Sources) -> Result<Prepared, Diagnostics> {
    let loaded = load(sources)?;
    let (admitted, warnings) = look_up(&loaded.settings, &loaded.warnings);
    Ok(Prepared {
        loaded,
        admitted,
        warnings,
    })
}

/// The callers whom settings admit, and everything to be warned of about the settings.
fn look_up(settings: &Settings, warnings: &[Diagnostic]) -> (Admitted, Vec<String>) {
    let (admitted, unknown) = Admitted::resolve(&settings.daemon.control, &SystemDirectory);
    let warnings = warnings.iter().map(Diagnostic::one_line).chain(unknown);
    (admitted, warnings.collect())
}

/// A time as messages carry it: seconds since 1970 (UTC).
pub(super) fn unix_seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn log_changes(old: &Policy, new: &Policy) {
    if old.mode() != new.mode() {
        tracing::info!(
            from = old.mode().as_str(),
            to = new.mode().as_str(),
            "the mode changes"
        );
    }
    if old.is_enabled() != new.is_enabled() {
        tracing::warn!(enabled = new.is_enabled(), "the proxy is switched");
    }
    log_difference("allow", old.allowed(), new.allowed());
    log_difference("deny", old.denied(), new.denied());
}

fn log_difference(list: &'static str, old: &DomainSet, new: &DomainSet) {
    let patterns = |set: &DomainSet| set.rules().map(|rule| rule.pattern).collect::<HashSet<_>>();
    let (old, new) = (patterns(old), patterns(new));
    for (change, from, to) in [("added", &old, &new), ("removed", &new, &old)] {
        let mut changed: Vec<&String> = to.difference(from).collect();
        changed.sort_unstable();
        for pattern in changed.iter().take(LOGGED_RULES) {
            tracing::info!(list, change, %pattern, "a rule changes");
        }
        if let Some(more) = changed
            .len()
            .checked_sub(LOGGED_RULES)
            .filter(|more| *more > 0)
        {
            tracing::info!(list, change, more, "more rules change");
        }
    }
}
