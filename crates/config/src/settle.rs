//! From the tree to [`Settings`]: the meaning of each key, for every generation.

use std::path::PathBuf;
use std::sync::Arc;

use codex_network_policy::{ConfigLine, ListKind, Mode, Pattern, Policy, PolicySpec};

use crate::constraints::Requirements;
use crate::diagnostic::{Diagnostic, Problems, quoted, shown};
use crate::generation::{self, Key, Raw, Setting, permissions};
use crate::listen::Wanted;
use crate::merge::Table;
use crate::origins::Origins;
use crate::read::{self, Permission};
use crate::secret::Reader;
use crate::settings::{Reach, Settings, UnixSockets};
use crate::text::Place;
use crate::{daemon, listen, mitm, platform, unavailable};

pub(crate) const MODES: &[(&str, Mode)] = &[("full", Mode::Full), ("limited", Mode::Limited)];

/// The source of a compiled list: patterns with their places.
pub(crate) type Rules = Vec<(Pattern, Option<ConfigLine>)>;

/// Checks and converts everything. The result is valid only when `problems` holds no error
/// afterwards.
pub(crate) fn settle(
    root: &Table<'_>,
    mut requirements: Requirements,
    secrets: &mut Reader<'_>,
    problems: &mut Problems<'_>,
) -> Settings {
    let raw = generation::read(root, problems);
    refuse_mixture(&raw, problems);
    let mut origins = Origins::default();
    // Every generation has the settings of the newest one.
    origins.take(&raw, &permissions::SCHEMA, "", problems);
    requirements.add_origins(&mut origins, problems);
    let local_exceptions = requirements.local_exceptions();
    let lists = lists(&raw, &requirements, problems);
    let (allowed, denied) = requirements.join(lists, &raw, problems);
    let flag = |key, default: bool, problems: &mut Problems<'_>| {
        requirements.flag(&raw, key, default, problems)
    };
    let daemon = daemon::settle(root, requirements.daemon(), &mut origins, problems);
    let unix_sockets = UnixSockets {
        allow_all: flag(Key::AllowAllUnixSockets, false, problems),
        ..unix_sockets(&raw, &requirements, problems)
    };
    let opens_unix_sockets = unix_sockets.allow_all || !unix_sockets.allowed.is_empty();
    let reach = |key, problems: &mut Problems<'_>| {
        // Checked in any case: a wrong value is an error.
        match (flag(key, false, problems), opens_unix_sockets) {
            (_, true) => Reach::ForcedLoopback,
            (true, false) => Reach::Anywhere,
            (false, false) => Reach::Loopback,
        }
    };
    let wanted = Wanted {
        socks5: flag(Key::EnableSocks5, true, problems),
        admin: daemon.admin.enabled,
        proxy_reach: reach(Key::NonLoopbackProxy, problems),
        admin_reach: reach(Key::NonLoopbackAdmin, problems),
    };
    let mitm = mitm::settle(&raw, secrets, problems);
    let hooked = mitm.hooks.iter().map(|(_, hook)| hook.host.clone());
    let spec = PolicySpec {
        enabled: flag(Key::Enabled, true, problems),
        mode: requirements.mode(&raw, problems),
        allow_local_binding: flag(Key::AllowLocalBinding, false, problems),
        allowed,
        local_exceptions,
        denied,
        intercepted: hooked.collect(),
        interception: mitm::interception(&raw, problems),
        unlisted: requirements.unlisted(),
    };
    let settings = Settings {
        policy: compile(&spec, problems),
        listen: listen::settle(&raw, wanted, problems),
        socks5_udp: flag(Key::EnableSocks5Udp, true, problems),
        allow_upstream_proxy: flag(Key::AllowUpstreamProxy, true, problems),
        mitm,
        unix_sockets,
        credential_broker: flag(Key::CredentialBroker, false, problems),
        plaintext_credential_injection: flag(Key::PlaintextInjection, false, problems),
        daemon,
        managed: requirements.into_managed(problems),
        origins: Arc::new(origins),
        files: Vec::new(),
    };
    platform::warn(&raw, problems);
    unavailable::warn(&raw, problems);
    settings
}

fn compile(spec: &PolicySpec, problems: &mut Problems<'_>) -> Arc<Policy> {
    let compiled = Policy::compile(spec).or_else(|error| {
        problems.error_about(Diagnostic::about("", &error.to_string(), None));
        Policy::compile(&PolicySpec::default())
    });
    Arc::new(compiled.expect("empty lists are not too large"))
}

