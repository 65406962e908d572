//! Managed constraints (SPEC C6): how `requirements.toml` limits the configuration.
//!
//! A requirement is a ceiling and not a default. A boolean that is `false` there may not be `true`
//! elsewhere, a mode may be stricter and not looser, and a unix socket must be on the managed list.
//! Patterns are added to the user's own instead. Two files narrow each other: the stricter value
//! counts, the patterns of both count, and a unix socket must be on the list of each file that has
//! one. Where the configuration is silent, the stricter of its default and the requirement counts.
//! A value in a configuration that exceeds a requirement is an error at its place; it is not
//! quietly reduced.
//!
//! `settle` asks here for each value that may be constrained. [`daemon`] holds the requirements on
//! `[daemon]`. [`managed`] is the part that the running proxy needs.

pub(crate) mod daemon;
pub(crate) mod managed;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use codex_network_policy::{ListKind, Mode, Pattern, Unlisted};

use crate::diagnostic::{Problems, quoted, shown};
use crate::generation::{self, Key, Raw, Schema, Slot, network, network_proxy};
use crate::merge::{Table, Value};
use crate::origins::Origins;
use crate::read;
use crate::settle::{MODES, Rules, patterns, socket_path};
use crate::text::Place;
use daemon::DaemonRequirements;
use managed::{Managed, Pin};

/// The table's name. Other tables of the file belong to other programs (SPEC C4).
pub(crate) const TABLE: &str = "experimental_network";

/// The booleans, under the names that they have everywhere. One that is `false` here may not be
/// `true` elsewhere.
const FLAGS: &[(&str, Slot)] = &[
    ("enabled", Slot::Value(Key::Enabled)),
    ("allow_upstream_proxy", Slot::Value(Key::AllowUpstreamProxy)),
    (
        "dangerously_allow_non_loopback_proxy",
        Slot::Value(Key::NonLoopbackProxy),
    ),
    (
        "dangerously_allow_non_loopback_admin",
        Slot::Value(Key::NonLoopbackAdmin),
    ),
    (ALL_UNIX_SOCKETS, Slot::Value(Key::AllowAllUnixSockets)),
    (
        "dangerously_allow_plaintext_credential_injection",
        Slot::Value(Key::PlaintextInjection),
    ),
    ("allow_local_binding", Slot::Value(Key::AllowLocalBinding)),
];

const ALL_UNIX_SOCKETS: &str = "dangerously_allow_all_unix_sockets";

pub(crate) static SCHEMA: Schema = Schema(&[
    FLAGS,
    generation::LISTS,
    &[
        ("mode", Slot::Value(Key::Mode)),
        (
            "managed_allowed_domains_only",
            Slot::Value(Key::ManagedAllowedDomainsOnly),
        ),
        ("unix_sockets", Slot::Value(Key::UnixSockets)),
        (daemon::TABLE, Slot::Table(&daemon::SCHEMA)),
    ],
]);

/// Tables of a configuration that no requirements of another program have.
const CONFIGURATION: [&str; 2] = [network_proxy::TABLE, network::TABLE];

/// The permitted content of an allow list where local binding must be off.
const NOTHING_LOCAL: &str = "no local or private address";

/// All requirements together.
#[derive(Debug, Default)]
pub(crate) struct Requirements {
    /// Booleans that may not be `true`.
    off: BTreeMap<Key, Required<&'static str>>,
    /// The loosest permitted mode, if not all modes are permitted.
    mode: Option<Required<Mode>>,
    /// The sockets that may be listed, for each file that restricts them.
    unix_sockets: Vec<Required<BTreeSet<PathBuf>>>,
    allowed: Rules,
    denied: Rules,
    allowed_domains_only: Option<Place>,
    daemon: DaemonRequirements,
}

/// A requirement, and the line that it is on. For a boolean the value is its name.
#[derive(Debug)]
struct Required<T> {
    what: T,
    /// The requirement in TOML, for messages.
    written: &'static str,
    at: Place,
}

