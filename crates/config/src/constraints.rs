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
//! The catalogue says which keys may be bounded. `fill` and `interpret` get each such value from here.
//! [`daemon`] has the requirements on `[daemon]` that are more than a boolean or a text. [`pins`] makes
//! `managed`, the part that the running proxy needs.

mod daemon;
mod pins;
mod requirement;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use codex_network_policy::{Enforcement, ListKind, Mode, Pattern, Unlisted};
use daemon::DaemonRequirements;
use requirement::Requirement;

use crate::catalogue::{self, Bound, Key, TopTable};
use crate::diagnostic::{Problems, quoted, shown};
use crate::dialect::{self, RawSettings};
use crate::entries::{Rules, pattern, patterns, socket_path};
use crate::read::{self, ENFORCEMENTS, MODES};
use crate::settings::Sandbox;
use crate::text::TextSpan;
use crate::toml_tree::{TomlTable, TomlValue};

/// Tables of a configuration that no requirements of another program have.
const CONFIGURATION: [&str; 2] = [TopTable::NetworkProxy.name(), TopTable::Network.name()];

/// The table of requirements on programs of another kind.
const APPLICATION: &str = "application";

/// The permitted content of an allow list where local binding must be off.
const NOTHING_LOCAL: &str = "no local or private address";

/// All requirements together.
#[derive(Debug, Default)]
pub(crate) struct Requirements {
    /// The only permitted values of booleans.
    flags: BTreeMap<Key, Requirement<bool>>,
    /// The only permitted values of texts.
    texts: BTreeMap<Key, Requirement<String>>,
    /// The loosest permitted mode, if not all modes are permitted.
    mode: Option<Requirement<Mode>>,
    /// That hosts on neither list are refused, and not only reported.
    enforcement: Option<Requirement<Enforcement>>,
    /// The sockets that may be listed, for each file that restricts them.
    unix_sockets: Vec<Requirement<BTreeSet<PathBuf>>>,
    /// The only port of a listener, by the key of the listener's address.
    ports: BTreeMap<Key, Requirement<u16>>,
    allowed: Rules,
    denied: Rules,
    /// The entries of both lists as text, which stay when the lists are taken.
    entries: Vec<String>,
    allowed_domains_only: Option<TextSpan>,
    daemon: DaemonRequirements,
}

/// Whether the managed lists are needed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ManagedLists {
    Copied,
    Taken,
}

