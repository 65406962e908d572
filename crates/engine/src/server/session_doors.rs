//! The doors of one session: opened together, before the first one accepts.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::net::UdpSocket;

use super::Engine;
use super::session_network;
use super::session_parts::SessionDoor;
use super::session_sockets::CheckedDoor;
use crate::accept::{
    Accept, AcceptDoor, AcceptLog, AcceptSocket, AcceptTurn, DoorNumber, NoDelay, ServingRuntime,
};
use crate::client::Client;
use crate::doors::{self, Service};
use crate::http::Shared;
use crate::own::{OwnListener, OwnListeners};
use crate::owner::ConnectionHandle;
use crate::policy_dns::LookedUpNames;
use crate::session::Session;
use crate::transparent::TransparentDoor;

/// The open doors of a session.
#[derive(Debug, Default)]
pub(super) struct SessionDoors {
    /// Those with a TCP listener.
    pub(super) tcp: Arc<[AcceptDoor]>,
    /// The address of policy DNS over UDP.
    pub(super) dns_udp: Option<SocketAddr>,
}

/// Opens the doors of one session.
pub(super) struct Opening<'a> {
    pub(super) engine: &'a Engine,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) session: &'a Arc<Session>,
    /// The names that its program looked up.
    pub(super) names: Arc<LookedUpNames>,
    /// The runtime that accepts, and all that serve connections. One is enough to accept: a listener
    /// needs a descriptor for each.
    pub(super) here: Arc<ServingRuntime>,
    pub(super) runtimes: Arc<[Arc<ServingRuntime>]>,
    pub(super) turn: Option<Arc<AcceptTurn>>,
}

impl Opening<'_> {
    /// Opens the doors. All their addresses count as the session's own before.
    ///
    /// # Errors
    ///
    /// The system's error. Then no door accepts, and copies of the sockets refuse connections.
    pub(super) fn open(&self, checked: Vec<CheckedDoor>) -> io::Result<SessionDoors> {
        // Without the kernel's word, that of the opener counts: a wrong one opens its own doors alone.
        let says_jail = self.session.info().isolation == "jail";
        let own = owned(&checked, self.engine.own_listeners(), says_jail)?;
        let mut udp = None;
        let (mut tcp, mut services) = (Vec::new(), Vec::new());
        let mut result = Ok(());
        let entered = self.here.handle().enter();
        for checked in checked {
            if matches!(checked.door, SessionDoor::DnsUdp) {
                udp = Some(checked);
            } else if result.is_ok() {
                let door = checked.door.clone();
                match tcp_door(checked) {
                    Ok(open) => tcp.push(open),
                    Err(error) => result = Err(error),
                }
                services.push(self.service(door));
            }
        }
        drop(entered);
        let doors = SessionDoors {
            tcp: tcp.into(),
            dns_udp: udp.as_ref().map(|door| door.address),
        };
        let result = result.and_then(|()| match udp {
            Some(door) => self.serve_dns_udp(door, own.clone()),
            None => Ok(()),
        });
        if let Err(error) = result {
            doors.shut();
            return Err(error);
        }
        if !doors.tcp.is_empty() {
            self.accept(Arc::clone(&doors.tcp), services.into(), own);
        }
        Ok(doors)
    }

    fn service(&self, door: SessionDoor) -> Service {
        let names = Arc::clone(&self.names);
        match door {
            SessionDoor::Http => Service::Http,
            SessionDoor::Socks5 => Service::Socks5,
            SessionDoor::Transparent => Service::Transparent(Arc::new(TransparentDoor {
                names,
                find_destination: crate::original_destination::from_kernel(),
            })),
            SessionDoor::DnsTcp | SessionDoor::DnsUdp => Service::Dns(names),
            SessionDoor::Forward(destination) => Service::Forward(destination),
        }
    }

    fn serve_dns_udp(&self, door: CheckedDoor, own: Option<Arc<OwnListener>>) -> io::Result<()> {
        // No call on the socket can wait, so the door needs no thread that may be blocked.
        let number = usize::try_from(self.session.number().0).unwrap_or(0);
        let runtime = &self.runtimes[number % self.runtimes.len()];
        let _entered = runtime.handle().enter();
        let address = door.address;
        let made = |socket: OwnedFd| UdpSocket::from_std(socket.into());
        let socket = door.socket.into_owner(made)?;
        let (shared, names) = (Arc::clone(self.shared), Arc::clone(&self.names));
        let session = Arc::clone(self.session);
        let client = move |client| Client {
            address: client,
            attempt: None,
            connection: ConnectionHandle::at_door(client, address, Some(&session)),
        };
        // Boxed: the task would hold it twice, for the life of the session.
        self.shared.drain.spawn_until_begun(Box::pin(async move {
            doors::serve_dns_udp(&shared, &names, &socket, &client).await;
            drop(own);
        }));
        Ok(())
    }

    /// Accepts from all listeners, in one task.
    fn accept(
        &self,
        doors: Arc<[AcceptDoor]>,
        services: Box<[Service]>,
        own: Option<Arc<OwnListener>>,
    ) {
        let giver = ConnectionHandle::of_user(self.session.uid());
        let accept = Accept {
            doors,
            // The doors stop with the session's part of the drain, and not before.
            stop: self.shared.drain.begun_signal(),
            drain: self.shared.drain.clone(),
            admission: Arc::clone(&self.shared.admission),
            bounds: self.engine.bounds(None),
            own,
            log: Arc::new(AcceptLog::given_by(&giver, self.shared.recorder())),
            session: Some(Arc::clone(self.session)),
            turn: self.turn.clone(),
            here: Arc::clone(&self.here),
            runtimes: Arc::clone(&self.runtimes),
        };
        let shared = Arc::clone(self.shared);
        let serve = move |door: DoorNumber, stream, client, connection| {
            let service = &services[door.index()];
            doors::serve(Arc::clone(&shared), service, stream, client, connection)
        };
        let serve = Arc::new(serve);
        let run = async move { accept.run(&serve).await };
        let _entered = self.here.handle().enter();
        // Boxed: the task would hold it twice, for the life of the session.
        self.shared.drain.spawn(Box::pin(run));
    }
}

fn tcp_door(checked: CheckedDoor) -> io::Result<AcceptDoor> {
    let no_delay = NoDelay::of(&checked.socket);
    Ok(AcceptDoor {
        listener: AcceptSocket::given(checked.socket)?,
        name: checked.door.as_str(),
        address: checked.address,
        no_delay,
    })
}

/// Marks the doors in this machine's network as the proxy's own: others could use them. `None`: there are none.
fn owned(
    doors: &[CheckedDoor],
    own: &OwnListeners,
    says_jail: bool,
) -> io::Result<Option<Arc<OwnListener>>> {
    let mut here = Vec::with_capacity(doors.len());
    for door in doors {
        if session_network::is_here(door)?.unwrap_or(!says_jail) {
            here.push(door.address);
        }
    }
    let first = here.pop();
    Ok(first.map(|address| Arc::new(own.add_all(address, here.into()))))
}

impl SessionDoors {
    /// The address of the first door of a kind.
    pub(super) fn address(&self, kind: &SessionDoor) -> Option<SocketAddr> {
        if matches!(kind, SessionDoor::DnsUdp) {
            return self.dns_udp;
        }
        let mut doors = self.tcp.iter();
        let found = doors.find(|door| door.name == kind.as_str());
        found.map(|door| door.address)
    }

    /// Refuses connections from now on. Others may have copies of the sockets, and these refuse them too.
    pub(super) fn shut(&self) {
        for door in &*self.tcp {
            door.listener.shut();
        }
    }
}