/// Reads the requirements of these files. The order does not matter: the stricter value counts.
pub(crate) fn read(files: &[Table<'_>], problems: &mut Problems<'_>) -> Requirements {
    let mut all = Requirements::default();
    for file in files {
        generation::warn_of_near_misses(file, &[TABLE], problems);
        warn_of_misplaced(file, problems);
        if let Some(entry) = file.get(TABLE) {
            let mut raw = Raw::default();
            raw.read(&SCHEMA, TABLE, &entry.node, problems);
            all.add(&raw, problems);
        }
    }
    if let Some(at) = all.allowed_domains_only {
        all.daemon.pin_resolver(at);
    }
    all
}

/// Outside of the table, the name of a requirement or of a table of the configuration bounds
/// nothing. Other programs have other names there (SPEC C4).
fn warn_of_misplaced(file: &Table<'_>, problems: &mut Problems<'_>) {
    let is_ours = |name: &str| SCHEMA.has(name) || CONFIGURATION.contains(&name);
    for entry in file.iter().filter(|entry| is_ours(&entry.name)) {
        let message = format!("{} bounds nothing here", quoted(&entry.name));
        let help = format!("requirements are in `[{TABLE}]`");
        problems.warning(entry.at, &message, &help);
    }
}

impl Requirements {
    fn add(&mut self, raw: &Raw<'_>, problems: &mut Problems<'_>) {
        let flag = |key, problems: &mut Problems<'_>| {
            let setting = raw.get(key)?;
            Some((read::boolean(setting, problems)?, setting.at))
        };
        for (name, slot) in FLAGS {
            let Slot::Value(key) = slot else { continue };
            if let Some((false, at)) = flag(*key, problems) {
                self.switch_off(*key, name, "false", at);
            }
        }
        if let Some((true, at)) = flag(Key::ManagedAllowedDomainsOnly, problems) {
            self.allowed_domains_only.get_or_insert(at);
        }
        if let Some(setting) = raw.get(Key::Mode)
            && let Some(Mode::Limited) = read::word(setting, MODES, problems)
        {
            self.mode.get_or_insert(Required {
                what: Mode::Limited,
                written: "mode = \"limited\"",
                at: setting.at,
            });
        }
        for (key, kind, rules) in [
            (
                Key::AllowedDomains,
                ListKind::ManagedAllow,
                &mut self.allowed,
            ),
            (Key::DeniedDomains, ListKind::Deny, &mut self.denied),
        ] {
            rules.extend(patterns(raw, key, kind, problems));
        }
        self.add_unix_sockets(raw, problems);
        self.daemon.add(raw, problems);
    }

    /// The requirements on `[daemon]`.
    pub(crate) fn daemon(&self) -> &DaemonRequirements {
        &self.daemon
    }

    /// A list of paths, or a map of them to `"allow"` and `"deny"`. It names the sockets that may
    /// be listed, and so forbids "all".
    fn add_unix_sockets(&mut self, raw: &Raw<'_>, problems: &mut Problems<'_>) {
        let Some(setting) = raw.get(Key::UnixSockets) else {
            return;
        };
        let mut what = BTreeSet::new();
        let mut denied = HashSet::new();
        if let Value::Table(_) = &setting.node.value {
            for (entry, permission) in read::permissions(setting, problems) {
                let path = socket_path(setting, &entry.name, entry.at, problems);
                match permission {
                    read::Permission::Allow => what.extend(path),
                    read::Permission::Deny => denied.extend(path),
                    read::Permission::None => {}
                }
            }
        } else {
            for (text, node) in read::strings(setting, problems) {
                what.extend(socket_path(setting, text, node.at, problems));
            }
        }
        what.retain(|path| !denied.contains(path));
        self.unix_sockets.push(Required {
            what,
            written: "unix_sockets",
            at: setting.at,
        });
        let key = Key::AllowAllUnixSockets;
        self.switch_off(key, ALL_UNIX_SOCKETS, "unix_sockets", setting.at);
    }

    /// The first one stays: all of them are equally strict.
    fn switch_off(&mut self, key: Key, what: &'static str, written: &'static str, at: Place) {
        self.off
            .entry(key)
            .or_insert(Required { what, written, at });
    }

    /// Checks a boolean of the configuration.
    pub(crate) fn flag(
        &self,
        raw: &Raw<'_>,
        key: Key,
        default: bool,
        problems: &mut Problems<'_>,
    ) -> bool {
        let setting = raw.get(key);
        let written = setting.and_then(|setting| read::boolean(setting, problems));
        let Some(required) = self.off.get(&key) else {
            return written.unwrap_or(default);
        };
        if let (Some(setting), Some(true)) = (setting, written) {
            let place = problems.texts.name_place(required.at);
            let line = required.line();
            let message = managed::invalid(required.what, "true", "false");
            let help = format!("{place} has {line}; take the key out");
            problems.error(setting.node.at, &message, &help);
        }
        false
    }

    /// Checks the mode of the configuration.
    pub(crate) fn mode(&self, raw: &Raw<'_>, problems: &mut Problems<'_>) -> Mode {
        let setting = raw.get(Key::Mode);
        let written = setting.and_then(|setting| read::word(setting, MODES, problems));
        let Some(required) = &self.mode else {
            return written.unwrap_or_default();
        };
        if let (Some(setting), Some(mode)) = (setting, written)
            && mode > required.what
        {
            let place = problems.texts.name_place(required.at);
            let message = managed::invalid("mode", mode.as_str(), required.what.as_str());
            let help = format!("{place} has `{}`; take the key out", required.written);
            problems.error(setting.node.at, &message, &help);
        }
        written.unwrap_or_default().min(required.what)
    }

    /// A unix socket that the configuration lists: an error unless every requirement lists it too.
    pub(crate) fn check_unix_socket(&self, path: &Path, at: Place, problems: &mut Problems<'_>) {
        let Some(required) = self
            .unix_sockets
            .iter()
            .find(|required| !required.what.contains(path))
        else {
            return;
        };
        let place = problems.texts.name_place(required.at);
        let message = managed::invalid(
            "unix_sockets",
            &shown(&path.display().to_string()),
            &shown(&listed(&required.what)),
        );
        let help = format!("{place} has `unix_sockets`; take this one out");
        problems.error(at, &message, &help);
    }

    /// Checks an entry of the configuration's allow list. One that spells out a local or private
    /// address is an error if local binding must be off, since such an entry lifts the rule against
    /// local hosts (SPEC P3).
    pub(crate) fn check_allowed(&self, pattern: &Pattern, at: Place, problems: &mut Problems<'_>) {
        let Some(required) = self.off.get(&Key::AllowLocalBinding) else {
            return;
        };
        // An entry that is ignored, or that the requirements allow themselves, widens nothing.
        let managed = || self.allowed.iter().any(|(managed, _)| managed == pattern);
        if self.allowed_domains_only.is_some() || !pattern.spells_out_local() || managed() {
            return;
        }
        let place = problems.texts.name_place(required.at);
        let asked = shown(&pattern.to_string());
        let message = managed::invalid("allowed_domains", &asked, NOTHING_LOCAL);
        let help = format!("{place} has {}; take this one out", required.line());
        problems.error(at, &message, &help);
    }

    /// The entries that may permit local hosts, if not all of the allow list may. Only when the
    /// proxy runs may an address turn out to be this machine's own.
    pub(crate) fn local_exceptions(&self) -> Option<Rules> {
        let is_bounded = self.off.contains_key(&Key::AllowLocalBinding);
        is_bounded.then(|| self.allowed.clone())
    }

    /// Whether a decider may allow hosts that are on neither list.
    pub(crate) fn unlisted(&self) -> Unlisted {
        match self.allowed_domains_only {
            Some(_) => Unlisted::Refused,
            None => Unlisted::LeftToDecider,
        }
    }

    /// Joins the lists of the configuration with the managed ones, which come first. `raw` gives
    /// the places of ignored entries.
    pub(crate) fn join(
        &mut self,
        (mut allowed, denied): (Rules, Rules),
        raw: &Raw<'_>,
        problems: &mut Problems<'_>,
    ) -> (Rules, Rules) {
        if let Some(at) = self.allowed_domains_only
            && !allowed.is_empty()
        {
            let place = problems.texts.name_place(at);
            for setting in [Key::AllowedDomains, Key::Domains]
                .into_iter()
                .filter_map(|key| raw.get(key))
            {
                let message = format!(
                    "what {} allows is ignored: only the managed allow list counts",
                    quoted(setting.name)
                );
                let help = format!("{place} has `managed_allowed_domains_only = true`");
                problems.warning(setting.at, &message, &help);
            }
            allowed.clear();
        }
        let join = |managed: &mut Rules, users: Rules| {
            let mut all = std::mem::take(managed);
            all.extend(users);
            all
        };
        (
            join(&mut self.allowed, allowed),
            join(&mut self.denied, denied),
        )
    }

    /// Adds the places of values that the requirements set: those that the configuration does not
    /// set, and the lists. Call it before [`join`](Self::join).
    pub(crate) fn add_origins(&self, origins: &mut Origins, problems: &Problems<'_>) {
        for required in self.off.values() {
            origins.fall_back(required.what, problems.texts.origin(required.at));
        }
        if let Some(required) = &self.mode {
            origins.fall_back("mode", problems.texts.origin(required.at));
        }
        if self.allowed_domains_only.is_some() {
            origins.forget("allowed_domains");
        }
        self.daemon.add_origins(origins, problems);
        for (name, rules) in [
            ("allowed_domains", &self.allowed),
            ("denied_domains", &self.denied),
        ] {
            for origin in rules.iter().filter_map(|(_, origin)| origin.as_ref()) {
                origins.add(name, origin);
            }
        }
    }

    /// The part of the requirements that the running proxy needs.
    pub(crate) fn into_managed(self, problems: &Problems<'_>) -> Managed {
        let pin = |key: &'static str, allowed: String, at: Place| Pin {
            key,
            allowed,
            origin: problems.texts.origin(at),
        };
        let mut pins: Vec<Pin> = self
            .off
            .values()
            .map(|required| pin(required.what, "false".to_owned(), required.at))
            .collect();
        if let Some(required) = &self.mode {
            pins.push(pin("mode", required.what.to_string(), required.at));
        }
        if let Some(at) = self.allowed_domains_only {
            pins.push(pin("allowed_domains", "the managed ones".to_owned(), at));
        } else if let Some(required) = self.off.get(&Key::AllowLocalBinding) {
            let allowed = format!("{NOTHING_LOCAL} but the managed ones");
            pins.push(pin("allowed_domains", allowed, required.at));
        }
        if let Some((first, others)) = self.unix_sockets.split_first() {
            let mut all = first.what.clone();
            all.retain(|path| others.iter().all(|other| other.what.contains(path)));
            pins.push(pin("allow_unix_sockets", listed(&all), first.at));
        }
        pins.extend(self.daemon.pins(problems));
        Managed {
            pins: pins.into(),
            mode: self.mode.map_or(Mode::Full, |required| required.what),
            allowed_domains_only: self.allowed_domains_only.is_some(),
        }
    }
}

impl Required<&'static str> {
    /// The requirement that switches a boolean off, as written.
    fn line(&self) -> String {
        match self.written {
            "false" => format!("`{} = false`", self.what),
            other => format!("`{other}`"),
        }
    }
}

fn listed(paths: &BTreeSet<PathBuf>) -> String {
    if paths.is_empty() {
        return "none".to_owned();
    }
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}
