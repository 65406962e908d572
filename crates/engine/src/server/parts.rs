//! [`EngineParts`]: the things that an engine gets besides its settings.

use std::sync::Arc;
use std::time::Duration;

use codex_network_config::Supplied;
use codex_network_policy::{LocalAddresses, UnixSocketSupport};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::audit::{AuditMetadata, AuditSink, TracingAudit};
use crate::blocked::BlockedEntry;
use crate::broker::{CredentialReader, LauncherCredentials};
use crate::clock::{Clock, SystemClock};
use crate::decider::{self, ExecutionContext, NetworkPolicyDecider};
use crate::interceptor::LeafIssuer;
use crate::local_addresses::KernelAddresses;
use crate::owner::ClientOwner;
use crate::pipes::BrokenPipeSignal;
use crate::resolve::Resolve;
use crate::upstream::{Dial, TcpDialler};

/// The parts of an engine besides its settings. The defaults are those of the service.
pub struct EngineParts {
    /// Input of the process besides the settings.
    pub supplied: Supplied,
    /// Resolves names. `None`: DNS by the settings, made anew when they change.
    pub resolver: Option<Arc<dyn Resolve>>,
    /// Issues certificates for intercepted hosts. `None`: TLS cannot be intercepted, and
    /// connections that need it are refused.
    pub issuer: Option<Arc<dyn LeafIssuer>>,
    /// Has sources of credentials read again. `None`: they are read only with the settings.
    pub credential_reader: Option<Arc<dyn CredentialReader>>,
    /// Finds the users of clients on this machine, for equal shares among users. `None`: a client is its
    /// address, so all clients of one address share.
    pub client_owner: Option<Arc<dyn ClientOwner>>,
    /// The user that questions are about where a client has no session and no known user: that of an embedder, whose
    /// children the clients are. `None`: nothing is asked about such a client (SPEC Q1).
    pub questions_of: Option<u32>,
    /// Dials addresses.
    pub dialler: Arc<dyn Dial>,
    /// Knows the addresses of this machine, which are local (SPEC P3, P4).
    pub machine: Arc<dyn LocalAddresses>,
    /// Takes audit events.
    pub audit: Arc<dyn AuditSink>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Refused requests are numbered from this number on. An owner that replaces one engine by another
    /// passes a number above all numbers of the first engine, so that they keep rising.
    pub blocked_base: u64,
    /// The runtimes that serve the doors. Each one accepts from every door. A runtime that has more connections
    /// than another one passes a new connection on to it. From its first byte on, a connection stays on one
    /// runtime to its end, with the connections to origins that it uses. Single-threaded runtimes therefore
    /// pass no work between threads while they serve it. Their owner may call
    /// [`yield_to_new_clients`](crate::yield_to_new_clients) when they are about to wait. Empty: the runtime that
    /// opens a door serves it.
    pub runtimes: Vec<Handle>,
    /// The runtime that accepts from the listeners of all sessions, and passes their connections on to
    /// `runtimes`. It serves nothing else: the opener of a session may keep copies of its sockets, and can
    /// make an `accept` block. Such a session is ended. `None`: `runtimes` accept for sessions, whose
    /// openers must be trusted.
    pub session_runtime: Option<Handle>,
    /// Decides about hosts that are on neither list (SPEC P8). `None`: they are refused.
    pub decider: Option<Arc<dyn NetworkPolicyDecider>>,
    /// How long the decider may take.
    pub decider_timeout: Duration,
    /// Facts about the programs that use the doors, for the decider.
    pub execution: ExecutionContext,
    /// The credentials of the clients of the doors, as a launcher gives those of a session (SPEC B3). The settings
    /// that the engine begins with must have their providers. The dummies are the same for the life of the engine.
    pub credentials: LauncherCredentials,
    /// A channel that gets every refusal while it has room.
    pub blocked_observer: Option<mpsc::Sender<BlockedEntry>>,
    /// Fields of every audit event.
    pub audit_metadata: AuditMetadata,
    /// Whether requests to unix sockets (`x-unix-socket`) are served, within the settings (SPEC
    /// H10). By default they are served on macOS only. Tests on other platforms switch it on here.
    /// No configuration has a key for it: on Linux the daemon's worker may use internet sockets
    /// only, and may open no file.
    pub unix_sockets: UnixSocketSupport,
    /// Whether the process ignores `SIGPIPE`. On Linux, tunnels move their bytes within the kernel only if
    /// it does. An owner that can no longer read `/proc` gives the answer here.
    pub broken_pipe_signal: BrokenPipeSignal,
}

impl Default for EngineParts {
    fn default() -> Self {
        Self {
            supplied: Supplied::default(),
            resolver: None,
            issuer: None,
            credential_reader: None,
            client_owner: None,
            questions_of: None,
            dialler: Arc::new(TcpDialler),
            machine: Arc::new(KernelAddresses),
            audit: Arc::new(TracingAudit),
            clock: Arc::new(SystemClock),
            blocked_base: 0,
            runtimes: Vec::new(),
            session_runtime: None,
            decider: None,
            decider_timeout: decider::DEFAULT_TIMEOUT,
            execution: ExecutionContext::default(),
            credentials: LauncherCredentials::default(),
            blocked_observer: None,
            audit_metadata: AuditMetadata::default(),
            unix_sockets: if cfg!(target_os = "macos") {
                UnixSocketSupport::Served
            } else {
                UnixSocketSupport::Unsupported
            },
            broken_pipe_signal: BrokenPipeSignal::default(),
        }
    }
}
