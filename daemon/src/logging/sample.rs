//! Audit events for tests.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use codex_network_engine::{
    AuditEvent, AuditMetadata, AuditRule, AuditSession, ClientAddress, Override, Scope,
    ServerAddress,
};
use codex_network_policy::{
    Facts, Host, HostCredentials, InterceptionSupport, ListKind, NoLocalAddresses,
    NoProxyListeners, Pattern, Policy, PolicySpec, Protocol, Request, RequestKind,
};
use proptest::prelude::*;
use time::OffsetDateTime;

fn texts() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        Just(None),
        "[ -~]{0,20}".prop_map(Some),
        any::<String>().prop_map(Some),
        "[\\x00-\\x1f\\x7f-\\xa0\"'\\\\]{1,8}".prop_map(Some),
    ]
}

fn clients() -> impl Strategy<Value = Option<ClientAddress>> {
    prop_oneof![
        Just(None),
        any::<SocketAddr>().prop_map(|address| Some(ClientAddress::Connection(address))),
        any::<IpAddr>().prop_map(|address| Some(ClientAddress::Network(address))),
        any::<u32>().prop_map(|uid| Some(ClientAddress::User(uid))),
    ]
}

fn servers() -> impl Strategy<Value = ServerAddress> {
    prop_oneof![
        Just(ServerAddress::UnixSocket),
        any::<IpAddr>().prop_map(|address| ServerAddress::Host(address.into())),
        "[a-z]{1,9}\\.test"
            .prop_map(|name| ServerAddress::Host(Host::parse(&name).expect("a name"))),
        texts().prop_map(|text| ServerAddress::Text(text.unwrap_or_default().into())),
    ]
}

/// A session with this text in each field.
fn session_of(text: String) -> Arc<AuditSession> {
    let text: Arc<str> = text.into();
    Arc::new(AuditSession {
        id: Arc::clone(&text),
        user: Arc::clone(&text),
        command: text,
    })
}

/// Audit events with any texts.
pub(super) fn events() -> impl Strategy<Value = AuditEvent> {
    let metadata = proptest::array::uniform9(texts());
    let times = (0_i64..253_402_300_800, 0_i64..1_000_000_000);
    let numbers = (any::<u16>(), any::<u64>(), any::<bool>());
    (
        times,
        numbers,
        servers(),
        clients(),
        metadata,
        [texts(), texts(), texts(), texts(), texts()],
    )
        .prop_map(
            |(
                (seconds, nanoseconds),
                (port, count, is_allowed),
                server,
                client,
                metadata,
                texts,
            )| {
                let time = OffsetDateTime::from_unix_timestamp(seconds).expect("a time");
                let [reason, method, attempt, session, credential] = texts;
                AuditEvent {
                    timestamp: time + time::Duration::nanoseconds(nanoseconds),
                    server_address: server,
                    server_port: port,
                    client_address: client,
                    method: method.map(Into::into),
                    attempt_id: attempt.map(Into::into),
                    session: session.map(session_of),
                    credential: credential.map(Into::into),
                    metadata: Arc::new(filled(metadata)),
                    count,
                    ..event(
                        reason,
                        if is_allowed {
                            "listed.test"
                        } else {
                            "other.test"
                        },
                    )
                }
            },
        )
}

fn filled(texts: [Option<String>; 9]) -> AuditMetadata {
    let [
        conversation_id,
        app_version,
        user_account_id,
        auth_mode,
        rest @ ..,
    ] = texts;
    let [originator, user_email, terminal_type, model, slug] = rest;
    AuditMetadata {
        conversation_id,
        app_version,
        user_account_id,
        auth_mode,
        originator,
        user_email,
        terminal_type,
        model,
        slug,
    }
}

/// The event of a decision about this host.
pub(super) fn event(reason: Option<String>, host: &str) -> AuditEvent {
    let listed = Pattern::parse("listed.test", ListKind::Allow).expect("a pattern");
    let policy = Policy::compile(&PolicySpec {
        allowed: vec![(listed, None)],
        ..PolicySpec::default()
    })
    .expect("a policy");
    let policy = Arc::new(policy);
    let host = Host::parse(host).expect("a host");
    let decision = policy.decide(&Request {
        host: &host,
        port: 443,
        kind: &RequestKind::HttpConnect,
        facts: Facts {
            machine: &NoLocalAddresses,
            listeners: &NoProxyListeners,
            interception: InterceptionSupport::Unavailable,
            credentials: HostCredentials::None,
        },
    });
    AuditEvent {
        timestamp: OffsetDateTime::UNIX_EPOCH,
        scope: Scope::Domain,
        decision,
        reason: reason.map_or(decision.reason().as_str().into(), Into::into),
        overridden: Override::Kept,
        protocol: Protocol::HttpConnect,
        server_address: ServerAddress::Host(host),
        server_port: 443,
        method: Some("CONNECT".into()),
        client_address: Some(ClientAddress::Connection(([127, 0, 0, 1], 5).into())),
        attempt_id: None,
        session: None,
        credential: None,
        rule: AuditRule::of(&policy, decision),
        approval: None,
        metadata: Arc::default(),
        count: 1,
    }
}
