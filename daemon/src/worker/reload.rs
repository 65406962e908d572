//! Reloading: all of the new settings, or none of them (SPEC C7).
//!
//! For every reload the monitor has a loader check the files. This module gets a valid
//! configuration, or its problems.

mod guard;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::SystemTime;

use codex_network_config::{Daemon, Diagnostic, Settings, Widening, load};
use codex_network_control::ReloadProblem;
use codex_network_control::message::{LastReload, ReloadOutcome};
use codex_network_engine::{Engine, Generation, GenerationNumber, OwnListener};
use codex_network_policy::{DomainSet, EntryChange, Mode, Policy};
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;

use super::doors::Doors;
use super::issuer::MonitorIssuer;
use super::link::{Link, NewSettings};
use super::system_files;
use crate::admin::{Owner, Unchanged};
use crate::memory;
use crate::observation::{Condition, Observation, Observer, ProcessFacts, unix_seconds};
use crate::opaque::file_contents::ReceivedFiles;
use crate::permitted_callers::PermittedCallers;
use crate::privsep::message::{Fallback, Problems, ToMonitor};
use crate::privsep::ticket::Ticket;
use crate::problems::ReloadError;

/// How many changed rules of a list are logged one by one.
const MAX_LOGGED_RULES: usize = 20;
/// Where users who may read the files find the parts that the admin API leaves out.
const WHERE_TO_SEE_ALL: &str =
    "`proxyctl reload` and `codex-network-proxy check` show what `…` stands for";

/// The warning while the settings in force are those of an earlier configuration (SPEC L16).
const LAST_GOOD: &str = "the last good configuration is in force, since the present one cannot be used; run \
                         `codex-network-proxy check` and fix what it prints";
/// The same while everything is refused.
const CLOSED: &str = "everything is refused, since the configuration cannot be used and there is no earlier one; run \
                      `codex-network-proxy check` and fix what it prints";

/// Puts new settings in force.
#[derive(Debug)]
pub(super) struct Reloader {
    engine: Engine,
    link: Arc<Link>,
    issuer: Arc<MonitorIssuer>,
    doors: Mutex<Doors>,
    /// The addresses of listeners that come with the next settings and do not listen yet.
    announced: Mutex<Vec<OwnListener>>,
    /// Held while the mode changes, so that the monitor gets the changes in order.
    mode: Mutex<()>,
    /// Facts about the settings in force.
    status: Mutex<ReloadStatus>,
    observer: Observer,
    /// Notified when settings with their permitted callers are in force.
    changes: watch::Sender<()>,
    /// Settings that a reload has replaced. Open connections may still use them.
    replaced: Mutex<Vec<Weak<Generation>>>,
}

/// Facts for `status` about settings and reloads, and the permitted callers.
#[derive(Debug)]
struct ReloadStatus {
    /// A generation's number, and when it came into force.
    generation: (GenerationNumber, i64),
    last: Option<LastReload>,
    /// Warnings: settings in force that do not do what they seem to say.
    warnings: Vec<String>,
    /// Warnings about the files of the system, as they were read last.
    file_warnings: Vec<String>,
    /// Whether the settings in force stand in for a configuration that cannot be used.
    fallback: Fallback,
    admitted: Arc<PermittedCallers>,
}

/// A change of settings.
struct AppliedChange {
    /// The number of the new generation.
    number: GenerationNumber,
    old: Arc<Settings>,
    /// The policy that was in force, with the mode that was set at run time.
    before: Policy,
    new: Arc<Settings>,
}

impl Reloader {
    /// Makes the reloader of an engine that has just started. Logs the `warnings` about its
    /// settings.
    pub(super) fn new(
        engine: Engine,
        link: Arc<Link>,
        issuer: Arc<MonitorIssuer>,
        admitted: PermittedCallers,
        fallback: Fallback,
        [warnings, file_warnings]: [Vec<String>; 2],
        process: ProcessFacts,
    ) -> Arc<Self> {
        for warning in warnings.iter().chain(&file_warnings) {
            tracing::warn!("{warning}");
        }
        let status = ReloadStatus {
            generation: (engine.current().number(), unix_seconds(SystemTime::now())),
            last: None,
            warnings,
            file_warnings,
            fallback,
            admitted: Arc::new(admitted),
        };
        Arc::new(Self {
            engine,
            link,
            issuer,
            doors: Mutex::default(),
            announced: Mutex::default(),
            mode: Mutex::default(),
            status: Mutex::new(status),
            observer: Observer::new(process),
            changes: watch::Sender::new(()),
            replaced: Mutex::default(),
        })
    }

    /// Logs further warnings about the settings in force, and remembers them.
    pub(super) fn warn(&self, warnings: Vec<String>) {
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        self.status().warnings.extend(warnings);
    }

