//! The tables that a configuration in JSON writes in a form of its own: hooks with their match and actions
//! in a list, the CA's files, and credentials under another name (SPEC C10).

use std::borrow::Cow;

use crate::catalogue::{self, Key, TopTable};
use crate::diagnostic::{Problems, quoted};
use crate::text::TextSpan;
use crate::toml_tree::{TomlEntry, TomlNode, TomlTable, TomlValue};

const HOOKS: &str = "mitm_hooks";
const CA: &str = "mitm_ca";
const CREDENTIALS: &str = "credential_providers";

/// Keys of the other forms only.
const OTHER_FORMS: [Key; 4] = [
    Key::ALLOWED_DOMAINS,
    Key::DENIED_DOMAINS,
    Key::ALLOW_UNIX_SOCKETS,
    Key::CREDENTIALS,
];

/// The document as a configuration in the form with maps. Unknown names are errors at every level.
pub(super) fn as_maps<'t>(root: TomlTable<'t>, problems: &mut Problems<'_>) -> TomlTable<'t> {
    let root = known(root, &["network"], "the document", problems);
    let entries = root.into_entries().into_iter().map(|mut entry| {
        if let TomlValue::Table(network) = entry.node.value {
            let network = network_as_maps(network, entry.at, problems);
            entry.node.value = TomlValue::Table(network);
        }
        entry
    });
    TomlTable::new(entries.collect())
}

fn network_as_maps<'t>(
    network: TomlTable<'t>,
    at: TextSpan,
    problems: &mut Problems<'_>,
) -> TomlTable<'t> {
    let mut names = catalogue::names_in(TopTable::Profile, "");
    names.retain(|name| OTHER_FORMS.iter().all(|key| key.name() != *name));
    names.extend([HOOKS, CA, CREDENTIALS]);
    let mut entries = Vec::new();
    let mut mitm = Vec::new();
    for entry in known(network, &names, "network", problems).into_entries() {
        match &*entry.name {
            "mitm" => match entry.node.value {
                TomlValue::Boolean(_) => mitm.push(TomlEntry {
                    name: "enabled".into(),
                    ..entry
                }),
                _ => problems.error(entry.node.at, "`mitm` must be `true` or `false`", ""),
            },
            HOOKS => mitm.extend(hooks(entry, problems)),
            CA => mitm.extend(ca(entry, problems)),
            CREDENTIALS => entries.push(credentials(entry, problems)),
            _ => entries.push(entry),
        }
    }
    if !mitm.is_empty() {
        entries.push(table("mitm", at, mitm));
    }
    TomlTable::new(entries)
}

/// The entries with known names.
fn known<'t>(
    table: TomlTable<'t>,
    names: &[&str],
    place: &str,
    problems: &mut Problems<'_>,
) -> TomlTable<'t> {
    let mut table = table;
    table.retain(|entry| {
        let is_known = names.contains(&&*entry.name);
        if !is_known {
            // The value may be a secret.
            problems.without_excerpts(|problems| {
                let message = format!("unknown field {} in {place}", quoted(&entry.name));
                problems.error(entry.at, &message, "");
            });
        }
        is_known
    });
    table
}

