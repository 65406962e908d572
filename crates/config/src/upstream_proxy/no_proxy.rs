//! `NO_PROXY`: the names to which the proxy connects directly, without an upstream proxy (SPEC
//! H12).
//!
//! The format is curl's. Entries are separated by commas or blanks. A name covers itself and all
//! names below it, with or without a leading dot. `*` alone covers everything. Addresses and CIDR
//! blocks cover targets given as addresses, since no name is looked up for this. Beyond curl, an
//! entry with a port covers only that port, as Go reads it.

use std::fmt;
use std::net::IpAddr;

use codex_network_policy::{Authority, AuthorityError, Host};

/// The targets that go past the proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy {
    entries: Vec<NoProxyEntry>,
    everything: bool,
    /// Entries that can never match, as written.
    idle: Vec<String>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
enum NoProxyEntry {
    /// A name and the names below it.
    Name(String, Option<u16>),
    /// A block of addresses.
    Block(IpAddr, u32),
    /// One address at one port.
    Address(IpAddr, u16),
}

impl NoProxy {
    pub(super) fn parse(text: &str) -> Self {
        let written: Vec<&str> = text
            .split(|separator: char| separator == ',' || separator.is_whitespace())
            .filter(|entry| !entry.is_empty())
            .collect();
        if written == ["*"] {
            return Self {
                everything: true,
                ..Self::default()
            };
        }
        let mut except = Self::default();
        for entry in written {
            match NoProxyEntry::parse(entry) {
                Some(entry) => except.entries.push(entry),
                None => except.idle.push(entry.to_owned()),
            }
        }
        except
    }

    /// Whether the target goes past the proxies.
    pub fn covers(&self, target: &Authority) -> bool {
        self.everything || self.entries.iter().any(|entry| entry.covers(target))
    }

    /// The entries that count, in parsed form.
    pub fn entries(&self) -> Vec<String> {
        if self.everything {
            return vec!["*".to_owned()];
        }
        self.entries.iter().map(ToString::to_string).collect()
    }

    pub(super) fn warnings(&self) -> Vec<String> {
        let warning = |entry: &String| {
            format!(
                "NO_PROXY: {entry:?} covers nothing; an entry is a name, which covers the names below it too, an \
                 address, a CIDR block, or `*` alone"
            )
        };
        self.idle.iter().map(warning).collect()
    }
}

impl NoProxyEntry {
    fn parse(text: &str) -> Option<Self> {
        if let Some((address, length)) = text.split_once('/') {
            let address = bare(address).parse::<IpAddr>().ok()?;
            let length = length.parse().ok()?;
            let longest = if address.is_ipv4() { 32 } else { 128 };
            return (length <= longest).then_some(Self::Block(address, length));
        }
        let text = text.strip_prefix('.').unwrap_or(text);
        let (host, port) = match Authority::parse(text, None) {
            Ok(Authority { host, port }) => (host, Some(port)),
            Err(AuthorityError::MissingPort) => (Host::parse(text).ok()?, None),
            Err(_) => return None,
        };
        Some(match (host.ip(), port) {
            (Some(address), None) => Self::whole(address),
            (Some(address), Some(port)) => Self::Address(address, port),
            (None, port) => Self::Name(host.to_string(), port),
        })
    }

    fn whole(address: IpAddr) -> Self {
        Self::Block(address, if address.is_ipv4() { 32 } else { 128 })
    }

    fn covers(&self, target: &Authority) -> bool {
        match (self, &target.host) {
            (Self::Name(name, port), Host::Name(host)) => {
                is_at_or_below(host.as_str(), name) && port.is_none_or(|port| port == target.port)
            }
            (Self::Block(block, length), host) => host
                .ip()
                .is_some_and(|address| is_in(address.to_canonical(), *block, *length)),
            (Self::Address(address, port), host) => {
                host.ip().is_some_and(|ip| ip == *address) && *port == target.port
            }
            (Self::Name(..), Host::V4(_) | Host::V6(_)) => false,
        }
    }
}

impl fmt::Display for NoProxyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, None) => f.write_str(name),
            Self::Name(name, Some(port)) => write!(f, "{name}:{port}"),
            Self::Block(address, 32) if address.is_ipv4() => write!(f, "{address}"),
            Self::Block(address, 128) => write!(f, "{address}"),
            Self::Block(address, length) => write!(f, "{address}/{length}"),
            Self::Address(address, port) => {
                write!(f, "{}", std::net::SocketAddr::new(*address, *port))
            }
        }
    }
}

fn bare(address: &str) -> &str {
    address
        .strip_prefix('[')
        .and_then(|address| address.strip_suffix(']'))
        .unwrap_or(address)
}

fn is_at_or_below(host: &str, name: &str) -> bool {
    host.strip_suffix(name)
        .is_some_and(|above| above.is_empty() || above.ends_with('.'))
}

/// Whether an address is in a block.
fn is_in(address: IpAddr, block: IpAddr, length: u32) -> bool {
    let (address, block, width) = match (address, block) {
        (IpAddr::V4(address), IpAddr::V4(block)) => {
            (address.to_bits().into(), block.to_bits().into(), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(block)) => (address.to_bits(), block.to_bits(), 128),
        _ => return false,
    };
    let differing: u128 = address ^ block;
    // A shift by the whole width overflows in Rust; its result would be 0.
    differing.checked_shr(width - length).unwrap_or(0) == 0
}
