//! A list of patterns, compiled for lookup.
//!
//! Every name that a pattern spells out is in one hash table ([`names`]). A lookup probes for the
//! host and each of its suffixes, so its cost depends on the host's labels and not on the number of
//! patterns. Patterns with a `*` inside a label are stored with the literal suffix behind their
//! last `*`, and are compared one after the other only when the host ends in that suffix.

mod compile;
mod names;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use hashbrown::HashMap;

use self::names::{Hash, NONE, Names, suffixes};
use crate::host::Host;
use crate::pattern::{Depth, label_matches};
use crate::rule::{ConfigLine, Rule, RuleId};

/// A compiled list.
#[derive(Debug, Default)]
pub struct DomainSet {
    names: Names,
    /// Bit `n` says that some name in `names` has `n + 1` labels. Suffixes with another number of
    /// labels need no probe. A name has at most 127 labels.
    depths: u128,
    /// Patterns with a `*` inside a label, by the index of their literal suffix in `names`.
    wildcards: HashMap<u32, Vec<Wildcard>>,
    addresses: HashMap<IpAddr, Vec<AddressRule>>,
    everything: Option<u32>,
    rules: Vec<RuleRow>,
    /// The texts of patterns without a name in `names`.
    texts: Vec<String>,
    /// The files of the rules. Neighbouring rules are mostly from one file.
    files: Vec<FileRun>,
}

/// The result of finding a host on a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The rule that covers the host: the most specific one, and among equals the first.
    pub rule: RuleId,
    /// Whether the rule spells out this very host, without a wildcard.
    pub literal: bool,
}

impl Listed {
    fn by_wildcard(rule: u32) -> Self {
        Self {
            rule: RuleId(rule),
            literal: false,
        }
    }
}

/// More patterns or longer names than a list can index: over 2³⁰ names or 2³² bytes of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list is too large: it has more than 2^30 names, or they take more than 4 GiB")]
pub(crate) struct TooLarge;

/// The kind and the subject of a rule, and the line that it is written on.
#[derive(Clone, Copy, Debug)]
struct RuleRow {
    /// The [`RuleKind`] in the upper two bits, and below them an index. The kind selects the table.
    subject: u32,
    line: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RuleKind {
    /// The pattern's text is in `texts`.
    Verbatim,
    /// The pattern is made from a name in `names`.
    Name(Depth),
}

/// Rules from one file, up to the start of the next run.
#[derive(Clone, Debug)]
struct FileRun {
    /// The first of the rules.
    start: u32,
    /// `None` when they came from no file.
    file: Option<Arc<str>>,
}

#[derive(Debug)]
struct Wildcard {
    depth: Depth,
    /// The labels in front of the name, the leftmost first.
    labels: Vec<String>,
    rule: u32,
}

#[derive(Debug)]
struct AddressRule {
    scope: Option<String>,
    rule: u32,
}

impl DomainSet {
    /// Finds the rule that covers a host. An entry for the host itself wins over a suffix, a longer
    /// suffix over a shorter one, and any of them over `*`.
    pub fn find(&self, host: &Host) -> Option<Listed> {
        let [found] = Self::find_in([self], host);
        found
    }

    /// [`find`](Self::find) in several lists, reading the host once.
    pub(crate) fn find_in<const N: usize>(lists: [&Self; N], host: &Host) -> [Option<Listed>; N] {
        let mut found = match host {
            Host::Name(name) => Self::find_name(lists, name.as_str().as_bytes()),
            Host::V4(address) => lists.map(|list| list.find_address((*address).into(), None)),
            Host::V6(host) => {
                lists.map(|list| list.find_address(host.address().into(), host.scope()))
            }
        };
        for (list, found) in lists.iter().zip(&mut found) {
            *found = found.or(list.everything.map(Listed::by_wildcard));
        }
        found
    }

    /// How many rules the list holds, repeated ones left out.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether the list covers nothing.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// A rule's pattern and where it is written.
    pub fn rule(&self, id: RuleId) -> Option<Rule> {
        let row = self.rules.get(usize::try_from(id.0).ok()?)?;
        let pattern = match row.kind() {
            RuleKind::Verbatim => self.texts.get(row.index())?.clone(),
            RuleKind::Name(depth) => {
                let mut text = String::from(depth.prefix());
                self.names.append(row.index(), &mut text);
                text
            }
        };
        let runs = self.files.partition_point(|run| run.start <= id.0);
        let file = self.files[..runs].last().and_then(|run| run.file.as_ref());
        let written_at = file.map(|file| ConfigLine {
            file: Arc::clone(file),
            line: row.line,
        });
        Some(Rule {
            pattern,
            written_at,
        })
    }