    /// Takes ownership of the open listeners.
    pub(super) fn keep(&self, doors: Doors) {
        *self.doors() = doors;
    }

    /// The open listeners: name, address, and the process that made the socket.
    pub(super) fn listeners(&self) -> Vec<(&'static str, SocketAddr, &'static str)> {
        self.doors().listening()
    }

    /// The listeners that are missing because their addresses are in use, a line each.
    pub(super) fn missing(&self) -> Vec<String> {
        let generation = self.engine.current();
        self.doors().missing(&generation.settings().listen)
    }

    /// The last reload, with any result.
    pub(super) fn last(&self) -> Option<LastReload> {
        self.status().last.clone()
    }

    /// The warnings about the settings in force, a line each.
    pub(super) fn warnings(&self) -> Vec<String> {
        let status = self.status();
        let instead = match status.fallback {
            Fallback::None => None,
            Fallback::LastGood => Some(LAST_GOOD),
            Fallback::Closed => Some(CLOSED),
        };
        let instead: Vec<_> = instead.map(str::to_owned).into_iter().collect();
        [&instead, status.warnings.as_slice(), &status.file_warnings].concat()
    }

    /// The callers of the control socket that the settings in force permit.
    pub(super) fn admitted(&self) -> Arc<PermittedCallers> {
        Arc::clone(&self.status().admitted)
    }

    /// Notified when other settings, with their permitted callers, are in force.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Since when a generation is in force, in seconds since 1970, if that is known.
    pub(super) fn in_force_since(&self, number: GenerationNumber) -> Option<i64> {
        let (noted, since) = self.status().generation;
        (noted == number).then_some(since)
    }

    /// The state of the proxy now.
    pub(super) fn observe(&self) -> Observation {
        self.observer.observe(&self.engine, self.condition())
    }

    /// Looks for faults, so that each has the time when it began. Call it now and then.
    pub(super) fn look(&self) {
        self.observer.look(&self.engine, self.condition());
    }

    /// Closes the listeners.
    pub(super) fn close(&self) {
        *self.doors() = Doors::default();
    }

    /// Changes the mode: full mode until the next reload, limited mode until this is called again.
    /// The monitor gets it, so that a replacement worker is not less strict. Returns the
    /// generation's number, or the requirement that forbids it (SPEC C6).
    pub(super) fn set_mode(&self, mode: Mode) -> Result<GenerationNumber, Widening> {
        let _turn = self.mode.lock();
        let number = self.engine.set_mode(mode)?;
        self.note_generation(number);
        self.link.send(ToMonitor::ModeSet { mode: mode.into() });
        Ok(number)
    }

    /// Has the monitor write the public files of the CA, for the programs of a session (SPEC M5).
    pub(super) fn need_ca_files(&self) {
        self.link.send(ToMonitor::CaFilesNeeded);
    }

    /// Requests a reload. On any error the old settings stay in force. With `only`, it may have this change and no
    /// other (SPEC C14).
    pub(super) async fn reload(&self, only: Option<EntryChange>) -> Result<(), ReloadError> {
        self.link.reload(only).await
    }

    /// Listeners are about to open: refuses requests to their addresses from now on, and confirms
    /// that.
    pub(super) fn announced(&self, ticket: Ticket, addresses: [Option<SocketAddr>; 3]) {
        let own = self.engine.own_listeners();
        let coming = addresses.into_iter().flatten();
        self.expect(coming.map(|address| own.add(address)).collect());
        self.link.send(ToMonitor::Noted { ticket });
    }

    /// A reload failed: the configuration has problems. The monitor has logged them.
    pub(super) fn failed(&self, ticket: Ticket, problems: Problems) {
        self.expect(Vec::new());
        self.end(ticket, &Err(problems.into()));
    }

    /// Puts settings from the monitor in force, and reports the result to it and to the callers.
    pub(super) async fn put_in_force(self: &Arc<Self>, new: NewSettings) {
        let ticket = new.ticket;
        let outcome = match self.try_put_in_force(new).await {
            Ok(replaced) => {
                self.log_reload(replaced).await;
                Ok(())
            }
            Err(error) => Err(error),
        };
        // Open listeners hold their addresses themselves by now.
        self.expect(Vec::new());
        match &outcome {
            Ok(()) => self.link.send(ToMonitor::Applied { ticket }),
            Err(error) => {
                tracing::error!("the reload failed: {error}; the old settings stay in force");
                self.link.send(ToMonitor::Rejected {
                    ticket,
                    why: error.text.clone(),
                });
            }
        }
        self.end(ticket, &outcome);
    }

