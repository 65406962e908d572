//! Enforces the policy: the proxy's doors, the one enforcement point, the way out, and the records.
//!
//! # Life of a connection
//!
//! The modules stand in the order in which a request meets them.
//!
//! 1. `accept` takes the connection, `admission` gives it a place, and `client` says who it is.
//! 2. `http` or `socks5` reads what is wanted, strictly.
//! 3. `enforce` decides, asks the embedder's `decider` where the lists say nothing, records, and hands
//!    out a permit.
//! 4. `upstream` resolves the name once, has the addresses vetted, and dials exactly those.
//! 5. `http` sends the request on and brings the answer; or a `tunnel` moves bytes, or `socks5::udp`
//!    datagrams, each of which is a matter of 3 and 4 by itself; or `client_hello` says that it is TLS
//!    and `mitm` takes it apart, and each request inside goes through 2 to 5 again.
//! 6. `respond` turns every refusal and failure into the answer that the door gives.
//!
//! # Invariants
//!
//! - Only `enforce` makes a permit, only `upstream::connect` dials, and only `upstream::datagram` sends
//!   datagrams out; both take vetted addresses. Only `upstream::unix_socket` connects to unix sockets,
//!   and to a file that was permitted.
//! - Every decision is recorded once, in `record`.
//! - Every error path refuses.
//! - Nothing here reads configuration files or holds a lock across an await.

mod accept;
mod admission;
mod budget;
mod client;
mod limits;
mod owner;
mod shares;

mod http;
mod socks5;
mod spoken;

mod decider;
mod enforce;
mod live_policy;
mod local_addresses;
mod own;

mod activity;
mod client_hello;
mod frames;
mod http2;
mod http2_memory;
mod incoming;
mod mitm;
mod observed;
mod tunnel;
mod upstream;

mod audit;
mod blocked;
mod clock;
mod error;
mod lines;
mod record;
mod respond;

mod child_env;
mod drain;
mod server;

#[cfg(fuzzing)]
pub mod fuzzing;

use std::sync::Arc;

use codex_network_policy::UnixSocketSupport;

pub use activity::Busy;
pub use audit::{AuditEvent, AuditMetadata, AuditSink, Override, Scope, TracingAudit, Volume};
pub use blocked::{BlockedEntry, BlockedLog};
pub use child_env::ChildEnvironment;
pub use clock::{Clock, SystemClock};
pub use decider::{NetworkDecision, NetworkPolicyDecider, NetworkPolicyRequest};
pub use drain::Drain;
pub use live_policy::{Generation, LivePolicy};
pub use local_addresses::KernelAddresses;
pub use mitm::{InterceptionError, IssueError, IssuedLeaf, KeyError, LeafIssuer};
pub use own::{OwnListener, OwnListeners, OwnUnixSocket, OwnUnixSockets};
pub use owner::{ClientOwner, ConnectionHandle, SocketPair};
pub use server::{Counters, Door, Engine, EngineParts, Listening, SetupError};
pub use upstream::{
    ConnectError, Dial, DnsResolver, Resolve, ResolveError, ResolverOptions, ResolverSetupError,
    TcpDialler,
};

/// What all doors of one engine share.
struct Shared {
    live: LivePolicy,
    recorder: Arc<record::Recorder>,
    upstream: upstream::Upstream,
    admission: Arc<admission::Admission>,
    shortages: Arc<admission::Shortages>,
    owners: Arc<owner::Owners>,
    /// Certificates that each client may have issued.
    leaf_budget: mitm::LeafBudget,
    /// Those of the connections that have a UDP association.
    associations: Arc<limits::ConnectionCount>,
    drain: Drain,
    /// Asked about hosts on neither list.
    decider: Option<decider::Decider>,
    /// A resolver that was given to us and outlives the settings.
    fixed_resolver: Option<Arc<dyn Resolve>>,
    /// Issues certificates for intercepted hosts.
    leaves: Option<mitm::LeafSource>,
    /// Whether requests to unix sockets are served.
    unix_sockets: UnixSocketSupport,
    own_unix_sockets: OwnUnixSockets,
}
