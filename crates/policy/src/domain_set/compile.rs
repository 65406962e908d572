//! From patterns to a [`DomainSet`]: collects names with the rules for them, then builds the table
//! of names at once.

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use hashbrown::{HashMap, HashSet};

use super::names::{Hash, NONE, Names, Rules};
use super::{AddressRule, DomainSet, FileRun, RuleKind, RuleRow, TooLarge, Wildcard};
use crate::pattern::{Depth, Pattern, Shape};
use crate::rule::ConfigLine;

/// A list while it is compiled. Until [`finish`](Self::finish), indices into the table of names are
/// indices into `names`.
#[derive(Default)]
struct Draft<'a> {
    set: DomainSet,
    names: Vec<DraftName<'a>>,
    by_name: HashMap<&'a str, u32>,
    /// Patterns with a `*` inside a label.
    starred: HashSet<&'a Pattern>,
}

struct DraftName<'a> {
    name: &'a str,
    hash: Hash,
    rules: Rules,
}

impl DomainSet {
    /// Compiles a list. Of equal patterns the first one names the rule.
    pub(crate) fn compile<'a>(
        patterns: impl IntoIterator<Item = &'a (Pattern, Option<ConfigLine>)>,
    ) -> Result<Self, TooLarge> {
        let mut draft = Draft::default();
        for (pattern, written_at) in patterns {
            draft.add(pattern, written_at.as_ref())?;
        }
        draft.finish()
    }
}

impl<'a> Draft<'a> {
    fn add(
        &mut self,
        pattern: &'a Pattern,
        written_at: Option<&'a ConfigLine>,
    ) -> Result<(), TooLarge> {
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
            Shape::Labels { .. } if !self.starred.insert(pattern) => None,
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
        // A repeated pattern is not a rule of its own.
        let Some((kind, subject)) = placed else {
            return Ok(());
        };
        self.note_file(rule, written_at.map(|at| &at.file));
        let line = written_at.map_or(0, |at| at.line);
        self.set.rules.push(RuleRow::new(kind, subject, line)?);
        Ok(())
    }

    /// Notes that a rule covers a name. `None` when other rules already cover all of it.
    fn cover(&mut self, depth: Depth, name: &'a str, rule: u32) -> Result<Option<u32>, TooLarge> {
        let index = self.name(name)?;
        let rules = &mut self.names[index as usize].rules;
        let (exact, below) = match depth {
            // A rule that spells out the name goes before one that includes it.
            Depth::Exact => (!rules.literal, false),
            Depth::Below => (false, rules.below == NONE),
            Depth::ApexAndBelow => (rules.exact == NONE, rules.below == NONE),
        };
        if exact {
            rules.exact = rule;
            rules.literal = depth == Depth::Exact;
        }
        if below {
            rules.below = rule;
        }
        Ok((exact || below).then_some(index))
    }

    /// Returns the index of a name, and adds the name if it is new.
    fn name(&mut self, name: &'a str) -> Result<u32, TooLarge> {
        if let Some(index) = self.by_name.get(name) {
            return Ok(*index);
        }
        let index = u32::try_from(self.names.len()).map_err(|_| TooLarge)?;
        self.by_name.insert(name, index);
        self.names.push(DraftName {
            name,
            hash: Hash::of(name),
            rules: Rules {
                exact: NONE,
                below: NONE,
                literal: false,
            },
        });
        self.set.depths |= 1 << name.bytes().filter(|byte| *byte == b'.').count();
        Ok(index)
    }

    fn keep_text(&mut self, pattern: &Pattern) -> Result<(RuleKind, u32), TooLarge> {
        let index = u32::try_from(self.set.texts.len()).map_err(|_| TooLarge)?;
        self.set.texts.push(pattern.to_string());
        Ok((RuleKind::Verbatim, index))
    }

    /// Notes the file of a rule and of those that follow.
    fn note_file(&mut self, rule: u32, file: Option<&Arc<str>>) {
        let last = self.set.files.last().and_then(|run| run.file.as_ref());
        // Mostly they are the same allocation.
        if last.map(Arc::as_ptr) == file.map(Arc::as_ptr) || last == file {
            return;
        }
        self.set.files.push(FileRun {
            start: rule,
            file: file.cloned(),
        });
    }

    fn finish(self) -> Result<DomainSet, TooLarge> {
        let mut set = self.set;
        let entries = self.names.iter();
        let (names, indices) =
            Names::build(entries.map(|entry| (entry.name, entry.hash, entry.rules)))?;
        set.names = names;
        for row in &mut set.rules {
            if let kind @ RuleKind::Name(_) = row.kind() {
                *row = RuleRow::new(kind, indices[row.index()], row.line)?;
            }
        }
        set.wildcards = set
            .wildcards
            .into_iter()
            .map(|(index, wildcards)| (indices[index as usize], wildcards))
            .collect();
        set.rules.shrink_to_fit();
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::ToString;
    use std::vec::Vec;

    use super::DomainSet;
    use crate::pattern::{ListKind, Pattern};
    use crate::rule::ConfigLine;

    #[test]
    fn p10_repeated_patterns_are_one_rule_and_keep_their_order() {
        let texts = [
            "*.example.com",
            "a*.example.com",
            "10.0.0.1",
            "example.com",
            "*",
            // The patterns from here on repeat earlier ones.
            "A*.example.com.",
            "012.1",
            "EXAMPLE.com",
            "**.example.com",
            "*",
        ];
        let parse = |text: &&str| (Pattern::parse(text, ListKind::Allow).expect("good"), None);
        let patterns: Vec<_> = texts.iter().map(parse).collect();
        let set = DomainSet::compile(&patterns).expect("it fits");
        let rules: Vec<_> = set.rules().map(|rule| rule.to_string()).collect();
        assert_eq!(rules, texts[..5]);
        assert_eq!(set.len(), 5);
    }

    #[test]
    fn p10_a_rule_names_the_line_of_its_own_file() {
        let files = [Some("a"), Some("a"), None, None, Some("b"), Some("a"), None];
        let lines: Vec<_> = files
            .iter()
            .zip(1..)
            .map(|(file, line)| {
                // Equal names in different allocations, as from several reads of a file.
                let written = file.map(|file| ConfigLine {
                    file: file.into(),
                    line,
                });
                let text = format!("n{line}.example");
                (
                    Pattern::parse(&text, ListKind::Deny).expect("good"),
                    written,
                )
            })
            .collect();
        let set = DomainSet::compile(&lines).expect("it fits");
        let found: Vec<_> = set.rules().map(|rule| rule.written_at).collect();
        let wanted: Vec<_> = lines.into_iter().map(|(_, written)| written).collect();
        assert_eq!(found, wanted);
        assert_eq!(set.files.len(), 5);
    }

    /// For a name of the usual length. A longer one takes its further bytes.
    #[test]
    fn p10_a_pattern_takes_at_most_48_bytes() {
        use core::mem::size_of;

        use super::super::RuleRow;

        assert_eq!(size_of::<RuleRow>() + super::super::names::BYTES_EACH, 44);
    }
}
