//! `GET /config`: the effective settings as JSON, under the names that the files use. Secrets in
//! [`Settings`] are a [`Secret`](codex_network_config::Secret) or the credentials of an upstream
//! proxy. Neither type can be shown by accident.

mod mitm;

use std::sync::Arc;

use codex_network_config::{
    AdminAccess, AdminView, Listen, LogFlows, LogFormat, Principal, Settings, UpstreamProxies,
    UpstreamProxy, duration_text,
};
use codex_network_engine::Generation;
use codex_network_policy::{DomainSet, Policy};
use serde_json::{Map, Value, json};

/// The settings that a generation was made from, with the addresses that its owner listens on.
pub(crate) fn effective(generation: &Generation, listen: &Listen) -> Value {
    let mut all = Map::new();
    all.insert("generation".to_owned(), json!(generation.number().get()));
    all.extend(settings(
        generation.settings(),
        generation.policy(),
        listen,
        &generation.supplied().upstream_proxies,
    ));
    Value::Object(all)
}

/// The settings with this policy, which may have another mode, these addresses, and these proxies of
/// the environment.
pub(crate) fn settings(
    settings: &Settings,
    policy: &Policy,
    listen: &Listen,
    upstream_proxies: &UpstreamProxies,
) -> Map<String, Value> {
    let patterns = |set: &DomainSet| set.rules().map(|rule| rule.pattern).collect::<Vec<_>>();
    let all = json!({
        "files": settings.files,
        "enabled": policy.is_enabled(),
        "mode": policy.mode().as_str(),
        "proxy_url": format!("http://{}", listen.http),
        "socks_url": listen.socks5.map(|address| format!("socks5h://{address}")),
        "admin_url": listen.admin.map(|address| format!("http://{address}")),
        "enable_socks5": listen.socks5.is_some(),
        "enable_socks5_udp": settings.socks5_udp,
        "allow_upstream_proxy": settings.allow_upstream_proxy,
        "upstream_proxy": upstream_proxy(upstream_proxies),
        "allow_local_binding": policy.allows_local_binding(),
        "allowed_domains": patterns(policy.allowed()),
        "denied_domains": patterns(policy.denied()),
        "allow_unix_sockets": settings.unix_sockets.allowed,
        "denied_unix_sockets": settings.unix_sockets.denied,
        "dangerously_allow_all_unix_sockets": settings.unix_sockets.allow_all,
        "credential_broker": settings.credential_broker,
        "dangerously_allow_plaintext_credential_injection": settings.plaintext_credential_injection,
        "mitm": mitm::effective(settings),
        "daemon": daemon(&settings.daemon),
        "sources": sources(settings),
        "pinned": pinned(settings),
    });
    match all {
        Value::Object(all) => all,
        // `json!` with braces makes an object.
        _ => Map::new(),
    }
}

/// Where each value that is not a default is written.
fn sources(settings: &Settings) -> Value {
    let origins = settings.origins.iter();
    let sources = origins.map(|(key, places)| {
        let places: Vec<String> = places.iter().map(ToString::to_string).collect();
        (key.to_owned(), json!(places.join(", ")))
    });
    Value::Object(sources.collect())
}

/// The values that requirements permit, and the places of the requirements (SPEC C6).
fn pinned(settings: &Settings) -> Value {
    let pins = settings.managed.pins().iter();
    let pinned = pins.map(|pin| {
        let shown = json!({ "allowed": pin.allowed, "by": pin.origin.to_string() });
        (pin.key.to_owned(), shown)
    });
    Value::Object(pinned.collect())
}

/// The proxies of the environment, without credentials (SPEC H12).
fn upstream_proxy(proxies: &UpstreamProxies) -> Value {
    let shown = |proxy: Option<&Arc<UpstreamProxy>>| proxy.map(ToString::to_string);
    json!({
        "http": shown(proxies.http()),
        "tunnel": shown(proxies.tunnel()),
        "no_proxy": proxies.except().entries(),
    })
}

fn daemon(daemon: &codex_network_config::Daemon) -> Value {
    let limits = &daemon.limits;
    json!({
        "user": daemon.user,
        "group": daemon.group,
        "state_dir": daemon.state_dir,
        "log": daemon.log,
        "log_format": log_format(daemon.log_format),
        "log_flows": daemon.log_flows == LogFlows::All,
        "control": {
            "socket": daemon.control.socket,
            "administrators": principals(&daemon.control.administrators),
            "observers": principals(&daemon.control.observers),
        },
        "admin": {
            "enabled": daemon.admin.enabled,
            "read_only": daemon.admin.access == AdminAccess::ReadOnly,
            "show_config": daemon.admin.config == AdminView::Shown,
            "show_patterns": daemon.admin.patterns == AdminView::Shown,
        },
        "resolver": {
            "nameservers": daemon.resolver.nameservers,
            "timeout": duration_text(daemon.resolver.timeout),
            "hosts_file": daemon.resolver.hosts_file,
        },
        "limits": {
            "max_connections": limits.max_connections,
            "max_header_bytes": limits.max_header_bytes,
            "header_timeout": duration_text(limits.header_timeout),
            "connect_timeout": duration_text(limits.connect_timeout),
            "idle_timeout": duration_text(limits.idle_timeout),
            "drain_timeout": duration_text(limits.drain_timeout),
            "blocked_buffer": limits.blocked_buffer,
        },
    })
}

fn log_format(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Auto => "auto",
        LogFormat::Journal => "journal",
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    }
}

fn principals(principals: &[Principal]) -> Vec<String> {
    principals
        .iter()
        .map(|principal| match principal {
            Principal::User(name) => name.clone(),
            Principal::Group(name) => format!("@{name}"),
        })
        .collect()
}
