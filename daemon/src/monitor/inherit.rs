//! Sockets that another process opened: systemd, launchd, or this service before a restart (SPEC
//! L9).
//!
//! A socket unit's `FileDescriptorName=` says which listener it is for. Sockets that the service
//! bound itself and stored in systemd's file-descriptor store come back under a name with a prefix.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use anyhow::{Context as _, bail};
use socket2::{Socket, Type};

use super::predecessor::LeftWorker;
use crate::privsep::channel;
use crate::privsep::message::ListenerName;

/// The prefix of the names of stored sockets.
const STORED: &str = "stored-";

/// The name of the control socket.
const CONTROL: &str = "control";

/// The inherited sockets.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// In the order of [`ListenerName::ALL`].
    listeners: [Option<Handed>; 3],
    control: Option<UnixListener>,
    left: LeftWorker,
    attended: Attended,
}

/// Whether a service manager opens our sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Attended {
    /// No: no service manager runs us, or it passed no socket this time.
    #[default]
    No,
    /// Yes: it passed at least one socket.
    Yes,
}

/// One inherited socket.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) socket: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) from: SocketSource,
}

/// The origin of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketSource {
    /// A socket unit: its address is the administrator's choice.
    Unit,
    /// The service manager's store, where this service put it before a restart.
    Store,
}

/// The name under which a socket of this service is stored.
pub(super) fn stored_name(name: ListenerName) -> String {
    format!("{STORED}{}", name.as_str())
}

impl Inherited {
    /// Takes the sockets that the service manager passed.
    ///
    /// # Errors
    ///
    /// A socket of an unknown or repeated name, or of the wrong kind. It was meant for a listener,
    /// and clients would wait for ever if it were ignored.
    pub(super) fn take() -> anyhow::Result<Self> {
        let mut inherited = Self::default();
        for (descriptor, given) in handed_over()? {
            inherited.attended = Attended::Yes;
            let socket = Socket::from(channel::own(descriptor));
            // launchd passes its sockets only on request, after the other descriptors were
            // marked.
            socket.set_cloexec(true)?;
            let socket = match inherited.left.take(&given, socket.into()) {
                Ok(()) => continue,
                Err(descriptor) => Socket::from(descriptor),
            };
            let (name, from) = match given.strip_prefix(STORED) {
                Some(name) => (name, SocketSource::Store),
                None => (given.as_str(), SocketSource::Unit),
            };
            if name == CONTROL && from == SocketSource::Unit {
                if inherited.control.is_some() {
                    bail!(two_of(name));
                }
                check_control(&socket).context(
                    "the socket \"control\" that the service manager handed over is not usable",
                )?;
                inherited.control = Some(OwnedFd::from(socket).into());
                continue;
            }
            let Some(index) = ListenerName::ALL
                .iter()
                .position(|known| known.as_str() == name)
            else {
                bail!(
                    "the service manager handed over a socket called {given:?}; set FileDescriptorName= of its \
                     unit to http, socks5, admin or control"
                );
            };
            let address = check(&socket).with_context(|| {
                format!("the socket {given:?} that the service manager handed over is not usable")
            })?;
            let slot = &mut inherited.listeners[index];
            if from == SocketSource::Unit
                && slot
                    .as_ref()
                    .is_some_and(|taken| taken.from == SocketSource::Unit)
            {
                bail!(two_of(name));
            }
            // A unit's socket takes precedence over a stored one.
            if slot
                .as_ref()
                .is_none_or(|taken| taken.from == SocketSource::Store)
            {
                *slot = Some(Handed {
                    socket: socket.into(),
                    address,
                    from,
                });
            }
        }
        Ok(inherited)
    }

    pub(super) fn attended(&self) -> Attended {
        self.attended
    }

    pub(super) fn get(&self, index: usize) -> Option<&Handed> {
        self.listeners.get(index)?.as_ref()
    }

    /// Closes the stored socket for this listener, if it is still here: the settings that need it
    /// have a copy by now. Returns whether there was one.
    pub(super) fn let_go_of_stored(&mut self, name: ListenerName) -> bool {
        let slot = &mut self.listeners[name as usize];
        slot.take_if(|handed| handed.from == SocketSource::Store)
            .is_some()
    }

    /// The worker that the monitor before left, once.
    pub(super) fn take_left(&mut self) -> LeftWorker {
        std::mem::take(&mut self.left)
    }

    /// The control socket, once.
    pub(super) fn take_control(&mut self) -> Option<UnixListener> {
        self.control.take()
    }
}

/// The descriptors that the service manager passed, with their names.
#[cfg(not(target_os = "macos"))]
fn handed_over() -> anyhow::Result<Vec<(RawFd, String)>> {
    if !is_for_us() {
        return Ok(Vec::new());
    }
    let handed = sd_notify::listen_fds_with_names()
        .context("cannot take the sockets of the service manager")?;
    Ok(handed.collect())
}

/// The sockets that launchd holds under the names in the property list's `Sockets`.
#[cfg(target_os = "macos")]
fn handed_over() -> anyhow::Result<Vec<(RawFd, String)>> {
    use raunch::Error::{NotInPlist, NotManaged};
    let mut handed = Vec::new();
    for name in ListenerName::ALL
        .map(ListenerName::as_str)
        .into_iter()
        .chain([CONTROL])
    {
        match raunch::activate_socket(name) {
            Ok(descriptors) => {
                handed.extend(
                    descriptors
                        .into_iter()
                        .map(|descriptor| (descriptor, name.to_owned())),
                );
            }
            Err(NotInPlist | NotManaged) => {}
            Err(error) => bail!("cannot take the socket {name:?} over from launchd: {error}"),
        }
    }
    Ok(handed)
}

/// Whether the environment's socket variables are meant for this process, and not for an ancestor
/// (`sd_listen_fds(3)`).
#[cfg(not(target_os = "macos"))]
fn is_for_us() -> bool {
    std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string())
}

fn two_of(name: &str) -> String {
    format!(
        "the service manager handed over two sockets called {name:?}, and only one can be served; leave one \
         address in its unit"
    )
}

fn check(socket: &Socket) -> anyhow::Result<SocketAddr> {
    check_listens(socket)?;
    socket
        .local_addr()?
        .as_socket()
        .context("it has no internet address")
}

fn check_control(socket: &Socket) -> anyhow::Result<()> {
    check_listens(socket)?;
    if !socket.local_addr()?.is_unix() {
        bail!("it is not a unix socket (ListenStream= with a path)");
    }
    Ok(())
}

fn check_listens(socket: &Socket) -> anyhow::Result<()> {
    if socket.r#type()? != Type::STREAM {
        bail!("it is not a stream socket (ListenStream=)");
    }
    // Apple's systems do not report it.
    #[cfg(not(target_vendor = "apple"))]
    if !socket.is_listener()? {
        bail!("it does not listen (Accept=no is needed)");
    }
    Ok(())
}
