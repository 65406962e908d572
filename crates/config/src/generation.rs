//! The four generations of the same settings, brought to one form (SPEC C2, C3).
//!
//! Each generation is a [`Schema`]: the names of its keys, and the [`Key`] that each name means.
//! The same table is used for reading and for "did you mean". The result is a [`Raw`]: the value of
//! each key that counts, not checked yet. `read` and `settle` check types and ranges.

pub(crate) mod network;
pub(crate) mod network_proxy;
pub(crate) mod permissions;

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::diagnostic::{Problems, quoted};
use crate::merge::{Entry, Node, Table, Value};
use crate::text::Place;

/// A setting, by whatever name its generation gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Enabled,
    Mode,
    ProxyUrl,
    SocksUrl,
    AdminUrl,
    EnableSocks5,
    EnableSocks5Udp,
    AllowUpstreamProxy,
    NonLoopbackProxy,
    NonLoopbackAdmin,
    AllowLocalBinding,
    /// List of patterns.
    AllowedDomains,
    /// List of patterns.
    DeniedDomains,
    /// Map of patterns to permissions.
    Domains,
    /// List of paths.
    AllowUnixSockets,
    /// Map of paths to permissions.
    UnixSockets,
    /// A requirement only.
    ManagedAllowedDomainsOnly,
    AllowAllUnixSockets,
    CredentialBroker,
    PlaintextInjection,
    /// `mitm = true`, or `enabled` in its table.
    Mitm,
    MitmInspect,
    MitmMaxBodyBytes,
    MitmCaCertPath,
    MitmCaKeyPath,
    MitmHooks,
    MitmActions,
    User,
    Group,
    Sandbox,
    StateDir,
    Log,
    LogFormat,
    LogFlows,
    ControlSocket,
    Administrators,
    Observers,
    AdminEnabled,
    AdminReadOnly,
    AdminShowConfig,
    AdminShowPatterns,
    Nameservers,
    ResolverTimeout,
    HostsFile,
    MaxConnections,
    MaxHeaderBytes,
    HeaderTimeout,
    ConnectTimeout,
    IdleTimeout,
    DrainTimeout,
    BlockedBuffer,
}

