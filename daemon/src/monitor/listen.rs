//! The listening sockets. They outlive every worker (SPEC L1 to L3, L6, C7).

mod port_holder;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use anyhow::{Context as _, bail};
use socket2::{Domain, SockRef, Socket, Type};

use super::inherit::{self, Attended, Inherited, SocketSource};
use crate::notify;
use crate::privsep::message::{Fallback, ListenerName, ListenerUpdate};
use crate::privsep::settled::{Power, Reach, Settled};

/// How many clients may wait in the kernel until a worker accepts them. The kernel reduces it to
/// its own limit (`net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// The sockets in force, in the order of [`ListenerName::ALL`], and the inherited ones.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    open: [Option<Bound>; 3],
    /// Addresses that another program listens on. The proxy runs without them, and each reload
    /// tries again.
    busy: [Option<SocketAddr>; 3],
    inherited: Inherited,
    doors: ProxyDoors,
    phase: ListenersPhase,
}

/// Which clients have a door for proxy requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ProxyDoors {
    /// Everyone who can reach the addresses of the settings, and sessions.
    #[default]
    Configured,
    /// Sessions alone: the addresses of the settings are not used (SPEC J3).
    OfSessions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ListenersPhase {
    /// No settings have been in force yet.
    #[default]
    Starting,
    Serving,
}

#[derive(Debug)]
struct Bound {
    /// The address in the settings. With port 0 the real address differs, and a socket unit has an
    /// address of its own.
    requested: SocketAddr,
    socket: TcpListener,
    from: SocketKind,
    stage: SocketStage,
}

/// The state of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SocketStage {
    /// Its address is ours, and connections are refused.
    Bound,
    /// Clients can connect, and wait.
    Listening,
}

/// Which process made a socket, and whether its door is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SocketKind {
    /// This process bound it.
    Own,
    /// A socket unit: it cannot be moved.
    Unit,
    /// A socket unit whose door is switched off.
    SwitchedOff,
}

/// The changes to the sockets that new settings need. The sockets are bound and not yet in force:
/// they listen only after [`listen`](Prepared::listen).
#[derive(Debug)]
pub(super) struct Prepared([SocketChange; 3]);

#[derive(Debug)]
enum SocketChange {
    Keep,
    Close,
    Move(Bound),
    /// Close, and run without this address.
    Forgo(SocketAddr),
}

impl Listeners {
    /// Holds the inherited sockets. None of them is in force yet.
    pub(super) fn new(inherited: Inherited, doors: ProxyDoors) -> Self {
        Self {
            inherited,
            doors,
            ..Self::default()
        }
    }

