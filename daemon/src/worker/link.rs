//! The worker's end of the channel to the monitor.
//!
//! One thread receives. Callers of a reload wait in [`reload_waiters`](super::reload_waiters).

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use codex_network_config::{CredentialReading, Sources, Supplied};
use codex_network_engine::CredentialReader;
use codex_network_policy::EntryChange;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::reload_waiters::ReloadWaiters;
use crate::ca::Leaf;
use crate::opaque::credentials;
use crate::opaque::file_contents::ReceivedFiles;
use crate::opaque::worker_settings::{self, WorkerSettings};
use crate::permitted_callers::PermittedCallers;
use crate::privsep::channel::{self, Frame, Receiver, Sender};
use crate::privsep::message::{
    FirstSettings, ListenerName, ListenerUpdate, MAX_TO_WORKER, NoLeaf, Problems, ToMonitor,
    ToWorker,
};
use crate::privsep::ticket::{QuestionId, Ticket};
use crate::problems::ReloadError;

/// Sends to the monitor.
#[derive(Debug)]
pub(super) struct Link {
    sender: Sender,
    reload_waiters: ReloadWaiters,
    /// Messages from before the monitor knew that this worker serves. Sent earlier, they would be
    /// protocol violations. `None` from then on.
    early: Mutex<Option<Vec<ToMonitor>>>,
}

/// The settings that a worker starts with.
#[derive(Debug)]
pub(super) struct StartSettings {
    pub(super) message: FirstSettings,
    pub(super) settings: NewSettings,
    /// The control socket, with its path.
    pub(super) control: Option<(UnixListener, String, SocketSource)>,
}

/// Settings to put in force, with the sockets that change.
#[derive(Debug)]
pub(super) struct NewSettings {
    pub(super) ticket: Ticket,
    /// The configuration, with the secrets that it names.
    pub(super) sources: Sources,
    /// The permitted callers of the control socket.
    pub(super) admitted: PermittedCallers,
    /// Sentences of the loader about the configuration.
    pub(super) warnings: Vec<String>,
    pub(super) supplied: Supplied,
    /// Sentences of the loader about the files of the system.
    pub(super) file_warnings: Vec<String>,
    pub(super) listeners: Vec<(ListenerName, ListenerChange)>,
}

/// The change of a listener.
#[derive(Debug)]
pub(super) enum ListenerChange {
    Close,
    /// Close it: another program listens on its address.
    Busy,
    Open(TcpListener, SocketSource),
}

/// Which process made a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketSource {
    /// The monitor bound it.
    Bound,
    /// The service manager made it.
    ServiceManager,
    /// The service manager made it for a door that is switched off.
    SwitchedOff,
}

impl SocketSource {
    fn of(listener: ListenerUpdate) -> Self {
        match listener {
            ListenerUpdate::Handed => Self::ServiceManager,
            ListenerUpdate::Shut => Self::SwitchedOff,
            ListenerUpdate::Keep
            | ListenerUpdate::Close
            | ListenerUpdate::Busy
            | ListenerUpdate::Open => Self::Bound,
        }
    }

    /// The text in `proxyctl status`.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::ServiceManager | Self::SwitchedOff => "service manager",
        }
    }
}

/// A message of the monitor, with its descriptors.
#[derive(Debug)]
pub(super) enum Order {
    FirstSettings(Box<StartSettings>),
    Settings(Box<NewSettings>),
    /// Listeners on these addresses will come with the settings of this ticket.
    Announce {
        ticket: Ticket,
        addresses: [Option<SocketAddr>; 3],
    },
    ReloadFailed {
        ticket: Ticket,
        problems: Problems,
    },
    Drain(Duration),
    /// Drain, and outlive this monitor.
    HandOver {
        limit: Duration,
        release: u64,
    },
    Ping,
    /// The files of the system have changed.
    SystemFiles(ReceivedFiles),
    /// Sources of credentials were read again.
    Credentials(Vec<CredentialReading>),
    /// The result of a request for a leaf.
    Leaf {
        question: QuestionId,
        outcome: Result<Leaf, NoLeaf>,
    },
    /// The users of the connections in a question.
    Owners {
        question: QuestionId,
        users: Vec<Option<u32>>,
    },
}

