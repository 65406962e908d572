//! A list of patterns, compiled for lookup.
//!
//! Names are kept in one table of suffixes. A host is looked up by hashing it once from its end and
//! probing at each dot, so the cost depends on its labels and not on how many patterns there are
//! (DESIGN section 6). Patterns with a `*` inside a label hang off the literal suffix behind their
//! last `*` and are compared only when the host ends in it.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use hashbrown::{HashMap, HashTable};

use crate::host::Host;
use crate::pattern::{Depth, Pattern, Shape, label_matches};
use crate::policy::{Origin, Rule};

/// A compiled list.
#[derive(Debug, Default)]
pub struct DomainSet {
    /// The names of all entries, one after the other.
    text: String,
    entries: Vec<Entry>,
    /// Indices into `entries`, by the hash of the entry's name. Kept apart from the entries, so
    /// that a probe which misses touches few cache lines.
    table: HashTable<u32>,
    /// No entry has more labels than this: longer suffixes of a host need no probe.
    deepest: usize,
    /// Patterns with a `*` inside a label, by the index of the entry for their literal suffix.
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

/// More patterns or longer names than a list can index: over 2³² bytes of names or rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the list is too large: its names take more than 4 GiB")]
pub(crate) struct TooLarge;

/// "No rule" in an [`Entry`].
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    length: u8,
    /// The rule that covers the name itself.
    exact: u32,
    /// The rule that covers every name below it.
    below: u32,
}

#[derive(Clone, Copy, Debug)]
struct RuleRow {
    kind: RuleKind,
    /// Index into what `kind` says.
    subject: u32,
    /// Index into `files`, one-based; 0 when the rule came from no file.
    file: u16,
    line: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RuleKind {
    Everything,
    /// `subject` is the start of the pattern's text in `text`, with its length.
    Verbatim(u8),
    /// `subject` is an entry.
    Name(Depth),
}

#[derive(Debug)]
struct Wildcard {
    depth: Depth,
    /// The labels in front of the entry's name, the leftmost first.
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
        set.text.shrink_to_fit();
        set.entries.shrink_to_fit();
        set.rules.shrink_to_fit();
        Ok(set)
    }

