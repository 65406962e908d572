//! The columns of the catalogue: a key's names, the kind of its value, its field, and the possible
//! requirements.

use std::path::PathBuf;
use std::time::Duration;

use codex_network_policy::{Policy, PolicySpec};
use serde_json::Value;

use crate::settings::{Listen, Principal, Settings};

/// A key, by its name in `/config` and in messages: `mode`, `daemon.limits.blocked_buffer`. Only
/// the catalogue makes one, so each belongs to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(pub(super) &'static str);

/// One key of the configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRow {
    pub(crate) key: Key,
    /// The tables in which a configuration may write the key.
    pub(crate) spellings: &'static [Spelling],
    pub(crate) kind: ValueKind,
    /// The default in words, if `Settings::default()` does not show it.
    pub(crate) default: Option<&'static str>,
    pub(crate) bound: Bound,
    pub(crate) effect: Effect,
    pub(crate) shown: Shown,
    /// The values in `/config` that the key sets, if not the one with its own name.
    pub(crate) sets: Option<&'static [&'static str]>,
    /// Its documentation: sentences, with names in backquotes.
    pub(crate) about: &'static str,
}

/// A place of a key: a table at the top of a file, and the key's path inside it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spelling {
    pub(crate) tables: &'static [TopTable],
    /// `None`: the key's own name, without the table's.
    pub(super) path: Option<&'static str>,
}

/// A table that holds keys. The first three are the dialects of the policy (SPEC C2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TopTable {
    /// `[network_proxy]`: the first dialect.
    NetworkProxy,
    /// `[network]`: the second.
    Network,
    /// `[permissions.NAME.network]`: the third with lists, the fourth with maps.
    Profile,
    /// `[features.network_proxy]`, which is laid over the third or fourth (SPEC C8).
    Features,
    /// `[daemon]`, which is the same beside every dialect.
    Daemon,
    /// `[experimental_network]` of `requirements.toml` (SPEC C6).
    Requirements,
    /// `mitm.hooks.NAME` of every dialect.
    Hook,
    /// `mitm.actions.NAME` of every dialect.
    Action,
    /// An element of an action's `inject_request_headers`.
    Injection,
    /// `credentials.NAME` of every dialect.
    Credential,
    /// The table `source` in it.
    CredentialSource,
}

/// The kind of a value, and the field that it fills.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ValueKind {
    /// `true` or `false`.
    Flag(SettingField<bool>),
    /// A whole number between two limits, both included.
    Integer(u64, u64, SettingField<u64>),
    /// A duration with a unit.
    Duration(ZeroDuration, SettingField<Duration>),
    /// One of a few words.
    Word(&'static [&'static str], SettingField<&'static str>),
    /// A string that is not empty.
    Text(SettingField<String>),
    /// A path; a relative one is below the directory of its file.
    Path(SettingField<PathBuf>),
    /// Users and groups.
    Principals(SettingField<Vec<Principal>>),
    /// Read by a module of its own, since it depends on other keys.
    Special {
        /// The kind of the value, in words for the pages.
        value: &'static str,
        show: fn(&InForce<'_>) -> Value,
    },
    /// A key of a table whose name the user chooses; the module of that table reads it.
    Nested(&'static str),
}

/// The functions that write a value into the settings and show it in `/config`.
#[derive(Debug)]
pub(crate) struct SettingField<T> {
    pub(crate) set: fn(&mut Draft, T),
    pub(crate) show: fn(&InForce<'_>) -> Value,
}

/// Whether a duration may be zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ZeroDuration {
    Allowed,
    /// With zero, everything would time out.
    Refused,
}

/// The requirements that a key can have in `requirements.toml` (SPEC C6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Nothing.
    Free,
    /// A boolean: if it is this one, no configuration may have the other.
    Only(bool),
    /// A text: no configuration may have another.
    Exact,
    /// `constraints` gives it a meaning of its own: the kind of value and the meaning in words.
    Special(&'static str, &'static str),
}

/// Whether a setting has an effect on this system. If not, a warning says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Full,
    /// Only on macOS (SPEC H10).
    MacosOnly,
}

/// Whether `/config` shows a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    ByName,
    /// Under another name.
    As(&'static str),
    Hidden,
}

/// Settings in the making: simple keys are filled in, then the others are derived from them.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) settings: Settings,
    pub(crate) policy: PolicySpec,
    pub(crate) socks5: bool,
    pub(crate) non_loopback_proxy: bool,
    pub(crate) non_loopback_admin: bool,
}

/// The settings that a process works by, for [`effective`](crate::effective).
#[derive(Clone, Copy, Debug)]
pub struct InForce<'a> {
    /// The settings as loaded.
    pub settings: &'a Settings,
    /// The policy, which may have another mode than the one in the settings.
    pub policy: &'a Policy,
    /// The addresses that the process listens on.
    pub listen: &'a Listen,
}

impl<T> Clone for SettingField<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for SettingField<T> {}

impl Default for Draft {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            policy: PolicySpec::default(),
            socks5: true,
            non_loopback_proxy: false,
            non_loopback_admin: false,
        }
    }
}

impl Key {
    pub(crate) fn name(self) -> &'static str {
        self.0
    }
}

impl TopTable {
    /// The tables of configuration files, in the order in which they are searched.
    pub(crate) const OF_CONFIGURATIONS: [Self; 4] = [
        Self::NetworkProxy,
        Self::Network,
        Self::Profile,
        Self::Daemon,
    ];

