//! Writes decisions down: audit event, blocked entry, counters.
//!
//! Called by `enforce.rs` and by nobody else, so that there is one record per decision.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codex_network_policy::{Authority, Decision, Protocol, Source};

use crate::audit::{AuditEvent, AuditMetadata, AuditSink, Override, Scope};
use crate::blocked::{BlockedEntry, BlockedLog};
use crate::clock::Clock;
use crate::enforce::unix_socket::UNIX_SOCKET;
use crate::enforce::{Attempt, Destination, Refusal};
use crate::live_policy::Generation;
use crate::own::OwnListeners;

/// What a decision was about.
struct Server<'a> {
    destination: Destination,
    address: &'a str,
    port: u16,
}

/// Where decisions are written to.
pub(crate) struct Recorder {
    pub(crate) blocked: BlockedLog,
    pub(crate) own: OwnListeners,
    /// The sockets of our own UDP associations, which only datagrams can reach.
    pub(crate) own_datagrams: OwnListeners,
    audit: Arc<dyn AuditSink>,
    metadata: AuditMetadata,
    clock: Arc<dyn Clock>,
    allowed: AtomicU64,
}

impl Recorder {
    pub(crate) fn new(
        audit: Arc<dyn AuditSink>,
        clock: Arc<dyn Clock>,
        blocked: BlockedLog,
        metadata: AuditMetadata,
        own: [OwnListeners; 2],
    ) -> Self {
        let [own, own_datagrams] = own;
        Self {
            blocked,
            own,
            own_datagrams,
            audit,
            metadata,
            clock,
            allowed: AtomicU64::new(0),
        }
    }

    /// Whether an attempt by this protocol would reach a socket of our own (SPEC P6). A datagram to a
    /// TCP listener would reach nothing, and is refused all the same: one destination, one verdict
    /// (SPEC P9).
    pub(crate) fn is_own(&self, protocol: Protocol, address: IpAddr, port: u16) -> bool {
        self.own.covers(address, port)
            || (protocol == Protocol::Socks5Udp && self.own_datagrams.covers(address, port))
    }

    /// How many attempts were ever allowed.
    pub(crate) fn allowed_total(&self) -> u64 {
        self.allowed.load(Ordering::Relaxed)
    }

    pub(crate) fn allowed(&self, attempt: &Attempt, authority: &Authority, decision: Decision) {
        self.allowed.fetch_add(1, Ordering::Relaxed);
        self.audit_host(attempt, authority, decision);
    }

    pub(crate) fn allowed_unix_socket(&self, attempt: &Attempt, decision: Decision) {
        self.allowed.fetch_add(1, Ordering::Relaxed);
        let server = Server {
            destination: Destination::UnixSocket,
            address: UNIX_SOCKET,
            port: 0,
        };
        self.audit(attempt, &server, decision, decision.reason().as_str());
    }

    /// A name that does not resolve is an outcome, not a violation: it is audited, and does not
    /// crowd the blocked entries.
    pub(crate) fn unresolved(&self, attempt: &Attempt, authority: &Authority, decision: Decision) {
        self.audit_host(attempt, authority, decision);
    }

    pub(crate) fn refused(&self, generation: &Generation, attempt: &Attempt, refusal: &Refusal) {
        let server = Server {
            destination: refusal.destination,
            address: &refusal.host,
            port: refusal.port,
        };
        self.audit(attempt, &server, refusal.decision, refusal.reason());
        let policy = generation.policy();
        let rule = refusal.decision.rule().and_then(|rule| policy.rule(rule));
        let entry = BlockedEntry {
            host: refusal.host.clone(),
            reason: match &refusal.word {
                Some(word) => Cow::Owned(word.as_ref().to_owned()),
                None => Cow::Borrowed(refusal.decision.reason().as_str()),
            },
            client: Some(attempt.client.address.to_string()),
            method: attempt
                .method
                .as_deref()
                .map(|method| short(method).to_owned()),
            mode: Some(policy.mode().as_str()),
            protocol: refusal.protocol.record_name(),
            decision: refusal.decision.verdict().as_str(),
            source: refusal.decision.source().as_str(),
            port: (refusal.port != 0).then_some(refusal.port),
            timestamp: self.clock.now().unix_timestamp(),
            attempt_id: attempt
                .client
                .attempt
                .as_ref()
                .map(|id| id.as_str().to_owned()),
            rule: rule.map(|rule| rule.to_string()),
            detail: refusal.detail,
            sequence: 0,
        };
        self.blocked
            .push(entry, generation.settings().daemon.limits.blocked_buffer);
    }

    fn audit_host(&self, attempt: &Attempt, authority: &Authority, decision: Decision) {
        let server = Server {
            destination: Destination::Host,
            address: &authority.host.to_string(),
            port: authority.port,
        };
        self.audit(attempt, &server, decision, decision.reason().as_str());
    }

    fn audit(&self, attempt: &Attempt, server: &Server<'_>, decision: Decision, reason: &str) {
        self.audit.record(&AuditEvent {
            timestamp: self.clock.now(),
            scope: server.scope(decision.source()),
            decision,
            reason,
            overridden: if decision.is_overruled() {
                Override::Overridden
            } else {
                Override::Kept
            },
            protocol: attempt.protocol,
            server_address: server.address,
            server_port: server.port,
            method: attempt.method.as_deref().map(short),
            client_address: Some(&attempt.client.address.to_string()),
            attempt_id: attempt
                .client
                .attempt
                .as_ref()
                .map(crate::client::AttemptId::as_str),
            metadata: &self.metadata,
        });
    }
}

impl Server<'_> {
    fn scope(&self, source: Source) -> Scope {
        match (self.destination, source) {
            (Destination::Host, Source::BaselinePolicy | Source::Decider) => Scope::Domain,
            (Destination::Host, Source::ModeGuard | Source::ProxyState)
            | (Destination::UnixSocket, _) => Scope::NonDomain,
        }
    }
}

/// A method may be any token, as long as a whole head; a record takes its beginning.
fn short(method: &str) -> &str {
    const LONGEST: usize = 64;
    method.get(..LONGEST).unwrap_or(method)
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder")
            .field("blocked", &self.blocked)
            .finish_non_exhaustive()
    }
}
