//! The messages, in a fixed layout: numbers of known size, and texts with their length.
//!
//! The layout needs no parser: the monitor reads the messages of a worker that may have been taken
//! over. A malformed message is refused as a whole.

mod first_settings;
mod parts;

use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use first_settings::FirstSettings;

use super::layout::{Malformed, Reader, Writer};
use super::ticket::{QuestionId, Ticket};
use crate::ca::PublicKey;

/// The version of the layout: the program's, since settings have the layout of their program, and a
/// number. Raise the number when a message changes between two releases.
pub(crate) const LAYOUT_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+3");

/// Longest message to the monitor: a rejection with its text.
pub(crate) const MAX_TO_MONITOR: usize = 64 * 1024;
/// Longest message to the worker: a failed reload with all its problems.
pub(crate) const MAX_TO_WORKER: usize = 1024 * 1024;

/// Leaves that a worker waits for at once.
pub(crate) const MAX_LEAVES_REQUESTED: usize = 128;
/// Connections whose owners a worker requests at once.
pub(crate) const MAX_OWNERS_REQUESTED: usize = 64;
/// Longest name in a request for a certificate: a DNS name, or an address with a scope.
pub(super) const MAX_NAME: usize = 255;

/// A listening socket, by its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum ListenerName {
    Http = 0,
    Socks5 = 1,
    Admin = 2,
}

impl ListenerName {
    pub(crate) const ALL: [Self; 3] = [Self::Http, Self::Socks5, Self::Admin];

    /// The name in logs and in systemd's `LISTEN_FDNAMES`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Socks5 => "socks5",
            Self::Admin => "admin",
        }
    }
}

/// The change of a listener when settings are put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ListenerUpdate {
    /// It stays as it is, open or closed.
    Keep = 0,
    /// It closes.
    Close = 1,
    /// It is replaced by the next descriptor, a socket that the monitor bound.
    Open = 2,
    /// It is replaced by the next descriptor, an inherited socket.
    Handed = 3,
    /// The same, but its door is switched off. Connections are closed at once: a socket unit keeps
    /// accepting connections under all settings.
    Shut = 4,
    /// It closes although the settings want it open: another program listens on its address.
    Busy = 5,
}

/// The user and group that a worker becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Whether confinement of a worker is required.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Confinement {
    /// Do not confine the worker.
    Off = 0,
    /// Confine the worker with everything that the kernel supports.
    #[default]
    Try = 1,
    /// Confine the worker fully, or do not run it.
    Require = 2,
}

/// Whether settings stand in for a configuration that cannot be used (SPEC L16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Fallback {
    /// No: they are those of the configuration.
    #[default]
    None = 0,
    /// They are those of the last configuration that could be used.
    LastGood = 1,
    /// They refuse everything.
    Closed = 2,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems {
    /// The problems as text for people, on several lines.
    pub(crate) text: String,
    /// The problems in a form for programs, which the monitor does not parse. May be empty.
    pub(crate) detail: String,
}

impl From<&anyhow::Error> for Problems {
    fn from(error: &anyhow::Error) -> Self {
        Self {
            text: format!("error: {error:#}"),
            detail: String::new(),
        }
    }
}

/// A worker's answer to a ping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WorkerReport {
    pub(crate) mode: Mode,
    pub(crate) allow_rules: u32,
    pub(crate) deny_rules: u32,
    pub(crate) connections: u32,
}

/// The mode, for the status line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    Limited = 0,
    Full = 1,
}

/// Why a leaf was not issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum NoLeaf {
    /// Too many are requested.
    Busy = 0,
    /// The requested CA is not the one in force.
    OtherCa = 1,
    NotValidNow = 2,
    Failed = 3,
    /// The settings in force do not permit intercepting this host.
    NotListed = 4,
    /// Too many hosts that no list has got one within an hour.
    TooManyHosts = 5,
}

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionEnds {
    /// The client's.
    pub(crate) client: SocketAddr,
    /// Ours.
    pub(crate) local: SocketAddr,
}

