//! Enforces the policy: the proxy's doors, the enforcement point, the way to upstreams, and the
//! records.
//!
//! # Life of a connection
//!
//! The modules stand in the order in which a request meets them. A module uses only what stands
//! below it, and a tidy test checks it (`tests/tidy/floors.rs`).
//!
//! 1. `accept` takes the connection, `admission` grants it one of the limited number, and `client`
//!    says who it is.
//! 2. `doors` passes it to `http` or `socks5`, which reads the request strictly. A connection out of a jail
//!    goes to `transparent`: its request is where it was going, by an address that `policy_dns` gave. If
//!    the answer connects the client, `doors` makes the connection a `tunnel`, or `mitm` intercepts its
//!    TLS; each request inside goes through 2 to 5 again.
//! 3. `respond` turns every refusal and failure into the answer that the door gives.
//! 4. `upstream` resolves the name once, has the addresses vetted, and dials exactly those. `http`
//!    sends the request and returns the answer. `socks5::udp` moves datagrams, each of which goes
//!    through 4 and 5 by itself.
//! 5. `enforce` decides, asks the embedder's `decider` about hosts on neither list, and makes a
//!    permit. `record` writes the decision down. An `attempt` is plain data.
//!
//! # Invariants
//!
//! - Only `enforce` makes a permit, only `upstream::connect` dials, and only `upstream::datagram` sends
//!   datagrams out; both take vetted addresses. Only `upstream::unix_socket` connects to unix sockets,
//!   and to a file that was permitted.
//! - Every decision is recorded once, in `record`.
//! - Every error path refuses.
//! - Nothing here reads configuration files.
//! - No `std` lock is held across an await. One lock of tokio's is, on purpose: `http::origin_connections`
//!   holds it while it opens a further connection for a client, so that the client's other requests
//!   share that connection.

/// For the kit of the tests, which names this crate as other crates do.
#[cfg(test)]
extern crate self as codex_network_engine;

mod child_env;
mod explain;
mod server;

mod accept;
mod admission;

mod doors;
mod http;
mod mitm;
mod policy_dns;
mod shared;
mod socks5;
mod transparent;

mod connected;
mod respond;
mod tunnel;

mod upstream;

mod enforce;

mod record;

mod attempt;

// The ground floor: used by several of the floors above.
mod activity;
mod address_family;
mod approvals;
mod arrived;
mod audit;
mod blocked;
mod broker;
mod budget;
mod client;
mod client_hello;
mod client_protocol;
mod clock;
mod closing;
mod connect_error;
mod content_coding;
mod cryptography;
mod decider;
mod decisions;
mod descriptors;
mod dns_query;
mod drain;
mod early_leaf;
mod error;
mod frames;
mod gather;
mod http2;
mod http2_memory;
mod http_bytes;
mod incoming;
mod interceptor;
mod limits;
mod lines;
mod linger;
mod live_policy;
mod local_addresses;
mod measurements;
mod new_clients;
mod observed;
mod original_destination;
mod outcome;
mod own;
mod owner;
mod pipes;
mod poll_later;
mod prefixed;
mod rare;
mod resolve;
mod session;
mod shares;
mod socket_file;
mod stream_end;
mod synthetic_names;
mod tls;

#[cfg(fuzzing)]
pub mod fuzzing;

pub use activity::Busy;
pub use approvals::{
    ApprovalError, Approvals, Approver, Audience, AudienceGuard, DirectGrant, GrantHolder,
    GrantInfo, GrantPorts, GrantRequest, GrantScope, QuestionInfo, QuestionState,
};
pub use audit::{
    AuditApproval, AuditEvent, AuditMetadata, AuditRule, AuditSession, AuditSink, ClientAddress,
    FieldValue, Override, Rfc3339, Scope, ServerAddress, TracingAudit, Volume,
};
pub use blocked::{BlockedEntry, BlockedLog};
pub use broker::{
    CredentialFitness, CredentialInfo, CredentialReader, LauncherCredentials, PredictedCredential,
};
pub use child_env::{ChildCredentials, ChildEnvironment};
pub use clock::{Clock, SystemClock};
pub use closing::DescriptorCloser;
pub use connect_error::ConnectError;
pub use decider::{
    Disconnect, ExecutionContext, NetworkDecision, NetworkPolicyDecider, NetworkPolicyRequest,
};
pub use decisions::{DecisionCounts, DecisionFeed, DecisionFollower, FollowedDecision};
pub use drain::Drain;
pub use enforce::{AddressKind, EvaluatedAddress};
pub use explain::{HypotheticalRequest, Lookup, NotJudged, PredictedAddresses, PredictedDecision};
pub use interceptor::{InterceptionError, IssueError, IssuedLeaf, KeyError, LeafIssuer};
pub use live_policy::{Generation, GenerationNumber, LivePolicy};
pub use local_addresses::KernelAddresses;
pub use measurements::{DecisionCount, DoorKind, HistogramCounts, Measurements, OutcomeCounts};
pub use new_clients::yield_to_new_clients;
pub use own::{OwnListener, OwnListeners, OwnUnixSocket, OwnUnixSockets};
pub use owner::{ClientOwner, ConnectionHandle, SocketPair};
pub use pipes::{BrokenPipeSignal, PIPE_BYTES};
pub use resolve::{
    DnsResolver, NameServerHealth, NameServers, NameServersFrom, Resolve, ResolveError,
    ResolverOptions, ResolverSetupError,
};
pub use server::{
    Counters, Door, Engine, EngineParts, Listening, OpenSession, SessionDoor, SessionError,
    SessionParts, SettingsView, SetupError,
};
pub use session::{DestinationCount, SessionInfo, SessionTotals, SessionUsage};
pub use upstream::{CollectorConnection, CollectorError, Dial, FIELD_TABLE, TcpDialler};