    /// All rules, in the order in which they were written.
    pub fn rules(&self) -> impl Iterator<Item = Rule> + '_ {
        (0..).map_while(|index| self.rule(RuleId(index)))
    }

    fn find_name<const N: usize>(lists: [&Self; N], name: &[u8]) -> [Option<Listed>; N] {
        let mut depths = lists.map(|list| list.depths);
        let mut found = [None; N];
        // From the last label outwards: a later match is more specific and wins.
        for (start, hash) in suffixes(name) {
            for ((list, depths), found) in lists.iter().zip(&mut depths).zip(&mut found) {
                if *depths & 1 == 1
                    && let Some(listed) = list.find_suffix(name, start, hash)
                {
                    *found = Some(listed);
                }
                *depths >>= 1;
            }
            if depths.iter().all(|depths| *depths == 0) {
                break;
            }
        }
        found
    }

    /// The rule that covers a host by its suffix from `start`.
    fn find_suffix(&self, host: &[u8], start: usize, hash: Hash) -> Option<Listed> {
        let (name, rules) = self.names.find(&host[start..], hash)?;
        if start == 0 {
            return (rules.exact != NONE).then_some(Listed {
                rule: RuleId(rules.exact),
                literal: rules.literal,
            });
        }
        self.find_wildcard(name, &host[..start - 1])
            .or((rules.below != NONE).then_some(rules.below))
            .map(Listed::by_wildcard)
    }

    /// `front` is the part of the host before the name.
    fn find_wildcard(&self, name: u32, front: &[u8]) -> Option<u32> {
        // Most lists have no wildcards, so nothing is hashed.
        if self.wildcards.is_empty() {
            return None;
        }
        let candidates = self.wildcards.get(&name)?;
        candidates
            .iter()
            .find(|wildcard| wildcard.matches(front))
            .map(|wildcard| wildcard.rule)
    }

    fn find_address(&self, address: IpAddr, scope: Option<&str>) -> Option<Listed> {
        let rules = self.addresses.get(&address)?;
        let with = |scope| rules.iter().find(|rule| rule.scope.as_deref() == scope);
        let rule = with(scope).or_else(|| with(None))?;
        Some(Listed {
            rule: RuleId(rule.rule),
            literal: true,
        })
    }
}

impl RuleRow {
    /// The number of the lowest bit of the kind.
    const KIND: u32 = 30;

    fn new(kind: RuleKind, index: u32, line: u32) -> Result<Self, TooLarge> {
        if index >> Self::KIND != 0 {
            return Err(TooLarge);
        }
        let kind = match kind {
            RuleKind::Verbatim => 0,
            RuleKind::Name(Depth::Exact) => 1,
            RuleKind::Name(Depth::Below) => 2,
            RuleKind::Name(Depth::ApexAndBelow) => 3,
        };
        Ok(Self {
            subject: kind << Self::KIND | index,
            line,
        })
    }

    fn kind(self) -> RuleKind {
        match self.subject >> Self::KIND {
            0 => RuleKind::Verbatim,
            1 => RuleKind::Name(Depth::Exact),
            2 => RuleKind::Name(Depth::Below),
            _ => RuleKind::Name(Depth::ApexAndBelow),
        }
    }

    fn index(self) -> usize {
        (self.subject & !(!0 << Self::KIND)) as usize
    }
}

impl Wildcard {
    /// Whether the labels in front of the literal suffix match, from the right.
    fn matches(&self, front: &[u8]) -> bool {
        let mut host = front.rsplit(|byte| *byte == b'.');
        for pattern in self.labels.iter().rev() {
            match host.next() {
                Some(label) if label_matches(pattern.as_bytes(), label) => {}
                _ => return false,
            }
        }
        match self.depth {
            Depth::Exact => host.next().is_none(),
            Depth::Below => host.next().is_some(),
            Depth::ApexAndBelow => true,
        }
    }
}