    /// Finds the rule that covers a host: its own entry before a suffix, a longer suffix before a
    /// shorter one, `*` last.
    pub fn find(&self, host: &Host) -> Option<Listed> {
        let found = match host {
            Host::Name(name) => self.find_name(name.as_str()),
            Host::V4(address) => self.find_address((*address).into(), None),
            Host::V6(host) => self.find_address(host.address().into(), host.scope()),
        };
        found.or_else(|| {
            self.everything.map(|rule| Listed {
                rule: RuleId(rule),
                literal: false,
            })
        })
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
            RuleKind::Verbatim(length) => String::from(self.slice(row.subject, length)),
            RuleKind::Name(depth) => {
                let entry = self.entries.get(usize::try_from(row.subject).ok()?)?;
                let mut text = String::from(depth.prefix());
                text.push_str(self.slice(entry.start, entry.length));
                text
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

    fn find_name(&self, name: &str) -> Option<Listed> {
        let mut found = None;
        let mut hash = SuffixHash::new();
        let mut labels = 0;
        let mut end = name.len();
        // From the last label outwards: what is found later is more specific and wins.
        while end > 0 && labels < self.deepest {
            let start = name[..end].rfind('.').map_or(0, |dot| dot + 1);
            hash.prepend(&name.as_bytes()[start..end]);
            labels += 1;
            if let Some(index) = self.find_entry(&name[start..], hash.finish()) {
                let entry = &self.entries[index as usize];
                let whole = start == 0;
                let rule = if whole { entry.exact } else { entry.below };
                if rule != NONE {
                    let literal = whole && self.is_exact(rule);
                    found = Some(Listed {
                        rule: RuleId(rule),
                        literal,
                    });
                }
                if !whole
                    && !self.wildcards.is_empty()
                    && let Some(rule) = self.find_wildcard(index, &name[..start - 1])
                {
                    found = Some(Listed {
                        rule: RuleId(rule),
                        literal: false,
                    });
                }
            }
            end = start.saturating_sub(1);
        }
        found
    }

    fn find_entry(&self, name: &str, hash: u64) -> Option<u32> {
        self.table
            .find(hash, |index| {
                let entry = &self.entries[*index as usize];
                usize::from(entry.length) == name.len()
                    && self.slice(entry.start, entry.length) == name
            })
            .copied()
    }

    /// `front` is what stands before the entry's name in the host.
    fn find_wildcard(&self, entry: u32, front: &str) -> Option<u32> {
        let candidates = self.wildcards.get(&entry)?;
        candidates
            .iter()
            .find(|wildcard| wildcard.matches(front))
            .map(|wildcard| wildcard.rule)
    }

    fn find_address(&self, address: IpAddr, scope: Option<&str>) -> Option<Listed> {
        let rules = self.addresses.get(&address)?;
        let rule = rules
            .iter()
            .find(|rule| rule.scope.is_none() || rule.scope.as_deref() == scope)?
            .rule;
        Some(Listed {
            rule: RuleId(rule),
            literal: true,
        })
    }

    fn is_exact(&self, rule: u32) -> bool {
        self.rules[rule as usize].kind == RuleKind::Name(Depth::Exact)
    }

    fn slice(&self, start: u32, length: u8) -> &str {
        let start = start as usize;
        &self.text[start..start + usize::from(length)]
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
                let index = self.entry(name)?;
                let entry = &self.entries[index as usize];
                let taken = match depth {
                    Depth::Exact => entry.exact != NONE && self.is_exact(entry.exact),
                    Depth::Below => entry.below != NONE,
                    Depth::ApexAndBelow => entry.exact != NONE && entry.below != NONE,
                };
                if taken {
                    return Ok(());
                }
                let entry = &mut self.entries[index as usize];
                if *depth != Depth::Below && (entry.exact == NONE || *depth == Depth::Exact) {
                    entry.exact = rule;
                }
                if *depth != Depth::Exact && entry.below == NONE {
                    entry.below = rule;
                }
                row.kind = RuleKind::Name(*depth);
                row.subject = index;
            }
            Shape::Labels { depth, labels } => {
                // The parser leaves the last label free of `*`, so there is a literal end.
                let star = labels.rfind('*').unwrap_or(0);
                let split = labels[star..]
                    .find('.')
                    .map_or(labels.len(), |dot| star + dot);
                let (front, end) = labels.split_at(split);
                let index = self.entry(end.trim_start_matches('.'))?;
                let front = front.split('.').map(String::from).collect();
                self.wildcards.entry(index).or_default().push(Wildcard {
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

    /// The index of the entry for a name, made if there is none.
    fn entry(&mut self, name: &str) -> Result<u32, TooLarge> {
        let hash = SuffixHash::of(name);
        if let Some(index) = self.find_entry(name, hash) {
            return Ok(index);
        }
        let index = u32::try_from(self.entries.len()).map_err(|_| TooLarge)?;
        let (start, length) = self.push_text(name)?;
        self.entries.push(Entry {
            start,
            length,
            exact: NONE,
            below: NONE,
        });
        let (entries, text) = (&self.entries, &self.text);
        self.table.insert_unique(hash, index, |index| {
            let entry = &entries[*index as usize];
            let start = entry.start as usize;
            SuffixHash::of(&text[start..start + usize::from(entry.length)])
        });
        self.deepest = self.deepest.max(name.split('.').count());
        Ok(index)
    }

    fn keep_text(&mut self, row: &mut RuleRow, pattern: &Pattern) -> Result<(), TooLarge> {
        let (start, length) = self.push_text(&alloc::format!("{pattern}"))?;
        row.subject = start;
        row.kind = RuleKind::Verbatim(length);
        Ok(())
    }

    fn push_text(&mut self, text: &str) -> Result<(u32, u8), TooLarge> {
        let start = u32::try_from(self.text.len()).map_err(|_| TooLarge)?;
        let length = u8::try_from(text.len()).map_err(|_| TooLarge)?;
        self.text.push_str(text);
        Ok((start, length))
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
    fn matches(&self, front: &str) -> bool {
        let mut host = front.rsplit('.');
        for pattern in self.labels.iter().rev() {
            match host.next() {
                Some(label) if label_matches(pattern.as_bytes(), label.as_bytes()) => {}
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

/// A hash of a name's suffixes, grown label by label from the end.
struct SuffixHash(u64);

impl SuffixHash {
    fn new() -> Self {
        Self(0x243f_6a88_85a3_08d3)
    }

    fn of(name: &str) -> u64 {
        let mut hash = Self::new();
        for label in name.as_bytes().rsplit(|byte| *byte == b'.') {
            hash.prepend(label);
        }
        hash.finish()
    }

    /// Folds in the label in front of those that are in already.
    fn prepend(&mut self, label: &[u8]) {
        for chunk in label.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.mix(u64::from_le_bytes(word));
        }
        // The length keeps `a` + `b.c` apart from `ab` + `c`, and from a padded label.
        self.mix(label.len() as u64);
    }

    fn mix(&mut self, word: u64) {
        const FACTOR: u128 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ word) * FACTOR;
        #[expect(clippy::cast_possible_truncation, reason = "both halves are folded in")]
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.0 = folded.rotate_left(23);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
