//! Writes decisions and their outcomes down: audit event, blocked entry, flow event, counters.
//!
//! Only `enforce.rs` and its folder call it, so there is one record per decision.

mod refused;
mod reported;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use codex_network_config::CredentialId;
use codex_network_policy::{Authority, Decision, Policy, Source, Verdict};

use self::refused::{Refused, rule_text, short};
use crate::attempt::{Attempt, DestinationKind, Refusal};
use crate::audit::flow::{FlowEvent, FlowLevel};
use crate::audit::{
    AuditApproval, AuditEvent, AuditMetadata, AuditRule, AuditSink, ClientAddress, Override, Scope,
    ServerAddress, Volume,
};
use crate::blocked::{self, BlockedEntry, BlockedLog};
use crate::client::AttemptId;
use crate::clock::Clock;
use crate::decisions::{DecisionFeed, FollowedDecision};
use crate::drain::Drain;
use crate::lines::{About, COUNT_INTERVAL, Count, CountKey, Decided, LineChoice, Lines};
use crate::live_policy::Generation;
use crate::measurements::Meters;
use crate::outcome::Ending;
use crate::owner::{ConnectionHandle, Owners};
use crate::session::Counted;
use crate::shares::Holder;

/// The destination of an attempt, as records show it.
#[derive(Clone)]
struct Server {
    destination: DestinationKind,
    address: ServerAddress,
    port: u16,
}

/// An allowed attempt that has ended.
pub(crate) struct EndedFlow<'a> {
    pub(crate) attempt: &'a Attempt,
    pub(crate) destination: DestinationKind,
    pub(crate) address: ServerAddress,
    pub(crate) port: u16,
    pub(crate) decision: Decision,
    /// The grant that permitted it, as text.
    pub(crate) grant: Option<&'a Arc<str>>,
    /// The rule of a list that permitted it.
    pub(crate) rule: Option<AuditRule>,
    /// The names of the credentials that it carries.
    pub(crate) credential: Option<&'a Arc<str>>,
    pub(crate) ending: &'a Ending,
    pub(crate) level: FlowLevel,
    /// Bytes from the client to the upstream, and back.
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) duration: Duration,
    pub(crate) peer: Option<SocketAddr>,
}

/// Writes decisions to the audit sink, the log of refusals and the counters.
pub(crate) struct Recorder {
    pub(crate) blocked: BlockedLog,
    pub(crate) followed: Arc<DecisionFeed>,
    pub(crate) meters: Meters,
    audit: Arc<dyn AuditSink>,
    metadata: Arc<AuditMetadata>,
    clock: Arc<dyn Clock>,
    allowed: AtomicU64,
    lines: Lines,
    drain: Drain,
    /// A reference to this recorder, for the task that writes counts.
    this: Weak<Self>,
}

