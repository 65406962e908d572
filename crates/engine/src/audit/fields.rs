//! The fields of an audit event, one by one, for a sink that formats them itself. They are those of the
//! `tracing` event of [`TracingAudit`](super::TracingAudit), in the same order.

use std::fmt;

use super::timestamp::Rfc3339;
use super::{AuditEvent, Override};

/// The value of a field.
#[derive(Clone, Copy)]
pub enum FieldValue<'a> {
    /// Text.
    Text(&'a str),
    /// Text that is not formatted yet.
    Shown(&'a dyn fmt::Display),
    /// A number.
    Number(u64),
    /// A truth value.
    Flag(bool),
}

/// The message of an event: `deny http a.test:80 (not_allowed, 12 times)`.
struct Summary<'a>(&'a AuditEvent);

impl AuditEvent {
    /// The target of its `tracing` event.
    pub const TARGET: &'static str = "codex_otel.network_proxy";
    /// The value of the field `event.name`.
    pub const NAME: &'static str = "codex.network_proxy.policy_decision";
    /// The names of all fields, in their order.
    pub const FIELDS: &'static [&'static str] = &[
        "message",
        "event.name",
        "event.timestamp",
        "network.policy.scope",
        "network.policy.decision",
        "network.policy.source",
        "network.policy.reason",
        "network.policy.override",
        "network.transport.protocol",
        "server.address",
        "server.port",
        "http.request.method",
        "client.address",
        "attempt_id",
        "conversation.id",
        "app.version",
        "user.account_id",
        "auth_mode",
        "originator",
        "user.email",
        "terminal.type",
        "model",
        "slug",
        "event.count",
        "session",
        "user",
        "command",
        "credential",
        "network.policy.rule",
        "approval_id",
        "network.policy.would_deny",
    ];

    /// The message.
    pub(crate) fn summary(&self) -> impl fmt::Display + '_ {
        Summary(self)
    }

    /// Passes the index in [`FIELDS`](Self::FIELDS) and the value of each field that has one, in their
    /// order.
    pub fn each_field(&self, mut take: impl FnMut(usize, FieldValue<'_>)) {
        use FieldValue::{Flag, Number, Shown, Text};
        let metadata = &*self.metadata;
        take(0, Shown(&self.summary()));
        take(1, Text(Self::NAME));
        take(2, Shown(&Rfc3339::milliseconds(self.timestamp)));
        take(3, Text(self.scope.as_str()));
        take(4, Text(self.decision.verdict().as_str()));
        take(5, Text(self.decision.source().as_str()));
        take(6, Text(&self.reason));
        take(7, Flag(self.overridden == Override::Overridden));
        take(8, Text(self.protocol.audit_name()));
        take(9, Text(&self.server_address.text()));
        take(10, Number(self.server_port.into()));
        take(11, Text(self.method.as_deref().unwrap_or("none")));
        match &self.client_address {
            Some(client) => take(12, Shown(client)),
            None => take(12, Text("unknown")),
        }
        let optional = [
            self.attempt_id.as_deref(),
            metadata.conversation_id.as_deref(),
            metadata.app_version.as_deref(),
            metadata.user_account_id.as_deref(),
            metadata.auth_mode.as_deref(),
            metadata.originator.as_deref(),
            metadata.user_email.as_deref(),
            metadata.terminal_type.as_deref(),
            metadata.model.as_deref(),
            metadata.slug.as_deref(),
        ];
        for (index, value) in (13..).zip(optional) {
            if let Some(value) = value {
                take(index, Text(value));
            }
        }
        if self.count > 1 {
            take(23, Number(self.count));
        }
        if let Some(session) = &self.session {
            take(24, Text(&session.id));
            take(25, Text(&session.user));
            take(26, Text(&session.command));
        }
        if let Some(credential) = &self.credential {
            take(27, Text(credential));
        }
        if let Some(rule) = self.rule_text() {
            take(28, Text(&rule));
        }
        if let Some(id) = self.approval.as_ref().and_then(|it| it.id.as_deref()) {
            take(29, Text(id));
        }
        if self.decision.would_deny() {
            take(30, Flag(true));
        }
    }
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.0;
        // The journal shows an entry without a message as an empty line.
        let (verdict, protocol) = (
            event.decision.verdict().as_str(),
            event.protocol.audit_name(),
        );
        let (server, port, reason) = (&event.server_address, event.server_port, &event.reason);
        write!(f, "{verdict} {protocol} {server}:{port} ({reason}")?;
        if event.count > 1 {
            write!(f, ", {} times", event.count)?;
        }
        f.write_str(")")
    }
}
