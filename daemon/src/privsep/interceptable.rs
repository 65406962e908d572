//! Which hosts a worker may have certificates for, in a layout that the monitor reads without a parser.
//!
//! The loader makes it from the policies' lists and hooks. The listed hosts may be more than the policy
//! allows, and never fewer: a wildcard inside a label is widened to the name behind it, and the deny list
//! is left out. Where people may allow further hosts, only the deny list bounds them. Its wildcards
//! inside a label are left out here; the worker knows them.

use std::cmp::Ordering;

use super::layout::{Malformed, Reader, Writer};
use super::message::MAX_NAME;

/// The most policies under which people may allow further hosts: the selected one and 256 profiles (SPEC J4).
const MAX_POLICIES: usize = 257;

/// The hosts that may be intercepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interceptable {
    /// Hosts of the configuration.
    pub(crate) listed: HostSet,
    /// For each policy under which people may allow further hosts, those that they may not allow: its
    /// deny list. Empty where people allow nothing.
    pub(crate) denied_to_people: Vec<HostSet>,
}

/// Why a host may be intercepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Permission {
    /// It may not be intercepted.
    None,
    /// A person may allow it: an answer to a question, `run --allow` or `run --learn`. The monitor
    /// does not see whether a person has.
    LeftToPeople,
    /// The configuration has it.
    Listed,
}

/// Hosts, by the canonical text of a name or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostSet {
    /// Every host: the allow list holds `*`.
    Everything,
    /// These and no others.
    Listed {
        /// Names and addresses.
        hosts: NameSet,
        /// Names whose subdomains are all covered. The names themselves are not.
        domains: NameSet,
    },
}

/// Names in the order of their bytes, one after the other in one piece of memory: a list may have a
/// million.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NameSet {
    text: Vec<u8>,
    /// The end of each name in `text`.
    ends: Vec<u32>,
}

impl Interceptable {
    /// Whether a host may be intercepted, and why.
    pub(crate) fn permission(&self, host: &str) -> Permission {
        if self.listed.covers(host) {
            Permission::Listed
        } else if self
            .denied_to_people
            .iter()
            .any(|denied| !denied.covers(host))
        {
            Permission::LeftToPeople
        } else {
            Permission::None
        }
    }

    pub(super) fn encode(&self, out: &mut Writer) {
        self.listed.encode(out);
        out.u32(u32::try_from(self.denied_to_people.len()).unwrap_or(u32::MAX));
        for denied in &self.denied_to_people {
            denied.encode(out);
        }
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
        let listed = HostSet::decode(input)?;
        let policies = input.u32()? as usize;
        if policies > MAX_POLICIES {
            return Err(Malformed);
        }
        let denied = (0..policies).map(|_| HostSet::decode(input));
        Ok(Self {
            listed,
            denied_to_people: denied.collect::<Result<_, _>>()?,
        })
    }
}

impl Default for HostSet {
    /// No host.
    fn default() -> Self {
        Self::Listed {
            hosts: NameSet::default(),
            domains: NameSet::default(),
        }
    }
}