/// From the monitor to the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToWorker {
    /// Start with these settings. It is the first message to a worker, and never a later one.
    FirstSettings(FirstSettings),
    /// Put these settings in force. The first descriptor holds them, the second one the files of the
    /// system. One follows for each replaced listener, in the order of [`ListenerName::ALL`].
    Settings {
        ticket: Ticket,
        listeners: [ListenerUpdate; 3],
    },
    /// Settings with this ticket will follow, with listeners on these addresses, in the order of
    /// [`ListenerName::ALL`]. These do not listen until the worker has confirmed that it lets no
    /// request through to them (SPEC P6).
    Announce {
        ticket: Ticket,
        addresses: [Option<SocketAddr>; 3],
    },
    /// A reload failed before there were settings. A worker that starts on fallback settings gets
    /// it too, with the ticket of those settings.
    ReloadFailed { ticket: Ticket, problems: Problems },
    /// Finish open requests within this time, and exit. A second one sets a new limit.
    Drain { limit: Duration },
    /// The same, and outlive this monitor: the next one takes the worker over. Confirm it.
    /// `release` is that of the first settings.
    HandOver { limit: Duration, release: u64 },
    /// Report your state.
    Ping,
    /// A requested leaf (DER), and its validity, in seconds since 1970.
    Leaf {
        question: QuestionId,
        certificate: Vec<u8>,
        not_before: u64,
        not_after: u64,
    },
    /// A requested leaf is not issued.
    LeafRefused { question: QuestionId, why: NoLeaf },
    /// The requested users, in the order of the question; `None` where one is not known.
    Owners {
        question: QuestionId,
        users: Vec<Option<u32>>,
    },
    /// Name servers, hosts or roots have changed, and the settings have not. The descriptor holds the
    /// files of the system.
    SystemFiles,
    /// Sources of credentials were read again. The descriptor holds the result.
    Credentials,
}

/// From the worker to the monitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ToMonitor {
    /// The announced addresses of this ticket count as the proxy's own.
    Noted { ticket: Ticket },
    /// The settings with this ticket are in force.
    Applied { ticket: Ticket },
    /// They cannot be put in force; the old ones still are.
    Rejected { ticket: Ticket, why: String },
    /// Load the configuration again. The answer carries the ticket back.
    Reload { ticket: Ticket },
    /// The answer to a ping.
    Well(WorkerReport),
    /// The mode was changed at run time.
    ModeSet { mode: Mode },
    /// The programs of a session need the public files of the CA.
    CaFilesNeeded,
    /// Read a source of credentials again, by its place among those of the settings in force. The answer is a
    /// [`ToWorker::Credentials`], or nothing: it may have been read just now.
    ReadCredential { source: u32 },
    /// Issue a leaf for this host and key, with the CA whose certificate has this SHA-256. The answer
    /// carries the number of the question back.
    IssueLeaf {
        question: QuestionId,
        authority: [u8; 32],
        public_key: PublicKey,
        name: String,
        /// The user of the client, if it is known.
        user: Option<u32>,
    },
    /// Return the users at the other ends of these connections, at most [`MAX_OWNERS_REQUESTED`]. The
    /// answer carries the number of the question back.
    AskOwners {
        question: QuestionId,
        connections: Vec<ConnectionEnds>,
    },
    /// The worker drains and will outlive this monitor. The next monitor reads what follows.
    HandedOver,
}