    /// Puts settings in force while open connections are finished: what they forbid ends (SPEC
    /// P11). The worker that serves new connections logs the changes.
    pub(super) async fn put_in_force_draining(self: &Arc<Self>, new: NewSettings) {
        let ticket = new.ticket;
        match self.try_put_in_force(new).await {
            Ok(_) => {
                tracing::debug!("the settings are in force for open connections");
                self.link.send(ToMonitor::Applied { ticket });
            }
            Err(error) => self.link.send(ToMonitor::Rejected {
                ticket,
                why: error.text,
            }),
        }
    }

    async fn try_put_in_force(
        self: &Arc<Self>,
        new: NewSettings,
    ) -> Result<AppliedChange, ReloadError> {
        let NewSettings {
            ticket,
            sources,
            admitted,
            warnings,
            supplied,
            file_warnings,
            listeners,
        } = new;
        let unusable = |error: &dyn std::fmt::Display| ReloadError::placeless(&error.to_string());
        // Long lists take a while to compile, so it must not run on a thread that serves.
        let loaded = tokio::task::spawn_blocking(move || load(&sources))
            .await
            .map_err(|error| unusable(&error))?
            .map_err(|problems| ReloadError::of(&problems))?;
        let settings = Arc::new(loaded.settings);
        let old = self.engine.current();
        if ticket.is_guarded() {
            let gone = || ReloadError::placeless("the reload is for one change, which is unknown");
            let only = self.link.only(ticket).ok_or_else(gone)?;
            let (old, new) = (Arc::clone(old.settings()), Arc::clone(&settings));
            tokio::task::spawn_blocking(move || guard::check(&old, &new, &only))
                .await
                .map_err(|error| unusable(&error))??;
        }
        let number = self
            .engine
            .replace_all(&settings, &supplied)
            .map_err(|error| unusable(&format!("{:#}", anyhow::Error::new(error))))?;
        self.issuer.use_ca(supplied.files.ca.as_deref());
        let owner: Arc<dyn Owner> = Arc::<Self>::clone(self);
        let changed = self.doors().change(&self.engine, &owner, listeners);
        if let Err(error) = changed {
            // Only a full descriptor table can prevent serving a bound socket.
            let restored = self.engine.replace_all(old.settings(), old.supplied());
            self.issuer.use_ca(old.supplied().files.ca.as_deref());
            tracing::debug!(?restored, "the old settings are back");
            return Err(unusable(&format!("{error:#}")));
        }
        self.note_generation(number);
        self.replaced().push(Arc::downgrade(&old));
        let warnings: Vec<String> = loaded
            .warnings
            .iter()
            .map(Diagnostic::one_line)
            .chain(warnings)
            .chain(supplied.upstream_proxies.warnings())
            .chain(self.engine.looping_proxies())
            .collect();
        self.record(warnings, file_warnings, admitted);
        Ok(AppliedChange {
            number,
            old: Arc::clone(old.settings()),
            before: old.policy().clone(),
            new: settings,
        })
    }

    /// Logs what new settings change.
    async fn log_reload(&self, replaced: AppliedChange) {
        let AppliedChange {
            number,
            old,
            before,
            new,
        } = replaced;
        for warning in self.warnings() {
            tracing::warn!("{warning}");
        }
        warn_of_changes_that_need_a_restart(&old.daemon, &new.daemon);
        let after = Arc::clone(&self.engine.current().settings().policy);
        let logged = tokio::task::spawn_blocking(move || log_changes(&before, &after)).await;
        if let Err(error) = logged {
            tracing::warn!(%error, "the changes of the lists could not be logged");
        }
        let fingerprints = self.observer.fingerprints(&self.engine);
        tracing::info!(
            generation = number.get(),
            mode = self.engine.current().policy().mode().as_str(),
            allow_rules = new.policy.allowed().len(),
            deny_rules = new.policy.denied().len(),
            fingerprint = fingerprints.settings,
            rules = fingerprints.rules,
            requirements = fingerprints.requirements,
            ca = fingerprints.ca,
            version = env!("CARGO_PKG_VERSION"),
            "reloaded"
        );
    }

    /// Puts changed files of the system in force, under the same settings (SPEC L14).
    pub(super) async fn renew(&self, received: ReceivedFiles) {
        let ReceivedFiles { files, warnings } = received;
        let before = std::mem::replace(&mut self.status().file_warnings, warnings.clone());
        for warning in warnings.iter().filter(|warning| !before.contains(warning)) {
            tracing::warn!("{warning}");
        }
        let engine = self.engine.clone();
        // A long hosts file takes a while to parse, so it must not run on a thread that serves.
        let renewed = tokio::task::spawn_blocking(move || system_files::renew(&engine, &files));
        if let Err(error) = renewed.await {
            tracing::error!(%error, "changed name servers, hosts or roots were not taken over");
        }
    }

