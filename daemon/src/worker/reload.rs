//! Reloading: all of the new settings, or none of them (SPEC C7).

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use codex_network_config::{Diagnostics, Sources, load};
use codex_network_engine::Engine;
use codex_network_policy::{DomainSet, Policy};

use super::listen::Doors;

/// How many changed rules of a list are logged one by one.
const LOGGED_RULES: usize = 20;

/// Loads the configuration again and puts it in force, one reload at a time.
#[derive(Debug)]
pub(super) struct Reloader {
    engine: Engine,
    sources: Sources,
    doors: Mutex<Doors>,
    /// Held for the whole of a reload: a second one waits and then sees newer files.
    one_at_a_time: tokio::sync::Mutex<()>,
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
    pub(super) fn new(engine: Engine, sources: Sources) -> Arc<Self> {
        Arc::new(Self {
            engine,
            sources,
            doors: Mutex::default(),
            one_at_a_time: tokio::sync::Mutex::new(()),
        })
    }

    /// Takes the open listeners over.
    pub(super) fn keep(&self, doors: Doors) {
        *self.doors() = doors;
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
        reloaded
    }

    async fn try_reload(self: &Arc<Self>) -> Result<(), ReloadError> {
        let sources = self.sources.clone();
        // Long lists take a while to compile, and files may be slow: not on a thread that serves.
        let loaded = tokio::task::spawn_blocking(move || load(&sources))
            .await
            .map_err(|error| ReloadError::Unusable(error.into()))?
            .map_err(ReloadError::Configuration)?;
        let settings = Arc::new(loaded.settings);
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
        for warning in &loaded.warnings {
            tracing::warn!("{}", warning.one_line());
        }
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

    fn doors(&self) -> std::sync::MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
