//! The monitor: keeps the sockets, starts the other roles, and parses nothing.
//!
//! One loop takes events one after the other: a signal, a message of the worker, a worker's end, a
//! loader's result. Threads only wait and pass events on. [`dispatch`] lists what a worker may ask
//! for. A worker that sends anything else is killed and replaced, since it may have been taken
//! over. When a worker dies the sockets stay, and clients wait in the kernel's queue.

mod control_socket;
mod credentials;
mod dispatch;
mod end_loader;
pub(crate) mod failed_start;
mod fallback;
mod inherit;
mod issue;
mod listen;
mod load;
mod numbering;
mod pending;
mod people;
mod ping;
mod predecessor;
mod reload;
mod reloads;
mod renew;
mod sealed;
mod socket_owner;
mod stop;
mod supervise;
mod system_files;
mod watch;

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::time::{Instant, SystemTime};

use anyhow::{Context as _, anyhow};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGURG};

use self::control_socket::ControlSocket;
use self::credentials::SourceReadings;
use self::fallback::FallbackState;
use self::inherit::{Attended, Inherited};
use self::issue::Issuing;
use self::listen::{Listeners, Prepared, ProxyDoors};
use self::load::Loading;
use self::numbering::Numbering;
use self::pending::Pending;
use self::ping::Ping;
use self::predecessor::Predecessor;
use self::reloads::Reloads;
use self::renew::Renewal;
use self::sealed::sealed;
use self::socket_owner::SocketOwners;
use self::supervise::{BackOff, Worker};
use self::system_files::Followed;
use crate::privsep::briefing::WhichConfiguration;
use crate::privsep::channel;
use crate::privsep::message::{FirstSettings, ListenerUpdate, Mode, ToMonitor, ToWorker};
use crate::privsep::settled::{Loaded, Settled};
use crate::privsep::ticket::Ticket;
use crate::{logging, memory, notify};

/// Asks the monitor to leave its worker to the next one and end: the first half of a restart. By
/// default it has no effect, so an older version ignores it.
const HAND_OVER: i32 = SIGURG;
/// Largest number of events that wait for the loop. Further messages of a worker are not read
/// meanwhile.
const MAX_EVENTS: usize = 64;

/// An event of the loop.
enum Event {
    Signal(i32),
    /// A worker sent a message.
    Said(u64, ToMonitor),
    /// A worker sent bytes that are not a valid message.
    Garbled(u64, String),
    /// A worker has closed its end of the channel: it has ended or is unusable.
    Gone(u64),
    /// A loader has finished, with the number of its load.
    Loaded(u32, anyhow::Result<Loaded>),
    /// The watch with this number has reported that a file of the system has changed.
    SystemFilesChanged(u32),
    /// A loader has read the files of the system, with the number of the reading.
    SystemFilesRead(u32, anyhow::Result<Loaded>),
    /// A loader has read sources of credentials, with the number of the reading.
    CredentialsRead(u32, anyhow::Result<Loaded>),
}

struct Monitor {
    arguments: load::Arguments,
    issuing: Issuing,
    renewal: Renewal,
    socket_owners: SocketOwners,
    events: SyncSender<Event>,
    listeners: Listeners,
    control: Option<ControlSocket>,
    settled: Settled,
    /// Which configuration a loader loads.
    which: WhichConfiguration,
    /// Why the settings in force stand in for the configuration, if they do.
    fallback: Option<FallbackState>,
    /// The previous settings, until a worker has run successfully with `settled`.
    before: Option<Settled>,
    worker: Option<Worker>,
    /// The draining worker of the monitor before this one.
    predecessor: Option<Predecessor>,
    workers: u64,
    numbering: Numbering,
    back_off: BackOff,
    /// Settings that the worker must put in force and has not yet.
    pending: Option<Pending>,
    reloads: Reloads,
    /// The running loader, or the last one.
    loading: Option<Loading>,
    /// A reload was requested before the first worker was ready.
    reload_waits: bool,
    followed: Followed,
    source_readings: SourceReadings,
    /// Limited mode was set at run time. Workers keep it until full mode is set. A change to full
    /// mode is not kept: an attacker who has taken over a worker could send it.
    narrowed: Option<Mode>,
    /// A session was opened in which something can be intercepted. The public files of the CA are kept up
    /// to date from then on.
    sessions_need_ca: bool,
    ping: Ping,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No worker has been ready yet.
    Starting,
    Serving,
    /// A worker died; the next one starts at this time.
    Restarting(Instant),
    /// Asked to stop; the worker is killed at this time.
    Draining(Instant),
    /// Asked to leave the worker to the next monitor. It drains as usual from this time on, unless
    /// it has confirmed before.
    HandingOver(Instant),
}

