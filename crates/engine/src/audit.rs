//! One event for each decision, allow or deny (SPEC R3).
//!
//! Events go to an [`AuditSink`]. An event is a typed value that is cheap to move: the decision's path
//! formats nothing, and a sink may format on a thread of its own ([`AuditEvent::each_field`]). The
//! default sink emits a `tracing` event under the target [`AuditEvent::TARGET`] at once. An event never
//! holds a URL, a path or a query. A log is bounded, so that sink gets every allowed decision one by
//! one, and the refusals of one client up to a rate; further refusals arrive as counts. Each decision is
//! in exactly one event ([`Volume`]).

use std::borrow::Cow;
use std::sync::Arc;

use codex_network_policy::{Decision, Protocol};
use time::OffsetDateTime;

pub use self::fields::FieldValue;
pub use self::names::{ClientAddress, ServerAddress};
pub use self::rule::AuditRule;
pub use self::timestamp::Rfc3339;

/// A `tracing` event with the fields of a decision, further fields, and a message. All events about
/// decisions are made here, so they have the same fields.
macro_rules! decided {
    ($target:expr, $level:expr, $name:expr, $event:expr, $($rest:tt)+) => {{
        let decided: &$crate::audit::AuditEvent = $event;
        let metadata = &*decided.metadata;
        let timestamp = $crate::audit::Rfc3339::milliseconds(decided.timestamp).to_string();
        let client = decided.client_address.map(|client| client.to_string());
        let session = decided.session.as_deref();
        let approval = decided.approval.as_deref();
        let rule = decided.rule_text();
        tracing::event!(
            target: $target,
            $level,
            event.name = $name,
            event.timestamp = timestamp,
            network.policy.scope = decided.scope.as_str(),
            network.policy.decision = decided.decision.verdict().as_str(),
            network.policy.source = decided.decision.source().as_str(),
            network.policy.reason = &*decided.reason,
            network.policy.override = decided.overridden == $crate::audit::Override::Overridden,
            network.transport.protocol = decided.protocol.audit_name(),
            server.address = &*decided.server_address.text(),
            server.port = decided.server_port,
            http.request.method = decided.method.as_deref().unwrap_or("none"),
            client.address = client.as_deref().unwrap_or("unknown"),
            attempt_id = decided.attempt_id.as_deref(),
            conversation.id = metadata.conversation_id.as_deref(),
            app.version = metadata.app_version.as_deref(),
            user.account_id = metadata.user_account_id.as_deref(),
            auth_mode = metadata.auth_mode.as_deref(),
            originator = metadata.originator.as_deref(),
            user.email = metadata.user_email.as_deref(),
            terminal.type = metadata.terminal_type.as_deref(),
            model = metadata.model.as_deref(),
            slug = metadata.slug.as_deref(),
            event.count = (decided.count > 1).then_some(decided.count),
            session = session.map(|session| &*session.id),
            user = session.map(|session| &*session.user),
            command = session.map(|session| &*session.command),
            credential = decided.credential.as_deref(),
            network.policy.rule = rule.as_deref(),
            approval_id = approval.and_then(|approval| approval.id.as_deref()),
            network.policy.would_deny = decided.decision.would_deny().then_some(true),
            $($rest)+
        );
    }};
}

mod fields;
pub(crate) mod flow;
mod names;
pub(crate) mod rule;
mod timestamp;

