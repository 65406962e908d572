//! A list of patterns, compiled for lookup.
//!
//! Every name that a pattern spells out is a record in one hash table, and a host is looked up by
//! probing for itself and each of its suffixes. So the cost depends on the host's labels and not
//! on how many patterns there are (DESIGN section 6). Patterns with a `*` inside a label hang off
//! the literal suffix behind their last `*` and are compared only when the host ends in it.
//!
//! With a million patterns the cost is that of reaching memory, so there is little to reach: a
//! probe that misses reads one [`Slot`], and a hit reads the slot and then a record that holds the
//! rules and the name side by side. The hash of a host's suffixes is grown from its end in one
//! pass, for both lists of a policy at once.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use hashbrown::HashMap;

use crate::host::Host;
use crate::pattern::{Depth, Pattern, Shape, label_matches};
use crate::policy::{Origin, Rule};

/// A compiled list.
#[derive(Debug, Default)]
pub struct DomainSet {
    /// Where the records are, by the hash of their names; see [`SuffixTable`].
    table: SuffixTable,
    /// Records and texts, one after the other; see [`Record`].
    bytes: Vec<u8>,
    /// Bit `n` says that some record's name has `n + 1` labels: other suffixes need no probe. A
    /// name has at most 127.
    depths: u128,
    /// Patterns with a `*` inside a label, by the record of their literal suffix.
    wildcards: HashMap<u32, Vec<Wildcard>>,
    addresses: HashMap<IpAddr, Vec<AddressRule>>,
    everything: Option<u32>,
    rules: Vec<RuleRow>,
    files: Vec<Arc<str>>,
}

/// A rule's place in its list. Only the list that gave it can tell its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleId(pub(crate) u32);

/// That a host is on a list.
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

/// More patterns or longer names than a list can index: over 2³² bytes of names or rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list is too large: its names take more than 4 GiB")]
pub(crate) struct TooLarge;

/// "No rule" in a [`Record`].
const NONE: u32 = u32::MAX;

/// A name that some pattern spells out. In [`DomainSet::bytes`] it is the two rules, four bytes
/// each and little-endian, the length of the name in one byte, and the name.
#[derive(Clone, Copy, Debug)]
struct Record<'a> {
    /// The rule that covers the name itself.
    exact: u32,
    /// The rule that covers every name below it.
    below: u32,
    name: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
struct RuleRow {
    kind: RuleKind,
    /// A place in `bytes`; `kind` says what is there.
    subject: u32,
    /// Index into `files`, one-based; 0 when the rule came from no file.
    file: u16,
    line: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RuleKind {
    Everything,
    /// The pattern's text, with its length.
    Verbatim(u8),
    /// A record.
    Name(Depth),
}

#[derive(Debug)]
struct Wildcard {
    depth: Depth,
    /// The labels in front of the record's name, the leftmost first.
    labels: Vec<String>,
    rule: u32,
}

#[derive(Debug)]
struct AddressRule {
    scope: Option<String>,
    rule: u32,
}

impl DomainSet {
    /// Compiles a list. Of equal patterns the first one names the rule.
    pub(crate) fn compile<'a>(
        patterns: impl IntoIterator<Item = &'a (Pattern, Option<Origin>)>,
    ) -> Result<Self, TooLarge> {
        let mut set = Self::default();
        let mut files = HashMap::new();
        for (pattern, origin) in patterns {
            let (file, line) = match origin {
                None => (0, 0),
                Some(origin) => (set.file_number(&mut files, &origin.file), origin.line),
            };
            set.insert(&pattern.0, file, line)?;
        }
        set.bytes.shrink_to_fit();
        set.rules.shrink_to_fit();
        Ok(set)
    }

    /// Finds the rule that covers a host: its own entry before a suffix, a longer suffix before a
    /// shorter one, `*` last.
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

    /// A rule's pattern and where it was written.
    pub fn rule(&self, id: RuleId) -> Option<Rule> {
        let row = self.rules.get(usize::try_from(id.0).ok()?)?;
        let pattern = match row.kind {
            RuleKind::Everything => String::from("*"),
            RuleKind::Verbatim(length) => text(self.slice(row.subject, length)),
            RuleKind::Name(depth) => {
                let mut pattern = String::from(depth.prefix());
                pattern.push_str(&text(self.record(row.subject).name));
                pattern
            }
        };
        let origin = usize::from(row.file).checked_sub(1).and_then(|file| {
            Some(Origin {
                file: Arc::clone(self.files.get(file)?),
                line: row.line,
            })
        });
        Some(Rule { pattern, origin })
    }

