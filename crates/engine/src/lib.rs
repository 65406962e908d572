//! Enforces the policy: the proxy's doors, the enforcement point, the way to upstreams, and the
//! records.
//!
//! # Life of a connection
//!
//! The modules stand in the order in which a request meets them.
//!
//! 1. `accept` takes the connection, `admission` gives it a place, and `client` says who it is.
//! 2. `http` or `socks5` reads the request, strictly.
//! 3. `enforce` decides, asks the embedder's `decider` where the lists say nothing, records, and
//!    makes a permit.
//! 4. `upstream` resolves the name once, has the addresses vetted, and dials exactly those.
//! 5. `http` sends the request on and returns the answer. A `tunnel` moves bytes. `socks5::udp`
//!    moves datagrams, each of which goes through 3 and 4 by itself. Where `client_hello` finds TLS
//!    that must be intercepted, `mitm` decrypts it, and each request inside goes through 2 to 5
//!    again.
//! 6. `respond` turns every refusal and failure into the answer that the door gives.
//!
//! # Invariants
//!
//! - Only `enforce` makes a permit, only `upstream::connect` dials, and only `upstream::datagram` sends
//!   datagrams out; both take vetted addresses. Only `upstream::unix_socket` connects to unix sockets,
//!   and to a file that was permitted.
//! - Every decision is recorded once, in `record`.
//! - Every error path refuses.
//! - Nothing here reads configuration files.
//! - No `std` lock is held across an await. One lock of tokio's is, on purpose: `http::first`
//!   holds it while it opens a further connection for a client, so that the client's other requests
//!   share that connection.

mod accept;
mod admission;
mod budget;
mod client;
mod limits;
mod owner;
mod shares;

mod doors;
mod http;
mod shared;
mod socks5;
mod spoken;

mod attempt;
mod decider;
mod enforce;
mod live_policy;
mod local_addresses;
mod own;

mod activity;
mod client_hello;
mod connect_error;
mod connected;
mod descriptors;
mod frames;
mod http2;
mod http2_memory;
mod http_bytes;
mod incoming;
mod interceptor;
mod linger;
mod mitm;
mod observed;
mod resolve;
mod socket_file;
mod stream_end;
mod tls;
mod tunnel;
mod upstream;

mod audit;
mod blocked;
mod clock;
mod error;
mod lines;
mod outcome;
mod record;
mod respond;

mod child_env;
mod drain;
mod explain;
mod server;

#[cfg(fuzzing)]
pub mod fuzzing;

pub use activity::Busy;
pub use audit::{AuditEvent, AuditMetadata, AuditSink, Override, Scope, TracingAudit, Volume};
pub use blocked::{BlockedEntry, BlockedLog};
pub use child_env::ChildEnvironment;
pub use clock::{Clock, SystemClock};
pub use connect_error::ConnectError;
pub use decider::{NetworkDecision, NetworkPolicyDecider, NetworkPolicyRequest};
pub use drain::Drain;
pub use enforce::{AddressStanding, JudgedAddress};
pub use explain::{DescribedRequest, ForeseenAddresses, ForeseenDecision, Lookup, NotJudged};
pub use interceptor::{InterceptionError, IssueError, IssuedLeaf, KeyError, LeafIssuer};
pub use live_policy::{Generation, GenerationNumber, LivePolicy};
pub use local_addresses::KernelAddresses;
pub use own::{OwnListener, OwnListeners, OwnUnixSocket, OwnUnixSockets};
pub use owner::{ClientOwner, ConnectionHandle, SocketPair};
pub use resolve::{
    DnsResolver, NameServerHealth, NameServers, NameServersFrom, Resolve, ResolveError,
    ResolverOptions, ResolverSetupError,
};
pub use server::{Counters, Door, Engine, EngineParts, Listening, SetupError};
pub use upstream::{Dial, TcpDialler};
