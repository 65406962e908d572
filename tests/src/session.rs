//! Sessions of a test's own, over the control socket of a real daemon (SPEC J2).

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

use codex_network_control::client::CallError;
use codex_network_control::message::{
    Approvals, ApprovalsQuery, Decisions, DecisionsQuery, DoorKind, ExplainQuery, Explained,
    SessionId, SessionOpened, SessionReport, SessionRequest, Sessions,
};
use codex_network_control::{Client, ControlError, TrustedListeners};
use tokio::runtime::Runtime;

use crate::daemon::Daemon;
use crate::wait::TIMEOUT;

/// A caller of the control socket. Dropping it ends its connection, and so its session.
pub struct Caller {
    runtime: Runtime,
    client: Client,
}

/// A session and the addresses of its doors, in the order in which they were given.
pub struct Session {
    /// The connection that it lives as long as.
    pub caller: Caller,
    /// The daemon's answer.
    pub opened: SessionOpened,
    /// The addresses of the doors.
    pub doors: Vec<SocketAddr>,
}

impl Caller {
    /// Connects to the control socket of a daemon.
    pub fn connect(daemon: &Daemon) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let path = daemon.control_socket();
        let client = Client::connect(&path, TrustedListeners::Any, "test");
        let client = runtime.block_on(client).expect("the daemon answers");
        Self { runtime, client }
    }

    /// Opens a session with these descriptors.
    ///
    /// # Errors
    ///
    /// Returns the daemon's refusal.
    pub fn open(&self, request: SessionRequest) -> Result<SessionOpened, ControlError> {
        let opened = self.client.open_session(request);
        refusal(self.runtime.block_on(opened))
    }

    /// The results of this connection's session.
    pub fn report(&self) -> SessionReport {
        let report = self.client.session_report();
        self.runtime.block_on(report).expect("a session")
    }

    /// The sessions that this caller sees.
    pub fn sessions(&self) -> Sessions {
        let sessions = self.client.sessions();
        self.runtime.block_on(sessions).expect("an answer")
    }

    /// The decisions that this caller sees, since its last call. Does not wait for one.
    pub fn decisions(&self) -> Decisions {
        let decisions = self.client.decisions(DecisionsQuery::default());
        self.runtime.block_on(decisions).expect("an answer")
    }

    /// Ends a session.
    ///
    /// # Errors
    ///
    /// Returns the daemon's refusal.
    pub fn end(&self, id: &str) -> Result<(), ControlError> {
        let ended = self.client.end_session(SessionId { id: id.to_owned() });
        refusal(self.runtime.block_on(ended)).map(|_| ())
    }

    /// Waits until the session of this connection ends, and gives the cause.
    pub fn end_of_session(&self) -> String {
        let end = async {
            loop {
                if let Some(why) = self.client.session_end().await.expect("a session") {
                    return why;
                }
            }
        };
        self.runtime.block_on(end)
    }

    /// The decision on a URL, as a session is judged or a client without one.
    ///
    /// # Errors
    ///
    /// Returns the daemon's refusal.
    pub fn explain(&self, url: &str, session: Option<&str>) -> Result<Explained, ControlError> {
        let explained = self.client.explain(ExplainQuery {
            url: url.to_owned(),
            session: session.map(str::to_owned),
            ..ExplainQuery::default()
        });
        refusal(self.runtime.block_on(explained))
    }

    /// Asks for questions.
    pub fn approvals(&self, query: ApprovalsQuery) -> Approvals {
        let approvals = self.client.approvals(query);
        self.runtime.block_on(approvals).expect("an answer")
    }

    /// Waits for the end of the connection.
    pub fn wait_for_the_end(&self) {
        self.runtime.block_on(async {
            let ended = tokio::time::timeout(TIMEOUT, self.client.ended());
            ended.await.expect("the daemon ends the connection");
        });
    }
}

impl Session {
    /// Opens a session with an HTTP door and a SOCKS5 door.
    pub fn open(daemon: &Daemon) -> Self {
        Self::open_with(daemon, SessionRequest::default())
    }

    /// Opens a session with the profile and the rules of this request. Without doors in it, the doors are
    /// HTTP and SOCKS5.
    pub fn open_with(daemon: &Daemon, mut request: SessionRequest) -> Self {
        if request.doors.is_empty() {
            request.doors = vec![DoorKind::Http, DoorKind::Socks5];
        }
        if request.command.is_empty() {
            "curl".clone_into(&mut request.command);
        }
        let (doors, sockets) = sockets(&request.doors);
        request.sockets = sockets.into();
        let caller = Caller::connect(daemon);
        let opened = caller.open(request).expect("a session");
        Self {
            caller,
            opened,
            doors,
        }
    }
}

/// Sockets for doors of these kinds, and their addresses.
pub fn sockets(doors: &[DoorKind]) -> (Vec<SocketAddr>, Vec<OwnedFd>) {
    doors.iter().map(socket).unzip()
}

fn socket(door: &DoorKind) -> (SocketAddr, OwnedFd) {
    const ANY: &str = "127.0.0.1:0";
    if *door == DoorKind::DnsUdp {
        let socket = UdpSocket::bind(ANY).expect("a socket");
        (socket.local_addr().expect("bound"), socket.into())
    } else {
        let socket = TcpListener::bind(ANY).expect("a listener");
        (socket.local_addr().expect("bound"), socket.into())
    }
}

fn refusal<T>(answer: Result<T, CallError>) -> Result<T, ControlError> {
    match answer {
        Ok(answer) => Ok(answer),
        Err(CallError::Refused(refused)) => Err(refused),
        Err(error) => panic!("{error}"),
    }
}