    /// All of them.
    pub(super) const ALL: [Self; 11] = [
        Self::NetworkProxy,
        Self::Network,
        Self::Profile,
        Self::Features,
        Self::Hook,
        Self::Action,
        Self::Injection,
        Self::Credential,
        Self::CredentialSource,
        Self::Daemon,
        Self::Requirements,
    ];

    /// Its name in full, with `NAME` for a name that the user chooses.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NetworkProxy => "network_proxy",
            Self::Network => "network",
            Self::Profile => "permissions.NAME.network",
            Self::Features => "features.network_proxy",
            Self::Daemon => "daemon",
            Self::Requirements => "experimental_network",
            Self::Hook => "mitm.hooks.NAME",
            Self::Action => "mitm.actions.NAME",
            Self::Injection => "mitm.actions.NAME.inject_request_headers",
            Self::Credential => "credentials.NAME",
            Self::CredentialSource => "credentials.NAME.source",
        }
    }
}

impl Spelling {
    /// The key's own name.
    pub(super) const fn own(tables: &'static [TopTable]) -> Self {
        Self { tables, path: None }
    }

    /// Another path.
    pub(super) const fn at(tables: &'static [TopTable], path: &'static str) -> Self {
        Self {
            tables,
            path: Some(path),
        }
    }
}

impl KeyRow {
    const fn new(name: &'static str, spellings: &'static [Spelling], kind: ValueKind) -> Self {
        Self {
            key: Key(name),
            spellings,
            kind,
            default: None,
            bound: Bound::Free,
            effect: Effect::Full,
            shown: Shown::ByName,
            sets: None,
            about: "",
        }
    }

    /// A key that every dialect has at the top of its table.
    pub(super) const fn policy(key: Key, kind: ValueKind) -> Self {
        const SPELLINGS: &[Spelling] = &[Spelling::own(&[
            TopTable::NetworkProxy,
            TopTable::Network,
            TopTable::Profile,
        ])];
        Self::new(key.0, SPELLINGS, kind)
    }

    /// A key that `[features.network_proxy]` has too.
    pub(super) const fn feature(key: Key, kind: ValueKind) -> Self {
        const SPELLINGS: &[Spelling] = &[Spelling::own(&[
            TopTable::NetworkProxy,
            TopTable::Network,
            TopTable::Profile,
            TopTable::Features,
        ])];
        Self::new(key.0, SPELLINGS, kind)
    }

    /// A key of `[daemon]` or of a table in it. The name begins with `daemon.`.
    pub(super) const fn daemon(key: Key, kind: ValueKind) -> Self {
        const SPELLINGS: &[Spelling] = &[Spelling::own(&[TopTable::Daemon])];
        Self::new(key.0, SPELLINGS, kind)
    }

    /// A key of a table whose name the user chooses.
    pub(super) const fn nested(
        spellings: &'static [Spelling],
        name: &'static str,
        value: &'static str,
    ) -> Self {
        Self::new(name, spellings, ValueKind::Nested(value)).hidden()
    }

    /// Replaces the places of the key.
    pub(super) const fn spelled(mut self, spellings: &'static [Spelling]) -> Self {
        self.spellings = spellings;
        self
    }

    pub(super) const fn by_default(mut self, words: &'static str) -> Self {
        self.default = Some(words);
        self
    }

    pub(super) const fn bound(mut self, bound: Bound) -> Self {
        self.bound = bound;
        self
    }

    pub(super) const fn effect(mut self, effect: Effect) -> Self {
        self.effect = effect;
        self
    }

    pub(super) const fn hidden(mut self) -> Self {
        self.shown = Shown::Hidden;
        self
    }

    pub(super) const fn shown_as(mut self, name: &'static str) -> Self {
        self.shown = Shown::As(name);
        self
    }

    pub(super) const fn sets(mut self, names: &'static [&'static str]) -> Self {
        self.sets = Some(names);
        self
    }

    pub(super) const fn about(mut self, sentences: &'static str) -> Self {
        self.about = sentences;
        self
    }

    /// The key's paths inside a table. There are two where a dialect has two places for it.
    pub(crate) fn paths(&self, table: TopTable) -> impl Iterator<Item = &'static str> {
        let name = self.key.0;
        let own = move || match table {
            TopTable::Daemon => name.strip_prefix("daemon.").unwrap_or(name),
            _ => name,
        };
        let required = table == TopTable::Requirements && self.bound != Bound::Free;
        let written = self.spellings.iter();
        let written = written.filter(move |spelling| spelling.tables.contains(&table));
        let written = written.map(move |spelling| spelling.path.unwrap_or_else(own));
        written.chain(required.then_some(name))
    }

    /// The value in force, as `/config` shows it.
    pub(crate) fn show(&self, now: &InForce<'_>) -> Value {
        match &self.kind {
            ValueKind::Flag(field) => (field.show)(now),
            ValueKind::Integer(_, _, field) => (field.show)(now),
            ValueKind::Duration(_, field) => (field.show)(now),
            ValueKind::Word(_, field) => (field.show)(now),
            ValueKind::Text(field) => (field.show)(now),
            ValueKind::Path(field) => (field.show)(now),
            ValueKind::Principals(field) => (field.show)(now),
            ValueKind::Special { show, .. } => show(now),
            ValueKind::Nested(_) => Value::Null,
        }
    }
}
