//! The worker's end of the channel to the monitor.
//!
//! One thread listens; whoever asked for a reload waits for the outcome under its ticket.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use codex_network_config::Sources;
use tokio::sync::oneshot;

use crate::privsep::channel::{self, Frame, Receiver, Sender};
use crate::privsep::message::{
    Account, Confinement, LONGEST_TO_WORKER, Listener, Name, ToMonitor, ToWorker,
};

/// What came of a reload, with the problems in words.
pub(super) type Outcome = Result<(), String>;

/// Talks to the monitor.
#[derive(Debug)]
pub(super) struct Link {
    sender: Sender,
    tickets: AtomicU32,
    waiting: Mutex<HashMap<u32, oneshot::Sender<Outcome>>>,
}

/// Settings to put in force, with the sockets that change.
#[derive(Debug)]
pub(super) struct Orders {
    pub(super) ticket: u32,
    pub(super) sources: Sources,
    pub(super) listeners: Vec<(Name, Change)>,
    pub(super) account: Option<Account>,
    pub(super) confinement: Confinement,
}

/// What becomes of a listener.
#[derive(Debug)]
pub(super) enum Change {
    Close,
    Open(TcpListener),
}

/// What the monitor says, with its descriptors taken in.
#[derive(Debug)]
pub(super) enum Order {
    Settings(Box<Orders>),
    ReloadFailed { ticket: u32, problems: String },
    Drain(std::time::Duration),
    Ping,
}

/// The channel that the monitor made our standard input.
pub(super) fn open() -> io::Result<(Arc<Link>, Receiver)> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (sender, receiver) = channel::split(stream, LONGEST_TO_WORKER)?;
    let link = Link {
        sender,
        tickets: AtomicU32::new(1),
        waiting: Mutex::default(),
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
            listeners,
            account,
            confinement,
        } => {
            let (sources, listeners) = take_in(descriptors, listeners)?;
            Order::Settings(Box::new(Orders {
                ticket,
                sources,
                listeners,
                account,
                confinement,
            }))
        }
        ToWorker::ReloadFailed { ticket, problems } => Order::ReloadFailed { ticket, problems },
        ToWorker::Drain { limit } => Order::Drain(limit),
        ToWorker::Ping => Order::Ping,
    }))
}

fn take_in(
    descriptors: Vec<OwnedFd>,
    listeners: [Listener; 3],
) -> anyhow::Result<(Sources, Vec<(Name, Change)>)> {
    let mut descriptors = descriptors.into_iter();
    let blob = File::from(descriptors.next().context("no settings came")?);
    let mut changes = Vec::new();
    for (name, listener) in Name::ALL.into_iter().zip(listeners) {
        match listener {
            Listener::Keep => {}
            Listener::Close => changes.push((name, Change::Close)),
            Listener::Open => {
                let socket = descriptors.next().context("a socket is missing")?;
                changes.push((name, Change::Open(TcpListener::from(socket))));
            }
        }
    }
    if descriptors.next().is_some() {
        bail!("more descriptors came than were announced");
    }
    let length = usize::try_from(blob.metadata()?.len()).context("the settings are too large")?;
    let mut bytes = vec![0; length];
    // The file's own position is shared with every worker that this file was ever given to.
    blob.read_exact_at(&mut bytes, 0)
        .context("cannot read the settings")?;
    Ok((Sources::from_bytes(&bytes)?, changes))
}

impl Link {
    /// Tells the monitor something. It may be gone; then so are we, soon.
    pub(super) fn tell(&self, message: &ToMonitor) {
        let (operation, payload) = message.encode();
        if let Err(error) = self.sender.send(operation, &payload, &[]) {
            tracing::debug!(%error, "the monitor does not listen");
        }
    }

    /// Asks for a reload and waits for what comes of it.
    pub(super) async fn reload(&self) -> Outcome {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (outcome, waiting) = oneshot::channel();
        self.waiting().insert(ticket, outcome);
        self.tell(&ToMonitor::Reload { ticket });
        waiting
            .await
            .unwrap_or_else(|_| Err("error: the proxy is stopping".to_owned()))
    }

    /// Tells whoever asked for the reload with this ticket; the monitor's own have no asker here.
    pub(super) fn reload_ended(&self, ticket: u32, outcome: Outcome) {
        if let Some(asker) = self.waiting().remove(&ticket) {
            // An asker that has gone away needs no answer.
            let _ = asker.send(outcome);
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<u32, oneshot::Sender<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
