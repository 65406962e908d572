//! The worker's end of the channel to the monitor.
//!
//! One thread receives. Callers of a reload wait in [`askers`](super::askers).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use parking_lot::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use codex_network_config::{ResolverFiles, Sources, SystemFiles, UpstreamProxies};
use zeroize::Zeroizing;

use super::askers::Askers;
use crate::admitted::Admitted;
use crate::ca::Leaf;
use crate::ca::handed::Handed;
use crate::privsep::channel::{self, Frame, Receiver, Sender};
use crate::privsep::message::{
    Account, Confinement, Fallback, Listener, MAX_TO_WORKER, Mode, Name, NoLeaf, Problems,
    ToMonitor, ToWorker,
};
use crate::privsep::system_files;
use crate::problems::ReloadError;

/// Sends to the monitor.
#[derive(Debug)]
pub(super) struct Link {
    sender: Sender,
    askers: Askers,
    /// Messages from before the monitor knew that this worker serves. Sent earlier, they would be
    /// protocol violations. `None` from then on.
    early: Mutex<Option<Vec<ToMonitor>>>,
}

/// Settings to put in force, with the sockets that change.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) ticket: u32,
    /// The mode that was set at run time, if it differs from that of the configuration.
    pub(super) mode: Option<Mode>,
    /// How many workers came before this one.
    pub(super) restarts: u32,
    /// The number after which a new worker counts its refusals.
    pub(super) blocked_base: u64,
    pub(super) sources: Sources,
    /// The permitted callers of the control socket.
    pub(super) admitted: Admitted,
    /// Sentences about names without an account.
    pub(super) unknown: Vec<String>,
    /// The files of the system, with the CA.
    pub(super) system_files: ReceivedFiles,
    /// The proxies of the environment that the service was started with.
    pub(super) upstream_proxies: Arc<UpstreamProxies>,
    /// The control socket, with its path; a worker gets it with its first orders.
    pub(super) control: Option<(UnixListener, String, Origin)>,
    pub(super) listeners: Vec<(Name, Change)>,
    pub(super) account: Option<Account>,
    pub(super) confinement: Confinement,
    /// Whether they stand in for a configuration that cannot be used.
    pub(super) fallback: Fallback,
    /// The number for `sandbox::outlive_the_monitor`.
    pub(super) release: u64,
}

/// The files of the system, and sentences about those that cannot be used.
#[derive(Debug)]
pub(super) struct ReceivedFiles {
    pub(super) files: SystemFiles,
    pub(super) warnings: Vec<String>,
}

/// The change of a listener.
#[derive(Debug)]
pub(super) enum Change {
    Close,
    /// Close it: another program listens on its address.
    Busy,
    Open(TcpListener, Origin),
}

/// The origin of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The monitor bound it.
    Bound,
    /// The service manager made it.
    ServiceManager,
    /// The service manager made it for a door that is switched off.
    SwitchedOff,
}

impl Origin {
    fn of(listener: Listener) -> Self {
        match listener {
            Listener::Handed => Self::ServiceManager,
            Listener::Shut => Self::SwitchedOff,
            Listener::Keep | Listener::Close | Listener::Busy | Listener::Open => Self::Bound,
        }
    }