    /// All rules, in the order in which they were written.
    pub fn rules(&self) -> impl Iterator<Item = Rule> + '_ {
        (0..).map_while(|index| self.rule(RuleId(index)))
    }

    fn find_name<const N: usize>(lists: [&Self; N], name: &[u8]) -> [Option<Listed>; N] {
        let mut depths = lists.map(|list| list.depths);
        let mut found = [None; N];
        // From the last label outwards: what is found later is more specific and wins.
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
    fn find_suffix(&self, host: &[u8], start: usize, hash: u32) -> Option<Listed> {
        let (at, record) = self.find_record(&host[start..], hash)?;
        if start == 0 {
            return (record.exact != NONE).then(|| Listed {
                rule: RuleId(record.exact),
                literal: self.is_exact(record.exact),
            });
        }
        self.find_wildcard(at, &host[..start - 1])
            .or((record.below != NONE).then_some(record.below))
            .map(Listed::by_wildcard)
    }

    fn find_record(&self, name: &[u8], hash: u32) -> Option<(u32, Record<'_>)> {
        self.table.probe(hash).find_map(|at| {
            let record = self.record(at);
            (record.name == name).then_some((at, record))
        })
    }

    /// `front` is what stands before the record's name in the host.
    fn find_wildcard(&self, record: u32, front: &[u8]) -> Option<u32> {
        // Most lists have none: spare them the hashing.
        if self.wildcards.is_empty() {
            return None;
        }
        let candidates = self.wildcards.get(&record)?;
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

    fn is_exact(&self, rule: u32) -> bool {
        self.rules[rule as usize].kind == RuleKind::Name(Depth::Exact)
    }

    fn slice(&self, start: u32, length: u8) -> &[u8] {
        let start = start as usize;
        &self.bytes[start..start + usize::from(length)]
    }

    fn record(&self, at: u32) -> Record<'_> {
        let (head, rest) = self.bytes[at as usize..].split_at(9);
        let word =
            |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        Record {
            exact: word(0),
            below: word(4),
            name: &rest[..usize::from(head[8])],
        }
    }

    fn set_rules(&mut self, at: u32, exact: u32, below: u32) {
        let at = at as usize;
        self.bytes[at..at + 4].copy_from_slice(&exact.to_le_bytes());
        self.bytes[at + 4..at + 8].copy_from_slice(&below.to_le_bytes());
    }

    fn insert(&mut self, shape: &Shape, file: u16, line: u32) -> Result<(), TooLarge> {
        let rule = u32::try_from(self.rules.len())
            .ok()
            .filter(|rule| *rule != NONE)
            .ok_or(TooLarge)?;
        let mut row = RuleRow {
            kind: RuleKind::Everything,
            subject: 0,
            file,
            line,
        };
        match shape {
            Shape::Everything if self.everything.is_some() => return Ok(()),
            Shape::Everything => self.everything = Some(rule),
            Shape::Address { address, scope } => {
                let rules = self.addresses.entry(*address).or_default();
                if rules.iter().any(|rule| rule.scope == *scope) {
                    return Ok(());
                }
                rules.push(AddressRule {
                    scope: scope.clone(),
                    rule,
                });
                self.keep_text(&mut row, &Pattern(shape.clone()))?;
            }
            Shape::Name { depth, name } => {
                let at = self.ensure_record(name)?;
                let Record { exact, below, .. } = self.record(at);
                let taken = match depth {
                    Depth::Exact => exact != NONE && self.is_exact(exact),
                    Depth::Below => below != NONE,
                    Depth::ApexAndBelow => exact != NONE && below != NONE,
                };
                if taken {
                    return Ok(());
                }
                let names_it =
                    *depth == Depth::Exact || (*depth == Depth::ApexAndBelow && exact == NONE);
                let reaches_below = *depth != Depth::Exact && below == NONE;
                self.set_rules(
                    at,
                    if names_it { rule } else { exact },
                    if reaches_below { rule } else { below },
                );
                row.kind = RuleKind::Name(*depth);
                row.subject = at;
            }
            Shape::Labels { depth, labels } => {
                // The parser leaves the last label free of `*`, so there is a literal end.
                let star = labels.rfind('*').unwrap_or(0);
                let split = labels[star..]
                    .find('.')
                    .map_or(labels.len(), |dot| star + dot);
                let (front, end) = labels.split_at(split);
                let at = self.ensure_record(end.trim_start_matches('.'))?;
                let front = front.split('.').map(String::from).collect();
                self.wildcards.entry(at).or_default().push(Wildcard {
                    depth: *depth,
                    labels: front,
                    rule,
                });
                self.keep_text(&mut row, &Pattern(shape.clone()))?;
            }
        }
        self.rules.push(row);
        Ok(())
    }

    /// The record of a name, made if there is none.
    fn ensure_record(&mut self, name: &str) -> Result<u32, TooLarge> {
        let hash = hash_of(name.as_bytes());
        if let Some((at, _)) = self.find_record(name.as_bytes(), hash) {
            return Ok(at);
        }
        let length = u8::try_from(name.len()).map_err(|_| TooLarge)?;
        let at = self.end()?;
        self.bytes.extend_from_slice(&NONE.to_le_bytes());
        self.bytes.extend_from_slice(&NONE.to_le_bytes());
        self.bytes.push(length);
        self.bytes.extend_from_slice(name.as_bytes());
        self.table.insert(hash, at);
        self.depths |= 1 << name.bytes().filter(|byte| *byte == b'.').count();
        Ok(at)
    }

    fn keep_text(&mut self, row: &mut RuleRow, pattern: &Pattern) -> Result<(), TooLarge> {
        let pattern = alloc::format!("{pattern}");
        row.subject = self.end()?;
        row.kind = RuleKind::Verbatim(u8::try_from(pattern.len()).map_err(|_| TooLarge)?);
        self.bytes.extend_from_slice(pattern.as_bytes());
        Ok(())
    }

    /// Where the next record or text will stand.
    fn end(&self) -> Result<u32, TooLarge> {
        u32::try_from(self.bytes.len())
            .ok()
            .filter(|at| *at != VACANT)
            .ok_or(TooLarge)
    }

    fn file_number(&mut self, numbers: &mut HashMap<Arc<str>, u16>, file: &Arc<str>) -> u16 {
        if let Some(number) = numbers.get(file) {
            return *number;
        }
        // Past 65 535 files a rule still works; it just no longer says where it stands.
        let Ok(number) = u16::try_from(self.files.len() + 1) else {
            return 0;
        };
        self.files.push(Arc::clone(file));
        numbers.insert(Arc::clone(file), number);
        number
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

/// Names are ASCII; see [`Name`](crate::Name).
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Where records are, by the hash of their names: open addressing with linear probing. Written
/// here and not taken from `hashbrown`, because a probe of that reads its control bytes and then,
/// somewhere else, its entry; here it is one place.
#[derive(Debug, Default)]
struct SuffixTable {
    /// None, or a power of two of which at most half is taken.
    slots: Vec<Slot>,
    taken: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The hash of the record's name. Its leading bits say where the search for it begins, so the
    /// table grows without looking at names.
    hash: u32,
    /// Where the record is, or [`VACANT`].
    record: u32,
}

/// "No record" in a [`Slot`].
const VACANT: u32 = u32::MAX;

impl SuffixTable {
    const EMPTY: Slot = Slot {
        hash: 0,
        record: VACANT,
    };

    /// The records whose names have this hash.
    fn probe(&self, hash: u32) -> impl Iterator<Item = u32> + '_ {
        let mut at = self.home(hash);
        core::iter::from_fn(move || {
            loop {
                let slot = self.slots.get(at).filter(|slot| slot.record != VACANT)?;
                at = (at + 1) & (self.slots.len() - 1);
                if slot.hash == hash {
                    return Some(slot.record);
                }
            }
        })
    }

    fn insert(&mut self, hash: u32, record: u32) {
        if (self.taken + 1) * 2 > self.slots.len() {
            let room = (self.slots.len() * 2).max(8);
            let old = core::mem::replace(&mut self.slots, alloc::vec![Self::EMPTY; room]);
            for slot in old.into_iter().filter(|slot| slot.record != VACANT) {
                self.place(slot);
            }
        }
        self.place(Slot { hash, record });
        self.taken += 1;
    }

    fn place(&mut self, slot: Slot) {
        let mut at = self.home(slot.hash);
        while self.slots[at].record != VACANT {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = slot;
    }

    /// The slot at which the search for a hash begins.
    fn home(&self, hash: u32) -> usize {
        // At most 2³² slots, since `record` has 32 bits: the product's upper half is below them.
        ((u64::from(hash) * self.slots.len() as u64) >> 32) as usize
    }
}

/// The suffixes of a name that begin at a label, the shortest first: where each begins, and its
/// hash. The hash takes in a name from its end, so one pass over the host gives all of them.
fn suffixes(name: &[u8]) -> impl Iterator<Item = (usize, u32)> + '_ {
    let mut state = SEED;
    let mut end = name.len();
    core::iter::from_fn(move || {
        let mut start = end.checked_sub(1)?;
        // The dot behind the label belongs to it, so that `a` + `b.c` is not `ab` + `c`.
        loop {
            state = (state ^ u64::from(name[start])).wrapping_mul(FACTOR);
            if start == 0 || name[start - 1] == b'.' {
                break;
            }
            start -= 1;
        }
        end = start;
        Some((start, finish(state)))
    })
}

fn hash_of(name: &[u8]) -> u32 {
    suffixes(name).last().map_or(0, |(_, hash)| hash)
}

const SEED: u64 = 0x243f_6a88_85a3_08d3;
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// Multiplying carries differences upwards only; this brings them down and up once more.
fn finish(state: u64) -> u32 {
    let mixed = (state ^ (state >> 32)).wrapping_mul(FACTOR);
    (mixed >> 32) as u32
}
