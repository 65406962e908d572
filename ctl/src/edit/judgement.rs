//! Whether a change has its effect and no other, by the settings before and after it. These come from the
//! code that judges every configuration, requirements included (SPEC C6).

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use codex_network_config::{Settings, shell_word};
use codex_network_policy::{ConfigLine, DomainSet, Host, Pattern, Rule};

use super::configuration::is_requirements;
use super::{ListChange, Verb};

/// A label that no rule is likely to name. It stands for a `*`.
const ANY_LABEL: &str = "proxyctl-any-0f61c2";

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A requirement, or the owner of a file, forbids it.
    NotPermitted(String),
    /// It would fail, or have no effect.
    Failed(String),
}

/// Whether a change is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Needed,
    /// It has its effect already, for this reason.
    Done(String),
}

/// Judges a change before it is made.
pub(super) fn before(settings: &Settings, change: &ListChange) -> Result<Need, Refused> {
    let policy = &settings.policy;
    let (allowed, denied) = (policy.allowed(), policy.denied());
    let pattern = &change.pattern;
    match change.verb {
        Verb::Allow => {
            if let Some(rule) = covering(denied, pattern) {
                return Err(deny_wins(pattern, &rule));
            }
            let pin = settings
                .managed
                .pins()
                .iter()
                .find(|pin| pin.key == "allowed_domains" && pin.allowed == "the managed ones");
            if let Some(rule) = covering(allowed, pattern) {
                return Ok(Need::Done(format!(
                    "{pattern} is allowed already, by {rule}"
                )));
            }
            match pin {
                Some(pin) => Err(Refused::NotPermitted(format!(
                    "allowing {pattern} would have no effect: {} lets only managed entries allow hosts",
                    pin.line
                ))),
                None => Ok(Need::Needed),
            }
        }
        Verb::Deny => match covering(denied, pattern) {
            Some(rule) => Ok(Need::Done(format!(
                "{pattern} is denied already, by {rule}"
            ))),
            None => Ok(Need::Needed),
        },
        Verb::Unset => {
            let entries = [allowed, denied].map(|list| entry(list, pattern));
            let found: Vec<&Rule> = entries.iter().flatten().collect();
            if let Some(managed) = found.iter().find(|rule| is_managed(rule)) {
                return Err(Refused::NotPermitted(format!(
                    "{managed} is a requirement, which only its administrator can remove"
                )));
            }
            if found.is_empty() {
                return Err(Refused::Failed(no_entry(allowed, denied, pattern)));
            }
            Ok(Need::Needed)
        }
    }
}

/// Judges a change by the settings that it would lead to.
pub(super) fn after(old: &Settings, new: &Settings, change: &ListChange) -> Result<(), Refused> {
    let pattern = &change.pattern;
    let (allowed, denied) = (new.policy.allowed(), new.policy.denied());
    let remaining = match change.verb {
        Verb::Allow => {
            if entry(allowed, pattern).is_none() {
                return Err(no_effect(new, "allowed_domains", change));
            }
            None
        }
        Verb::Deny => {
            if entry(denied, pattern).is_none() {
                return Err(no_effect(new, "denied_domains", change));
            }
            None
        }
        Verb::Unset => entry(denied, pattern).or_else(|| entry(allowed, pattern)),
    };
    if let Some(rule) = remaining {
        return Err(Refused::Failed(format!(
            "removing one entry for {pattern} would have no effect: there is {rule} too"
        )));
    }
    let (before, now) = (others(old, pattern), others(new, pattern));
    let changed: Vec<String> = before
        .symmetric_difference(&now)
        .map(ToString::to_string)
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(Refused::Failed(format!(
        "the change would change other entries too: {}",
        changed.join(", ")
    )))
}

/// An entry of another pattern, in the selected policy or in a profile that sessions may choose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct OtherEntry {
    pattern: String,
    list: &'static str,
    /// `None` for the selected policy.
    profile: Option<String>,
}

impl fmt::Display for OtherEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.pattern)?;
        match &self.profile {
            Some(profile) => write!(f, " in the profile {profile:?}"),
            None => Ok(()),
        }
    }
}