    /// A reload has ended: records it, and sends the result to its callers.
    fn end(&self, ticket: Ticket, outcome: &Result<(), ReloadError>) {
        if ticket.is_guarded() && outcome.is_err() {
            // The file gets its old content back, so the configuration has no fault.
            return self.link.reload_ended(ticket, outcome);
        }
        self.observer.reloaded(outcome);
        let (result, problems) = match outcome {
            Ok(()) => (ReloadOutcome::Applied, self.warnings()),
            Err(error) => (
                ReloadOutcome::Failed,
                error.problems.iter().map(one_line).collect(),
            ),
        };
        self.status().last = Some(LastReload {
            at: unix_seconds(SystemTime::now()),
            outcome: result,
            problems,
        });
        self.link.reload_ended(ticket, outcome);
    }

    /// Records that a generation is in force since now.
    fn note_generation(&self, number: GenerationNumber) {
        let mut status = self.status();
        // Two changes may get here in either order.
        if number > status.generation.0 {
            status.generation = (number, unix_seconds(SystemTime::now()));
        }
    }

    fn record(
        &self,
        warnings: Vec<String>,
        file_warnings: Vec<String>,
        admitted: PermittedCallers,
    ) {
        let mut status = self.status();
        status.warnings = warnings;
        status.file_warnings = file_warnings;
        status.fallback = Fallback::None;
        status.admitted = Arc::new(admitted);
        drop(status);
        self.changes.send_replace(());
    }

    fn expect(&self, listeners: Vec<OwnListener>) {
        *self.announced.lock() = listeners;
    }

    /// Returns the memory of settings to the system that a reload has replaced and no connection uses
    /// any more. Call it now and then.
    pub(super) fn give_memory_back(&self) {
        let mut replaced = self.replaced();
        let before = replaced.len();
        replaced.retain(|generation| generation.strong_count() > 0);
        if replaced.len() < before {
            tokio::task::spawn_blocking(memory::give_back);
        }
    }

    fn replaced(&self) -> MutexGuard<'_, Vec<Weak<Generation>>> {
        self.replaced.lock()
    }

    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock()
    }

    fn status(&self) -> MutexGuard<'_, ReloadStatus> {
        self.status.lock()
    }
}

impl Owner for Reloader {
    fn observer(&self) -> &Observer {
        &self.observer
    }

    fn listening(&self) -> Vec<(&'static str, SocketAddr)> {
        let open = self.listeners().into_iter();
        open.map(|(name, address, _)| (name, address)).collect()
    }

    fn condition(&self) -> Condition {
        match self.status().fallback {
            Fallback::None => Condition::Sound,
            Fallback::LastGood => Condition::LastGood,
            Fallback::Closed => Condition::Closed,
        }
    }

    fn set_mode(&self, mode: Mode) -> Result<GenerationNumber, Widening> {
        self.set_mode(mode)
    }

    fn reload(self: Arc<Self>) -> BoxFuture<'static, Result<(), Unchanged>> {
        Box::pin(async move {
            let reloaded = Self::reload(&self, None).await;
            reloaded.map_err(|error| Unchanged::Unusable(with_hint(error.outline)))
        })
    }
}

/// An outline, with a hint where to find the parts that it leaves out.
fn with_hint(outline: String) -> String {
    if outline.contains('…') {
        format!("{outline}\n\n{WHERE_TO_SEE_ALL}")
    } else {
        outline
    }
}

/// A problem in one line for the log, without the excerpt and the suggested fix.
fn one_line(problem: &ReloadProblem) -> String {
    problem.text.lines().next().unwrap_or_default().to_owned()
}

/// Warns of changes that need a restart: how the processes were set up when they started.
fn warn_of_changes_that_need_a_restart(old: &Daemon, new: &Daemon) {
    for (key, changed) in [
        ("user", old.user != new.user),
        ("group", old.group != new.group),
        ("sandbox", old.sandbox != new.sandbox),
        ("log", old.log != new.log),
        ("log_format", old.log_format != new.log_format),
        ("control.socket", old.control.socket != new.control.socket),
    ] {
        if changed {
            tracing::warn!("[daemon] {key} has changed, which takes effect only after a restart");
        }
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
        for pattern in changed.iter().take(MAX_LOGGED_RULES) {
            tracing::info!(list, change, %pattern, "a rule changes");
        }
        if let Some(more) = changed
            .len()
            .checked_sub(MAX_LOGGED_RULES)
            .filter(|more| *more > 0)
        {
            tracing::info!(list, change, more, "more rules change");
        }
    }
}