impl Recorder {
    pub(crate) fn new(
        audit: Arc<dyn AuditSink>,
        clock: Arc<dyn Clock>,
        blocked: BlockedLog,
        metadata: AuditMetadata,
        owners: Arc<Owners>,
        drain: Drain,
    ) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            blocked,
            followed: Arc::default(),
            meters: Meters::default(),
            audit,
            metadata: Arc::new(metadata),
            clock,
            allowed: AtomicU64::new(0),
            lines: Lines::new(owners),
            drain,
            this: this.clone(),
        })
    }

    /// Whether to log a message that a client causes. Beyond the client's budget the message is
    /// counted.
    pub(crate) fn may_log(&self, client: &ConnectionHandle, kind: &'static str) -> bool {
        match self.lines.take(client) {
            LineChoice::Written => true,
            LineChoice::Counted(holder) => {
                let is_first = self.lines.count(holder, About::Message(kind), || None);
                self.write_counts_later(is_first);
                false
            }
        }
    }

    /// The time, in seconds since 1970 (UTC).
    pub(crate) fn now(&self) -> i64 {
        self.clock.now().unix_timestamp()
    }

    /// How many attempts were ever allowed.
    pub(crate) fn allowed_total(&self) -> u64 {
        self.allowed.load(Ordering::Relaxed)
    }

    /// The grant that permits it as text, and the names of the credentials that the request carries.
    pub(crate) fn allowed(
        &self,
        generation: &Generation,
        attempt: &Attempt,
        authority: &Authority,
        decision: Decision,
        (rule, credential): (Option<&Arc<str>>, Option<&Arc<str>>),
    ) {
        self.allowed.fetch_add(1, Ordering::Relaxed);
        self.meters.decided(decision, attempt.kind.protocol());
        if let Some(session) = attempt.client.session() {
            let host = authority.host.to_string();
            let reason = decision.reason().as_str();
            session.count(Counted::Allowed, &host, authority.port, reason);
        }
        if self.is_recorded() {
            let server = Server {
                destination: DestinationKind::Host,
                address: ServerAddress::Host(authority.host.clone()),
                port: authority.port,
            };
            let policy = &generation.settings().policy;
            self.write_allowed(policy, attempt, &server, decision, (rule, credential));
        }
        if decision.would_deny() {
            self.reported(generation, attempt, authority, decision);
        }
    }

    pub(crate) fn allowed_unix_socket(
        &self,
        policy: &Arc<Policy>,
        attempt: &Attempt,
        decision: Decision,
    ) {
        self.allowed.fetch_add(1, Ordering::Relaxed);
        self.meters.decided(decision, attempt.kind.protocol());
        if let Some(session) = attempt.client.session() {
            let reason = decision.reason().as_str();
            session.count(Counted::Allowed, ServerAddress::UNIX_SOCKET, 0, reason);
        }
        if self.is_recorded() {
            let server = Server {
                destination: DestinationKind::UnixSocket,
                address: ServerAddress::UnixSocket,
                port: 0,
            };
            self.write_allowed(policy, attempt, &server, decision, (None, None));
        }
    }

    /// Whether an allowed decision is seen by anyone.
    fn is_recorded(&self) -> bool {
        self.audit.is_enabled() || self.followed.is_followed()
    }

    /// Each allowed decision is recorded by itself: it shows what left the machine.
    fn write_allowed(
        &self,
        policy: &Arc<Policy>,
        attempt: &Attempt,
        server: &Server,
        decision: Decision,
        (rule, credential): (Option<&Arc<str>>, Option<&Arc<str>>),
    ) {
        let reason = Cow::Borrowed(decision.reason().as_str());
        let event = || AuditEvent {
            credential: credential.cloned(),
            rule: AuditRule::of(policy, decision),
            approval: granted(rule),
            ..self.event(attempt, server.clone(), decision, reason.clone())
        };
        self.followed.push(owner(attempt), || FollowedDecision {
            event: event(),
            rule: rule_text(policy, decision, rule),
        });
        if self.audit.is_enabled() {
            self.audit.record(event());
        }
    }

    pub(crate) fn refused(&self, generation: &Generation, attempt: &Attempt, refusal: &Refusal) {
        let decision = refusal.decision;
        self.meters.decided(decision, attempt.kind.protocol());
        let policy = &generation.settings().policy;
        let refused = Refused {
            policy,
            attempt,
            refusal,
            reason: match &refusal.decider_reason {
                Some(reason) => Cow::Owned(reason.as_ref().to_owned()),
                None => Cow::Borrowed(decision.reason().as_str()),
            },
            clock: &*self.clock,
        };
        if let Some(session) = attempt.client.session() {
            let kind = match decision.verdict() {
                Verdict::Ask => Counted::Asked,
                Verdict::Allow | Verdict::Deny => Counted::Refused,
            };
            session.count(kind, &refusal.host, refusal.port, &refused.reason);
        }
        let event = || {
            let (server, reason) = (Server::of(refusal), refused.reason.clone());
            AuditEvent {
                credential: refusal.credential.as_ref().map(CredentialId::shared),
                rule: AuditRule::of(policy, decision),
                approval: refused.audit_approval(),
                ..self.event(attempt, server, decision, reason)
            }
        };
        self.followed.push(owner(attempt), || FollowedDecision {
            event: event(),
            rule: rule_text(refused.policy, decision, refused.approval_rule()),
        });
        let capacity = generation.settings().daemon.limits.blocked_buffer;
        let line = self.lines.take(&attempt.client.connection);
        let is_sent = line == LineChoice::Written || self.audit.volume() == Volume::Every;
        if is_sent && self.audit.is_enabled() {
            self.audit.record(event());
        }
        let LineChoice::Counted(holder) = line else {
            self.blocked.push(refused.entry(), capacity);
            return;
        };
        let protocol = attempt.kind.protocol();
        let about = About::Decision {
            protocol: protocol.audit_name(),
            host: refusal.host.clone(),
            port: refusal.port,
            verdict: decision.verdict().as_str(),
            reason: refused.reason.clone(),
            session: attempt
                .client
                .session()
                .map(|session| Arc::clone(&session.info().id)),
            credential: refusal.credential.as_ref().map(CredentialId::shared),
        };
        let is_first = self.lines.count(holder, about, || {
            let server = Server::of(refusal);
            Some(Decided {
                scope: server.scope(decision.source()),
                decision,
                reason: refused.reason.clone(),
                overridden: overridden(decision),
                protocol,
                server: server.address,
                port: server.port,
                session: attempt
                    .client
                    .session()
                    .map(|session| Arc::clone(session.audit())),
                credential: refusal.credential.as_ref().map(CredentialId::shared),
                rule: AuditRule::of(policy, decision),
                blocked: refused.entry(),
            })
        });
        self.blocked
            .push_counted(|other| refused.is_like(other), || refused.entry(), capacity);
        self.write_counts_later(is_first);
    }

    /// Whether the proxy is ending everything that is left.
    pub(crate) fn is_cut(&self) -> bool {
        self.drain.is_cut()
    }

    /// Logs the end of an allowed attempt, unless it is a failure for which the client's budget has no
    /// room (SPEC R5).
    pub(crate) fn flowed(&self, flow: EndedFlow<'_>) {
        let ending = flow.ending;
        let connection = &flow.attempt.client.connection;
        if ending.is_failure() && !self.may_log(connection, "failed requests") {
            return;
        }
        let server = Server {
            destination: flow.destination,
            address: flow.address,
            port: flow.port,
        };
        let reason = Cow::Borrowed(flow.decision.reason().as_str());
        FlowEvent {
            decided: AuditEvent {
                credential: flow.credential.cloned(),
                rule: flow.rule,
                approval: granted(flow.grant),
                ..self.event(flow.attempt, server, flow.decision, reason)
            },
            ending,
            sent: flow.sent,
            received: flow.received,
            duration: flow.duration,
            peer: flow.peer,
        }
        .write(flow.level);
    }

    /// The event of a decision. It formats nothing.
    fn event(
        &self,
        attempt: &Attempt,
        server: Server,
        decision: Decision,
        reason: Cow<'static, str>,
    ) -> AuditEvent {
        AuditEvent {
            timestamp: self.clock.now(),
            scope: server.scope(decision.source()),
            decision,
            reason,
            overridden: overridden(decision),
            protocol: attempt.kind.protocol(),
            server_address: server.address,
            server_port: server.port,
            method: attempt.kind.method().map(method),
            client_address: Some(ClientAddress::Connection(attempt.client.address)),
            attempt_id: attempt.client.attempt.as_ref().map(AttemptId::text),
            session: attempt
                .client
                .session()
                .map(|session| Arc::clone(session.audit())),
            credential: None,
            rule: None,
            approval: None,
            metadata: Arc::clone(&self.metadata),
            count: 1,
        }
    }

    /// Schedules the writing of counts. They are also written when the recorder ends.
    fn write_counts_later(&self, is_first: bool) {
        if !is_first {
            return;
        }
        let this = self.this.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep(COUNT_INTERVAL).await;
                if let Some(this) = this.upgrade() {
                    this.write_counts();
                }
            });
        }
    }

    /// Writes a line for each count.
    fn write_counts(&self) {
        for (CountKey { holder, about }, Count { lines, first }) in self.lines.drain() {
            match (about, first) {
                (About::Message(kind), _) => {
                    tracing::info!(
                        client = holder.to_string(),
                        count = lines,
                        "further messages about {kind} were left out"
                    );
                }
                (About::Decision { .. }, Some(decided)) => {
                    self.write_decisions(holder, decided, lines);
                }
                (About::Decision { .. } | About::Decisions, _) => {
                    tracing::info!(
                        client = holder.to_string(),
                        count = lines,
                        "further decisions about other destinations were left out"
                    );
                }
            }
        }
    }

    fn write_decisions(&self, holder: Holder, decided: Decided, count: u64) {
        if self.audit.volume() == Volume::Bounded && self.audit.is_enabled() {
            self.audit.record(AuditEvent {
                timestamp: self.clock.now(),
                scope: decided.scope,
                decision: decided.decision,
                reason: decided.reason,
                overridden: decided.overridden,
                protocol: decided.protocol,
                server_address: decided.server,
                server_port: decided.port,
                method: None,
                client_address: Some(ClientAddress::from(holder)),
                attempt_id: None,
                session: decided.session,
                credential: decided.credential,
                rule: decided.rule,
                approval: None,
                metadata: Arc::clone(&self.metadata),
                count,
            });
        }
        blocked::log(&BlockedEntry {
            client: Some(holder.to_string()),
            method: None,
            attempt_id: None,
            timestamp: self.clock.now().unix_timestamp(),
            count,
            ..decided.blocked
        });
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.write_counts();
    }
}

