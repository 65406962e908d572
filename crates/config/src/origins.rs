//! Which line set each value, for those who ask why it is what it is.

use std::collections::BTreeMap;

use codex_network_policy::Origin;

use crate::diagnostic::Problems;
use crate::generation::{self, Key, Raw, Schema};

/// Where the values that are not at their defaults are written, under the names of the newest form:
/// `mode`, `daemon.limits.blocked_buffer`. What is not here was set by nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(BTreeMap<String, Vec<Origin>>);

impl Origins {
    /// All of them, sorted by name: one place, or for a list that requirements add to
    /// (SPEC C6) one of each file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Origin])> {
        self.0.iter().map(|(key, at)| (key.as_str(), at.as_slice()))
    }

    /// A value was changed in a running proxy.
    pub fn set_at_run_time(&mut self, name: &str) {
        let origin = Origin {
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

    /// A value that stands in this place alone.
    fn replace(&mut self, name: &str, origin: Origin) {
        self.0.insert(name.to_owned(), vec![origin]);
    }

    /// A value that stands in this place unless it stands in another.
    pub(crate) fn fall_back(&mut self, name: &str, origin: Origin) {
        self.0
            .entry(name.to_owned())
            .or_insert_with(|| vec![origin]);
    }

    /// A list of which a part stands in this place; once for each file.
    pub(crate) fn add(&mut self, name: &str, origin: &Origin) {
        let places = self.0.entry(name.to_owned()).or_default();
        if places.iter().all(|place| place.file != origin.file) {
            places.push(origin.clone());
        }
    }

    /// A value that is not as it is written.
    pub(crate) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }
}
