//! The worker of the monitor before this one, which finishes its open connections beside our worker.
//!
//! A restart of the service ends the monitor, and must not make new clients wait for old
//! connections. So the old monitor [leaves](leave) its draining worker: it stores the worker's
//! channel and a descriptor of the process with the service manager. The next monitor
//! [adopts](Predecessor::adopt) both, passes new settings on so that what they forbid ends (SPEC
//! P11), and kills the worker when its time is over. A worker whose channel nothing holds any more
//! ends itself.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use super::Event;
use super::sealed::sealed;
use super::supervise::{SEND_TIMEOUT, Worker, listen, send};
use crate::notify;
use crate::privsep::channel::{self, Sender};
use crate::privsep::message::{
    LAYOUT_VERSION, ListenerUpdate, MAX_TO_MONITOR, NoLeaf, Problems, ToMonitor, ToWorker,
};
use crate::privsep::settled::Settled;
use crate::privsep::ticket::Ticket;

/// Its number among the workers. Those of this monitor count from 1.
pub(super) const NUMBER: u64 = 0;
/// The prefix of the name under which its channel is stored. The version of the layout follows:
/// workers of another version may read settings in another way, so they get none.
const CHANNEL: &str = "draining-";
/// The name under which its process is stored.
const PROCESS: &str = "draining.process";
/// How long a worker may still take to exit after the drain's limit.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// How long a worker of another version may drain. It cannot be given the new policy.
const OTHER_VERSION_TIMEOUT: Duration = Duration::from_secs(5);

/// Descriptors of a worker that a monitor left, as the service manager passed them. A worker that is
/// not adopted is killed: it may have been taken over, and then it does not end by itself.
#[derive(Debug, Default)]
pub(super) struct LeftWorker {
    /// Its channel, and the version of its layout.
    channel: Option<(UnixStream, String)>,
    process: Option<OwnedFd>,
}

/// The adopted worker. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Predecessor {
    sender: Sender,
    process: OwnedFd,
    version: Version,
    deadline: Instant,
    /// Leaves that were requested and not answered.
    leaves: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Ours,
    Other,
}

/// Stores a worker that has confirmed that it outlives this monitor.
///
/// # Errors
///
/// Returns an error if the service manager does not take its descriptors.
pub(super) fn leave(worker: &Worker) -> io::Result<()> {
    let process = process::open(worker.pid())?;
    notify::keep(PROCESS, &process)?;
    let stored = notify::keep(&channel_name(), &worker.channel()?);
    if stored.is_err() {
        notify::unstore(PROCESS);
    }
    stored
}

fn channel_name() -> String {
    format!("{CHANNEL}{LAYOUT_VERSION}")
}

impl LeftWorker {
    /// Takes a stored descriptor, if its name is one of ours.
    pub(super) fn take(&mut self, name: &str, descriptor: OwnedFd) -> Result<(), OwnedFd> {
        if name == PROCESS {
            // It stays stored until the worker has ended: if this monitor is killed, the next one ends
            // the worker.
            self.process = Some(descriptor);
        } else if let Some(version) = name.strip_prefix(CHANNEL) {
            self.channel = Some((descriptor.into(), version.to_owned()));
            // It must not come back at the next start.
            notify::unstore(name);
        } else {
            return Err(descriptor);
        }
        Ok(())
    }
}

impl Drop for LeftWorker {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            process::kill(process);
            notify::unstore(PROCESS);
        }
    }
}

impl Predecessor {
    /// Takes over the worker that the monitor before left. `None` if it left none. `limit` is that
    /// of the drain.
    pub(super) fn adopt(
        mut left: LeftWorker,
        limit: Duration,
        events: SyncSender<Event>,
    ) -> Option<Self> {
        // Without its process it could not be killed. It ends itself when its channel does.
        let (stream, version) = left.channel.take()?;
        let version = if version == LAYOUT_VERSION {
            Version::Ours
        } else {
            Version::Other
        };
        let split = stream
            .set_write_timeout(Some(SEND_TIMEOUT))
            .and_then(|()| channel::split(stream, MAX_TO_MONITOR));
        let (sender, receiver) = match split {
            Ok(halves) => halves,
            Err(error) => {
                tracing::warn!(%error, "the worker of the previous start cannot be adopted, and ends");
                return None;
            }
        };
        let process = left.process.take()?;
        let leaves = Arc::new(AtomicUsize::new(0));
        let asked = Arc::clone(&leaves);
        std::thread::spawn(move || {
            listen(NUMBER, receiver, &events, &asked, &AtomicBool::new(false));
        });
        let limit = match version {
            Version::Ours => limit,
            Version::Other => limit.min(OTHER_VERSION_TIMEOUT),
        };
        let predecessor = Self {
            sender,
            process,
            version,
            deadline: Instant::now() + limit + GRACE,
            leaves,
        };
        tracing::info!(
            ?limit,
            "the worker of the previous start finishes its open connections"
        );
        if version == Version::Other {
            predecessor.send(&ToWorker::Drain { limit }, &[]);
        }
        Some(predecessor)
    }