impl Server {
    /// The destination of a refused attempt.
    fn of(refusal: &Refusal) -> Self {
        Self {
            destination: refusal.destination,
            address: match refusal.destination {
                DestinationKind::Host => ServerAddress::Text(Arc::from(refusal.host.as_str())),
                DestinationKind::UnixSocket => ServerAddress::UnixSocket,
            },
            port: refusal.port,
        }
    }

    fn scope(&self, source: Source) -> Scope {
        match (self.destination, source) {
            (DestinationKind::Host, Source::BaselinePolicy | Source::Decider | Source::Session) => {
                Scope::Domain
            }
            (DestinationKind::Host, Source::ModeGuard | Source::ProxyState)
            | (DestinationKind::UnixSocket, _) => Scope::NonDomain,
        }
    }
}

/// The grant that permitted an attempt, by its text.
fn granted(rule: Option<&Arc<str>>) -> Option<Box<AuditApproval>> {
    let approval = |rule: &Arc<str>| AuditApproval {
        rule: Some(Arc::clone(rule)),
        id: None,
    };
    rule.map(approval).map(Box::new)
}

/// The user of the client's session.
fn owner(attempt: &Attempt) -> Option<u32> {
    attempt.client.session().map(|session| session.uid())
}

fn overridden(decision: Decision) -> Override {
    if decision.is_overruled() {
        Override::Overridden
    } else {
        Override::Kept
    }
}