    /// The addresses of the listeners.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let open = self.open.iter().flatten();
        open.filter_map(|bound| bound.socket.local_addr().ok())
            .collect()
    }

    /// Binds the sockets of the settings that are not open yet. On an error nothing has changed.
    /// Settings that switch the proxy off bind nothing and close nothing, so that open listeners
    /// can say that the proxy is off (SPEC L6). Inherited sockets are served even then: clients
    /// would wait in their queues for ever.
    pub(super) fn prepare(&self, settled: &Settled) -> anyhow::Result<Prepared> {
        let mut changes = [SocketChange::Keep, SocketChange::Keep, SocketChange::Keep];
        for (index, name) in ListenerName::ALL.into_iter().enumerate() {
            changes[index] = self.change(index, name, settled)?;
        }
        Ok(Prepared(changes))
    }

    fn change(
        &self,
        index: usize,
        name: ListenerName,
        settled: &Settled,
    ) -> anyhow::Result<SocketChange> {
        let is_for_all = self.doors == ProxyDoors::Configured || name == ListenerName::Admin;
        let wanted = settled.listen[index].filter(|_| is_for_all);
        let handed = self.inherited.get(index);
        if let Some(unit) = handed.filter(|handed| handed.from == SocketSource::Unit) {
            let from = if wanted.is_some() {
                SocketKind::Unit
            } else {
                SocketKind::SwitchedOff
            };
            let beyond =
                !unit.address.ip().is_loopback() && settled.reach[index] == Reach::Loopback;
            if from == SocketKind::Unit && beyond {
                bail!(
                    "the socket {:?} that the service manager handed over listens on {}, which is not a loopback \
                     address; change its unit, or allow it with dangerously_allow_non_loopback_{} and without unix sockets",
                    name.as_str(),
                    unit.address,
                    if name == ListenerName::Admin {
                        "admin"
                    } else {
                        "proxy"
                    },
                );
            }
            if self.open[index]
                .as_ref()
                .is_some_and(|open| open.from == from)
            {
                return Ok(SocketChange::Keep);
            }
            let socket = unit.socket.try_clone()?;
            return Ok(SocketChange::Move(Bound {
                requested: unit.address,
                socket,
                from,
                stage: SocketStage::Listening,
            }));
        }
        if settled.power == Power::Off {
            return Ok(SocketChange::Keep);
        }
        let Some(mut requested) = wanted else {
            return Ok(SocketChange::Close);
        };
        let is_closed = settled.fallback == Fallback::Closed;
        // The configuration that cannot be used may name another address, where clients connect.
        if let Some(stored) = handed.filter(|_| is_closed) {
            requested = stored.address;
        }
        if self.open[index]
            .as_ref()
            .is_some_and(|open| open.requested == requested)
        {
            return Ok(SocketChange::Keep);
        }
        let stored =
            handed.filter(|handed| handed.address == requested && self.open[index].is_none());
        let (socket, stage) = match stored {
            Some(stored) => (stored.socket.try_clone()?, SocketStage::Listening),
            None => match bind(requested) {
                Ok(socket) => (socket, SocketStage::Bound),
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && (is_closed || self.can_forgo(index, requested)) =>
                {
                    tracing::error!(
                        "{}; running without it meanwhile",
                        cannot_listen(name, requested)
                    );
                    return Ok(SocketChange::Forgo(requested));
                }
                Err(error) => return Err(error).context(cannot_listen(name, requested)),
            },
        };
        Ok(SocketChange::Move(Bound {
            requested,
            socket,
            from: SocketKind::Own,
            stage,
        }))
    }

    /// Whether to run without a listener whose address another program has. It does so where the
    /// service manager holds other sockets, which clients use. A proxy started by hand fails
    /// instead, so that its user sees it. A reload is all or nothing (SPEC C7), but does not fail
    /// for a problem that existed before.
    fn can_forgo(&self, index: usize, requested: SocketAddr) -> bool {
        match self.phase {
            ListenersPhase::Starting => self.inherited.attended() == Attended::Yes,
            ListenersPhase::Serving => self.busy[index] == Some(requested),
        }
    }

    /// The missing listeners, whose addresses other programs have.
    pub(super) fn busy(&self) -> impl Iterator<Item = (ListenerName, SocketAddr)> {
        let named = ListenerName::ALL.into_iter().zip(self.busy);
        named.filter_map(|(name, address)| Some((name, address?)))
    }

    /// Puts prepared sockets in force; those that they replace close. Own sockets are also stored
    /// with the service manager, so that a restart refuses no client. Stored sockets that are no
    /// longer served are removed, or clients would wait in their queues.
    pub(super) fn apply(&mut self, prepared: Prepared) {
        self.phase = ListenersPhase::Serving;
        let places = self.open.iter_mut().zip(&mut self.busy);
        for (((place, busy), change), name) in places.zip(prepared.0).zip(ListenerName::ALL) {
            let was_own = self.inherited.let_go_of_stored(name)
                || place
                    .as_ref()
                    .is_some_and(|bound| bound.from == SocketKind::Own);
            match change {
                SocketChange::Keep => {}
                SocketChange::Close => (*place, *busy) = (None, None),
                SocketChange::Forgo(address) => (*place, *busy) = (None, Some(address)),
                SocketChange::Move(bound) => {
                    *busy = None;
                    if bound.from == SocketKind::Own {
                        notify::store(&inherit::stored_name(name), &bound.socket);
                    }
                    *place = Some(bound);
                }
            }
            let serves_own = place
                .as_ref()
                .is_some_and(|bound| bound.from == SocketKind::Own);
            if !serves_own && was_own {
                notify::unstore(&inherit::stored_name(name));
            }
        }
    }

    /// All sockets, for a worker that has none.
    pub(super) fn all(&self) -> io::Result<Prepared> {
        let again = |index: usize| match &self.open[index] {
            None => {
                io::Result::Ok(self.busy[index].map_or(SocketChange::Close, SocketChange::Forgo))
            }
            Some(Bound {
                requested,
                socket,
                from,
                stage,
            }) => {
                let socket = socket.try_clone()?;
                Ok(SocketChange::Move(Bound {
                    requested: *requested,
                    socket,
                    from: *from,
                    stage: *stage,
                }))
            }
        };
        Ok(Prepared([again(0)?, again(1)?, again(2)?]))
    }

    /// Closes this process's copies.
    pub(super) fn close(&mut self) {
        *self = Self::default();
    }
}

