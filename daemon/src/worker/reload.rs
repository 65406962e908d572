//! Reloading: all of the new settings, or none of them (SPEC C7).
//!
//! Whoever asks, the monitor has a loader judge the files, and what comes back here is a
//! configuration that was found sound, or its problems.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use codex_network_config::load;
use codex_network_engine::Engine;
use codex_network_policy::{DomainSet, Policy};

use super::doors::Doors;
use super::link::{Link, Orders, Outcome};
use crate::privsep::message::ToMonitor;

/// How many changed rules of a list are logged one by one.
const LOGGED_RULES: usize = 20;

/// Puts new settings in force.
#[derive(Debug)]
pub(super) struct Reloader {
    engine: Engine,
    link: Arc<Link>,
    doors: Mutex<Doors>,
}

impl Reloader {
    pub(super) fn new(engine: Engine, link: Arc<Link>) -> Arc<Self> {
        Arc::new(Self {
            engine,
            link,
            doors: Mutex::default(),
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

    /// Asks for a reload. On any error the old settings stay in force, and the error is every
    /// problem, in words.
    pub(super) async fn reload(&self) -> Outcome {
        self.link.reload().await
    }

    /// A reload came to nothing: the configuration has problems. The monitor has logged them.
    pub(super) fn failed(&self, ticket: u32, problems: String) {
        self.link.reload_ended(ticket, Err(problems));
    }

    /// Puts settings in force that the monitor sends, and tells it and the asker.
    pub(super) async fn put_in_force(self: &Arc<Self>, orders: Orders) {
        let ticket = orders.ticket;
        let outcome = self.try_put_in_force(orders).await;
        match &outcome {
            Ok(()) => self.link.tell(&ToMonitor::Applied { ticket }),
            Err(why) => {
                tracing::error!("the reload failed: {why}; the old settings stay in force");
                self.link.tell(&ToMonitor::Rejected {
                    ticket,
                    why: why.clone(),
                });
            }
        }
        self.link.reload_ended(ticket, outcome);
    }

    async fn try_put_in_force(self: &Arc<Self>, orders: Orders) -> Outcome {
        let Orders {
            sources, listeners, ..
        } = orders;
        // Long lists take a while to compile: not on a thread that serves.
        let loaded = tokio::task::spawn_blocking(move || load(&sources))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|problems| problems.to_string())?;
        let settings = Arc::new(loaded.settings);
        let old = self.engine.current();
        let number = self
            .engine
            .replace(&settings)
            .map_err(|error| error.to_string())?;
        if let Err(error) = self.doors().change(&self.engine, self, listeners) {
            // Nothing but a full descriptor table stands between a bound socket and its service.
            let restored = self.engine.replace(old.settings());
            tracing::debug!(?restored, "the old settings are back");
            return Err(format!("{error:#}"));
        }
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
