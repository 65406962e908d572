//! The bounds that the requirements set, for the settings: their pins, and the lines of values that
//! no configuration sets.

use codex_network_policy::Mode;

use super::daemon::THE_SYSTEMS;
use super::{NOTHING_LOCAL, Requirements, listed};
use crate::catalogue::{self, Key, TopTable};
use crate::config_lines::ConfigLines;
use crate::diagnostic::Problems;
use crate::managed::{Managed, Pin};
use crate::text::TextSpan;

/// Whether a key is in `[daemon]`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum InDaemon {
    Yes,
    No,
}

impl Requirements {
    /// Adds the places of values that the requirements set: those that the configuration does not
    /// set, and the lists. Call it before [`join`](Self::join).
    pub(crate) fn add_lines(&self, lines: &mut ConfigLines, problems: &Problems<'_>) {
        let mode = self.mode.as_ref();
        let mode = mode.map(|required| (Key::MODE, String::new(), required.at));
        let enforcement = self.enforcement_bound();
        let policy = self.flag_bounds(InDaemon::No).chain(mode);
        let policy = policy.chain(enforcement);
        let policy = policy.chain(self.port_bounds());
        for (key, permitted, at) in policy.chain(self.daemon_bounds()) {
            // A default was not set by any line.
            if permitted != THE_SYSTEMS {
                lines.fall_back(key.name(), problems.texts.config_line(at));
            }
        }
        if self.allowed_domains_only.is_some() {
            lines.forget(Key::ALLOWED_DOMAINS.name());
        }
        for (key, rules) in [
            (Key::ALLOWED_DOMAINS, &self.allowed),
            (Key::DENIED_DOMAINS, &self.denied),
        ] {
            for line in rules.iter().filter_map(|(_, line)| line.as_ref()) {
                lines.add(key.name(), line);
            }
        }
    }

    /// The part of the requirements that the running proxy needs.
    pub(crate) fn into_managed(self, problems: &Problems<'_>) -> Managed {
        let mut bounds: Vec<_> = self.flag_bounds(InDaemon::No).collect();
        if let Some(required) = &self.mode {
            bounds.push((Key::MODE, required.permitted.to_string(), required.at));
        }
        bounds.extend(self.enforcement_bound());
        bounds.extend(self.port_bounds());
        if let Some(at) = self.allowed_domains_only {
            bounds.push((Key::ALLOWED_DOMAINS, "the managed ones".to_owned(), at));
        } else if let Some(required) = self.flags.get(&Key::ALLOW_LOCAL_BINDING) {
            let permitted = format!("{NOTHING_LOCAL} but the managed ones");
            bounds.push((Key::ALLOWED_DOMAINS, permitted, required.at));
        }
        if let Some((first, others)) = self.unix_sockets.split_first() {
            let mut all = first.permitted.clone();
            all.retain(|path| others.iter().all(|other| other.permitted.contains(path)));
            bounds.push((Key::ALLOW_UNIX_SOCKETS, listed(&all), first.at));
        }
        bounds.extend(self.daemon_bounds());
        let pins = bounds.into_iter().map(|(key, allowed, at)| Pin {
            key: key.name(),
            allowed,
            line: problems.texts.config_line(at),
        });
        Managed {
            pins: pins.collect(),
            entries: self.entries.into(),
            mode: self.mode.map_or(Mode::Full, |required| required.permitted),
            allowed_domains_only: self.allowed_domains_only.is_some(),
        }
    }

    /// The bound on `enforcement`.
    fn enforcement_bound(&self) -> Option<(Key, String, TextSpan)> {
        let required = self.enforcement.as_ref()?;
        let permitted = required.permitted.to_string();
        Some((Key::ENFORCEMENT, permitted, required.at))
    }

    /// The bounds on ports, by the keys of the addresses.
    fn port_bounds(&self) -> impl Iterator<Item = (Key, String, TextSpan)> {
        let ports = self.ports.iter();
        ports.map(|(key, required)| (*key, format!("port {}", required.permitted), required.at))
    }

    /// The bounds on `[daemon]`: the key, the permitted values in words, and the line.
    fn daemon_bounds(&self) -> impl Iterator<Item = (Key, String, TextSpan)> {
        let texts = catalogue::rows().filter_map(|row| {
            let required = self.texts.get(&row.key)?;
            Some((row.key, required.permitted.clone(), required.at))
        });
        let sandbox = self.daemon.sandbox_bound().into_iter();
        let bounds = sandbox.chain(texts).chain(self.flag_bounds(InDaemon::Yes));
        bounds.chain(self.daemon.resolver_bounds())
    }

    /// The bounds on booleans, in the same form.
    fn flag_bounds(&self, table: InDaemon) -> impl Iterator<Item = (Key, String, TextSpan)> {
        catalogue::rows().filter_map(move |row| {
            let required = self.flags.get(&row.key)?;
            let found = match row.paths(TopTable::Daemon).next() {
                Some(_) => InDaemon::Yes,
                None => InDaemon::No,
            };
            let bound = (row.key, required.permitted.to_string(), required.at);
            (found == table).then_some(bound)
        })
    }
}