/// Why the loop ended.
enum End {
    Stopped,
    Failed(anyhow::Error),
}

/// `proxyctl run` sets this variable for a proxy of its own, which gets its control socket as a service does
/// and serves the doors of sessions alone (`ctl/src/private_proxy/stage.rs`, SPEC J3).
const PRIVATE_VARIABLE: &str = "CODEX_NETWORK_PROXY_PRIVATE";

/// The service cannot start, and starting it again would not help: the configuration must be
/// repaired first.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used\n\n{0}")]
pub(crate) struct UnusableConfiguration(String);

/// Runs the service until a signal ends it. `arguments` are those that a loader needs to find the
/// configuration.
///
/// # Errors
///
/// Why the service cannot start, as one message for a person; [`UnusableConfiguration`] if the
/// configuration is the cause.
pub(crate) fn run(arguments: Vec<OsString>) -> anyhow::Result<()> {
    // Outputs of loaders have the values of credentials. The monitor frees little, so this costs nothing.
    memory::wipe_freed();
    // Including inherited sockets: other roles get them over the channel.
    channel::keep_descriptors_to_ourselves()
        .context("cannot keep inherited descriptors from the other roles")?;
    let issuing = Issuing::new().context("cannot make a CA")?;
    let arguments = load::Arguments::new(arguments, issuing.certificate());
    let mut inherited = Inherited::take()?;
    let is_service = notify::is_heard() || inherited.attended() == Attended::Yes;
    // `proxyctl run` shows the problems of a configuration to its user.
    let is_private = std::env::var_os(PRIVATE_VARIABLE).is_some();
    let which = if is_service && !is_private {
        WhichConfiguration::CurrentWithCopy
    } else {
        WhichConfiguration::Current
    };
    let (settled, fallback) = fallback::first_settings(&arguments, which)
        .map_err(|problems| UnusableConfiguration(problems.text))?;
    let numbering = Numbering::from(settled.numbered_from);
    logging::init_plain(settled.lines)?.start()?;
    raise_descriptor_limit();
    let handed = inherited.take_control();
    let left = inherited.take_left();
    let doors = if is_private {
        ProxyDoors::OfSessions
    } else {
        ProxyDoors::Configured
    };
    let mut listeners = Listeners::new(inherited, doors);
    let mut prepared = listeners.prepare(&settled)?;
    prepared.listen()?;
    listeners.apply(prepared);
    let control = match (handed, &settled.control) {
        (Some(handed), place) => {
            let socket = ControlSocket::handed(handed)?;
            if let Some(place) = place {
                socket.admit(place.callers);
            }
            Some(socket)
        }
        (None, Some(place)) => control_socket::bind(place)?,
        (None, None) => {
            tracing::warn!(
                "there is no control socket, since neither XDG_RUNTIME_DIR nor HOME is set; set one of them, or \
                 [daemon.control] socket, to use proxyctl"
            );
            None
        }
    };
    let (events, receiver) = mpsc::sync_channel(MAX_EVENTS);
    watch_signals(events.clone())?;
    let mut monitor = Monitor {
        arguments,
        issuing,
        renewal: Renewal::default(),
        socket_owners: SocketOwners::open(),
        events,
        listeners,
        control,
        settled,
        which,
        fallback,
        before: None,
        worker: None,
        predecessor: None,
        workers: 0,
        numbering,
        back_off: BackOff::default(),
        pending: None,
        reloads: Reloads::default(),
        loading: None,
        reload_waits: false,
        followed: Followed::default(),
        source_readings: SourceReadings::default(),
        narrowed: None,
        sessions_need_ca: false,
        ping: Ping::new(),
        phase: Phase::Starting,
    };
    monitor.log_fallback();
    monitor.start_worker()?;
    monitor.adopt_predecessor(left);
    monitor.watch_system_files();
    match monitor.serve(&receiver) {
        End::Stopped => Ok(()),
        End::Failed(error) => Err(error),
    }
}

/// Every connection needs descriptors, and the soft limit is chosen for programs that use `select`.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    /// The number that macOS gives to every program. There the hard limit may be "unlimited", and
    /// asking for that is an error (`setrlimit(2)`, COMPATIBILITY).
    const OPEN_MAX: u64 = 10_240;
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let raise = |soft| setrlimit(Resource::RLIMIT_NOFILE, soft, hard);
        raise(hard).or_else(|error| {
            if soft >= OPEN_MAX {
                return Err(error);
            }
            raise(OPEN_MAX.min(hard))
        })
    });
    if let Err(error) = raised {
        tracing::debug!(%error, "the limit of descriptors stays as it is");
    }
}

fn watch_signals(events: SyncSender<Event>) -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM, HAND_OVER])
        .context("cannot watch signals")?;
    std::thread::spawn(move || {
        for signal in &mut signals {
            if events.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    });
    Ok(())
}

