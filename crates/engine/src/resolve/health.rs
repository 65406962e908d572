//! The name servers in use and how they do, for `proxyctl status` and `doctor` (SPEC L14).

use std::net::SocketAddr;
use std::time::SystemTime;

/// Name servers in a report. The settings may name any number.
pub(super) const MAX_REPORTED: usize = 16;
/// Bytes of an error in a report.
pub(super) const MAX_ERROR: usize = 200;

/// The name servers that a resolver asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServers {
    /// What names them.
    pub from: NameServersFrom,
    /// At most 16 of them, in the order in which they are asked.
    pub servers: Vec<NameServerHealth>,
    /// Why no server is known; `None` when one is.
    pub problem: Option<String>,
}

/// What names the name servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameServersFrom {
    /// `[daemon.resolver] nameservers`.
    Settings,
    /// The system: `/etc/resolv.conf`.
    System,
}

/// One name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServerHealth {
    /// Where it is asked.
    pub address: SocketAddr,
    /// When it last answered a question, "no such name" included.
    pub last_success: Option<SystemTime>,
    /// How many lookups in a row got no answer from it, or a failure.
    pub failures: u32,
    /// The last failure of these; at most 200 bytes.
    pub last_error: Option<String>,
}