impl HostSet {
    /// Whether a host is covered.
    fn covers(&self, host: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Listed { hosts, domains } => {
                let above = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
                hosts.contains(host) || above.into_iter().any(|above| domains.contains(above))
            }
        }
    }

    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Everything => out.u8(0),
            Self::Listed { hosts, domains } => {
                out.u8(1);
                for names in [hosts, domains] {
                    out.u32(u32::try_from(names.ends.len()).unwrap_or(u32::MAX));
                    for index in 0..names.ends.len() {
                        out.counted(names.name(index));
                    }
                }
            }
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<Self, Malformed> {
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

impl NameSet {
    fn contains(&self, name: &str) -> bool {
        let (mut from, mut to) = (0, self.ends.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            match self.name(middle).cmp(name.as_bytes()) {
                Ordering::Less => from = middle + 1,
                Ordering::Equal => return true,
                Ordering::Greater => to = middle,
            }
        }
        false
    }

    fn name(&self, index: usize) -> &[u8] {
        let start = match index {
            0 => 0,
            index => self.ends[index - 1],
        };
        &self.text[start as usize..self.ends[index] as usize]
    }

    /// Adds a name. Returns false if it does not sort after all others, or if the text is too long.
    fn push(&mut self, name: &[u8]) -> bool {
        let is_behind = match self.ends.len() {
            0 => true,
            count => self.name(count - 1) < name,
        };
        let Ok(end) = u32::try_from(self.text.len() + name.len()) else {
            return false;
        };
        if is_behind {
            self.text.extend_from_slice(name);
            self.ends.push(end);
        }
        is_behind
    }

    fn shrink(mut self) -> Self {
        self.text.shrink_to_fit();
        self.ends.shrink_to_fit();
        self
    }
}

impl FromIterator<String> for NameSet {
    /// Sorts the names. Those beyond 4 GiB are left out, so that no certificate is issued for them.
    fn from_iter<T: IntoIterator<Item = String>>(names: T) -> Self {
        let mut sorted: Vec<String> = names.into_iter().collect();
        sorted.sort_unstable();
        let mut set = Self::default();
        for name in sorted {
            set.push(name.as_bytes());
        }
        set.shrink()
    }
}

/// Each name consumes some of the input, which bounds the allocation. They are sorted.
fn names(input: &mut Reader<'_>) -> Result<NameSet, Malformed> {
    let mut names = NameSet::default();
    for _ in 0..input.u32()? {
        let name = input.counted()?;
        let is_sound = !name.is_empty() && name.len() <= MAX_NAME && name.is_ascii();
        if !is_sound || !names.push(name) {
            return Err(Malformed);
        }
    }
    Ok(names.shrink())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(hosts: &[&str], domains: &[&str]) -> HostSet {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        HostSet::Listed {
            hosts: set(hosts),
            domains: set(domains),
        }
    }

    fn encoded(hosts: &HostSet) -> Vec<u8> {
        let mut out = Writer::default();
        hosts.encode(&mut out);
        out.0
    }

    #[test]
    fn m4_what_people_may_allow_is_bounded_by_the_deny_list_of_one_policy() {
        let hosts = Interceptable {
            listed: listed(&["a.test"], &[]),
            denied_to_people: vec![
                listed(&["a.test", "evil.test"], &["worse.test"]),
                listed(&["evil.test", "bad.test"], &["worse.test"]),
            ],
        };
        for (host, wanted) in [
            ("a.test", Permission::Listed),
            ("evil.test", Permission::None),
            ("x.worse.test", Permission::None),
            // The other policy does not deny it.
            ("bad.test", Permission::LeftToPeople),
            ("new.test", Permission::LeftToPeople),
        ] {
            assert_eq!(hosts.permission(host), wanted, "{host}");
        }
        let nobody = Interceptable {
            denied_to_people: Vec::new(),
            ..hosts
        };
        assert_eq!(nobody.permission("new.test"), Permission::None);
        assert_eq!(
            Interceptable::default().permission("a.test"),
            Permission::None
        );
    }

    #[test]
    fn m4_the_policies_of_people_are_read_back_unchanged_and_bounded() {
        let hosts = Interceptable {
            listed: listed(&["a.test"], &["b.test"]),
            denied_to_people: vec![listed(&["c.test"], &[]), HostSet::default()],
        };
        let encoded = |hosts: &Interceptable| {
            let mut out = Writer::default();
            hosts.encode(&mut out);
            out.0
        };
        let bytes = encoded(&hosts);
        for end in 0..bytes.len() {
            let cut = Interceptable::decode(&mut Reader(&bytes[..end]));
            assert_eq!(cut, Err(Malformed), "cut to {end}");
        }
        assert_eq!(Interceptable::decode(&mut Reader(&bytes)), Ok(hosts));
        for (count, is_sound) in [(MAX_POLICIES, true), (MAX_POLICIES + 1, false)] {
            let many = Interceptable {
                listed: HostSet::default(),
                denied_to_people: vec![HostSet::default(); count],
            };
            let read = Interceptable::decode(&mut Reader(&encoded(&many)));
            assert_eq!(read.is_ok(), is_sound, "{count}");
        }
    }

    #[test]
    fn m4_hosts_are_read_back_unchanged_and_never_in_part() {
        for hosts in [
            HostSet::Everything,
            HostSet::default(),
            listed(&["a.test", "192.0.2.1", "2001:db8::1"], &["b.test"]),
        ] {
            let bytes = encoded(&hosts);
            for end in 0..bytes.len() {
                let cut = HostSet::decode(&mut Reader(&bytes[..end]));
                assert_eq!(cut, Err(Malformed), "{hosts:?} cut to {end}");
            }
            assert_eq!(HostSet::decode(&mut Reader(&bytes)), Ok(hosts));
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
            let decoded = HostSet::decode(&mut Reader(&encoded(&listed(&[name], &[]))));
            assert_eq!(decoded.is_ok(), sound, "{} bytes", name.len());
        }
        // A count of names that the message cannot hold.
        let flood = [&[1][..], &u32::MAX.to_le_bytes()].concat();
        assert_eq!(HostSet::decode(&mut Reader(&flood)), Err(Malformed));
    }

    #[test]
    fn m4_names_that_are_not_sorted_or_repeated_are_refused() {
        let sound = encoded(&listed(&["a", "b"], &[]));
        let places: Vec<_> = (0..sound.len()).filter(|at| sound[*at] == b'b').collect();
        assert_eq!(places.len(), 1);
        for (byte, is_sound) in [(b'c', true), (b'a', false), (b'A', false), (0xe9, false)] {
            let mut bytes = sound.clone();
            bytes[places[0]] = byte;
            let decoded = HostSet::decode(&mut Reader(&bytes));
            assert_eq!(decoded.is_ok(), is_sound, "{byte}");
        }
    }

    #[test]
    fn m4_every_name_of_a_set_is_found_and_no_other() {
        for count in [0, 1, 2, 3, 100] {
            let name = |number: u32| format!("n{}", number * 2);
            let set: NameSet = (0..count)
                .rev()
                .map(name)
                .chain((0..count).map(name))
                .collect();
            assert_eq!(set.ends.len(), count as usize);
            for number in 0..count {
                assert!(set.contains(&name(number)));
                assert!(!set.contains(&format!("n{}", number * 2 + 1)));
            }
            assert!(!set.contains("") && !set.contains("z"));
        }
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
        assert!(HostSet::Everything.covers("a.test"));
        assert!(!HostSet::default().covers("a.test"));
    }
}