/// The keys of one table: lists of rows, so that tables can share some.
#[derive(Debug)]
pub(crate) struct Schema(pub(crate) &'static [&'static [(&'static str, Slot)]]);

/// The content of a key of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Slot {
    /// A value, which may itself be a table with names that the user chooses.
    Value(Key),
    /// A table of further keys.
    Table(&'static Schema),
    /// Either.
    ValueOrTable(Key, &'static Schema),
}

/// The settings of the one generation that is used, with their places.
#[derive(Debug, Default)]
pub(crate) struct Raw<'t>(BTreeMap<Key, Setting<'t>>);

/// One key as written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setting<'t> {
    /// The key's name in its generation.
    pub(crate) name: &'t str,
    /// Where the key is.
    pub(crate) at: Place,
    pub(crate) node: &'t Node<'t>,
}

/// The keys that every generation accepts at the top of its table (SPEC C3).
pub(crate) const COMMON: &[(&str, Slot)] = &[
    ("enabled", Slot::Value(Key::Enabled)),
    ("mode", Slot::Value(Key::Mode)),
    ("proxy_url", Slot::Value(Key::ProxyUrl)),
    ("socks_url", Slot::Value(Key::SocksUrl)),
    ("admin_url", Slot::Value(Key::AdminUrl)),
    ("enable_socks5", Slot::Value(Key::EnableSocks5)),
    ("enable_socks5_udp", Slot::Value(Key::EnableSocks5Udp)),
    ("allow_upstream_proxy", Slot::Value(Key::AllowUpstreamProxy)),
    (
        "dangerously_allow_non_loopback_proxy",
        Slot::Value(Key::NonLoopbackProxy),
    ),
    (
        "dangerously_allow_non_loopback_admin",
        Slot::Value(Key::NonLoopbackAdmin),
    ),
    ("allow_local_binding", Slot::Value(Key::AllowLocalBinding)),
    ("allow_unix_sockets", Slot::Value(Key::AllowUnixSockets)),
    (
        "dangerously_allow_all_unix_sockets",
        Slot::Value(Key::AllowAllUnixSockets),
    ),
    ("credential_broker", Slot::Value(Key::CredentialBroker)),
    (
        "dangerously_allow_plaintext_credential_injection",
        Slot::Value(Key::PlaintextInjection),
    ),
    ("mitm", Slot::ValueOrTable(Key::Mitm, &MITM)),
];

/// The two pattern lists.
pub(crate) const LISTS: &[(&str, Slot)] = &[
    ("allowed_domains", Slot::Value(Key::AllowedDomains)),
    ("denied_domains", Slot::Value(Key::DeniedDomains)),
];

static MITM: Schema = Schema(&[&[
    ("enabled", Slot::Value(Key::Mitm)),
    ("inspect", Slot::Value(Key::MitmInspect)),
    ("max_body_bytes", Slot::Value(Key::MitmMaxBodyBytes)),
    ("ca_cert_path", Slot::Value(Key::MitmCaCertPath)),
    ("ca_key_path", Slot::Value(Key::MitmCaKeyPath)),
    ("hooks", Slot::Value(Key::MitmHooks)),
    ("actions", Slot::Value(Key::MitmActions)),
]]);

/// All our tables, to say where a misplaced key belongs.
const TABLES: &[(&str, &Schema)] = &[
    (network_proxy::TABLE, &network_proxy::SCHEMA),
    (network::TABLE, &network::SCHEMA),
    ("permissions.NAME.network", &permissions::SCHEMA),
    (crate::daemon::TABLE, &crate::daemon::SCHEMA),
];

/// Top-level names that may be the correct spelling of a misspelled one.
const TOP_LEVEL: &[&str] = &[
    network_proxy::TABLE,
    network::TABLE,
    permissions::SELECTOR,
    permissions::TABLE,
    crate::daemon::TABLE,
];

/// A generation that the configuration uses: its table, for notes and errors.
pub(crate) struct Found<'t> {
    /// The table's name in full.
    pub(crate) path: String,
    /// The place of the table.
    pub(crate) at: Place,
    pub(crate) node: &'t Node<'t>,
    pub(crate) schema: &'static Schema,
}

impl Schema {
    fn rows(&self) -> impl Iterator<Item = &'static (&'static str, Slot)> {
        self.0.iter().copied().flatten()
    }

    /// Whether a key has this name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.slot(name).is_some()
    }

    fn slot(&self, name: &str) -> Option<&'static (&'static str, Slot)> {
        self.rows().find(|(known, _)| *known == name)
    }
}

impl<'t> Raw<'t> {
    pub(crate) fn get(&self, key: Key) -> Option<Setting<'t>> {
        self.0.get(&key).copied()
    }

    /// Reads a table by its schema. `path` is its name in messages.
    pub(crate) fn read(
        &mut self,
        schema: &'static Schema,
        path: &str,
        node: &'t Node<'t>,
        problems: &mut Problems<'_>,
    ) {
        let Value::Table(table) = &node.value else {
            let message = format!("`{path}` must be a table, not {}", node.value.describe());
            problems.error(node.at, &message, &format!("write `[{path}]`"));
            return;
        };
        for entry in table.iter() {
            let Some((name, slot)) = schema.slot(&entry.name) else {
                unknown_key(schema, path, entry, problems);
                continue;
            };
            let is_table = matches!(entry.node.value, Value::Table(_));
            match slot {
                Slot::Table(inner) => {
                    self.read(inner, &format!("{path}.{name}"), &entry.node, problems);
                }
                Slot::ValueOrTable(_, inner) if is_table => {
                    self.read(inner, &format!("{path}.{name}"), &entry.node, problems);
                }
                Slot::Value(key) | Slot::ValueOrTable(key, _) => {
                    self.put(*key, Setting::of(entry), problems);
                }
            }
        }
    }

    /// Some settings have two places in one generation. A later layer wins over an earlier one in
    /// either place; both in one text is an error.
    fn put(&mut self, key: Key, setting: Setting<'t>, problems: &mut Problems<'_>) {
        let Some(other) = self.0.insert(key, setting) else {
            return;
        };
        let (first, second) = if other.at < setting.at {
            (other, setting)
        } else {
            (setting, other)
        };
        if first.at.text == second.at.text {
            let place = problems.texts.name_place(first.at);
            let message = if first.name == second.name {
                format!("{} is set twice, here and at {place}", quoted(second.name))
            } else {
                format!(
                    "{} is the same setting as {} ({place})",
                    quoted(second.name),
                    quoted(first.name)
                )
            };
            problems.error(second.at, &message, "keep one of them");
        }
        self.0.insert(key, second);
    }
}