    /// The word in `proxyctl status`.
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
    Settings(Box<Orders>),
    /// Listeners on these addresses will come with the settings of this ticket.
    Announce {
        ticket: u32,
        addresses: [Option<SocketAddr>; 3],
    },
    ReloadFailed {
        ticket: u32,
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
    /// The result of a request for a leaf.
    Leaf {
        ticket: u32,
        outcome: Result<Leaf, NoLeaf>,
    },
    /// The users of the connections in a question.
    Owners {
        ticket: u32,
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
        askers: Askers::default(),
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
        ToWorker::Settings {
            ticket,
            control,
            control_from,
            mode,
            restarts,
            blocked_base,
            listeners,
            account,
            confinement,
            fallback,
            release,
        } => {
            let mut descriptors = descriptors.into_iter();
            let blob = File::from(descriptors.next().context("no settings came")?);
            let files = descriptors.next().context("no files of the system came")?;
            let listeners = take_listeners(&mut descriptors, listeners)?;
            let control = match control {
                None => None,
                Some(path) => {
                    let socket = descriptors
                        .next()
                        .context("the control socket is missing")?;
                    Some((UnixListener::from(socket), path, Origin::of(control_from)))
                }
            };
            if descriptors.next().is_some() {
                bail!("more descriptors came than were announced");
            }
            // It holds secrets.
            let bytes = Zeroizing::new(read(&blob).context("cannot read the settings")?);
            let unpacked = unpack(&bytes).context("the settings are garbled")?;
            let sources = Sources::from_bytes(unpacked.sources)?;
            Order::Settings(Box::new(Orders {
                ticket,
                mode,
                restarts,
                blocked_base,
                sources,
                admitted: unpacked.admitted,
                unknown: unpacked.unknown,
                system_files: receive(files)?,
                upstream_proxies: Arc::new(unpacked.upstream_proxies),
                control,
                listeners,
                account,
                confinement,
                fallback,
                release,
            }))
        }
        ToWorker::Announce { ticket, addresses } => Order::Announce { ticket, addresses },
        ToWorker::ReloadFailed { ticket, problems } => Order::ReloadFailed { ticket, problems },
        ToWorker::Drain { limit } => Order::Drain(limit),
        ToWorker::HandOver { limit, release } => Order::HandOver { limit, release },
        ToWorker::Ping => Order::Ping,
        ToWorker::SystemFiles => {
            let files = descriptors.into_iter().next();
            Order::SystemFiles(receive(files.context("no files of the system came")?)?)
        }
        ToWorker::Leaf {
            ticket,
            certificate,
            not_before,
            not_after,
        } => Order::Leaf {
            ticket,
            outcome: Ok(Leaf {
                certificate,
                not_before: UNIX_EPOCH + Duration::from_secs(not_before),
                not_after: UNIX_EPOCH + Duration::from_secs(not_after),
            }),
        },
        ToWorker::LeafRefused { ticket, why } => Order::Leaf {
            ticket,
            outcome: Err(why),
        },
        ToWorker::Owners { ticket, users } => Order::Owners { ticket, users },
    }))
}

fn take_listeners(
    descriptors: &mut impl Iterator<Item = OwnedFd>,
    listeners: [Listener; 3],
) -> anyhow::Result<Vec<(Name, Change)>> {
    let mut changes = Vec::new();
    for (name, listener) in Name::ALL.into_iter().zip(listeners) {
        match listener {
            Listener::Keep => {}
            Listener::Close => changes.push((name, Change::Close)),
            Listener::Busy => changes.push((name, Change::Busy)),
            Listener::Open | Listener::Handed | Listener::Shut => {
                let origin = Origin::of(listener);
                let socket = descriptors.next().context("a socket is missing")?;
                changes.push((name, Change::Open(TcpListener::from(socket), origin)));
            }
        }
    }
    Ok(changes)
}

/// Reads the file from its beginning. The file's own position is shared with every worker that it
/// was ever given to. Its length is found by seeking to the end: a confined worker cannot read
/// metadata.
fn read(mut file: &File) -> anyhow::Result<Vec<u8>> {
    let length = usize::try_from(file.seek(SeekFrom::End(0))?).context("it is too large")?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// The parts of the loader's blob.
struct Unpacked<'a> {
    admitted: Admitted,
    unknown: Vec<String>,
    upstream_proxies: UpstreamProxies,
    sources: &'a [u8],
}