/// The channel, which the monitor made this process's standard input.
pub(super) fn open() -> io::Result<(Arc<Link>, Receiver)> {
    over(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Both halves of the channel over a connected socket.
pub(super) fn over(stream: UnixStream) -> io::Result<(Arc<Link>, Receiver)> {
    let (sender, receiver) = channel::split(stream, MAX_TO_WORKER)?;
    let link = Link {
        sender,
        reload_waiters: ReloadWaiters::default(),
        early: Mutex::new(Some(Vec::new())),
    };
    Ok((Arc::new(link), receiver.reserving_descriptors()))
}

/// Waits for the next order; `None` when the monitor is gone.
pub(super) fn next(receiver: &mut Receiver) -> anyhow::Result<Option<Order>> {
    let Some(frame) = receiver
        .receive()
        .context("the channel to the monitor is broken")?
    else {
        return Ok(None);
    };
    let Frame {
        operation,
        payload,
        descriptors,
    } = frame;
    // The first settings hold a number that a confined worker must forget.
    let payload = Zeroizing::new(payload);
    Ok(Some(match ToWorker::decode(operation, &payload)? {
        ToWorker::FirstSettings(message) => {
            let mut descriptors = descriptors.into_iter();
            let settings = receive_settings(Ticket::FIRST, message.listeners, &mut descriptors)?;
            let control = match message.control.clone() {
                None => None,
                Some(path) => {
                    let socket = descriptors
                        .next()
                        .context("the control socket is missing")?;
                    let source = SocketSource::of(message.control_from);
                    Some((UnixListener::from(socket), path, source))
                }
            };
            end(descriptors)?;
            Order::FirstSettings(Box::new(StartSettings {
                message,
                settings,
                control,
            }))
        }
        ToWorker::Settings { ticket, listeners } => {
            let mut descriptors = descriptors.into_iter();
            let settings = receive_settings(ticket, listeners, &mut descriptors)?;
            end(descriptors)?;
            Order::Settings(Box::new(settings))
        }
        ToWorker::Announce { ticket, addresses } => Order::Announce { ticket, addresses },
        ToWorker::ReloadFailed { ticket, problems } => Order::ReloadFailed { ticket, problems },
        ToWorker::Drain { limit } => Order::Drain(limit),
        ToWorker::HandOver { limit, release } => Order::HandOver { limit, release },
        ToWorker::Ping => Order::Ping,
        ToWorker::SystemFiles => {
            let files = descriptors.into_iter().next();
            Order::SystemFiles(receive_files(
                files.context("no files of the system came")?,
            )?)
        }
        ToWorker::Credentials => {
            let memory = descriptors.into_iter().next();
            let memory = File::from(memory.context("no credentials came")?);
            // It holds secrets.
            let bytes = Zeroizing::new(read(&memory).context("cannot read the credentials")?);
            let readings = credentials::decode(&bytes);
            Order::Credentials(readings.context("the credentials are garbled")?)
        }
        ToWorker::Leaf {
            question,
            certificate,
            not_before,
            not_after,
        } => Order::Leaf {
            question,
            outcome: Ok(Leaf {
                certificate,
                not_before: UNIX_EPOCH + Duration::from_secs(not_before),
                not_after: UNIX_EPOCH + Duration::from_secs(not_after),
            }),
        },
        ToWorker::LeafRefused { question, why } => Order::Leaf {
            question,
            outcome: Err(why),
        },
        ToWorker::Owners { question, users } => Order::Owners { question, users },
    }))
}

fn receive_settings(
    ticket: Ticket,
    listeners: [ListenerUpdate; 3],
    descriptors: &mut impl Iterator<Item = OwnedFd>,
) -> anyhow::Result<NewSettings> {
    let blob = File::from(descriptors.next().context("no settings came")?);
    let files = descriptors.next().context("no files of the system came")?;
    let listeners = take_listeners(descriptors, listeners)?;
    // It holds secrets.
    let bytes = Zeroizing::new(read(&blob).context("cannot read the settings")?);
    let WorkerSettings {
        admitted,
        warnings,
        upstream_proxies,
        credentials,
        sources,
    } = worker_settings::decode(&bytes).context("the settings are garbled")?;
    let ReceivedFiles {
        files,
        warnings: file_warnings,
    } = receive_files(files)?;
    Ok(NewSettings {
        ticket,
        sources,
        admitted,
        warnings,
        supplied: Supplied {
            upstream_proxies: Arc::new(upstream_proxies),
            files,
            credentials,
        },
        file_warnings,
        listeners,
    })
}

fn end(mut descriptors: impl Iterator<Item = OwnedFd>) -> anyhow::Result<()> {
    if descriptors.next().is_some() {
        bail!("more descriptors came than were announced");
    }
    Ok(())
}

fn take_listeners(
    descriptors: &mut impl Iterator<Item = OwnedFd>,
    listeners: [ListenerUpdate; 3],
) -> anyhow::Result<Vec<(ListenerName, ListenerChange)>> {
    let mut changes = Vec::new();
    for (name, listener) in ListenerName::ALL.into_iter().zip(listeners) {
        match listener {
            ListenerUpdate::Keep => {}
            ListenerUpdate::Close => changes.push((name, ListenerChange::Close)),
            ListenerUpdate::Busy => changes.push((name, ListenerChange::Busy)),
            ListenerUpdate::Open | ListenerUpdate::Handed | ListenerUpdate::Shut => {
                let source = SocketSource::of(listener);
                let socket = descriptors.next().context("a socket is missing")?;
                changes.push((
                    name,
                    ListenerChange::Open(TcpListener::from(socket), source),
                ));
            }
        }
    }
    Ok(changes)
}

/// Reads the file from its beginning. All workers that got the descriptor share its position, so
/// the position is not used. Its length is found by seeking to the end: a confined worker cannot
/// read metadata.
fn read(mut file: &File) -> anyhow::Result<Vec<u8>> {
    let length = usize::try_from(file.seek(SeekFrom::End(0))?).context("it is too large")?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Reads the files of the system from the memory that holds them.
fn receive_files(memory: OwnedFd) -> anyhow::Result<ReceivedFiles> {
    let bytes = read(&File::from(memory)).context("cannot read the files of the system")?;
    ReceivedFiles::from_blob(&bytes).context("the files of the system are garbled")
}

impl CredentialReader for Link {
    fn read_again(&self, place: usize) {
        // There are never as many.
        let source = u32::try_from(place).unwrap_or(u32::MAX);
        self.send(ToMonitor::ReadCredential { source });
    }
}

impl Link {
    /// Sends a message to the monitor. If the monitor is gone, this process ends soon. Doors open a
    /// moment before the monitor knows it, so messages that their clients cause may have to wait.
    pub(super) fn send(&self, message: ToMonitor) {
        let mut early = self.early.lock();
        match (&mut *early, &message) {
            (Some(_), ToMonitor::Applied { .. }) => {
                self.write(&message);
                for waited in early.take().unwrap_or_default() {
                    self.write(&waited);
                }
            }
            (Some(_), ToMonitor::Rejected { .. }) | (None, _) => self.write(&message),
            (Some(early), _) => early.push(message),
        }
    }

    fn write(&self, message: &ToMonitor) {
        let (operation, payload) = message.encode();
        if let Err(error) = self.sender.send(operation, &payload, &[]) {
            tracing::debug!(%error, "the monitor does not listen");
        }
    }

    /// Requests a reload and waits for its result. With `only`, it may have this change and no other.
    pub(super) async fn reload(&self, only: Option<EntryChange>) -> Result<(), ReloadError> {
        let joined = self.reload_waiters.join(only)?;
        if let Some(ticket) = joined.request {
            self.send(ToMonitor::Reload { ticket });
        }
        joined
            .outcome
            .await
            .unwrap_or_else(|_| Err(ReloadError::placeless("the proxy is stopping")))
    }

    /// The only change that the reload with this guarded ticket may have.
    pub(super) fn only(&self, ticket: Ticket) -> Option<EntryChange> {
        self.reload_waiters.only(ticket)
    }

    /// Gives the result to the callers of the reload with this ticket, and requests the next one if
    /// callers wait for it.
    pub(super) fn reload_ended(&self, ticket: Ticket, outcome: &Result<(), ReloadError>) {
        if let Some(ticket) = self.reload_waiters.ended(ticket, outcome) {
            self.send(ToMonitor::Reload { ticket });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privsep::message::MAX_TO_MONITOR;

    /// A past bug: a client of a worker that had just opened its doors requested a reload, and the
    /// monitor treated it as a protocol violation.
    #[test]
    fn c7_a_reload_requested_before_the_worker_serves_is_sent_right_after_it_does() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (link, _) = over(ours).expect("a channel");
        let (_, mut received) = channel::split(theirs, MAX_TO_MONITOR).expect("a channel");
        let reload = |number| ToMonitor::Reload {
            ticket: Ticket::of_worker(number),
        };
        let applied = ToMonitor::Applied {
            ticket: Ticket::FIRST,
        };
        link.send(reload(7));
        link.send(applied.clone());
        link.send(reload(8));
        for expected in [applied, reload(7), reload(8)] {
            let frame = received.receive().expect("a channel").expect("a message");
            let message = ToMonitor::decode(frame.operation, &frame.payload);
            assert_eq!(message, Ok(expected));
        }
    }
}