/// The record of a decision.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    /// When the decision was made, in UTC.
    pub timestamp: OffsetDateTime,
    /// Whether the decision is about a host.
    pub scope: Scope,
    /// The decision.
    pub decision: Decision,
    /// The decision's reason, or the reason that the decider gave.
    pub reason: Cow<'static, str>,
    /// Whether a decider overrode the lists.
    pub overridden: Override,
    /// The door.
    pub protocol: Protocol,
    /// The requested host, or `unix-socket`.
    pub server_address: ServerAddress,
    /// The requested port; 0 if it could not be read, and for a unix socket.
    pub server_port: u16,
    /// The HTTP method, where there is one.
    pub method: Option<Cow<'static, str>>,
    /// The client, where it is known.
    pub client_address: Option<ClientAddress>,
    /// The attempt that the client belongs to.
    pub attempt_id: Option<Arc<str>>,
    /// The session of the client.
    pub session: Option<Arc<AuditSession>>,
    /// The credentials whose real values the request carries, or because of which it is refused: their names,
    /// separated by commas. Never a value.
    pub credential: Option<Arc<str>>,
    /// The rule of a list that decided. The answer of a person, in `approval`, has precedence over it.
    pub rule: Option<AuditRule>,
    /// The part of a person in the decision. Boxed, since most decisions have none.
    pub approval: Option<Box<AuditApproval>>,
    /// The embedder's fields.
    pub metadata: Arc<AuditMetadata>,
    /// The number of decisions that the event stands for. It is more than 1 only for a
    /// [`Volume::Bounded`] sink and similar decisions. Such an event has no method and no attempt, and
    /// its client is `uid N` or an address without a port.
    pub count: u64,
}

/// The question or the answer of a person (SPEC Q2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditApproval {
    /// The grant or the denial that decided: its id, by whom, and until when. `network.policy.rule`.
    pub rule: Option<Arc<str>>,
    /// The question that has no answer yet, or was denied: `approval_id`.
    pub id: Option<Arc<str>>,
}

/// The session of a client (SPEC J12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditSession {
    /// Its name: `session`.
    pub id: Arc<str>,
    /// The user who opened it: `user`.
    pub user: Arc<str>,
    /// The name of its program, without arguments: `command`.
    pub command: Arc<str>,
}

/// Fields that an embedder adds to every audit event. A field that is `None` is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditMetadata {
    /// `conversation.id`.
    pub conversation_id: Option<String>,
    /// `app.version`.
    pub app_version: Option<String>,
    /// `user.account_id`.
    pub user_account_id: Option<String>,
    /// `auth_mode`.
    pub auth_mode: Option<String>,
    /// `originator`.
    pub originator: Option<String>,
    /// `user.email`.
    pub user_email: Option<String>,
    /// `terminal.type`.
    pub terminal_type: Option<String>,
    /// `model`.
    pub model: Option<String>,
    /// `slug`.
    pub slug: Option<String>,
}

/// The subject of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A host.
    Domain,
    /// The mode, the proxy itself, or a unix socket.
    NonDomain,
}

/// Whether a decider overrode the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Override {
    /// The decision of the lists stands.
    Kept,
    /// A decider allowed what the lists refused.
    Overridden,
}

/// Takes audit events.
pub trait AuditSink: Send + Sync + 'static {
    /// Takes one event. Called on the request's path: it must not block for long.
    fn record(&self, event: AuditEvent);

    /// Whether the sink takes events at present. If not, the engine makes no event. The engine calls this
    /// function for each decision, so it must be cheap.
    fn is_enabled(&self) -> bool {
        true
    }

    /// How many events the sink takes.
    fn volume(&self) -> Volume {
        Volume::Every
    }
}

/// Which events a sink receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// One event for each decision.
    Every,
    /// One event for each allowed decision. Refusals of one client beyond a rate share one event
    /// with their count.
    Bounded,
}

/// Sends audit events to `tracing`.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingAudit;

impl AuditSink for TracingAudit {
    /// `tracing` events go to a log, which is bounded.
    fn volume(&self) -> Volume {
        Volume::Bounded
    }

    fn is_enabled(&self) -> bool {
        tracing::enabled!(target: AuditEvent::TARGET, tracing::Level::INFO)
    }

    fn record(&self, event: AuditEvent) {
        if !self.is_enabled() {
            return;
        }
        decided!(
            AuditEvent::TARGET,
            tracing::Level::INFO,
            AuditEvent::NAME,
            &event,
            "{}",
            event.summary(),
        );
    }
}

impl Scope {
    fn as_str(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::NonDomain => "non_domain",
        }
    }
}
