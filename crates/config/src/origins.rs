//! Which line set each value, to explain the settings.

use std::collections::BTreeMap;

use codex_network_policy::ConfigLine;

use crate::diagnostic::Problems;
use crate::generation::{self, Key, Raw, Schema};

/// The places of values that are not at their defaults, under the names of the newest form: `mode`,
/// `daemon.limits.blocked_buffer`. A value that is not here has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Vec<ConfigLine>>);

impl Origins {
    /// All of them, sorted by name. There is one place, or one for each file for a list that
    /// requirements add to (SPEC C6).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[ConfigLine])> {
        self.0.iter().map(|(key, at)| (key.as_str(), at.as_slice()))
    }

    /// A value was changed in a running proxy.
    pub fn set_at_run_time(&mut self, name: &str) {
        let origin = ConfigLine {
            file: "run time".into(),
            line: 0,
        };
        self.replace(name, origin);
    }

    /// Takes the places of a table's settings.
    pub(crate) fn take(
        &mut self,
        raw: &Raw<'_>,
        schema: &Schema,
        prefix: &str,
        problems: &Problems<'_>,
    ) {
        for (key, name) in generation::names(schema, prefix) {
            let Some(setting) = raw.get(key) else {
                continue;
            };
            let names = match key {
                Key::Domains => &["allowed_domains", "denied_domains"][..],
                Key::UnixSockets => &["allow_unix_sockets"],
                Key::Mitm => &["mitm.allowed"],
                _ => &[name.as_str()],
            };
            for name in names {
                self.replace(name, problems.texts.origin(setting.at));
            }
        }
    }

    /// Sets the only place of a value.
    fn replace(&mut self, name: &str, origin: ConfigLine) {
        self.0.insert(name.to_owned(), vec![origin]);
    }

    /// Sets the place of a value that has none yet.
    pub(crate) fn fall_back(&mut self, name: &str, origin: ConfigLine) {
        self.0
            .entry(name.to_owned())
            .or_insert_with(|| vec![origin]);
    }

    /// Adds the place of a part of a list, once for each file.
    pub(crate) fn add(&mut self, name: &str, origin: &ConfigLine) {
        let places = self.0.entry(name.to_owned()).or_default();
        if places.iter().all(|place| place.file != origin.file) {
            places.push(origin.clone());
        }
    }

    /// Removes the place of a value that differs from what is written.
    pub(crate) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }
}
