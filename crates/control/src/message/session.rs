//! Sessions: programs that `proxyctl run` starts, and the doors that only they use (SPEC J2).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::credentials::{DummyVariable, GivenCredentials};

/// Most doors of a session, and so most descriptors of one call (SPEC J13).
pub const MAX_DOORS: usize = 16;
/// Longest [`SessionRequest::command`], in bytes.
pub const MAX_COMMAND: usize = 64;
/// Most patterns of one list of a [`Narrowing`].
pub const MAX_PATTERNS: usize = 1024;

/// The session to open. It ends with the connection that the call came over.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionRequest {
    /// The program's name without its arguments, at most [`MAX_COMMAND`] bytes. Records show it.
    pub command: String,
    /// The process id of the program, or of the process that will start it; 0 if it is not known. It is
    /// shown and has no other effect.
    pub pid: u32,
    /// The kind of confinement that keeps the program behind its doors.
    pub isolation: Isolation,
    /// The permission profile to use; `None` for the settings in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Rules of this session alone.
    pub narrowing: Narrowing,
    /// The credentials of the program.
    #[serde(skip_serializing_if = "GivenCredentials::is_empty")]
    pub credentials: GivenCredentials,
    /// The kind of each door, in the order of the descriptors; at most [`MAX_DOORS`].
    pub doors: Vec<DoorKind>,
    /// The sockets of the doors: listening TCP sockets, and bound UDP sockets for [`DoorKind::DnsUdp`], on
    /// loopback addresses. They travel beside the frame.
    #[serde(skip)]
    pub sockets: Sockets,
}

/// Descriptors beside a frame. Those that are left when it is dropped are closed in the way of the connection
/// that they came over.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The descriptors that arrived, in their order.
    pub arrived: Vec<OwnedFd>,
    /// Whether further ones were lost: there were too many, or the process may not open more.
    pub is_incomplete: bool,
    /// `None`: they are closed where they are dropped.
    pub(crate) close: Option<CloseDescriptor>,
}

/// Closes a descriptor that a peer gave, or a connection that may hold such descriptors. A close may wait for as
/// long as the peer likes, so it must happen on a thread that serves nothing else.
#[derive(Clone)]
pub struct CloseDescriptor(Arc<dyn Fn(OwnedFd) + Send + Sync>);

/// The kind of confinement that keeps a program behind its doors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces of its own (Linux).
    Jail,
    /// A Seatbelt profile (macOS).
    Seatbelt,
    /// Nothing. The program has the variables of a proxy.
    #[default]
    #[serde(other)]
    Env,
}

/// Rules of one session. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Narrowing {
    /// Whether the session is in limited mode, whatever the mode in force.
    pub limited: bool,
    /// Patterns of hosts that are refused besides those of the policy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// Unless it is empty, a host must match one of these patterns as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Patterns of hosts that are allowed although the policy does not list them. Only administrators may
    /// have any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Whether hosts that the policy merely does not allow are let through and recorded. Only administrators may
    /// have it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub report: bool,
}

/// The kind of a door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DoorKind {
    /// HTTP forward proxy with CONNECT.
    Http,
    /// SOCKS5.
    Socks5,
    /// Every connection that leaves the jail (SPEC T2).
    Transparent,
    /// Policy DNS over UDP (SPEC T1).
    DnsUdp,
    /// Policy DNS over TCP.
    DnsTcp,
    /// Leads to one host and port, through the policy (SPEC J10).
    Forward {
        /// The host.
        host: String,
        /// The port.
        port: u16,
    },
    /// A kind that this version does not know.
    #[serde(other)]
    Unknown,
}

/// An open session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionOpened {
    /// Its name in records and in `sessions`.
    pub id: String,
    /// The variables for its program (SPEC B1, B2). They are empty if the session has no HTTP door.
    pub environment: Vec<(String, String)>,
    /// The variables of its program that hold dummies of its credentials (SPEC B3).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dummies: Vec<DummyVariable>,
    /// The mode of the session: `full` or `limited`.
    pub mode: String,
    /// Patterns of the allow list that counts for it.
    pub allow_rules: usize,
    /// Remarks about the session, a sentence each.
    pub warnings: Vec<String>,
}

/// The results of a session so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionReport {
    /// The hosts that were reached, the most used first.
    pub allowed: Vec<SessionDestination>,
    /// The hosts that were refused, the most refused first.
    pub refused: Vec<SessionDestination>,
    /// Attempts at destinations that are in neither list, since the lists are full.
    pub others: u64,
    /// Attempts that were allowed.
    pub allowed_total: u64,
    /// Attempts that were refused.
    pub refused_total: u64,
    /// Bytes from the program.
    pub bytes_up: u64,
    /// Bytes to the program.
    pub bytes_down: u64,
}

/// A destination of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionDestination {
    /// The host, as records show it.
    pub host: String,
    /// The port; 0 if it could not be read.
    pub port: u16,
    /// The reason of the last decision.
    pub reason: String,
    /// The number of attempts.
    pub count: u64,
    /// Whether it is a name that was found to have a local address, which only `allow_local_binding` permits.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub local: bool,
}

/// The sessions that the caller may see.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sessions {
    /// The oldest first.
    pub sessions: Vec<SessionEntry>,
}

/// A session in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionEntry {
    /// Its name in records.
    pub id: String,
    /// The name of the user who opened it, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The id of this user.
    pub uid: u32,
    /// The program's name.
    pub command: String,
    /// The process id that the caller gave.
    pub pid: u32,
    /// The permission profile, if the session has one of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The kind of confinement that keeps the program behind its doors.
    pub isolation: Isolation,
    /// When it was opened.
    pub since: i64,
    /// Attempts that were allowed.
    pub allowed: u64,
    /// Attempts that were refused.
    pub refused: u64,
    /// Attempts that wait for an answer, or were refused until there is one.
    pub asked: u64,
    /// Bytes from the program.
    pub bytes_up: u64,
    /// Bytes to the program.
    pub bytes_down: u64,
}

/// A session by its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionId {
    /// The name.
    pub id: String,
}

/// A session that was ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionEnded {
    /// The session.
    pub session: SessionEntry,
}

/// How the session of a connection ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionEnd {
    /// The cause, as the rest of a sentence that begins with "the proxy ended the session"; `None` while the
    /// session goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Isolation {
    /// The word in messages and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jail => "jail",
            Self::Seatbelt => "seatbelt",
            Self::Env => "env",
        }
    }
}

impl DoorKind {
    /// The word in messages.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks5 => "socks5",
            Self::Transparent => "transparent",
            Self::DnsUdp => "dns_udp",
            Self::DnsTcp => "dns_tcp",
            Self::Forward { .. } => "forward",
            Self::Unknown => "unknown",
        }
    }
}

impl From<Vec<OwnedFd>> for Sockets {
    fn from(arrived: Vec<OwnedFd>) -> Self {
        Self {
            arrived,
            is_incomplete: false,
            close: None,
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(close) = &self.close {
            for descriptor in self.arrived.drain(..) {
                close.call(descriptor);
            }
        }
    }
}

impl CloseDescriptor {
    /// Closes descriptors with this function, which must not wait.
    pub fn with(close: impl Fn(OwnedFd) + Send + Sync + 'static) -> Self {
        Self(Arc::new(close))
    }

    /// Closes a descriptor.
    pub fn call(&self, descriptor: OwnedFd) {
        (self.0)(descriptor);
    }
}

impl std::fmt::Debug for CloseDescriptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CloseDescriptor").finish_non_exhaustive()
    }
}