/// Splits the loader's blob into its parts.
fn unpack(bytes: &[u8]) -> Option<Unpacked<'_>> {
    let (admitted, rest) = Admitted::from_bytes(bytes)?;
    let (unknown, mut rest) = part(rest)?;
    let mut variables = HashMap::new();
    for name in UpstreamProxies::VARIABLES {
        let (value, after) = part(rest)?;
        variables.insert(name, OsStr::from_bytes(value));
        rest = after;
    }
    let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    Some(Unpacked {
        admitted,
        unknown: lines(unknown),
        // The loader has checked them.
        upstream_proxies: UpstreamProxies::from_environment(variable).ok()?,
        sources: rest,
    })
}

/// Reads the files of the system from the memory that holds them.
fn receive(memory: OwnedFd) -> anyhow::Result<ReceivedFiles> {
    let bytes = read(&File::from(memory)).context("cannot read the files of the system")?;
    let [hosts, resolv_conf, handed, warnings] = system_files::SystemFiles::split_blob(&bytes)?;
    let handed = Handed::from_bytes(handed).context("the roots are garbled")?;
    let text = |bytes| Some(Arc::from(String::from_utf8_lossy(bytes)));
    Ok(ReceivedFiles {
        files: SystemFiles {
            resolver: ResolverFiles {
                hosts: text(hosts),
                resolv_conf: text(resolv_conf),
            },
            ca: handed.ca,
            roots: handed.roots,
        },
        warnings: lines(warnings),
    })
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(str::to_owned).collect()
}

/// Bytes after their length, and the rest.
fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

impl Link {
    /// Sends a message to the monitor. If the monitor is gone, this process ends soon. Doors open a
    /// moment before the monitor knows it, so messages that their clients cause may have to wait.
    pub(super) fn tell(&self, message: ToMonitor) {
        let mut early = self.early.lock();
        match (&mut *early, &message) {
            (Some(_), ToMonitor::Applied { .. }) => {
                self.send(&message);
                for waited in early.take().unwrap_or_default() {
                    self.send(&waited);
                }
            }
            (Some(_), ToMonitor::Rejected { .. }) | (None, _) => self.send(&message),
            (Some(early), _) => early.push(message),
        }
    }

    fn send(&self, message: &ToMonitor) {
        let (operation, payload) = message.encode();
        if let Err(error) = self.sender.send(operation, &payload, &[]) {
            tracing::debug!(%error, "the monitor does not listen");
        }
    }

    /// Requests a reload and waits for its result.
    pub(super) async fn reload(&self) -> Result<(), ReloadError> {
        let joined = self.askers.join()?;
        if let Some(ticket) = joined.ask {
            self.tell(ToMonitor::Reload { ticket });
        }
        joined
            .outcome
            .await
            .unwrap_or_else(|_| Err(ReloadError::placeless("the proxy is stopping")))
    }

    /// Tells the callers of the reload with this ticket, and requests the next one if callers wait
    /// for it.
    pub(super) fn reload_ended(&self, ticket: u32, outcome: &Result<(), ReloadError>) {
        if let Some(ticket) = self.askers.ended(ticket, outcome) {
            self.tell(ToMonitor::Reload { ticket });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privsep::message::MAX_TO_MONITOR;

    /// A past bug: a client of a worker that had just opened its doors asked for a reload, and the
    /// monitor took it for a protocol violation.
    #[test]
    fn what_is_asked_before_the_worker_serves_is_said_right_after_that_it_does() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (link, _) = over(ours).expect("a channel");
        let (_, mut heard) = channel::split(theirs, MAX_TO_MONITOR).expect("a channel");
        link.tell(ToMonitor::Reload { ticket: 7 });
        link.tell(ToMonitor::Applied { ticket: 0 });
        link.tell(ToMonitor::Reload { ticket: 8 });
        for wanted in [
            ToMonitor::Applied { ticket: 0 },
            ToMonitor::Reload { ticket: 7 },
            ToMonitor::Reload { ticket: 8 },
        ] {
            let frame = heard.receive().expect("a channel").expect("a message");
            let said = ToMonitor::decode(frame.operation, &frame.payload);
            assert_eq!(said, Ok(wanted));
        }
    }
}
