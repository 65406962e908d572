//! Which hosts share a wildcard: three or more with the same name behind their first label, if that name is a
//! registrable domain (`example.co.uk`) or below one. Everything below a registrable domain has one owner. Above it a
//! wildcard would allow hosts of strangers.

use std::collections::{BTreeMap, BTreeSet};

use codex_network_policy::Host;

/// A wildcard takes the place of this many hosts or more.
const MIN_SIBLINGS: usize = 3;

/// The names below which a wildcard takes the place of the hosts. None of them is above a host that was refused.
pub(super) fn wildcards<'a>(
    hosts: impl Iterator<Item = &'a str>,
    refused: &BTreeSet<String>,
) -> BTreeSet<&'a str> {
    let mut siblings: BTreeMap<&str, usize> = BTreeMap::new();
    for parent in hosts.filter_map(parent) {
        *siblings.entry(parent).or_default() += 1;
    }
    let covers = |parent: &str, host: &String| {
        let above = host.strip_suffix(parent);
        above.is_some_and(|labels| labels.ends_with('.'))
    };
    siblings.retain(|parent, count| {
        *count >= MIN_SIBLINGS && !refused.iter().any(|host| covers(parent, host))
    });
    siblings.into_keys().collect()
}

/// The uppermost of these names that the host is below.
pub(super) fn covering<'a>(wildcards: &BTreeSet<&'a str>, host: &str) -> Option<&'a str> {
    let mut found = None;
    for (dot, _) in host.match_indices('.') {
        if let Some(name) = wildcards.get(&host[dot + 1..]) {
            found = Some(*name);
        }
    }
    found
}

/// The name behind the first label, if everything below it has one owner.
fn parent(host: &str) -> Option<&str> {
    // No entry with a wildcard permits the addresses of `localhost`.
    if !matches!(Host::parse(host), Ok(name @ Host::Name(_)) if !name.is_localhost()) {
        return None;
    }
    let (_, parent) = host.split_once('.')?;
    let registrable = psl::domain_str(host)?;
    (parent.len() >= registrable.len()).then_some(parent)
}