    /// When it must have ended.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Passes new settings on.
    pub(super) fn obey(&self, settled: &Settled) {
        if self.version == Version::Other {
            return;
        }
        let blobs = sealed(&settled.blob).and_then(|settings| {
            let files = sealed(&settled.system_files.blob())?;
            Ok([settings, files])
        });
        let blobs = match blobs {
            Ok(blobs) => blobs,
            Err(error) => {
                tracing::warn!(
                    "the worker of the previous start cannot get the settings, and ends: {error:#}"
                );
                return process::kill(&self.process);
            }
        };
        let message = ToWorker::Settings {
            ticket: Ticket::DRAINING,
            listeners: [ListenerUpdate::Keep; 3],
        };
        self.send(&message, &blobs);
    }

    /// Answers a message. It gets no certificates and no users: it accepts no connections.
    pub(super) fn answer(&self, message: ToMonitor) {
        match message {
            ToMonitor::IssueLeaf { question, .. } => {
                self.leaves.fetch_sub(1, Ordering::Relaxed);
                let why = NoLeaf::OtherCa;
                self.send(&ToWorker::LeafRefused { question, why }, &[]);
            }
            ToMonitor::AskOwners {
                question,
                connections,
            } => {
                let users = vec![None; connections.len()];
                self.send(&ToWorker::Owners { question, users }, &[]);
            }
            ToMonitor::Reload { ticket } => {
                let problems = Problems {
                    text: "error: this worker is stopping; ask again".to_owned(),
                    detail: String::new(),
                };
                self.send(&ToWorker::ReloadFailed { ticket, problems }, &[]);
            }
            ToMonitor::Rejected { why, .. } => {
                tracing::warn!(
                    "the worker of the previous start cannot put the new settings in force ({why}), and ends"
                );
                process::kill(&self.process);
            }
            ToMonitor::HandedOver => process::kill(&self.process),
            ToMonitor::Applied { .. }
            | ToMonitor::Noted { .. }
            | ToMonitor::Well(_)
            | ToMonitor::ModeSet { .. }
            | ToMonitor::CaFilesNeeded
            | ToMonitor::ReadCredential { .. } => {}
        }
    }

    fn send(&self, message: &ToWorker, descriptors: &[OwnedFd]) {
        if let Err(error) = send(&self.sender, message, descriptors) {
            tracing::debug!(%error, "the worker of the previous start does not listen");
            // It has ended or is stuck.
            process::kill(&self.process);
        }
    }
}

impl Drop for Predecessor {
    fn drop(&mut self) {
        process::kill(&self.process);
        notify::unstore(PROCESS);
    }
}

/// Processes by descriptor, so that no other process can be hit.
#[cfg(target_os = "linux")]
mod process {
    use std::io;
    use std::os::fd::OwnedFd;

    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

    /// `pid` is that of a child that was not reaped.
    pub(super) fn open(pid: u32) -> io::Result<OwnedFd> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(pidfd_open(pid, PidfdFlags::empty())?)
    }

    pub(super) fn kill(process: &OwnedFd) {
        // It may have ended already.
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
}

/// Other systems have neither such descriptors nor a service manager that keeps them.
#[cfg(not(target_os = "linux"))]
mod process {
    use std::io;
    use std::os::fd::OwnedFd;

    pub(super) fn open(_pid: u32) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn kill(_process: &OwnedFd) {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Child, Command};
    use std::sync::mpsc;

    use super::*;
    use crate::privsep::channel::Receiver;
    use crate::privsep::message::MAX_TO_WORKER;
    use crate::privsep::ticket::QuestionId;

    /// A process that stands for the worker, the worker's end of the channel, and what was left.
    fn left(version: &str) -> (Child, Receiver, LeftWorker) {
        let child = Command::new("sleep").arg("1000").spawn().expect("a child");
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let left = LeftWorker {
            channel: Some((ours, version.to_owned())),
            process: Some(process::open(child.id()).expect("a descriptor")),
        };
        let (_, receiver) = channel::split(theirs, MAX_TO_WORKER).expect("two halves");
        (child, receiver, left)
    }

    fn next(receiver: &mut Receiver) -> ToWorker {
        let frame = receiver.receive().expect("a channel").expect("a message");
        ToWorker::decode(frame.operation, &frame.payload).expect("a sound message")
    }

