//! Listen addresses: read from URLs (SPEC L11), clamped to loopback (SPEC L8), and no two listeners
//! at the same address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use codex_network_policy::{Host, HostError};

use crate::catalogue::Key;
use crate::constraints::Requirements;
use crate::diagnostic::{Problems, quoted, shown};
use crate::dialect::{RawSetting, RawSettings};
use crate::read;
use crate::settings::{Listen, Reach};

/// Why a text is not a listen address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListenError {
    #[error("there is no host in the address")]
    NoHost,
    #[error("the port of the address is not a number from 0 to 65535")]
    Port,
    #[error("an IPv6 zone in an address to listen on must be the interface's number")]
    Zone,
    #[error(transparent)]
    Host(#[from] HostError),
}

/// The keys and the default of one listener.
struct ListenerKeys {
    /// Its name in messages.
    name: &'static str,
    url: Key,
    default: SocketAddr,
    /// The key that lets it leave loopback.
    opt_in: &'static str,
}

const HTTP: ListenerKeys = ListenerKeys {
    name: "HTTP proxy",
    url: Key::PROXY_URL,
    default: Listen::DEFAULT_HTTP,
    opt_in: "dangerously_allow_non_loopback_proxy",
};
const SOCKS5: ListenerKeys = ListenerKeys {
    name: "SOCKS5 proxy",
    url: Key::SOCKS_URL,
    default: Listen::DEFAULT_SOCKS5,
    opt_in: HTTP.opt_in,
};
const ADMIN: ListenerKeys = ListenerKeys {
    name: "admin API",
    url: Key::ADMIN_URL,
    default: Listen::DEFAULT_ADMIN,
    opt_in: "dangerously_allow_non_loopback_admin",
};

/// The settings that decide about listeners, besides their addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenSwitches {
    /// Whether there is a SOCKS5 keys.
    pub(crate) socks5: bool,
    /// Whether there is an admin API.
    pub(crate) admin: bool,
    /// Which clients may reach both proxies.
    pub(crate) proxy_reach: Reach,
    /// Which clients may reach the admin API.
    pub(crate) admin_reach: Reach,
}

/// The address of an `*_url` key (SPEC L11): a URL or a bare `host:port`, of which only host and
/// port count. The default port is `default_port`; a host name means loopback.
pub(crate) fn parse(text: &str, default_port: u16) -> Result<SocketAddr, ListenError> {
    let text = text.trim();
    let behind_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = behind_scheme.split(['/', '?', '#']).next().unwrap_or("");
    let host_and_port = authority
        .rsplit_once('@')
        .map_or(authority, |(_, rest)| rest);
    let (host, port) = split_port(host_and_port)?;
    // A number alone is a port without a host; `Host` would read it as an IPv4 address.
    if host.is_empty() || host.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ListenError::NoHost);
    }
    let port = match port {
        None | Some("") => default_port,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map_err(|_| ListenError::Port)?
        }
        Some(_) => return Err(ListenError::Port),
    };
    match Host::parse(host)? {
        Host::Name(_) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Host::V4(address) => Ok((address, port).into()),
        Host::V6(host) => {
            let scope = host.scope().map_or(Ok(0), str::parse);
            let scope = scope.map_err(|_| ListenError::Zone)?;
            Ok(SocketAddrV6::new(host.address(), port, 0, scope).into())
        }
    }
}

/// `[::1]:80`, `::1`, `host:80`, `host`.
fn split_port(text: &str) -> Result<(&str, Option<&str>), ListenError> {
    if text.starts_with('[') {
        let end = text.find(']').ok_or(HostError::BadIpv6)?;
        let (host, rest) = text.split_at(end + 1);
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(ListenError::Port),
        };
    }
    Ok(match text.rsplit_once(':') {
        None => (text, None),
        // Bare IPv6. If it is not valid, the last colon can only be that of the port.
        Some((host, _)) if host.contains(':') && Host::parse(text).is_ok() => (text, None),
        Some((host, port)) => (host, Some(port)),
    })
}

