//! Parses the values of proxy variables.

use std::net::{IpAddr, SocketAddr};

/// The ranges that go direct when local binding is on (SPEC B1).
pub(super) const PRIVATE: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

/// The proxy that a value names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyTarget {
    ThisProxy,
    /// The SOCKS5 listener of this proxy, but the program resolves names itself and sends addresses.
    ThisProxyByAddress,
    Elsewhere,
    /// This proxy, but in a protocol that the listener does not accept.
    WrongProtocol(&'static str),
}

pub(super) fn target(value: &str, http: SocketAddr, socks5: Option<SocketAddr>) -> ProxyTarget {
    let (scheme, rest) = value.split_once("://").unwrap_or(("http", value));
    let scheme = scheme.to_ascii_lowercase();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let is_http = is_at(authority, http);
    let is_socks5 = socks5.is_some_and(|listener| is_at(authority, listener));
    match scheme.as_str() {
        "http" if is_http => ProxyTarget::ThisProxy,
        "socks5h" if is_socks5 => ProxyTarget::ThisProxy,
        "socks5" if is_socks5 => ProxyTarget::ThisProxyByAddress,
        "https" if is_http => ProxyTarget::WrongProtocol(
            "asks for TLS to the proxy, which does not support it (use http://)",
        ),
        _ if is_http => ProxyTarget::WrongProtocol("is the address of the HTTP listener (http://)"),
        _ if is_socks5 => {
            ProxyTarget::WrongProtocol("is the address of the SOCKS5 listener (socks5h://)")
        }
        _ => ProxyTarget::Elsewhere,
    }
}

/// Whether `host:port` is the address of a listener.
fn is_at(authority: &str, listener: SocketAddr) -> bool {
    let Some((host, port)) = authority.rsplit_once(':') else {
        return false;
    };
    let host = host.trim_matches(['[', ']']);
    let is_host = match host.parse::<IpAddr>() {
        Ok(ip) => ip == listener.ip() || (listener.ip().is_unspecified() && ip.is_loopback()),
        Err(_) => {
            host.eq_ignore_ascii_case("localhost")
                && (listener.ip().is_loopback() || listener.ip().is_unspecified())
        }
    };
    is_host && port.parse() == Ok(listener.port())
}

/// A value for display: without credentials (SPEC B4).
pub(super) fn shown(value: &str) -> String {
    let (scheme, rest) = match value.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), value),
    };
    match rest.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}***@{host}"),
        None => value.to_owned(),
    }
}

/// Whether an entry of `NO_PROXY` covers this machine and nothing else.
pub(super) fn is_loopback(entry: &str) -> bool {
    let entry = entry.to_ascii_lowercase();
    let name = entry.trim_start_matches("*.").trim_start_matches('.');
    if name == "localhost" || name.ends_with(".localhost") {
        return true;
    }
    if let Ok(address) = entry.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let (host, prefix) = match entry.split_once('/') {
        Some((host, prefix)) => (host, Some(prefix)),
        None => (entry.as_str(), None),
    };
    let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() else {
        return name
            .strip_suffix(":*")
            .is_some_and(|name| name == "localhost")
            || name
                .rsplit_once(':')
                .is_some_and(|(name, _)| name == "localhost");
    };
    let narrowest = if ip.is_ipv4() { 8 } else { 128 };
    ip.is_loopback()
        && prefix.is_none_or(|prefix| prefix.parse::<u8>().is_ok_and(|bits| bits >= narrowest))
}