    #[test]
    fn l15_a_worker_of_another_version_gets_a_short_limit_and_no_settings() {
        let (mut child, mut receiver, left) = left("0.0.0-other");
        let (events, _) = mpsc::sync_channel(8);
        let minute = Duration::from_secs(60);
        let adopted = Predecessor::adopt(left, minute, events).expect("it is adopted");
        adopted.obey(&Settled::example());
        let ticket = Ticket::of_worker(7);
        adopted.answer(ToMonitor::Reload { ticket });
        assert_eq!(
            next(&mut receiver),
            ToWorker::Drain {
                limit: OTHER_VERSION_TIMEOUT
            }
        );
        assert!(matches!(
            next(&mut receiver),
            ToWorker::ReloadFailed { ticket: answered, .. } if answered == ticket
        ));
        assert!(adopted.deadline() <= Instant::now() + OTHER_VERSION_TIMEOUT + GRACE);
        drop(adopted);
        let status = child.wait().expect("a child");
        assert!(!status.success(), "it is killed when it is let go of");
    }

    #[test]
    fn l15_an_adopted_worker_gets_settings_and_no_certificates_or_users() {
        let (mut child, mut receiver, left) = left(LAYOUT_VERSION);
        let (events, _) = mpsc::sync_channel(8);
        let minute = Duration::from_secs(60);
        let adopted = Predecessor::adopt(left, minute, events).expect("it is adopted");
        adopted.obey(&Settled::example());
        assert!(matches!(
            next(&mut receiver),
            ToWorker::Settings {
                listeners: [
                    ListenerUpdate::Keep,
                    ListenerUpdate::Keep,
                    ListenerUpdate::Keep
                ],
                ..
            }
        ));
        adopted.answer(ToMonitor::IssueLeaf {
            question: QuestionId::numbered(1),
            authority: [0; 32],
            public_key: [4; 65],
            name: "a.test".to_owned(),
            user: None,
        });
        let why = NoLeaf::OtherCa;
        assert_eq!(
            next(&mut receiver),
            ToWorker::LeafRefused {
                question: QuestionId::numbered(1),
                why
            }
        );
        adopted.answer(ToMonitor::AskOwners {
            question: QuestionId::numbered(2),
            connections: Vec::new(),
        });
        let users = Vec::new();
        assert_eq!(
            next(&mut receiver),
            ToWorker::Owners {
                question: QuestionId::numbered(2),
                users
            }
        );
        adopted.answer(ToMonitor::Rejected {
            ticket: Ticket::DRAINING,
            why: "no".to_owned(),
        });
        child.wait().expect("it is killed");
    }

    #[test]
    fn l15_a_worker_that_no_monitor_adopts_is_killed() {
        // The start failed before.
        let (mut child, _receiver, whole) = left("1");
        drop(whole);
        let status = child.wait().expect("our own child");
        assert!(!status.success());
        // Its channel is missing.
        let (mut child, _receiver, mut half) = left("1");
        half.channel = None;
        let (events, _) = mpsc::sync_channel(8);
        assert!(Predecessor::adopt(half, Duration::from_secs(60), events).is_none());
        let status = child.wait().expect("our own child");
        assert!(!status.success());
    }

    #[test]
    fn l15_a_worker_without_its_process_or_its_channel_is_not_adopted() {
        let (events, _) = mpsc::sync_channel(8);
        let (mut child, mut receiver, mut whole) = left("1");
        whole.process = None;
        let minute = Duration::from_secs(60);
        assert!(Predecessor::adopt(whole, minute, events).is_none());
        // The worker's channel has ended, so the worker ends itself.
        assert!(receiver.receive().expect("a channel").is_none());
        child.kill().expect("our own child");
        child.wait().expect("our own child");
    }

    /// A past bug: requests counted as pending after their answer, so the 257th killed the worker.
    #[test]
    fn l15_an_adopted_worker_may_ask_for_any_number_of_certificates_one_after_the_other() {
        let child = Command::new("sleep").arg("1000").spawn();
        let mut child = child.expect("a child");
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let left = LeftWorker {
            channel: Some((ours, LAYOUT_VERSION.to_owned())),
            process: Some(process::open(child.id()).expect("a descriptor")),
        };
        let (worker, mut receiver) = channel::split(theirs, MAX_TO_WORKER).expect("two halves");
        let (events, heard) = mpsc::sync_channel(8);
        let minute = Duration::from_secs(60);
        let adopted = Predecessor::adopt(left, minute, events).expect("it is adopted");
        let (operation, question) = ToMonitor::IssueLeaf {
            question: QuestionId::numbered(1),
            authority: [0; 32],
            public_key: [4; 65],
            name: "a.test".to_owned(),
            user: None,
        }
        .encode();
        for asked in 0..1000 {
            worker
                .send(operation, &question, &[])
                .expect("the monitor reads");
            match heard.recv().expect("an event") {
                Event::Said(NUMBER, message) => adopted.answer(message),
                _ => panic!("distrusted after {asked} requests"),
            }
            assert!(matches!(next(&mut receiver), ToWorker::LeafRefused { .. }));
        }
        drop(adopted);
        child.wait().expect("it is killed");
    }
}
