//! Which line set each value, to explain the settings.

use std::collections::BTreeMap;

use codex_network_policy::ConfigLine;

/// The lines of values that are not at their defaults, under the names of `/config`: `mode`,
/// `daemon.limits.blocked_buffer`. A value that is not here has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigLines(BTreeMap<String, Vec<ConfigLine>>);

impl ConfigLines {
    /// All of them, sorted by name. There is one line, or one for each file for a list that
    /// requirements add to (SPEC C6).
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[ConfigLine])> {
        self.0
            .iter()
            .map(|(key, lines)| (key.as_str(), lines.as_slice()))
    }

    /// Records that a value was changed in a running proxy.
    pub fn set_at_run_time(&mut self, name: &str) {
        let line = ConfigLine {
            file: "run time".into(),
            line: 0,
        };
        self.replace(name, line);
    }

    /// Sets the only line of a value.
    pub(crate) fn replace(&mut self, name: &str, line: ConfigLine) {
        self.0.insert(name.to_owned(), vec![line]);
    }

    /// Sets the line of a value that has none yet.
    pub(crate) fn fall_back(&mut self, name: &str, line: ConfigLine) {
        self.0.entry(name.to_owned()).or_insert_with(|| vec![line]);
    }

    /// Adds the line of a part of a list, once for each file.
    pub(crate) fn add(&mut self, name: &str, line: &ConfigLine) {
        let lines = self.0.entry(name.to_owned()).or_default();
        if lines.iter().all(|other| other.file != line.file) {
            lines.push(line.clone());
        }
    }

    /// Removes the line of a value that differs from the text there.
    pub(crate) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }
}
