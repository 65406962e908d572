//! Reloading: from a request to settings that are in force, or to the reason why they are not (SPEC
//! C7).

use anyhow::anyhow;

use super::Monitor;
use super::fallback::log_problems;
use super::load;
use super::reloads::Begin;
use crate::privsep::message::{Problems, ToWorker};
use crate::privsep::settled::Loaded;
use crate::privsep::ticket::Ticket;
use crate::{memory, notify};

impl Monitor {
    /// A reload was requested. It begins now or later.
    pub(super) fn reload(&mut self, begin: Option<Begin>) {
        if let Some(begin) = begin {
            notify::reloading();
            self.begin(begin);
        }
    }

    /// A reload has ended, with any result. The next one begins.
    pub(super) fn reload_done(&mut self) {
        memory::give_back();
        if let Some(next) = self.reloads.done() {
            return self.begin(next);
        }
        notify::ready();
        self.read_system_files();
    }

    pub(super) fn begin(&mut self, begin: Begin) {
        self.stop_reading();
        self.stop_reading_credentials();
        match load::start(&self.arguments, self.which, begin, self.events.clone()) {
            Ok(loading) => self.loading = Some(loading),
            Err(error) => self.loaded(begin.0, Err(error)),
        }
    }

    pub(super) fn loaded(&mut self, load: u32, loaded: anyhow::Result<Loaded>) {
        let Some(ticket) = self.reloads.ticket(load) else {
            return;
        };
        let problems = match loaded {
            Ok(Loaded::Settled(settled)) => match self.listeners.prepare(&settled) {
                Ok(prepared) => return self.put_in_force(ticket, settled, prepared),
                Err(error) => Problems::from(&error),
            },
            Ok(Loaded::Problems(problems)) => problems,
            Ok(Loaded::Files(_) | Loaded::Credentials(_)) => {
                Problems::from(&anyhow!("the loader did something else"))
            }
            Err(error) => Problems::from(&error),
        };
        self.reload_failed(ticket, problems);
    }

    pub(super) fn reload_failed(&mut self, ticket: Ticket, problems: Problems) {
        if !self.is_known(&problems) {
            log_problems(&problems);
            tracing::error!("the reload failed: the old settings stay in force");
        }
        self.send(&ToWorker::ReloadFailed { ticket, problems }, &[]);
        self.reload_done();
    }

    /// Goes back to the settings that a worker last ran with.
    pub(super) fn go_back(&mut self) {
        let Some(before) = self.before.take() else {
            return;
        };
        tracing::error!("no worker starts on the new settings: back to the ones before");
        let prepared = self.listeners.prepare(&before).and_then(|mut prepared| {
            prepared.listen()?;
            Ok(prepared)
        });
        match prepared {
            Ok(prepared) => self.listeners.apply(prepared),
            Err(error) => tracing::error!("the listeners stay as they are: {error:#}"),
        }
        self.settle(before);
        self.read_system_files_anew();
    }
}