/// Lists and maps of one table say the same in two ways, and the proxy does not guess which one
/// counts.
fn refuse_mixture(raw: &Raw<'_>, problems: &mut Problems<'_>) {
    let first = |keys: &[Key]| keys.iter().find_map(|key| raw.get(*key));
    let list = first(&[
        Key::AllowedDomains,
        Key::DeniedDomains,
        Key::AllowUnixSockets,
    ]);
    let map = first(&[Key::Domains, Key::UnixSockets]);
    if let (Some(list), Some(map)) = (list, map) {
        let (first, second) = if list.at < map.at {
            (list, map)
        } else {
            (map, list)
        };
        let message = format!(
            "{} and {} ({}) mix the list form and the map form",
            quoted(second.name),
            quoted(first.name),
            problems.texts.name_place(first.at)
        );
        let help = "write everything in `domains` and `unix_sockets`, or nothing there";
        problems.error(second.at, &message, help);
    }
}

/// The allow list and the deny list. A pattern on both counts as denied: deny wins in every
/// decision (SPEC P3).
fn lists(
    raw: &Raw<'_>,
    requirements: &Requirements,
    problems: &mut Problems<'_>,
) -> (Rules, Rules) {
    let mut allowed = Vec::new();
    let mut denied = patterns(raw, Key::DeniedDomains, ListKind::Deny, problems);
    let allow = |text: &str, at, problems: &mut Problems<'_>| {
        let rule = pattern(text, at, ListKind::Allow, problems);
        rule.inspect(|(pattern, _)| requirements.check_allowed(pattern, at, problems))
    };
    if let Some(setting) = raw.get(Key::AllowedDomains) {
        for (text, node) in read::strings(setting, problems) {
            allowed.extend(allow(text, node.at, problems));
        }
    }
    let map = raw.get(Key::Domains);
    let entries = map.map(|setting| read::permissions(setting, problems));
    for (entry, permission) in entries.into_iter().flatten() {
        match permission {
            Permission::Allow => allowed.extend(allow(&entry.name, entry.at, problems)),
            Permission::Deny => {
                denied.extend(pattern(&entry.name, entry.at, ListKind::Deny, problems));
            }
            Permission::None => {}
        }
    }
    (allowed, denied)
}

/// The patterns of one list.
pub(crate) fn patterns(
    raw: &Raw<'_>,
    key: Key,
    kind: ListKind,
    problems: &mut Problems<'_>,
) -> Rules {
    let items = raw.get(key).map(|setting| read::strings(setting, problems));
    items
        .into_iter()
        .flatten()
        .filter_map(|(text, node)| pattern(text, node.at, kind, problems))
        .collect()
}

fn pattern(
    text: &str,
    at: Place,
    kind: ListKind,
    problems: &mut Problems<'_>,
) -> Option<(Pattern, Option<ConfigLine>)> {
    match Pattern::parse(text, kind) {
        Ok(pattern) => Some((pattern, Some(problems.texts.origin(at)))),
        Err(error) => {
            let message = format!(
                "bad pattern {}: {}",
                quoted(text),
                shown(&error.to_string())
            );
            problems.error(at, &message, "");
            None
        }
    }
}

/// The paths on both lists.
fn unix_sockets(
    raw: &Raw<'_>,
    requirements: &Requirements,
    problems: &mut Problems<'_>,
) -> UnixSockets {
    let mut allowed = Vec::new();
    let check = |path: Option<PathBuf>, at, problems: &mut Problems<'_>| {
        path.inspect(|path| requirements.check_unix_socket(path, at, problems))
    };
    let mut denied = Vec::new();
    if let Some(setting) = raw.get(Key::AllowUnixSockets) {
        for (text, node) in read::strings(setting, problems) {
            let path = socket_path(setting, text, node.at, problems);
            allowed.extend(check(path, node.at, problems));
        }
    }
    if let Some(setting) = raw.get(Key::UnixSockets) {
        for (entry, permission) in read::permissions(setting, problems) {
            let path = socket_path(setting, &entry.name, entry.at, problems);
            match permission {
                Permission::Allow => allowed.extend(check(path, entry.at, problems)),
                Permission::Deny => denied.extend(path),
                Permission::None => {}
            }
        }
    }
    // Spellings of one path (`/run//x`) are equal here, and deny wins.
    allowed.retain(|path| !denied.contains(path));
    UnixSockets {
        allowed,
        denied,
        allow_all: false,
    }
}

pub(crate) fn socket_path(
    setting: Setting<'_>,
    text: &str,
    at: Place,
    problems: &mut Problems<'_>,
) -> Option<PathBuf> {
    if text.starts_with('/') && !text.contains('\0') {
        return Some(PathBuf::from(text));
    }
    let message = format!(
        "{}: {} is not an absolute path",
        quoted(setting.name),
        quoted(text)
    );
    problems.error(at, &message, "");
    None
}
