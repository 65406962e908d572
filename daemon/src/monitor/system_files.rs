//! Follows the files of the system while the service runs: name servers, hosts and roots (SPEC L14).
//!
//! A [`Watch`] reports that one of them may have changed. Then a loader reads all of them, for the
//! settings in force, and the worker gets the new content. A reload reads them too, so no loader
//! reads them beside one. A file that cannot be used leaves what was read before in force, until it
//! changes again.

use super::Monitor;
use super::load::{self, Loading};
use super::sealed::sealed;
use super::watch::Watch;
use crate::privsep::message::ToWorker;
use crate::privsep::settled::Loaded;
use crate::privsep::system_files::{Content, FileUse};

/// The watch, and the loader that reads the files.
#[derive(Debug, Default)]
pub(super) struct Followed {
    watch: Option<Watch>,
    /// The number of the last watch. An earlier one may have sent its last event late.
    watches: u32,
    reading: Option<Loading>,
    /// The number of the last reading.
    readings: u32,
    state: Freshness,
}

/// Whether the files in force are the ones that were read last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Freshness {
    #[default]
    Read,
    /// They have changed since.
    Changed,
}

impl Monitor {
    /// Watches the files of the settings in force, which have just been read.
    pub(super) fn watch_system_files(&mut self) {
        self.stop_reading();
        self.followed.state = Freshness::Read;
        self.renew_watch();
    }

    /// Reads the files again, because the settings in force are not those of the last reading.
    pub(super) fn read_system_files_anew(&mut self) {
        self.stop_reading();
        self.followed.state = Freshness::Changed;
        self.read_system_files();
    }

    /// Has a loader write the CA's public files if limited mode was set at run time, when every allowed
    /// host is intercepted, or if sessions need them (SPEC M5).
    pub(super) fn publish_if_needed(&mut self) {
        let plan = &mut self.settled.system_files.plan;
        let is_needed = self.narrowed.is_some() || self.sessions_need_ca;
        if is_needed && plan.public_files == FileUse::No {
            plan.public_files = FileUse::Yes;
            self.read_system_files_anew();
        }
    }

    /// Cancels a reading that runs, since a reload begins whose loader reads the files too.
    pub(super) fn stop_reading(&mut self) {
        if self.followed.reading.take().is_some() {
            self.followed.readings = self.followed.readings.wrapping_add(1);
            // If the reload fails, the files must still be read.
            self.followed.state = Freshness::Changed;
        }
    }

    /// Ends watching, when the service ends.
    pub(super) fn stop_following(&mut self) {
        self.followed = Followed::default();
    }

    /// A watch has seen a change.
    pub(super) fn system_files_changed(&mut self, watch: u32) {
        if watch == self.followed.watches {
            self.followed.state = Freshness::Changed;
            self.read_system_files();
        }
    }

    /// Starts a loader, if the files have changed and none is running.
    pub(super) fn read_system_files(&mut self) {
        if self.is_stopping() {
            return;
        }
        let followed = &mut self.followed;
        if followed.state == Freshness::Read
            || followed.reading.is_some()
            || !self.reloads.is_idle()
        {
            return;
        }
        followed.state = Freshness::Read;
        followed.readings = followed.readings.wrapping_add(1);
        let reading = followed.readings;
        let plan = self.settled.system_files.plan.clone();
        match load::start_reading(&self.arguments, plan, reading, self.events.clone()) {
            Ok(loading) => self.followed.reading = Some(loading),
            Err(error) => self.no_system_files(&format!("{error:#}")),
        }
    }

    /// A loader has read the files.
    pub(super) fn system_files_read(&mut self, reading: u32, read: anyhow::Result<Loaded>) {
        if reading != self.followed.readings || self.followed.reading.take().is_none() {
            return;
        }
        match read {
            Ok(Loaded::Files(found)) => {
                let content = self.settled.system_files.take_over(found);
                self.renew_watch();
                if content == Content::Changed {
                    self.send_system_files();
                }
            }
            Ok(Loaded::Settled(_) | Loaded::Problems(_) | Loaded::Credentials(_)) => {
                self.no_system_files("the loader did something else");
            }
            Err(error) => self.no_system_files(&format!("{error:#}")),
        }
        // They may have changed while they were read.
        self.read_system_files();
    }

    fn send_system_files(&mut self) {
        match sealed(&self.settled.system_files.blob()) {
            Ok(blob) => self.send(&ToWorker::SystemFiles, &[blob]),
            Err(error) => {
                tracing::error!(
                    "cannot pass changed name servers, hosts or roots to the worker: {error:#}; reload the proxy"
                );
            }
        }
    }

    /// The files could not be read. The next change causes another try.
    fn no_system_files(&mut self, why: &str) {
        tracing::error!(
            "name servers, hosts and roots have changed and cannot be read: {why}; the old ones stay in force"
        );
        for watched in &mut self.settled.system_files.watched {
            watched.renew();
        }
        self.renew_watch();
    }

    fn renew_watch(&mut self) {
        if self.is_stopping() {
            return;
        }
        let followed = &mut self.followed;
        followed.watches = followed.watches.wrapping_add(1);
        let paths = self.settled.system_files.watched.clone();
        // The old watch ends first, so that it sends nothing more.
        followed.watch = None;
        followed.watch = Watch::start(followed.watches, paths, self.events.clone());
    }
}
