//! The parts of a session to open, and the reasons why it cannot be opened.

use std::io;
use std::os::fd::OwnedFd;

use codex_network_policy::{Authority, Narrowing};

use crate::broker::LauncherCredentials;

/// The session to open.
#[derive(Debug)]
pub struct SessionParts {
    /// The id of the user who opens it.
    pub uid: u32,
    /// The name of this user, if it is known.
    pub user: Option<String>,
    /// The name of its program, without arguments.
    pub command: String,
    /// The process id of the program, for lists.
    pub pid: u32,
    /// The kind of confinement that keeps the program behind its doors: `jail`, `seatbelt` or `env`.
    pub isolation: &'static str,
    /// The permission profile; `None` for the one in force.
    pub profile: Option<String>,
    /// Rules of its own.
    pub narrowing: Narrowing,
    /// The credentials of the program, from its launcher.
    pub credentials: LauncherCredentials,
    /// The doors, at least one and at most 16.
    pub doors: Vec<SessionDoor>,
    /// The sockets of the doors, in the same order: listening TCP sockets, and for
    /// [`SessionDoor::DnsUdp`] a bound UDP socket; all on loopback addresses.
    pub sockets: Vec<OwnedFd>,
}

/// A door of a session.
#[derive(Clone, Debug)]
pub enum SessionDoor {
    /// HTTP forward proxy with CONNECT.
    Http,
    /// SOCKS5.
    Socks5,
    /// Connections that a jail redirects here.
    Transparent,
    /// Policy DNS over UDP.
    DnsUdp,
    /// Policy DNS over TCP.
    DnsTcp,
    /// Every connection leads to this destination.
    Forward(Authority),
}

/// Why a session cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No door was given.
    #[error("a session needs a door")]
    NoDoors,
    /// More doors than the limit.
    #[error("a session has at most {0} doors")]
    TooManyDoors(usize),
    /// More than one door of a kind of which a session has one.
    #[error("a session has at most one door {0}")]
    OneDoor(&'static str),
    /// The numbers of doors and sockets differ.
    #[error("the call names {doors} doors, and {sockets} descriptors came with it")]
    Count {
        /// The doors of the call.
        doors: usize,
        /// The descriptors that came with it.
        sockets: usize,
    },
    /// A socket that cannot be a door.
    #[error("descriptor {number}, for the door {kind}, {why}")]
    Socket {
        /// Its number, from 1.
        number: usize,
        /// The kind of its door.
        kind: &'static str,
        /// The rest of the sentence.
        why: String,
    },
    /// The profile or the rules cannot be applied.
    #[error("{0}")]
    Rules(String),
    /// A credential that the settings require cannot be read (SPEC B13).
    #[error("{0}, and the settings require it")]
    Credential(String),
    /// As many sessions as there may be.
    #[error("there are {0} sessions, and [daemon.sessions] max permits no more")]
    Full(usize),
    /// As many sessions of one user as there may be.
    #[error("this user has {0} sessions, and [daemon.sessions] max_per_user permits no more")]
    UserFull(usize),
    /// Listening sockets of this user were blocking, and the thread that accepts waited for them.
    #[error(
        "listening sockets of this user were blocking and made the proxy wait; for a minute it opens no session"
    )]
    Waited,
    /// The engine is draining.
    #[error("the proxy is stopping")]
    Stopping,
    /// The system refuses.
    #[error("the doors of the session cannot be opened: {0}")]
    Io(#[from] io::Error),
}

impl SessionDoor {
    /// The name in messages and records.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks5 => "socks5",
            Self::Transparent => "transparent",
            Self::DnsUdp => "dns_udp",
            Self::DnsTcp => "dns_tcp",
            Self::Forward(_) => "forward",
        }
    }
}