/// A list of hooks as the tables `hooks` and `actions`. Each hook has the action of its own name.
fn hooks<'t>(entry: TomlEntry<'t>, problems: &mut Problems<'_>) -> Vec<TomlEntry<'t>> {
    let TomlValue::Array(items) = entry.node.value else {
        problems.error(entry.node.at, "`mitm_hooks` must be a list of objects", "");
        return Vec::new();
    };
    let (mut hooks, mut actions) = (Vec::new(), Vec::new());
    for (number, item) in (1..).zip(items) {
        let name = format!("hook-{number}");
        let TomlValue::Table(fields) = item.value else {
            problems.error(item.at, "`mitm_hooks` must be a list of objects", "");
            continue;
        };
        let mut hook = Vec::new();
        for field in known(fields, &["host", "match", "actions"], HOOKS, problems).into_entries() {
            let at = field.at;
            match (&*field.name, field.node.value) {
                ("match", TomlValue::Table(conditions)) => {
                    let mut names = catalogue::names_in(TopTable::Hook, "");
                    names.retain(|name| !matches!(*name, "host" | "action"));
                    hook.extend(known(conditions, &names, "match", problems).into_entries());
                }
                ("actions", TomlValue::Table(changes)) => {
                    let names = catalogue::names_in(TopTable::Action, "");
                    let changes = known(changes, &names, "actions", problems).into_entries();
                    if !changes.is_empty() {
                        let reference = TomlValue::String(Cow::Owned(name.clone()));
                        let value = TomlValue::Array(vec![TomlNode {
                            at,
                            value: reference,
                        }]);
                        let node = TomlNode { at, value };
                        hook.push(TomlEntry {
                            name: "action".into(),
                            at,
                            node,
                        });
                        actions.push(table(name.clone(), at, changes));
                    }
                }
                ("host", value) => {
                    let node = TomlNode {
                        at: field.node.at,
                        value,
                    };
                    hook.push(TomlEntry {
                        name: "host".into(),
                        at,
                        node,
                    });
                }
                (other, _) => {
                    let message = format!("`{other}` must be an object");
                    problems.error(field.node.at, &message, "");
                }
            }
        }
        hooks.push(table(name, item.at, hook));
    }
    vec![
        table("hooks", entry.at, hooks),
        table("actions", entry.at, actions),
    ]
}

/// The files of the CA: both, by absolute paths.
fn ca<'t>(entry: TomlEntry<'t>, problems: &mut Problems<'_>) -> Vec<TomlEntry<'t>> {
    const NAMES: [(&str, &str); 2] = [
        ("certificate_file", "ca_cert_path"),
        ("private_key_file", "ca_key_path"),
    ];
    let TomlValue::Table(files) = entry.node.value else {
        problems.error(entry.node.at, "`mitm_ca` must be an object", "");
        return Vec::new();
    };
    let files = known(files, &NAMES.map(|(name, _)| name), CA, problems);
    if NAMES.iter().any(|(name, _)| files.get(name).is_none()) {
        let message = "`mitm_ca` needs `certificate_file` and `private_key_file`";
        problems.error(entry.at, message, "");
    }
    let mut entries = files.into_entries();
    for entry in &mut entries {
        if let TomlValue::String(path) = &entry.node.value
            && !path.starts_with('/')
        {
            let message = format!("{} needs an absolute path", quoted(&entry.name));
            problems.error(entry.node.at, &message, "");
        }
        let name = NAMES.iter().find(|(name, _)| *name == entry.name);
        entry.name = name.map_or("", |(_, name)| name).into();
    }
    entries
}

/// Credentials by their names: an object, or a list of objects with `id`.
fn credentials<'t>(entry: TomlEntry<'t>, problems: &mut Problems<'_>) -> TomlEntry<'t> {
    let TomlValue::Array(items) = entry.node.value else {
        let name = Key::CREDENTIALS.name().into();
        return TomlEntry { name, ..entry };
    };
    let mut providers: Vec<TomlEntry<'_>> = Vec::with_capacity(items.len());
    for item in items {
        let mut id = None;
        if let TomlValue::Table(mut fields) = item.value {
            id = fields.get("id").cloned();
            fields.retain(|field| field.name != "id");
            if let Some(TomlEntry {
                node:
                    TomlNode {
                        at,
                        value: TomlValue::String(id),
                    },
                ..
            }) = &id
                && providers.iter().all(|other| other.name != *id)
            {
                let value = TomlValue::Table(fields);
                let node = TomlNode { at: item.at, value };
                providers.push(TomlEntry {
                    name: id.clone(),
                    at: *at,
                    node,
                });
                continue;
            }
        }
        let at = id.map_or(item.at, |id| id.at);
        let message = "each of `credential_providers` needs an `id` of its own";
        problems.error(at, message, "");
    }
    table(Key::CREDENTIALS.name(), entry.at, providers)
}

fn table<'t>(
    name: impl Into<Cow<'t, str>>,
    at: TextSpan,
    entries: Vec<TomlEntry<'t>>,
) -> TomlEntry<'t> {
    let value = TomlValue::Table(TomlTable::new(entries));
    let node = TomlNode { at, value };
    TomlEntry {
        name: name.into(),
        at,
        node,
    }
}