impl Monitor {
    fn serve(&mut self, events: &Receiver<Event>) -> End {
        loop {
            let event = match self.next_deadline() {
                // A stream of events must not delay a deadline.
                Some(at) if at <= Instant::now() => Err(RecvTimeoutError::Timeout),
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            let end = match event {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => self.deadline(),
                // This process holds a sender itself.
                Err(RecvTimeoutError::Disconnected) => Some(End::Stopped),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of_phase = match self.phase {
            Phase::Starting => None,
            Phase::Serving => Some(self.ping.next()),
            Phase::Restarting(at) | Phase::Draining(at) | Phase::HandingOver(at) => Some(at),
        };
        let of_predecessor = self.predecessor.as_ref().map(Predecessor::deadline);
        let of_fallback = self.fallback.as_ref().map(FallbackState::next);
        let of_fallback = of_fallback.filter(|_| self.phase == Phase::Serving);
        let all = [of_phase, of_predecessor, of_fallback];
        all.into_iter().flatten().min()
    }

    /// A deadline has passed: that of the predecessor, of the phase, or both.
    fn deadline(&mut self) -> Option<End> {
        let now = Instant::now();
        let late = self.predecessor.take_if(|it| it.deadline() <= now);
        if late.is_some() {
            tracing::warn!("the worker of the previous start did not end in time and is killed");
            return self.drained();
        }
        if self.phase == Phase::Serving {
            self.try_again(now);
        }
        match self.phase {
            Phase::Serving if now < self.ping.next() => {}
            Phase::Restarting(at) | Phase::Draining(at) | Phase::HandingOver(at) if now < at => {}
            Phase::HandingOver(_) => {
                tracing::warn!("the worker cannot be handed over; the stop waits for it");
                self.drain_worker();
            }
            Phase::Restarting(_) => {
                self.phase = Phase::Serving;
                if let Err(error) = self.start_worker() {
                    tracing::error!("cannot start a worker: {error:#}");
                    self.phase = Phase::Restarting(Instant::now() + self.back_off.next());
                }
            }
            Phase::Draining(_) => {
                tracing::warn!("the worker did not end in time and is killed");
                self.kill_worker();
                // Return now: the loop takes no event after a deadline, so the worker's end is
                // never reported.
                return Some(End::Stopped);
            }
            Phase::Serving => {
                self.ping();
                self.look_at_ca(SystemTime::now(), Instant::now());
            }
            Phase::Starting => {}
        }
        None
    }

    /// Pings the worker. One that owes many answers is stuck.
    fn ping(&mut self) {
        if self.ping.ask() {
            self.send(&ToWorker::Ping, &[]);
        } else {
            self.kill_worker();
            tracing::error!("the worker does not answer and is replaced");
        }
    }

    fn take(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Signal(SIGHUP) => {
                if self.phase == Phase::Starting {
                    // It would replace the worker that is starting.
                    self.reload_waits = true;
                } else if !self.is_stopping() {
                    let begin = self.reloads.request_by_signal();
                    self.reload(begin);
                }
                None
            }
            Event::Signal(HAND_OVER) => self.hand_over(),
            Event::Signal(_) => self.stop(),
            Event::Said(predecessor::NUMBER, message) => {
                if let Some(predecessor) = &self.predecessor {
                    predecessor.answer(message);
                }
                None
            }
            Event::Garbled(predecessor::NUMBER, why) => {
                if self.predecessor.take().is_some() {
                    tracing::error!(
                        "the worker of the previous start violated the protocol ({why}) and is killed"
                    );
                }
                self.drained()
            }
            Event::Gone(predecessor::NUMBER) => {
                if self.predecessor.take().is_some() {
                    tracing::info!("the worker of the previous start has ended");
                }
                self.drained()
            }
            Event::Said(number, message) => {
                if self.is_current(number) {
                    return self.dispatch(message);
                }
                None
            }
            Event::Garbled(number, why) => {
                if self.is_current(number) {
                    self.distrust(&why);
                }
                None
            }
            Event::Gone(number) => {
                if self.is_current(number) {
                    self.worker_ended()
                } else {
                    None
                }
            }
            Event::Loaded(load, loaded) => {
                if !self.is_stopping() {
                    self.loaded(load, loaded);
                }
                None
            }
            Event::SystemFilesChanged(watch) => {
                self.system_files_changed(watch);
                None
            }
            Event::SystemFilesRead(reading, read) => {
                self.system_files_read(reading, read);
                None
            }
            Event::CredentialsRead(reading, read) => {
                self.credentials_read(reading, read);
                None
            }
        }
    }

    fn worker_ended(&mut self) -> Option<End> {
        let mut worker = self.worker.take()?;
        let how = worker.end();
        match self.phase {
            Phase::Draining(_) | Phase::HandingOver(_) => self.drained(),
            Phase::Starting => Some(End::Failed(anyhow!("the worker did not start: {how}"))),
            Phase::Serving | Phase::Restarting(_) => {
                let wait = self.back_off.after(worker.started);
                if worker.tries_new_settings && !worker.is_ready() {
                    self.go_back();
                }
                self.reloads.disown();
                if let Some(pending) = self.pending.take() {
                    self.adopt(pending);
                }
                self.ping.forget();
                let restarts = self.back_off.restarts();
                notify::restarting(restarts);
                tracing::error!(
                    restarts,
                    wait = logging::duration_text(wait),
                    "the worker is gone ({how}); starting another, clients wait meanwhile"
                );
                self.phase = Phase::Restarting(Instant::now() + wait);
                None
            }
        }
    }

    /// Kills a worker that violated the protocol; another one replaces it.
    fn distrust(&mut self, why: &str) {
        self.kill_worker();
        tracing::error!("the worker violated the protocol ({why}); replacing it");
    }

    /// Settings are in force from now on.
    fn settle(&mut self, settled: Settled) {
        self.settled = settled;
        self.source_readings = SourceReadings::default();
        self.renew_fallback();
        self.watch_system_files();
        self.publish_if_needed();
        self.admit_callers();
        if let Some(predecessor) = &self.predecessor {
            predecessor.obey(&self.settled);
        }
    }

    /// Gives the control socket the permissions of the settings in force.
    fn admit_callers(&self) {
        if let (Some(control), Some(place)) = (&self.control, &self.settled.control) {
            control.admit(place.callers);
        }
    }

    /// Starts a worker on the settings and sockets in force.
    fn start_worker(&mut self) -> anyhow::Result<()> {
        self.workers += 1;
        let mut worker = Worker::start(self.workers, self.events.clone())?;
        self.issuing.forget_worker();
        worker.tries_new_settings = self.before.is_some();
        self.worker = Some(worker);
        let all = self
            .listeners
            .all()
            .context("cannot hand the sockets over")?;
        let settled = self.settled.clone();
        let message = ToWorker::FirstSettings(FirstSettings {
            control: self.control.as_ref().map(ControlSocket::address),
            control_from: self
                .control
                .as_ref()
                .map_or(ListenerUpdate::Keep, ControlSocket::from),
            mode: self.narrowed,
            restarts: self.back_off.restarts(),
            blocked_base: self.numbering.base(),
            listeners: all.changes(),
            account: settled.account,
            confinement: settled.confinement,
            fallback: settled.fallback,
            release: self
                .worker
                .as_ref()
                .map(Worker::release)
                .unwrap_or_default(),
        });
        let control = self.control.as_ref().map(ControlSocket::descriptor);
        self.send_settings(&message, &settled, &all, control);
        Ok(())
    }

    /// Sends settings to a worker that serves.
    fn send_later_settings(&mut self, ticket: Ticket, settled: &Settled, prepared: &Prepared) {
        let message = ToWorker::Settings {
            ticket,
            listeners: prepared.changes(),
        };
        // A worker keeps the control socket that it started with.
        self.send_settings(&message, settled, prepared, None);
    }

    fn send_settings(
        &mut self,
        message: &ToWorker,
        settled: &Settled,
        prepared: &Prepared,
        control: Option<io::Result<OwnedFd>>,
    ) {
        let descriptors = || -> anyhow::Result<_> {
            let files = settled.system_files.blob();
            let mut descriptors = vec![sealed(&settled.blob)?, sealed(&files)?];
            descriptors.extend(prepared.descriptors()?);
            descriptors.extend(control.transpose()?);
            Ok(descriptors)
        };
        match descriptors() {
            Ok(descriptors) => self.send(message, &descriptors),
            Err(error) => {
                // The worker waits for settings that it will not get, so it must be replaced.
                self.kill_worker();
                tracing::error!("cannot hand the settings over: {error:#}");
            }
        }
    }

    fn send(&mut self, message: &ToWorker, descriptors: &[OwnedFd]) {
        if let Some(worker) = &mut self.worker
            && let Err(error) = worker.send(message, descriptors)
        {
            // It has ended or is stuck. In both cases another one starts.
            worker.kill();
            tracing::debug!(%error, "the worker does not listen");
        }
    }

    fn kill_worker(&mut self) {
        if let Some(worker) = &mut self.worker {
            worker.kill();
        }
    }

    fn is_current(&self, number: u64) -> bool {
        self.worker
            .as_ref()
            .is_some_and(|worker| worker.number == number)
    }
}