/// Numbers of operations: odd ones to the worker, even ones to the monitor.
pub(crate) mod operation {
    pub(crate) const FIRST_SETTINGS: u8 = 21;
    pub(crate) const SETTINGS: u8 = 1;
    pub(crate) const RELOAD_FAILED: u8 = 3;
    pub(crate) const DRAIN: u8 = 5;
    pub(crate) const PING: u8 = 7;
    pub(crate) const LEAF: u8 = 9;
    pub(crate) const LEAF_REFUSED: u8 = 11;
    pub(crate) const OWNERS: u8 = 13;
    pub(crate) const ANNOUNCE: u8 = 15;
    pub(crate) const HAND_OVER: u8 = 19;
    pub(crate) const SYSTEM_FILES: u8 = 17;
    pub(crate) const CREDENTIALS: u8 = 23;
    pub(crate) const APPLIED: u8 = 2;
    pub(crate) const REJECTED: u8 = 4;
    pub(crate) const RELOAD: u8 = 6;
    pub(crate) const WELL: u8 = 8;
    pub(crate) const MODE_SET: u8 = 10;
    pub(crate) const ISSUE_LEAF: u8 = 12;
    pub(crate) const ASK_OWNERS: u8 = 14;
    pub(crate) const NOTED: u8 = 16;
    pub(crate) const HANDED_OVER: u8 = 18;
    pub(crate) const CA_FILES_NEEDED: u8 = 20;
    pub(crate) const READ_CREDENTIAL: u8 = 22;
}

impl ToWorker {
    pub(crate) fn encode(&self) -> (u8, Vec<u8>) {
        let mut out = Writer::default();
        let operation = match self {
            Self::FirstSettings(first) => {
                first.encode(&mut out);
                operation::FIRST_SETTINGS
            }
            Self::Settings { ticket, listeners } => {
                ticket.encode(&mut out);
                for listener in listeners {
                    out.u8(*listener as u8);
                }
                operation::SETTINGS
            }
            Self::Announce { ticket, addresses } => {
                ticket.encode(&mut out);
                for address in addresses {
                    out.address(*address);
                }
                operation::ANNOUNCE
            }
            Self::ReloadFailed { ticket, problems } => {
                ticket.encode(&mut out);
                out.problems(problems);
                operation::RELOAD_FAILED
            }
            Self::Drain { limit } => {
                out.millis(*limit);
                operation::DRAIN
            }
            Self::HandOver { limit, release } => {
                out.millis(*limit);
                out.u64(*release);
                operation::HAND_OVER
            }
            Self::Ping => operation::PING,
            Self::SystemFiles => operation::SYSTEM_FILES,
            Self::Credentials => operation::CREDENTIALS,
            Self::Leaf {
                question,
                certificate,
                not_before,
                not_after,
            } => {
                question.encode(&mut out);
                out.u64(*not_before);
                out.u64(*not_after);
                out.counted(certificate);
                operation::LEAF
            }
            Self::LeafRefused { question, why } => {
                question.encode(&mut out);
                out.u8(*why as u8);
                operation::LEAF_REFUSED
            }
            Self::Owners { question, users } => {
                question.encode(&mut out);
                out.count(users.len());
                for user in users {
                    out.user(*user);
                }
                operation::OWNERS
            }
        };
        (operation, out.0)
    }

    pub(crate) fn decode(operation: u8, payload: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(payload);
        let message = match operation {
            operation::FIRST_SETTINGS => Self::FirstSettings(FirstSettings::decode(&mut input)?),
            operation::SETTINGS => Self::Settings {
                ticket: Ticket::decode(&mut input)?,
                listeners: [input.listener()?, input.listener()?, input.listener()?],
            },
            operation::ANNOUNCE => Self::Announce {
                ticket: Ticket::decode(&mut input)?,
                addresses: [input.address()?, input.address()?, input.address()?],
            },
            operation::RELOAD_FAILED => Self::ReloadFailed {
                ticket: Ticket::decode(&mut input)?,
                problems: input.problems()?,
            },
            operation::DRAIN => Self::Drain {
                limit: input.millis()?,
            },
            operation::HAND_OVER => Self::HandOver {
                limit: input.millis()?,
                release: input.u64()?,
            },
            operation::PING => Self::Ping,
            operation::SYSTEM_FILES => Self::SystemFiles,
            operation::CREDENTIALS => Self::Credentials,
            operation::LEAF => Self::Leaf {
                question: QuestionId::decode(&mut input)?,
                not_before: input.u64()?,
                not_after: input.u64()?,
                certificate: input.counted()?.to_vec(),
            },
            operation::LEAF_REFUSED => Self::LeafRefused {
                question: QuestionId::decode(&mut input)?,
                why: match input.u8()? {
                    0 => NoLeaf::Busy,
                    1 => NoLeaf::OtherCa,
                    2 => NoLeaf::NotValidNow,
                    3 => NoLeaf::Failed,
                    4 => NoLeaf::NotListed,
                    5 => NoLeaf::TooManyHosts,
                    _ => return Err(Malformed),
                },
            },
            operation::OWNERS => Self::Owners {
                question: QuestionId::decode(&mut input)?,
                users: input.users()?,
            },
            _ => return Err(Malformed),
        };
        input.end(message)
    }
}

