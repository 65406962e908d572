//! From patterns to a [`DomainSet`]: names are collected with the rules that speak of them, then
//! the table of names is made in one go.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::{HashMap, HashTable};

use super::names::{Hash, NONE, Names, Record};
use super::{AddressRule, DomainSet, RuleKind, RuleRow, TooLarge, Wildcard};
use crate::pattern::{Depth, Pattern, Shape};
use crate::policy::Origin;

/// A list in the making. Until [`finish`](Self::finish), what will be a place in the table of
/// names is an index into `names`.
#[derive(Default)]
struct Draft<'a> {
    set: DomainSet,
    names: Vec<DraftName<'a>>,
    by_name: HashTable<u32>,
    files: HashMap<&'a Arc<str>, u16>,
}

struct DraftName<'a> {
    name: &'a str,
    hash: Hash,
    exact: u32,
    below: u32,
}

impl DomainSet {
    /// Compiles a list. Of equal patterns the first one names the rule.
    pub(crate) fn compile<'a>(
        patterns: impl IntoIterator<Item = &'a (Pattern, Option<Origin>)>,
    ) -> Result<Self, TooLarge> {
        let mut draft = Draft::default();
        for (pattern, origin) in patterns {
            draft.add(pattern, origin.as_ref())?;
        }
        draft.finish()
    }
}

impl<'a> Draft<'a> {
    fn add(&mut self, pattern: &'a Pattern, origin: Option<&'a Origin>) -> Result<(), TooLarge> {
        let rule = u32::try_from(self.set.rules.len()).map_err(|_| TooLarge)?;
        if rule == NONE {
            return Err(TooLarge);
        }
        let placed = match &pattern.0 {
            Shape::Everything if self.set.everything.is_some() => None,
            Shape::Everything => {
                self.set.everything = Some(rule);
                Some(self.keep_text(pattern)?)
            }
            Shape::Address { address, scope } => {
                let rules = self.set.addresses.entry(*address).or_default();
                if rules.iter().any(|rule| rule.scope == *scope) {
                    None
                } else {
                    let scope = scope.clone();
                    rules.push(AddressRule { scope, rule });
                    Some(self.keep_text(pattern)?)
                }
            }
            Shape::Name { depth, name } => self
                .cover(*depth, name, rule)?
                .map(|index| (RuleKind::Name(*depth), index)),
            Shape::Labels { depth, front, end } => {
                let index = self.name(end)?;
                let wildcards = self.set.wildcards.entry(index).or_default();
                wildcards.push(Wildcard {
                    depth: *depth,
                    labels: front.split('.').map(String::from).collect(),
                    rule,
                });
                Some(self.keep_text(pattern)?)
            }
        };
        // What was there already is no rule of its own.
        let Some((kind, subject)) = placed else {
            return Ok(());
        };
        let file = origin.map_or(0, |origin| self.file_number(&origin.file));
        let line = origin.map_or(0, |origin| origin.line);
        self.set.rules.push(RuleRow {
            kind,
            subject,
            file,
            line,
        });
        Ok(())
    }

    /// Notes what a rule says of a name. `None` when other rules say all of it.
    fn cover(&mut self, depth: Depth, name: &'a str, rule: u32) -> Result<Option<u32>, TooLarge> {
        let index = self.name(name)?;
        let rules = &self.set.rules;
        let entry = &mut self.names[index as usize];
        // A rule that spells the name out goes before one that includes it.
        let spelled_out = rules
            .get(entry.exact as usize)
            .is_some_and(|row| row.kind == RuleKind::Name(Depth::Exact));
        let (exact, below) = match depth {
            Depth::Exact => (!spelled_out, false),
            Depth::Below => (false, entry.below == NONE),
            Depth::ApexAndBelow => (entry.exact == NONE, entry.below == NONE),
        };
        if exact {
            entry.exact = rule;
        }
        if below {
            entry.below = rule;
        }
        Ok((exact || below).then_some(index))
    }

    /// The index of a name, which is added if it is new.
    fn name(&mut self, name: &'a str) -> Result<u32, TooLarge> {
        let hash = Hash::of(name);
        let same = |index: &u32| self.names[*index as usize].name == name;
        if let Some(index) = self.by_name.find(hash.bits(), same) {
            return Ok(*index);
        }
        let index = u32::try_from(self.names.len()).map_err(|_| TooLarge)?;
        self.names.push(DraftName {
            name,
            hash,
            exact: NONE,
            below: NONE,
        });
        let names = &self.names;
        self.by_name.insert_unique(hash.bits(), index, |index| {
            names[*index as usize].hash.bits()
        });
        self.set.depths |= 1 << name.bytes().filter(|byte| *byte == b'.').count();
        Ok(index)
    }

    fn keep_text(&mut self, pattern: &Pattern) -> Result<(RuleKind, u32), TooLarge> {
        let index = u32::try_from(self.set.texts.len()).map_err(|_| TooLarge)?;
        self.set.texts.push(pattern.to_string());
        Ok((RuleKind::Verbatim, index))
    }

    fn file_number(&mut self, file: &'a Arc<str>) -> u16 {
        if let Some(number) = self.files.get(file) {
            return *number;
        }
        // Past 65 535 files a rule still works; it just no longer says where it stands.
        let Ok(number) = u16::try_from(self.files.len() + 1) else {
            return 0;
        };
        self.set.files.push(Arc::clone(file));
        self.files.insert(file, number);
        number
    }

    fn finish(self) -> Result<DomainSet, TooLarge> {
        let mut set = self.set;
        let records = self.names.iter().map(|entry| {
            let record = Record {
                place: 0,
                exact: entry.exact,
                below: entry.below,
                name: entry.name.as_bytes(),
            };
            (entry.hash, record)
        });
        let (names, places) = Names::build(records)?;
        set.names = names;
        for row in &mut set.rules {
            if let RuleKind::Name(_) = row.kind {
                row.subject = places[row.subject as usize];
            }
        }
        set.wildcards = set
            .wildcards
            .into_iter()
            .map(|(index, wildcards)| (places[index as usize], wildcards))
            .collect();
        set.rules.shrink_to_fit();
        Ok(set)
    }
}