impl<'t> Setting<'t> {
    pub(crate) fn of(entry: &'t Entry<'t>) -> Self {
        Self {
            name: &entry.name,
            at: entry.at,
            node: &entry.node,
        }
    }
}

/// Finds the generation that is used and reads it. Without one every setting has its default.
pub(crate) fn read<'t>(root: &'t Table<'t>, problems: &mut Problems<'_>) -> Raw<'t> {
    warn_of_near_misses(root, TOP_LEVEL, problems);
    let mut found: Vec<Found<'t>> = [network_proxy::find(root), network::find(root)]
        .into_iter()
        .flatten()
        .collect();
    let others_used = !found.is_empty();
    found.extend(permissions::find(root, others_used, problems));
    found.sort_by_key(|found| found.at);
    for pair in found.windows(2) {
        let message = format!(
            "[{}] and [{}] ({}) are two generations of the same settings",
            pair[1].path,
            pair[0].path,
            problems.texts.name_place(pair[0].at)
        );
        problems.error(pair[1].at, &message, "keep one of them");
    }
    let mut last = Raw::default();
    for found in found {
        note_newer_form(&found, problems);
        last = Raw::default();
        last.read(found.schema, &found.path, found.node, problems);
    }
    last
}

/// The table of a generation that lives at the top level.
fn find_at_top<'t>(root: &'t Table<'t>, name: &str, schema: &'static Schema) -> Option<Found<'t>> {
    root.get(name).map(|entry| Found {
        path: name.to_owned(),
        at: entry.at,
        node: &entry.node,
        schema,
    })
}

/// Adds a note only for files, which should be kept current; `-c` is typed once, in the shortest
/// form.
fn note_newer_form(found: &Found<'_>, problems: &mut Problems<'_>) {
    const NEWEST: &str = "the newest form is `default_permissions = \"NAME\"` with \
         `[permissions.NAME.network]` and its maps `domains` and `unix_sockets`";
    let lists = ["allowed_domains", "denied_domains", "allow_unix_sockets"];
    let is_newest = found.path.starts_with(permissions::TABLE)
        && match &found.node.value {
            Value::Table(table) => lists.iter().all(|list| table.get(list).is_none()),
            _ => true,
        };
    if !is_newest && !problems.texts.is_override(found.at) {
        let message = format!("[{}] is an older form, which keeps working", found.path);
        problems.note(found.at, &message, NEWEST);
    }
}

/// Tables that are not ours belong to other programs (SPEC C4), but a misspelled one of ours would
/// silently have no effect.
pub(crate) fn warn_of_near_misses(root: &Table<'_>, ours: &[&str], problems: &mut Problems<'_>) {
    for entry in root.iter() {
        let name = &*entry.name;
        if name.len() > 32 || ours.contains(&name) {
            continue;
        }
        let near = |known: &&&str| strsim::osa_distance(known, name) <= known.len() / 6;
        if let Some(known) = ours.iter().find(near) {
            let message = format!("{} is not ours and is ignored", quoted(name));
            problems.warning(entry.at, &message, &format!("did you mean `{known}`?"));
        }
    }
}

