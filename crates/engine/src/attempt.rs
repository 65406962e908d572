//! Attempts, their destinations and refusals: plain data that enforcement makes, and that records
//! and answers show. Nothing here decides.

use std::sync::Arc;
use std::time::Duration;

use codex_network_config::CredentialId;
use codex_network_policy::{Authority, Decision, HttpHead, Protocol, RequestKind};

use crate::audit::ServerAddress;
use crate::client::Client;

/// The text in place of a host in records and answers. They never hold the path (SPEC R3, H7).
pub(crate) const UNIX_SOCKET: &str = ServerAddress::UNIX_SOCKET;

/// A request of a client: the facts that the policy judges, and whom records name.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) client: Client,
    pub(crate) kind: RequestKind<'static>,
}

impl Attempt {
    /// A plain HTTP request.
    pub(crate) fn http(client: Client, head: HttpHead<'static>) -> Self {
        let kind = RequestKind::Http(head);
        Self { client, kind }
    }
}

/// The destination of a valid attempt.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    Host(Authority),
    UnixSocket,
}

/// Whether an attempt is for a host, valid or not, or for a unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DestinationKind {
    Host,
    UnixSocket,
}

/// A refused attempt. It has been recorded.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) decision: Decision,
    pub(crate) destination: DestinationKind,
    pub(crate) protocol: Protocol,
    /// The host in canonical form, or the escaped text that is not a valid host.
    pub(crate) host: String,
    /// 0 when no port could be read.
    pub(crate) port: u16,
    /// More detail, where the reason alone is not precise enough.
    pub(crate) detail: Option<&'static str>,
    /// The decider's own reason, which replaces the policy's; printable ASCII.
    pub(crate) decider_reason: Option<Arc<str>>,
    /// The credential because of which it is refused.
    pub(crate) credential: Option<CredentialId>,
    /// The question because of which it is refused.
    pub(crate) approval: Option<Box<Approval>>,
}

/// The question of a refused attempt (SPEC Q2).
#[derive(Clone, Debug)]
pub(crate) struct Approval {
    /// The id of the question.
    pub(crate) id: Arc<str>,
    pub(crate) state: ApprovalState,
}

/// The state of a question that did not permit an attempt.
#[derive(Clone, Debug)]
pub(crate) enum ApprovalState {
    /// It has no answer yet. A client may try again after this time.
    Unanswered { retry_after: Duration },
    /// It was denied. The text is for records: by whom and until when.
    Denied { rule: Arc<str> },
}

impl Refusal {
    /// The reason that records and answers show: the decider's, or else the decision's.
    pub(crate) fn reason(&self) -> &str {
        let reason = || self.decision.reason().as_str();
        self.decider_reason.as_deref().unwrap_or_else(reason)
    }
}