/// The listeners, with every address checked.
pub(crate) fn interpret(
    raw: &RawSettings<'_>,
    switches: ListenSwitches,
    requirements: &Requirements,
    problems: &mut Problems<'_>,
) -> Listen {
    let proxy = switches.proxy_reach;
    let http = address_of(&HTTP, raw, proxy, requirements, problems);
    // Checked even when the listener is off: a wrong value is an error.
    let socks5 = address_of(&SOCKS5, raw, proxy, requirements, problems);
    let admin = address_of(&ADMIN, raw, switches.admin_reach, requirements, problems);
    let listen = Listen {
        http,
        socks5: switches.socks5.then_some(socks5),
        admin: switches.admin.then_some(admin),
        proxy_reach: proxy,
        admin_reach: switches.admin_reach,
    };
    refuse_collisions(&listen, raw, requirements, problems);
    listen
}

fn address_of(
    keys: &ListenerKeys,
    raw: &RawSettings<'_>,
    reach: Reach,
    requirements: &Requirements,
    problems: &mut Problems<'_>,
) -> SocketAddr {
    let mut default = keys.default;
    default.set_port(requirements.port(keys.url).unwrap_or(default.port()));
    let Some(setting) = raw.get(keys.url) else {
        return default;
    };
    let Some(text) = read::text(setting, problems) else {
        return default;
    };
    match parse(text, default.port()) {
        Ok(address) => {
            requirements.check_port(keys.url, address.port(), setting.node.at, problems);
            clamp(keys, setting, address, reach, problems)
        }
        Err(error) => {
            let message = format!("{}: {}", quoted(setting.name), shown(&error.to_string()));
            let help = format!(
                "write for example `{} = \"{default}\"`",
                read::named(setting)
            );
            problems.error(setting.node.at, &message, &help);
            default
        }
    }
}

/// Keeps a listener on loopback unless other machines may reach it (SPEC L8).
fn clamp(
    keys: &ListenerKeys,
    setting: RawSetting<'_>,
    address: SocketAddr,
    reach: Reach,
    problems: &mut Problems<'_>,
) -> SocketAddr {
    if address.ip().is_loopback() || reach == Reach::Anywhere {
        return address;
    }
    let clamped: SocketAddr = (Ipv4Addr::LOCALHOST, address.port()).into();
    let message = format!(
        "the {} will listen on {}, since {} is not a loopback address",
        keys.name,
        shown(&clamped.to_string()),
        shown(&address.ip().to_string())
    );
    let help = match reach {
        Reach::ForcedLoopback => {
            "unix-socket proxying is on, which keeps every listener on loopback".to_owned()
        }
        Reach::Loopback | Reach::Anywhere => format!("`{} = true` would allow it", keys.opt_in),
    };
    problems.warning(setting.node.at, &message, &help);
    clamped
}

/// Two listeners cannot share an address; port 0 is a different port each time.
fn refuse_collisions(
    listen: &Listen,
    raw: &RawSettings<'_>,
    requirements: &Requirements,
    problems: &mut Problems<'_>,
) {
    let listeners = [
        (&HTTP, Some(listen.http)),
        (&SOCKS5, listen.socks5),
        (&ADMIN, listen.admin),
    ];
    for (index, (keys, address)) in listeners.iter().enumerate() {
        let Some(address) = address else { continue };
        let collides = |other: &&(&ListenerKeys, Option<SocketAddr>)| {
            other.1.is_some_and(|other| collide(*address, other))
        };
        let Some((other, _)) = listeners[..index].iter().find(collides) else {
            continue;
        };
        // At least one of the two is written in a file, or required: the defaults differ.
        let urls = [other.url, keys.url];
        let written = urls.iter().filter_map(|url| Some(raw.get(*url)?.node.at));
        let required = urls.iter().filter_map(|url| requirements.port_place(*url));
        let Some(at) = written.max().or(required.max()) else {
            continue;
        };
        let message = format!(
            "the {} and the {} would both listen on {}",
            other.name,
            keys.name,
            shown(&address.to_string())
        );
        problems.error(at, &message, "give them different ports");
    }
}

/// Whether a socket on one address prevents one on the other.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |all: IpAddr, ip: IpAddr| all.is_unspecified() && (all.is_ipv6() || ip.is_ipv4());
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port() && one.port() != 0 && (a == b || covers(a, b) || covers(b, a))
}