/// A method for an event. The usual ones are not copied.
fn method(method: &str) -> Cow<'static, str> {
    const USUAL: [&str; 8] = [
        "GET", "POST", "CONNECT", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS",
    ];
    match USUAL.iter().find(|usual| **usual == method) {
        Some(usual) => Cow::Borrowed(usual),
        None => Cow::Owned(short(method).to_owned()),
    }
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("blocked", &self.blocked)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use codex_network_policy::{Content, HttpHead, Policy, PolicySpec, Protocol, RequestKind};

    use super::*;
    use crate::audit::TracingAudit;
    use crate::client::Client;
    use crate::clock::SystemClock;

    impl Recorder {
        /// A recorder that writes to `tracing` only.
        pub(crate) fn for_tests() -> Arc<Self> {
            Self::new(
                Arc::new(TracingAudit),
                Arc::new(SystemClock),
                BlockedLog::default(),
                AuditMetadata::default(),
                Arc::new(Owners::new(None)),
                Drain::new(),
            )
        }
    }

    #[test]
    fn r1_a_refusal_is_like_an_entry_of_the_same_client_over_any_connection() {
        let policy = Policy::compile(&PolicySpec::default()).expect("short lists");
        let attempt = |client: SocketAddr, method: &'static str| Attempt {
            client: Client {
                address: client,
                attempt: None,
                connection: ConnectionHandle::new(client, ([127, 0, 0, 1], 1).into()),
            },
            kind: RequestKind::Http(HttpHead {
                method: method.into(),
                upgrade: None,
                content: Content::Absent,
            }),
        };
        let refusal = |host: &str, port| Refusal {
            decision: policy.decide_invalid_host(),
            destination: DestinationKind::Host,
            protocol: Protocol::Http,
            host: host.to_owned(),
            port,
            detail: None,
            decider_reason: None,
            credential: None,
            approval: None,
        };
        let client = |last, port| SocketAddr::from(([192, 0, 2, last], port));
        let refused = |attempt: &Attempt, refusal: &Refusal, of: Option<&BlockedEntry>| {
            let refused = Refused {
                policy: &policy,
                attempt,
                refusal,
                reason: Cow::Borrowed(refusal.decision.reason().as_str()),
                clock: &SystemClock,
            };
            (of.is_some_and(|of| refused.is_like(of)), refused.entry())
        };
        let of = attempt(client(1, 5), "GET");
        let (_, entry) = refused(&of, &refusal("a.test", 80), None);
        let is_like = |attempt, refusal| refused(&attempt, &refusal, Some(&entry)).0;
        assert!(is_like(attempt(client(1, 6), "GET"), refusal("a.test", 80)));
        for (client, method, host, port) in [
            (client(2, 5), "GET", "a.test", 80),
            (client(1, 5), "POST", "a.test", 80),
            (client(1, 5), "GET", "b.test", 80),
            (client(1, 5), "GET", "a.test", 81),
            (client(1, 5), "GET", "a.test", 0),
        ] {
            assert!(!is_like(attempt(client, method), refusal(host, port)));
        }
    }

    #[test]
    fn r2_messages_that_a_client_causes_are_within_its_budget_and_the_rest_is_counted() {
        let recorder = Recorder::for_tests();
        let client =
            |last| ConnectionHandle::new(([192, 0, 2, last], 5).into(), ([127, 0, 0, 1], 1).into());
        let flood = client(1);
        let written = (0..100_000).filter(|_| recorder.may_log(&flood, "malformed requests"));
        let written = written.count() as u64;
        assert!(written < 50_000, "{written}");
        assert!(recorder.may_log(&client(2), "malformed requests"));
        let counts = recorder.lines.drain();
        let counted: u64 = counts.values().map(|count| count.lines).sum();
        assert_eq!(written + counted, 100_000);
    }
}
