//! The name servers in use and their health, for `proxyctl status` and `doctor` (SPEC L14).

use std::net::SocketAddr;
use std::time::SystemTime;

/// Most name servers in a report. The settings may name any number.
pub(super) const MAX_REPORTED: usize = 16;
/// Longest error in a report, in bytes.
pub(super) const MAX_ERROR: usize = 200;

/// The name servers that a resolver queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameServers {
    /// Where they are configured.
    pub from: NameServersFrom,
    /// At most 16 servers, in the order in which they are queried.
    pub servers: Vec<NameServerHealth>,
    /// Why no server is known; `None` if there is one.
    pub problem: Option<String>,
}

/// Where the name servers are configured.
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
    /// The address that is queried.
    pub address: SocketAddr,
    /// The time of its last answer to a query; "no such name" is an answer too.
    pub last_success: Option<SystemTime>,
    /// The number of lookups in a row that got no answer or a failure. The servers of one zone can cause them, so they
    /// do not show that the name server fails.
    pub failures: u32,
    /// Since when it fails: it answers nothing, or fails for names of many domains and has succeeded with none. `None`
    /// if it does not fail, and when the last failure is some minutes old.
    pub failing_since: Option<SystemTime>,
    /// The last failure among them; at most 200 bytes.
    pub last_error: Option<String>,
}
