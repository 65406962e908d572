//! The smallest policy that allows some destinations (SPEC W1, W2): an entry for each host, and a wildcard in place of
//! three or more neighbours.
//!
//! - `joined`: which hosts share a wildcard.
//! - `text`: the policy in TOML.

mod joined;
mod text;

pub(crate) use self::text::LOCAL_BINDING;

use std::collections::{BTreeMap, BTreeSet};

use codex_network_policy::{Host, ListKind, Pattern};
use serde::Serialize;

/// A destination that the policy must allow.
#[derive(Clone, Debug)]
pub(crate) struct NeededDestination {
    /// The host, as records show it.
    pub(crate) host: String,
    /// The port; 0 if it is not known.
    pub(crate) port: u16,
    /// The number of attempts.
    pub(crate) count: u64,
    /// Whether it is a name with a local address.
    pub(crate) is_local: bool,
}

/// A policy that allows all needed destinations, and besides them only what its wildcards cover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Proposal {
    /// In the order of their patterns.
    pub(crate) entries: Vec<ProposedEntry>,
    /// Names with a local address, which need `allow_local_binding`.
    pub(crate) local: Vec<String>,
}

/// An entry of the allow list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ProposedEntry {
    pub(crate) pattern: String,
    /// The needed hosts that it allows.
    pub(crate) hosts: Vec<String>,
    pub(crate) ports: Vec<u16>,
    /// The attempts at these hosts.
    pub(crate) count: u64,
}

#[derive(Debug, Default)]
struct Uses {
    ports: BTreeSet<u16>,
    count: u64,
}

impl Proposal {
    /// The smallest policy for these destinations. Those that no entry can allow are left out. No wildcard covers a
    /// host that was refused.
    pub(crate) fn of(
        needed: impl IntoIterator<Item = NeededDestination>,
        refused: &BTreeSet<String>,
    ) -> Self {
        let mut hosts: BTreeMap<String, Uses> = BTreeMap::new();
        let mut local = BTreeSet::new();
        for destination in needed {
            // The canonical text, which is the pattern of the host alone.
            let Ok(host) = Host::parse(&destination.host) else {
                continue;
            };
            let pattern = host.to_string();
            if Pattern::parse(&pattern, ListKind::Allow).is_err() {
                continue;
            }
            // An entry for `localhost` itself permits its addresses.
            if destination.is_local && host.ip().is_none() && !host.is_localhost() {
                local.insert(pattern.clone());
            }
            let uses = hosts.entry(pattern).or_default();
            uses.count += destination.count;
            if destination.port != 0 {
                uses.ports.insert(destination.port);
            }
        }
        let wildcards = joined::wildcards(hosts.keys().map(String::as_str), refused);
        let mut entries: BTreeMap<String, (Vec<String>, Uses)> = BTreeMap::new();
        for (host, uses) in &hosts {
            let above = joined::covering(&wildcards, host);
            let pattern = above.map_or_else(|| host.clone(), |parent| format!("*.{parent}"));
            let (covered, all) = entries.entry(pattern).or_default();
            covered.push(host.clone());
            all.count += uses.count;
            all.ports.extend(&uses.ports);
        }
        let entry = |(pattern, (hosts, uses)): (String, (Vec<String>, Uses))| ProposedEntry {
            pattern,
            hosts,
            ports: uses.ports.into_iter().collect(),
            count: uses.count,
        };
        Self {
            entries: entries.into_iter().map(entry).collect(),
            local: local.into_iter().collect(),
        }
    }
}

/// Whether an entry for a refused host makes sense. Programs look up more names than they connect to: addresses in
/// reverse, names of services, and words without a dot. `port` is 0 for a lookup.
pub(crate) fn is_suggested(host: &str, port: u16) -> bool {
    if Pattern::parse(host, ListKind::Allow).is_err() || Host::parse(host).is_err() {
        return false;
    }
    let is_reverse = host.rsplit('.').next() == Some("arpa");
    let is_lookup_only = port == 0;
    let is_odd = !host.contains('.') || host.starts_with('_');
    !(is_reverse || is_lookup_only && is_odd)
}

#[cfg(test)]
mod tests;