impl ToMonitor {
    pub(crate) fn encode(&self) -> (u8, Vec<u8>) {
        let mut out = Writer::default();
        let operation = match self {
            Self::Noted { ticket } => {
                ticket.encode(&mut out);
                operation::NOTED
            }
            Self::Applied { ticket } => {
                ticket.encode(&mut out);
                operation::APPLIED
            }
            Self::Rejected { ticket, why } => {
                ticket.encode(&mut out);
                out.text(why, MAX_TO_MONITOR);
                operation::REJECTED
            }
            Self::Reload { ticket } => {
                ticket.encode(&mut out);
                operation::RELOAD
            }
            Self::Well(report) => {
                out.u8(report.mode as u8);
                out.u32(report.allow_rules);
                out.u32(report.deny_rules);
                out.u32(report.connections);
                operation::WELL
            }
            Self::ModeSet { mode } => {
                out.u8(*mode as u8);
                operation::MODE_SET
            }
            Self::CaFilesNeeded => operation::CA_FILES_NEEDED,
            Self::ReadCredential { source } => {
                out.u32(*source);
                operation::READ_CREDENTIAL
            }
            Self::IssueLeaf {
                question,
                authority,
                public_key,
                name,
                user,
            } => {
                question.encode(&mut out);
                out.0.extend_from_slice(authority);
                out.0.extend_from_slice(public_key);
                out.text(name, MAX_TO_MONITOR);
                out.user(*user);
                operation::ISSUE_LEAF
            }
            Self::AskOwners {
                question,
                connections,
            } => {
                question.encode(&mut out);
                out.count(connections.len());
                for ends in connections {
                    out.address(Some(ends.client));
                    out.address(Some(ends.local));
                }
                operation::ASK_OWNERS
            }
            Self::HandedOver => operation::HANDED_OVER,
        };
        (operation, out.0)
    }

    pub(crate) fn decode(operation: u8, payload: &[u8]) -> Result<Self, Malformed> {
        let mut input = Reader(payload);
        let message = match operation {
            operation::NOTED => Self::Noted {
                ticket: Ticket::decode(&mut input)?,
            },
            operation::APPLIED => Self::Applied {
                ticket: Ticket::decode(&mut input)?,
            },
            operation::REJECTED => Self::Rejected {
                ticket: Ticket::decode(&mut input)?,
                why: input.text()?,
            },
            operation::RELOAD => Self::Reload {
                ticket: Ticket::decode(&mut input)?,
            },
            operation::MODE_SET => Self::ModeSet {
                mode: input.mode()?,
            },
            operation::CA_FILES_NEEDED => Self::CaFilesNeeded,
            operation::READ_CREDENTIAL => Self::ReadCredential {
                source: input.u32()?,
            },
            operation::ISSUE_LEAF => Self::IssueLeaf {
                question: QuestionId::decode(&mut input)?,
                authority: input.array()?,
                public_key: input.public_key()?,
                name: Some(input.text()?)
                    .filter(|name| name.len() <= MAX_NAME)
                    .ok_or(Malformed)?,
                user: input.user()?,
            },
            operation::ASK_OWNERS => Self::AskOwners {
                question: QuestionId::decode(&mut input)?,
                connections: input.connections()?,
            },
            operation::HANDED_OVER => Self::HandedOver,
            operation::WELL => Self::Well(WorkerReport {
                mode: input.mode()?,
                allow_rules: input.u32()?,
                deny_rules: input.u32()?,
                connections: input.u32()?,
            }),
            _ => return Err(Malformed),
        };
        input.end(message)
    }
}

#[cfg(test)]
mod tests;