impl Prepared {
    /// The addresses that a worker must know before [`listen`](Self::listen): those of every socket
    /// that it will get, by their index in [`ListenerName::ALL`].
    pub(super) fn addresses(&self) -> io::Result<[Option<SocketAddr>; 3]> {
        let mut addresses = [None; 3];
        for (address, change) in addresses.iter_mut().zip(&self.0) {
            if let SocketChange::Move(bound) = change {
                *address = Some(bound.socket.local_addr()?);
            }
        }
        Ok(addresses)
    }

    /// Makes the bound sockets listen.
    pub(super) fn listen(&mut self) -> anyhow::Result<()> {
        for (change, name) in self.0.iter_mut().zip(ListenerName::ALL) {
            if let SocketChange::Move(bound) = change
                && bound.stage == SocketStage::Bound
            {
                SockRef::from(&bound.socket)
                    .listen(BACKLOG)
                    .with_context(|| cannot_listen(name, bound.requested))?;
                bound.stage = SocketStage::Listening;
            }
        }
        Ok(())
    }

    /// The changes, for the worker.
    pub(super) fn changes(&self) -> [ListenerUpdate; 3] {
        self.0.each_ref().map(|change| match change {
            SocketChange::Keep => ListenerUpdate::Keep,
            SocketChange::Close => ListenerUpdate::Close,
            SocketChange::Forgo(_) => ListenerUpdate::Busy,
            SocketChange::Move(bound) => match bound.from {
                SocketKind::Own => ListenerUpdate::Open,
                SocketKind::Unit => ListenerUpdate::Handed,
                SocketKind::SwitchedOff => ListenerUpdate::Shut,
            },
        })
    }

    /// The descriptors for the worker, in the same order.
    pub(super) fn descriptors(&self) -> io::Result<Vec<OwnedFd>> {
        let mut descriptors = Vec::new();
        for change in &self.0 {
            if let SocketChange::Move(bound) = change {
                descriptors.push(bound.socket.try_clone()?.into());
            }
        }
        Ok(descriptors)
    }
}

/// A socket that is bound and does not listen.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait until earlier connections leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// One line that names the listener, the address, and the program that holds the port, if that is
/// known.
fn cannot_listen(name: ListenerName, address: SocketAddr) -> String {
    let key = match name {
        ListenerName::Http => "proxy_url",
        ListenerName::Socks5 => "socks_url",
        ListenerName::Admin => "admin_url",
    };
    let holder = port_holder::find(address)
        .map_or_else(String::new, |holder| format!(", which {holder} listens on"));
    let name = name.as_str();
    format!(
        "cannot listen on {address} for {name}{holder}; stop what holds it, or set {key} to another port"
    )
}
