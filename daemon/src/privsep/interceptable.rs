//! Which hosts a worker may have certificates for, in a layout that the monitor reads without a parser.
//!
//! The loader makes it from the policy's lists and hooks. It may cover more hosts than the policy,
//! and never fewer: a wildcard inside a label is widened to the name behind it, and the deny list
//! is left out.

use std::collections::HashSet;

use super::layout::{Malformed, Reader, Writer};
use super::message::MAX_NAME;

/// The hosts, by the canonical text of a name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Interceptable {
    /// Every host: the allow list holds `*`.
    Everything,
    /// These and no others.
    Listed {
        /// Names and addresses.
        hosts: HashSet<String>,
        /// Names whose subdomains are all covered. The names themselves are not.
        domains: HashSet<String>,
    },
}

impl Default for Interceptable {
    /// No host.
    fn default() -> Self {
        Self::Listed {
            hosts: HashSet::new(),
            domains: HashSet::new(),
        }
    }
}

impl Interceptable {
    /// Whether a host is covered.
    pub(crate) fn covers(&self, host: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Listed { hosts, domains } => {
                let above = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
                hosts.contains(host) || above.into_iter().any(|above| domains.contains(above))
            }
        }
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        match self {
            Self::Everything => out.u8(0),
            Self::Listed { hosts, domains } => {
                out.u8(1);
                for names in [hosts, domains] {
                    out.u32(u32::try_from(names.len()).unwrap_or(u32::MAX));
                    for name in names {
                        out.counted(name.as_bytes());
                    }
                }
            }
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        match input.u8()? {
            0 => Ok(Self::Everything),
            1 => Ok(Self::Listed {
                hosts: names(input)?,
                domains: names(input)?,
            }),
            _ => Err(Malformed),
        }
    }
}

/// Each name consumes some of the input, which bounds the allocation.
fn names(input: &mut Reader<'_>) -> Result<HashSet<String>, Malformed> {
    let mut names = HashSet::new();
    for _ in 0..input.u32()? {
        let name = input.text()?;
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Malformed);
        }
        names.insert(name);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(hosts: &[&str], domains: &[&str]) -> Interceptable {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Interceptable::Listed {
            hosts: set(hosts),
            domains: set(domains),
        }
    }

    fn encoded(hosts: &Interceptable) -> Vec<u8> {
        let mut out = Writer::default();
        hosts.encode(&mut out);
        out.0
    }

    #[test]
    fn m4_hosts_are_read_back_unchanged_and_never_in_part() {
        for hosts in [
            Interceptable::Everything,
            Interceptable::default(),
            listed(&["a.test", "192.0.2.1", "2001:db8::1"], &["b.test"]),
        ] {
            let bytes = encoded(&hosts);
            for end in 0..bytes.len() {
                let cut = Interceptable::decode(&mut Reader(&bytes[..end]));
                assert_eq!(cut, Err(Malformed), "{hosts:?} cut to {end}");
            }
            assert_eq!(Interceptable::decode(&mut Reader(&bytes)), Ok(hosts));
        }
    }

    #[test]
    fn m4_an_empty_or_overlong_name_is_refused() {
        let longest = "a".repeat(MAX_NAME);
        for (name, sound) in [
            (&*longest, true),
            (&format!("{longest}a"), false),
            ("", false),
        ] {
            let decoded = Interceptable::decode(&mut Reader(&encoded(&listed(&[name], &[]))));
            assert_eq!(decoded.is_ok(), sound, "{} bytes", name.len());
        }
        // A count of names that the message cannot hold.
        let flood = [&[1][..], &u32::MAX.to_le_bytes()].concat();
        assert_eq!(Interceptable::decode(&mut Reader(&flood)), Err(Malformed));
    }

    #[test]
    fn m4_a_host_is_covered_by_its_own_entry_or_by_a_domain_above_it() {
        let hosts = listed(&["a.test", "192.0.2.1", "::1"], &["b.test"]);
        for covered in ["a.test", "192.0.2.1", "::1", "x.b.test", "x.y.b.test"] {
            assert!(hosts.covers(covered), "{covered}");
        }
        for foreign in [
            "",
            "b.test",
            "x.a.test",
            "xb.test",
            "test",
            "b.test.evil",
            "192.0.2.10",
            "0.192.0.2.1",
        ] {
            assert!(!hosts.covers(foreign), "{foreign}");
        }
        assert!(Interceptable::Everything.covers("a.test"));
        assert!(!Interceptable::default().covers("a.test"));
    }
}
