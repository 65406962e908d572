//! The worker's end of the channel to the monitor.
//!
//! One thread listens; whoever asked for a reload waits among the [`askers`](super::askers).

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use codex_network_config::{ResolverFiles, Sources, UpstreamProxies};
use zeroize::Zeroizing;

use super::askers::Askers;
use crate::admitted::Admitted;
use crate::ca::Leaf;
use crate::ca::handed::Handed;
use crate::privsep::channel::{self, Frame, Receiver, Sender};
use crate::privsep::message::{
    Account, Confinement, LONGEST_TO_WORKER, Listener, Mode, Name, NoLeaf, Problems, ToMonitor,
    ToWorker,
};
use crate::problems::ReloadError;

/// Talks to the monitor.
#[derive(Debug)]
pub(super) struct Link {
    sender: Sender,
    askers: Askers,
    /// What was to be said before the monitor knew that this worker serves, which it would take for
    /// nonsense; `None` from then on.
    early: Mutex<Option<Vec<ToMonitor>>>,
}

/// Settings to put in force, with the sockets that change.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) ticket: u32,
    /// The mode that was set at run time, where it is not that of the configuration.
    pub(super) mode: Option<Mode>,
    /// How many workers came before this one.
    pub(super) restarts: u32,
    /// The number after which to count what is refused; of use to a worker that starts.
    pub(super) blocked_base: u64,
    pub(super) sources: Sources,
    /// Who may call on the control socket.
    pub(super) admitted: Admitted,
    /// Names that stand for nobody, in words.
    pub(super) unknown: Vec<String>,
    /// The files that resolving names needs.
    pub(super) files: ResolverFiles,
    /// The proxies of the environment that the service was started with.
    pub(super) upstream_proxies: Arc<UpstreamProxies>,
    /// The CA and the roots.
    pub(super) handed: Handed,
    /// The control socket, with its path; a worker gets it with its first orders.
    pub(super) control: Option<(UnixListener, String, Origin)>,
    pub(super) listeners: Vec<(Name, Change)>,
    pub(super) account: Option<Account>,
    pub(super) confinement: Confinement,
}

/// What becomes of a listener.
#[derive(Debug)]
pub(super) enum Change {
    Close,
    /// Close, since somebody else listens on its address.
    Busy,
    Open(TcpListener, Origin),
}

/// Where a socket came from.
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

/// What the monitor says, with its descriptors taken in.
#[derive(Debug)]
pub(super) enum Order {
    Settings(Box<Orders>),
    /// Listeners on these addresses are to come with the settings of this ticket.
    Announce {
        ticket: u32,
        addresses: [Option<SocketAddr>; 3],
    },
    ReloadFailed {
        ticket: u32,
        problems: Problems,
    },
    Drain(Duration),
    Ping,
    /// What came of asking for a leaf.
    Leaf {
        ticket: u32,
        outcome: Result<Leaf, NoLeaf>,
    },
    /// Whose connections are that were asked about.
    Owners {
        ticket: u32,
        users: Vec<Option<u32>>,
    },
}

/// The channel that the monitor made our standard input.
pub(super) fn open() -> io::Result<(Arc<Link>, Receiver)> {
    over(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Both ends of the conversation over a connected socket.
pub(super) fn over(stream: UnixStream) -> io::Result<(Arc<Link>, Receiver)> {
    let (sender, receiver) = channel::split(stream, LONGEST_TO_WORKER)?;
    let link = Link {
        sender,
        askers: Askers::default(),
        early: Mutex::new(Some(Vec::new())),
    };
    Ok((Arc::new(link), receiver))
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
        } => {
            let mut descriptors = descriptors.into_iter();
            let blob = File::from(descriptors.next().context("no settings came")?);
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
            // Secrets are among them.
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
                files: unpacked.files,
                upstream_proxies: Arc::new(unpacked.upstream_proxies),
                handed: unpacked.handed,
                control,
                listeners,
                account,
                confinement,
            }))
        }
        ToWorker::Announce { ticket, addresses } => Order::Announce { ticket, addresses },
        ToWorker::ReloadFailed { ticket, problems } => Order::ReloadFailed { ticket, problems },
        ToWorker::Drain { limit } => Order::Drain(limit),
        ToWorker::Ping => Order::Ping,
        ToWorker::Leaf {
            ticket,
            certificate,
            not_after,
        } => Order::Leaf {
            ticket,
            outcome: Ok(Leaf {
                certificate,
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

/// Reads the file from its beginning, whatever its own position, which is shared with every worker that
/// it was ever given to. Its length is where it ends: a confined worker cannot ask for metadata.
fn read(mut file: &File) -> anyhow::Result<Vec<u8>> {
    let length = usize::try_from(file.seek(SeekFrom::End(0))?).context("it is too large")?;
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// What the loader put together.
struct Unpacked<'a> {
    admitted: Admitted,
    unknown: Vec<String>,
    files: ResolverFiles,
    upstream_proxies: UpstreamProxies,
    handed: Handed,
    sources: &'a [u8],
}

/// Takes apart what the loader put together.
fn unpack(bytes: &[u8]) -> Option<Unpacked<'_>> {
    let (admitted, rest) = Admitted::from_bytes(bytes)?;
    let (unknown, rest) = part(rest)?;
    let (hosts, rest) = part(rest)?;
    let (resolv_conf, mut rest) = part(rest)?;
    let mut variables = HashMap::new();
    for name in UpstreamProxies::VARIABLES {
        let (value, after) = part(rest)?;
        variables.insert(name, OsStr::from_bytes(value));
        rest = after;
    }
    let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    let (handed, sources) = part(rest)?;
    let text = |bytes| Some(Arc::from(String::from_utf8_lossy(bytes)));
    Some(Unpacked {
        admitted,
        unknown: String::from_utf8_lossy(unknown)
            .lines()
            .map(str::to_owned)
            .collect(),
        files: ResolverFiles {
            hosts: text(hosts),
            resolv_conf: text(resolv_conf),
        },
        // The loader has judged them.
        upstream_proxies: UpstreamProxies::from_environment(variable).ok()?,
        handed: Handed::from_bytes(handed)?,
        sources,
    })
}

/// Bytes behind their length, and what is left.
fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
}

impl Link {
    /// Tells the monitor something. It may be gone; then so are we, soon. Doors open a moment before
    /// the monitor hears that they do, so what their clients ask for may have to wait for that.
    pub(super) fn tell(&self, message: ToMonitor) {
        let mut early = self.early.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Asks for a reload and waits for what comes of it.
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

    /// Tells whoever waits for the reload with this ticket, and asks for the next one if somebody
    /// waits for that.
    pub(super) fn reload_ended(&self, ticket: u32, outcome: &Result<(), ReloadError>) {
        if let Some(ticket) = self.askers.ended(ticket, outcome) {
            self.tell(ToMonitor::Reload { ticket });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privsep::message::LONGEST_TO_MONITOR;

    /// An old wound: a client of a worker that had only just opened its doors asked for a reload, and
    /// the monitor took the worker for one gone wrong.
    #[test]
    fn what_is_asked_before_the_worker_serves_is_said_right_after_that_it_does() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (link, _) = over(ours).expect("a channel");
        let (_, mut heard) = channel::split(theirs, LONGEST_TO_MONITOR).expect("a channel");
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
