//! The hosts file: names that are known without a query (hosts(5)).

use std::cmp::Reverse;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use codex_network_files::{Reading, Sources as Kinds};

/// The hosts file that is read when the settings name none.
const SYSTEM_HOSTS: &str = "/etc/hosts";
/// Block lists are large hosts files, and `/dev/null` means no hosts file.
const READING: Reading = Reading::up_to(64 << 20).from_sources(Kinds::RegularOrNull);

/// The contents of a hosts file, IPv6 addresses of a name first.
#[derive(Debug, Default)]
pub(super) struct Hosts(pub(super) HashMap<Box<str>, Vec<IpAddr>>);

// hickory's `Hosts` is not used. It answers per family, so a name with only an IPv4 address in the file
// would still get IPv6 addresses from DNS. It also stops at the first line that is not UTF-8.
impl Hosts {
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        Ok(Self::parse(&READING.read_text(path)?))
    }

    pub(super) fn read_system() -> Self {
        Self::read(Path::new(SYSTEM_HOSTS)).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(%error, path = SYSTEM_HOSTS, "cannot read the hosts file");
            }
            Self::default()
        })
    }

    /// hosts(5): an address, then names, then an optional comment. Other lines are skipped, as in
    /// other resolvers. So are addresses with a scope, which cannot be dialled without it.
    pub(super) fn parse(text: &str) -> Self {
        let mut hosts: HashMap<Box<str>, Vec<IpAddr>> = HashMap::new();
        for line in text.trim_start_matches('\u{feff}').lines() {
            let entry = line.split_once('#').map_or(line, |(entry, _)| entry);
            let mut words = entry.split_ascii_whitespace();
            let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else {
                continue;
            };
            for name in words {
                let name = name.strip_suffix('.').unwrap_or(name);
                let addresses = hosts.entry(name.to_ascii_lowercase().into()).or_default();
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        for addresses in hosts.values_mut() {
            addresses.sort_by_key(|address| Reverse(address.is_ipv6()));
        }
        Self(hosts)
    }
}