/// The entries of other patterns. A profile that is left out with the change loses all of its entries.
fn others(settings: &Settings, pattern: &Pattern) -> BTreeSet<OtherEntry> {
    let pattern = pattern.to_string();
    let selected = std::iter::once((None, &settings.policy));
    let profiles = settings.profiles.iter();
    let profiles = profiles.map(|(name, profile)| (Some(name), &profile.policy));
    let mut entries = BTreeSet::new();
    for (profile, policy) in selected.chain(profiles) {
        for (list, set) in [("allow", policy.allowed()), ("deny", policy.denied())] {
            let rules = set.rules().map(|rule| rule.pattern);
            entries.extend(
                rules
                    .filter(|rule| *rule != pattern)
                    .map(|pattern| OtherEntry {
                        pattern,
                        list,
                        profile: profile.cloned(),
                    }),
            );
        }
    }
    entries
}

/// The rule of a list that covers every host of a pattern.
fn covering(list: &DomainSet, pattern: &Pattern) -> Option<Rule> {
    if let Some(rule) = entry(list, pattern) {
        return Some(rule);
    }
    if pattern.is_everything() {
        return None;
    }
    let mut covering = None;
    for host in examples(&pattern.to_string()) {
        let listed = list.find(&Host::parse(&host).ok()?)?;
        covering = covering.or(list.rule(listed.rule));
    }
    covering
}

/// Hosts that stand for all hosts of a pattern.
fn examples(pattern: &str) -> Vec<String> {
    let (prefix, rest) = match pattern.split_once("*.") {
        Some((prefix @ ("" | "*"), rest)) => (Some(prefix), rest),
        _ => (None, pattern),
    };
    let apex = rest.replace('*', ANY_LABEL);
    let below = |count: usize| format!("{}{apex}", format!("{ANY_LABEL}.").repeat(count));
    match prefix {
        None => vec![apex],
        Some("*") => vec![apex.clone(), below(1), below(2)],
        Some(_) => vec![below(1), below(2)],
    }
}

/// The rule of a list for this very pattern.
fn entry(list: &DomainSet, pattern: &Pattern) -> Option<Rule> {
    let text = pattern.to_string();
    list.rules().find(|rule| rule.pattern == text)
}

fn is_managed(rule: &Rule) -> bool {
    let line = rule.written_at.as_ref();
    line.is_some_and(|line| is_requirements(Path::new(&*line.file)))
}

fn deny_wins(pattern: &Pattern, rule: &Rule) -> Refused {
    let place = match &rule.written_at {
        Some(ConfigLine { file, line }) if *line > 0 => format!(" in line {line} of {file}"),
        Some(line) => format!(" of {line}"),
        None => String::new(),
    };
    let why = format!(
        "deny wins: allowing {pattern} would have no effect, because the deny entry {:?}{place} covers it",
        rule.pattern
    );
    if is_managed(rule) {
        return Refused::NotPermitted(format!("{why}, and it is a requirement"));
    }
    Refused::Failed(format!(
        "{why}; to remove that entry first: proxyctl unset {}",
        shell_word(&rule.pattern)
    ))
}

fn no_entry(allowed: &DomainSet, denied: &DomainSet, pattern: &Pattern) -> String {
    let covered = covering(denied, pattern)
        .map(|rule| format!("; {rule} denies it"))
        .or_else(|| covering(allowed, pattern).map(|rule| format!("; {rule} allows it")));
    format!(
        "neither list has an entry for {pattern}{}",
        covered.unwrap_or_default()
    )
}

/// The configuration has the entry, but something stronger counts.
fn no_effect(new: &Settings, list: &str, change: &ListChange) -> Refused {
    let lines = new.lines.iter().find(|(name, _)| *name == list);
    let by: Vec<String> = lines
        .into_iter()
        .flat_map(|(_, lines)| lines)
        .map(ToString::to_string)
        .collect();
    Refused::Failed(format!(
        "an entry for {} would have no effect: the list that counts is that of {}",
        change.pattern,
        by.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w3_examples_stand_for_all_hosts_of_a_pattern() {
        let any = ANY_LABEL;
        for (pattern, expected) in [
            ("a.test", vec!["a.test".to_owned()]),
            (
                "*.a.test",
                vec![format!("{any}.a.test"), format!("{any}.{any}.a.test")],
            ),
            (
                "**.a.test",
                vec![
                    "a.test".to_owned(),
                    format!("{any}.a.test"),
                    format!("{any}.{any}.a.test"),
                ],
            ),
            ("r*.a.test", vec![format!("r{any}.a.test")]),
            ("192.0.2.1", vec!["192.0.2.1".to_owned()]),
        ] {
            assert_eq!(examples(pattern), expected, "{pattern}");
        }
    }
}