/// Reads the requirements of these files. The order does not matter: the stricter value counts.
pub(crate) fn read(files: &[TomlTable<'_>], problems: &mut Problems<'_>) -> Requirements {
    let table = TopTable::Requirements;
    let mut all = Requirements::default();
    for file in files {
        dialect::warn_of_near_misses(file, &[table.name()], problems);
        warn_of_misplaced(file, problems);
        if let Some(entry) = file.get(table.name()) {
            let mut raw = RawSettings::default();
            raw.read(table, table.name(), &entry.node, problems);
            all.add(&raw, problems);
        }
    }
    if let Some(at) = all.allowed_domains_only {
        all.daemon.pin_resolver(at);
    }
    for (list, rules) in [("allow", &all.allowed), ("deny", &all.denied)] {
        let entries = rules.iter();
        let entries = entries.map(|(pattern, _)| format!("{list} {pattern}"));
        all.entries.extend(entries);
    }
    all
}

/// Outside of the table, the name of a requirement or of a table of the configuration bounds
/// nothing. Other programs have other names there (SPEC C4).
fn warn_of_misplaced(file: &TomlTable<'_>, problems: &mut Problems<'_>) {
    let table = TopTable::Requirements;
    let names = catalogue::names_in(table, "");
    let is_ours = |name: &str| names.contains(&name) || CONFIGURATION.contains(&name);
    for entry in file.iter().filter(|entry| is_ours(&entry.name)) {
        let message = format!("{} bounds nothing here", quoted(&entry.name));
        let help = format!("requirements are in `[{}]`", table.name());
        problems.warning(entry.at, &message, &help);
    }
    let application = file.get(APPLICATION).map(|entry| &entry.node.value);
    if let Some(TomlValue::Table(application)) = application
        && let Some(entry) = application.get(TopTable::Network.name())
    {
        let message =
            format!("`[{APPLICATION}.network]` is for another program and bounds nothing here");
        let help = format!("requirements are in `[{}]`", table.name());
        problems.note(entry.at, &message, &help);
    }
}

impl Requirements {
    fn add(&mut self, raw: &RawSettings<'_>, problems: &mut Problems<'_>) {
        for row in catalogue::rows() {
            match row.bound {
                Bound::Only(only) => self.add_flag(row.key, only, raw, problems),
                Bound::Exact => self.add_text(row.key, raw, problems),
                Bound::Free | Bound::Special(..) => {}
            }
        }
        if let Some(setting) = raw.get(Key::MANAGED_ALLOWED_DOMAINS_ONLY)
            && read::boolean(setting, problems) == Some(true)
        {
            self.allowed_domains_only.get_or_insert(setting.at);
        }
        if let Some(setting) = raw.get(Key::MODE)
            && let Some(Mode::Limited) = read::word(setting, MODES, problems)
        {
            let written = "mode = \"limited\"";
            self.mode
                .get_or_insert_with(|| Requirement::new(Mode::Limited, written, setting.at));
        }
        if let Some(setting) = raw.get(Key::ENFORCEMENT)
            && let Some(Enforcement::Enforce) = read::word(setting, ENFORCEMENTS, problems)
        {
            let written = "enforcement = \"enforce\"";
            self.enforcement
                .get_or_insert_with(|| Requirement::new(Enforcement::Enforce, written, setting.at));
        }
        for (key, kind, rules) in [
            (
                Key::ALLOWED_DOMAINS,
                ListKind::ManagedAllow,
                &mut self.allowed,
            ),
            (Key::DENIED_DOMAINS, ListKind::Deny, &mut self.denied),
        ] {
            rules.extend(patterns(raw, key, kind, problems));
        }
        self.add_domains(raw, problems);
        self.add_port(Key::HTTP_PORT, Key::PROXY_URL, raw, problems);
        self.add_port(Key::SOCKS_PORT, Key::SOCKS_URL, raw, problems);
        self.add_unix_sockets(raw, problems);
        self.daemon.add(raw, problems);
    }

    /// A boolean with one permitted value. The first requirement stays: all are equally strict.
    fn add_flag(
        &mut self,
        key: Key,
        only: bool,
        raw: &RawSettings<'_>,
        problems: &mut Problems<'_>,
    ) {
        if let Some(setting) = raw.get(key)
            && read::boolean(setting, problems) == Some(only)
        {
            let written = format!("{} = {only}", setting.name);
            self.flags
                .entry(key)
                .or_insert_with(|| Requirement::new(only, written, setting.at));
        }
    }

    /// A text with one permitted value.
    fn add_text(&mut self, key: Key, raw: &RawSettings<'_>, problems: &mut Problems<'_>) {
        if let Some(setting) = raw.get(key)
            && let Some(text) = read::text(setting, problems)
        {
            match self.texts.get(&key) {
                Some(other) if other.permitted != text => other.contradicted_by(setting, problems),
                Some(_) => {}
                None => {
                    let required = Requirement::of(setting, text.to_owned());
                    self.texts.insert(key, required);
                }
            }
        }
    }

    /// Both lists as a map, in place of the lists (SPEC C12).
    fn add_domains(&mut self, raw: &RawSettings<'_>, problems: &mut Problems<'_>) {
        let Some(setting) = raw.get(Key::DOMAINS) else {
            return;
        };
        let list = [Key::ALLOWED_DOMAINS, Key::DENIED_DOMAINS];
        if let Some(list) = list.iter().find_map(|key| raw.get(*key)) {
            let message = format!(
                "{} and {} mix the list form and the map form",
                quoted(list.name),
                quoted(setting.name)
            );
            problems.error(setting.at, &message, "write everything in one of them");
        }
        let entries = read::permissions(setting, problems);
        let normal = |text: &str| Pattern::parse(text, ListKind::Allow).ok();
        for (entry, permission) in read::effective(entries, normal) {
            let (kind, rules) = match permission {
                read::EntryPermission::Allow => (ListKind::ManagedAllow, &mut self.allowed),
                read::EntryPermission::Deny => (ListKind::Deny, &mut self.denied),
                read::EntryPermission::None => continue,
            };
            rules.extend(pattern(&entry.name, entry.at, kind, problems));
        }
    }

    /// The only port that a listener may be configured for (SPEC C12).
    fn add_port(
        &mut self,
        key: Key,
        listener: Key,
        raw: &RawSettings<'_>,
        problems: &mut Problems<'_>,
    ) {
        let Some(setting) = raw.get(key) else { return };
        let port = read::integer(setting, 1..=u64::from(u16::MAX), problems);
        let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else {
            return;
        };
        match self.ports.get(&listener) {
            Some(other) if other.permitted != port => other.contradicted_by(setting, problems),
            Some(_) => {}
            None => {
                let written = format!("{} = {port}", setting.name);
                let required = Requirement::new(port, written, setting.at);
                self.ports.insert(listener, required);
            }
        }
    }

    /// The port that the requirements give a listener, by the key of its address.
    pub(crate) fn port(&self, listener: Key) -> Option<u16> {
        self.ports.get(&listener).map(|required| required.permitted)
    }

    /// The line that requires the port of a listener.
    pub(crate) fn port_place(&self, listener: Key) -> Option<TextSpan> {
        self.ports.get(&listener).map(|required| required.at)
    }

    /// Reports a configured port that is not the required one. `at` is the place of the address.
    pub(crate) fn check_port(
        &self,
        listener: Key,
        port: u16,
        at: TextSpan,
        problems: &mut Problems<'_>,
    ) {
        if let Some(required) = self.ports.get(&listener)
            && required.permitted != port
        {
            let permitted = format!("port {}", required.permitted);
            required.refuse(listener, &format!("port {port}"), &permitted, at, problems);
        }
    }

    /// A list of paths, or a map of them to `"allow"` and `"deny"`. Configurations may list
    /// only these sockets, and may not allow all.
    fn add_unix_sockets(&mut self, raw: &RawSettings<'_>, problems: &mut Problems<'_>) {
        let Some(setting) = raw.get(Key::UNIX_SOCKETS) else {
            return;
        };
        let mut permitted = BTreeSet::new();
        let mut denied = HashSet::new();
        if let TomlValue::Table(_) = &setting.node.value {
            for (entry, permission) in read::permissions(setting, problems) {
                let path = socket_path(setting, &entry.name, entry.at, problems);
                match permission {
                    read::EntryPermission::Allow => permitted.extend(path),
                    read::EntryPermission::Deny => denied.extend(path),
                    read::EntryPermission::None => {}
                }
            }
        } else {
            for (text, node) in read::strings(setting, problems) {
                permitted.extend(socket_path(setting, text, node.at, problems));
            }
        }
        permitted.retain(|path| !denied.contains(path));
        self.unix_sockets.push(Requirement::of(setting, permitted));
        self.flags
            .entry(Key::ALLOW_ALL_UNIX_SOCKETS)
            .or_insert_with(|| Requirement::of(setting, false));
    }

    /// A boolean of the configuration: as written, or as the requirement wants it.
    pub(crate) fn flag(
        &self,
        key: Key,
        raw: &RawSettings<'_>,
        problems: &mut Problems<'_>,
    ) -> Option<bool> {
        let setting = raw.get(key);
        let written = setting.and_then(|setting| read::boolean(setting, problems));
        let Some(required) = self.flags.get(&key) else {
            return written;
        };
        if let (Some(setting), Some(written)) = (setting, written)
            && written != required.permitted
        {
            let at = setting.node.at;
            required.refuse(key, &written, &required.permitted, at, problems);
        }
        Some(required.permitted)
    }

    /// A text of the configuration: as written, or as the requirement wants it.
    pub(crate) fn text(
        &self,
        key: Key,
        raw: &RawSettings<'_>,
        problems: &mut Problems<'_>,
    ) -> Option<String> {
        let setting = raw.get(key);
        let written = setting.and_then(|setting| read::text(setting, problems));
        let Some(required) = self.texts.get(&key) else {
            return written.map(str::to_owned);
        };
        if let (Some(setting), Some(written)) = (setting, written)
            && written != required.permitted
        {
            let (requested, permitted) = (shown(written), shown(&required.permitted));
            required.refuse(key, &requested, &permitted, setting.node.at, problems);
        }
        Some(required.permitted.clone())
    }

    /// The mode of the configuration.
    pub(crate) fn mode(&self, raw: &RawSettings<'_>, problems: &mut Problems<'_>) -> Mode {
        let setting = raw.get(Key::MODE);
        let written = setting.and_then(|setting| read::word(setting, MODES, problems));
        let Some(required) = &self.mode else {
            return written.unwrap_or_default();
        };
        if let (Some(setting), Some(mode)) = (setting, written)
            && mode > required.permitted
        {
            let at = setting.node.at;
            required.refuse(Key::MODE, &mode, &required.permitted, at, problems);
        }
        written.unwrap_or_default().min(required.permitted)
    }

    /// Whether hosts on neither list are refused. A managed list that is the only one cannot be set aside either.
    pub(crate) fn enforcement(
        &self,
        raw: &RawSettings<'_>,
        problems: &mut Problems<'_>,
    ) -> Enforcement {
        let setting = raw.get(Key::ENFORCEMENT);
        let written = setting.and_then(|setting| read::word(setting, ENFORCEMENTS, problems));
        let reserved = self.allowed_domains_only.map(|at| {
            Requirement::new(
                Enforcement::Enforce,
                "managed_allowed_domains_only = true",
                at,
            )
        });
        let Some(required) = self.enforcement.as_ref().or(reserved.as_ref()) else {
            return written.unwrap_or_default();
        };
        if let (Some(setting), Some(Enforcement::Report)) = (setting, written) {
            let at = setting.node.at;
            let requested = Enforcement::Report;
            required.refuse(
                Key::ENFORCEMENT,
                &requested,
                &required.permitted,
                at,
                problems,
            );
        }
        required.permitted
    }

    /// Whether `enforcement = "report"` is forbidden, to sessions too.
    pub(crate) fn must_enforce(&self) -> bool {
        let required = self.enforcement.as_ref();
        required.is_some_and(|required| required.permitted == Enforcement::Enforce)
    }

    /// How the worker is confined.
    pub(crate) fn sandbox(&self, raw: &RawSettings<'_>, problems: &mut Problems<'_>) -> Sandbox {
        self.daemon.sandbox(raw, problems)
    }

    /// The name servers.
    pub(crate) fn nameservers(
        &self,
        raw: &RawSettings<'_>,
        problems: &mut Problems<'_>,
    ) -> Vec<SocketAddr> {
        self.daemon.nameservers(raw, problems)
    }

    /// The hosts file.
    pub(crate) fn hosts_file(
        &self,
        raw: &RawSettings<'_>,
        problems: &mut Problems<'_>,
    ) -> Option<PathBuf> {
        self.daemon.hosts_file(raw, problems)
    }

    /// A unix socket that the configuration lists: an error unless every requirement lists it too.
    pub(crate) fn check_unix_socket(&self, path: &Path, at: TextSpan, problems: &mut Problems<'_>) {
        let Some(required) = self
            .unix_sockets
            .iter()
            .find(|required| !required.permitted.contains(path))
        else {
            return;
        };
        let requested = shown(&path.display().to_string());
        let permitted = shown(&listed(&required.permitted));
        required.refuse_element(Key::UNIX_SOCKETS, &requested, &permitted, at, problems);
    }

    /// Checks an entry of the configuration's allow list. One that spells out a local or private
    /// address is an error if local binding must be off, since such an entry lifts the rule against
    /// local hosts (SPEC P3).
    pub(crate) fn check_allowed(
        &self,
        pattern: &Pattern,
        at: TextSpan,
        problems: &mut Problems<'_>,
    ) {
        let Some(required) = self.flags.get(&Key::ALLOW_LOCAL_BINDING) else {
            return;
        };
        // An entry that is ignored, or that the requirements allow themselves, widens nothing.
        let managed = || self.allowed.iter().any(|(managed, _)| managed == pattern);
        if self.allowed_domains_only.is_some() || !pattern.spells_out_local() || managed() {
            return;
        }
        let requested = shown(&pattern.to_string());
        required.refuse_element(
            Key::ALLOWED_DOMAINS,
            &requested,
            &NOTHING_LOCAL,
            at,
            problems,
        );
    }

    /// The entries that may permit local hosts, if not all of the allow list may. Only when the
    /// proxy runs may an address turn out to be this machine's own.
    pub(crate) fn local_exceptions(&self) -> Option<Rules> {
        let is_bounded = self.flags.contains_key(&Key::ALLOW_LOCAL_BINDING);
        is_bounded.then(|| self.allowed.clone())
    }

    /// Whether a decider may allow hosts that are on neither list.
    pub(crate) fn unlisted(&self) -> Unlisted {
        match self.allowed_domains_only {
            Some(_) => Unlisted::Refused,
            None => Unlisted::LeftToDecider,
        }
    }

    /// Joins lists of the configuration with the managed ones, which come first. `raw` gives the
    /// places of ignored entries.
    pub(crate) fn join(
        &mut self,
        managed: ManagedLists,
        (mut allowed, denied): (Rules, Rules),
        raw: &RawSettings<'_>,
        problems: &mut Problems<'_>,
    ) -> (Rules, Rules) {
        if let Some(at) = self.allowed_domains_only
            && !allowed.is_empty()
        {
            let place = problems.texts.file_and_line(at);
            for setting in [Key::ALLOWED_DOMAINS, Key::DOMAINS, Key::PRESETS]
                .into_iter()
                .filter_map(|key| raw.get(key))
            {
                let message = format!(
                    "the entries that {} allows are ignored: only the managed allow list counts",
                    quoted(setting.name)
                );
                let help = format!("{place} has `managed_allowed_domains_only = true`");
                problems.warning(setting.at, &message, &help);
            }
            allowed.clear();
        }
        let join = |own: &mut Rules, users: Rules| {
            let mut all = match managed {
                ManagedLists::Copied => own.clone(),
                ManagedLists::Taken => std::mem::take(own),
            };
            all.extend(users);
            all
        };
        (
            join(&mut self.allowed, allowed),
            join(&mut self.denied, denied),
        )
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