fn unknown_key(schema: &Schema, path: &str, entry: &Entry<'_>, problems: &mut Problems<'_>) {
    let names: Vec<&str> = schema.rows().map(|(name, _)| *name).collect();
    // A key of the requirements does not belong in another table.
    let elsewhere = (path.split('.').next() != Some(crate::constraints::TABLE))
        .then(|| find_elsewhere(path, &entry.name))
        .flatten()
        .map(|table| format!("{} belongs in [{table}]", quoted(&entry.name)));
    report_unknown(&names, path, entry, elsewhere, problems);
}

/// An error for a key that is not among `names`.
pub(crate) fn report_unknown(
    names: &[&str],
    path: &str,
    entry: &Entry<'_>,
    help: Option<String>,
    problems: &mut Problems<'_>,
) {
    let help = help
        .or_else(|| nearest(&entry.name, names).map(|near| format!("did you mean `{near}`?")))
        .unwrap_or_default();
    let message = format!("unknown key {} in [{path}]", quoted(&entry.name));
    problems.error(entry.at, &message, &help);
}

/// A name as a TOML key: bare if possible, else quoted.
pub(crate) fn as_key(name: &str) -> Cow<'_, str> {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(bare) {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(format!("{name:?}"))
    }
}

/// The known name that was probably meant.
pub(crate) fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    const NEAR: f64 = 0.85;
    // The cost of a comparison is the product of the lengths.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_ascii_lowercase().replace('-', "_");
    known
        .iter()
        .map(|known| (strsim::jaro_winkler(&name, known), *known))
        .filter(|(similarity, _)| *similarity >= NEAR)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}

/// The settings of a table and of those inside it, each under its name in full.
pub(crate) fn names(schema: &Schema, prefix: &str) -> Vec<(Key, String)> {
    let mut all = Vec::new();
    for (name, slot) in schema.rows() {
        let path = match prefix {
            "" => (*name).to_owned(),
            prefix => format!("{prefix}.{name}"),
        };
        match slot {
            Slot::Value(key) => all.push((*key, path)),
            Slot::Table(inner) => all.extend(names(inner, &path)),
            Slot::ValueOrTable(key, inner) => {
                all.extend(names(inner, &path));
                all.push((*key, path));
            }
        }
    }
    all
}

/// Every key of every table that is ours, as pairs of the table's name in full and the key's.
pub(crate) fn keys() -> Vec<(String, &'static str)> {
    let required = (crate::constraints::TABLE, &crate::constraints::SCHEMA);
    let tables = TABLES.iter().chain([&required]);
    let mut all: Vec<_> = tables
        .flat_map(|(table, schema)| keys_of(table, schema))
        .collect();
    let named = crate::mitm::keys();
    all.extend(named.map(|(table, key)| (format!("mitm.{table}"), key)));
    all.push((String::new(), permissions::SELECTOR));
    all
}

fn keys_of(table: &str, schema: &Schema) -> Vec<(String, &'static str)> {
    let rows = schema.rows().flat_map(|(name, slot)| {
        let inner = match slot {
            Slot::Value(_) => Vec::new(),
            Slot::Table(inner) | Slot::ValueOrTable(_, inner) => {
                keys_of(&format!("{table}.{name}"), inner)
            }
        };
        let own = (!matches!(slot, Slot::Table(_))).then(|| (table.to_owned(), *name));
        own.into_iter().chain(inner)
    });
    rows.collect()
}

/// The table that has a key of exactly this name, in the same generation or another.
fn find_elsewhere(path: &str, name: &str) -> Option<String> {
    let (own, other): (Vec<_>, Vec<_>) = TABLES
        .iter()
        .partition(|(table, _)| path.split('.').next() == table.split('.').next());
    own.iter()
        .chain(&other)
        .find_map(|(table, schema)| find_in(table, schema, name))
}

fn find_in(table: &str, schema: &Schema, name: &str) -> Option<String> {
    if schema.slot(name).is_some() {
        return Some(table.to_owned());
    }
    schema.rows().find_map(|(inner, slot)| match slot {
        Slot::Table(schema) | Slot::ValueOrTable(_, schema) => {
            find_in(&format!("{table}.{inner}"), schema, name)
        }
        Slot::Value(_) => None,
    })
}
