//! The changes of a new configuration, under the names of `GET /config`: for `check --diff`, and for a reload that has
//! more changes than it may (SPEC C14).
//!
//! It compares rules, not hosts: a deny rule wins over an allow rule, as in every decision.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Write};

use codex_network_config::{Settings, UpstreamProxies};
use serde::Serialize;
use serde_json::{Value, json};

use crate::admin::config;

/// The lists of rules: the key, the name of its rules, and what one more rule does.
const LISTS: [(&str, &str, Effect); 4] = [
    ("allowed_domains", "allow", Effect::Allows),
    ("denied_domains", "deny", Effect::Forbids),
    ("allow_unix_sockets", "allow unix socket", Effect::Allows),
    ("denied_unix_sockets", "deny unix socket", Effect::Forbids),
];

/// Keys that say where a value is from, and not what it is.
const SOURCES: [&str; 2] = ["files", "sources"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Effect {
    Allows,
    Forbids,
}

/// All changes. The shape in JSON is public (SPEC L13).
#[derive(Debug, Serialize)]
pub(crate) struct Changes {
    /// How many things the rules allow that the old ones did not: added allow rules and removed deny
    /// rules.
    allows: usize,
    /// The reverse.
    forbids: usize,
    #[serde(rename = "changes")]
    each: Vec<SettingChange>,
}

#[derive(Debug, Serialize)]
struct SettingChange {
    key: String,
    #[serde(flatten)]
    what: What,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum What {
    /// A change to a list of rules.
    Rules {
        added: Vec<String>,
        removed: Vec<String>,
    },
    Value {
        old: Value,
        new: Value,
    },
}

impl Changes {
    pub(crate) fn between(old: &Settings, new: &Settings) -> Self {
        let mut all = Self {
            allows: 0,
            forbids: 0,
            each: Vec::new(),
        };
        let (mut old, mut new) = (values(old), values(new));
        for (key, _, more) in LISTS {
            let (old, new) = (rules(old.remove(key)), rules(new.remove(key)));
            let only = |one: &BTreeSet<String>, other| one.difference(other).cloned().collect();
            let (added, removed): (Vec<_>, Vec<_>) = (only(&new, &old), only(&old, &new));
            let (gain, loss) = (added.len(), removed.len());
            let (allows, forbids) = match more {
                Effect::Allows => (gain, loss),
                Effect::Forbids => (loss, gain),
            };
            all.allows += allows;
            all.forbids += forbids;
            if gain + loss > 0 {
                all.add(key, What::Rules { added, removed });
            }
        }
        let keys: BTreeSet<String> = old.keys().chain(new.keys()).cloned().collect();
        for key in keys {
            let of =
                |values: &BTreeMap<String, Value>| values.get(&key).cloned().unwrap_or(Value::Null);
            let (old, new) = (of(&old), of(&new));
            if old != new {
                all.add(&key, What::Value { old, new });
            }
        }
        all
    }

    fn add(&mut self, key: &str, what: What) {
        let key = key.to_owned();
        self.each.push(SettingChange { key, what });
    }

    /// For people: one line for each change.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.each.iter().flat_map(SettingChange::lines)
    }

    /// For people: one line for each change, then how many rules allow and forbid more.
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        for line in self.lines() {
            writeln!(out, "{line}")?;
        }
        if self.each.is_empty() {
            return writeln!(out, "ok: changes nothing");
        }
        writeln!(out, "ok: forbids {}, allows {}", self.forbids, self.allows)
    }
}

impl SettingChange {
    fn lines(&self) -> Vec<String> {
        let list = LISTS.iter().find(|(key, ..)| *key == self.key);
        let word = list.map_or(self.key.as_str(), |(_, word, _)| *word);
        match &self.what {
            What::Rules { added, removed } => {
                let signs = [('+', added), ('-', removed)];
                let lines = signs.iter().flat_map(|(sign, rules)| {
                    let line =
                        move |rule: &String| format!("{sign} {word} {}", rule.escape_debug());
                    rules.iter().map(line)
                });
                lines.collect()
            }
            What::Value { old, new } => vec![format!("{word}: {} -> {}", Shown(old), Shown(new))],
        }
    }
}

/// A value for people, on one line.
struct Shown<'a>(&'a Value);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("none"),
            Value::String(text) => write!(f, "{}", text.escape_debug()),
            other => other.fmt(f),
        }
    }
}

/// The settings under their names in full, as in `daemon.limits.max_connections`.
fn values(settings: &Settings) -> BTreeMap<String, Value> {
    let mut values = BTreeMap::new();
    let all = config::settings(
        settings,
        &settings.policy,
        &settings.listen,
        &UpstreamProxies::default(),
    );
    for (key, value) in all {
        if !SOURCES.contains(&key.as_str()) && key != "pinned" {
            flatten(key, value, &mut values);
        }
    }
    // Without the lines of the requirements, which move.
    for pin in settings.managed.pins() {
        values.insert(format!("pinned.{}", pin.key), json!(pin.allowed));
    }
    let sandbox = settings.daemon.sandbox.as_str();
    values.insert("daemon.sandbox".to_owned(), json!(sandbox));
    values
}

fn flatten(key: String, value: Value, values: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(table) => {
            for (name, value) in table {
                flatten(format!("{key}.{name}"), value, values);
            }
        }
        value => {
            values.insert(key, value);
        }
    }
}

fn rules(list: Option<Value>) -> BTreeSet<String> {
    let rules = match list {
        Some(Value::Array(rules)) => rules,
        _ => Vec::new(),
    };
    let texts = rules.iter().filter_map(Value::as_str);
    texts.map(str::to_owned).collect()
}
