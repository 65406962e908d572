//! From the tree to [`Settings`]: the meaning of each key, for every dialect.

mod credentials;
mod profiles;

use std::path::PathBuf;
use std::sync::Arc;

use codex_network_policy::{ListKind, Pattern, Policy, PolicySpec};

use crate::catalogue::{Draft, Key};
use crate::constraints::{ManagedLists, Requirements};
use crate::diagnostic::{Diagnostic, Problems, quoted};
use crate::dialect::{self, RawSettings};
use crate::entries::{self, Rules, pattern, patterns, profile_users, socket_path};
use crate::listen::ListenSwitches;
use crate::read::{self, EntryPermission};
use crate::secret::SecretReader;
use crate::settings::{Profile, Reach, Settings, UnixSockets};
use crate::toml_tree::TomlTable;
use crate::{effect, fill, listen, mitm, telemetry};

/// Checks and converts everything. The result is valid only when `problems` holds no error
/// afterwards.
pub(crate) fn interpret(
    root: &TomlTable<'_>,
    mut requirements: Requirements,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) -> Settings {
    let selected = dialect::selected(root, problems);
    let raw = dialect::read(root, selected.as_ref(), problems);
    let mut lines = fill::lines(&raw, problems);
    requirements.add_lines(&mut lines, problems);
    let selected = selected
        .as_ref()
        .and_then(|profile| profile.name.as_deref());
    let mut profiles = profiles::unselected(root, &mut requirements, secrets, problems);
    let draft = judge(
        &raw,
        ManagedLists::Taken,
        &mut requirements,
        secrets,
        problems,
    );
    let mut settings = draft.settings;
    if let Some(name) = selected {
        profiles.insert(name.to_owned(), Profile::of(&settings));
    }
    let daemon = &mut settings.daemon;
    daemon.sandbox = requirements.sandbox(&raw, problems);
    daemon.resolver.nameservers = requirements.nameservers(&raw, problems);
    daemon.resolver.hosts_file = requirements.hosts_file(&raw, problems);
    let users = raw.get(Key::SESSION_PROFILES);
    daemon.sessions.profiles = users.map(|setting| profile_users(setting, problems));
    profiles::warn_of_unknown(root, users, problems);
    telemetry::interpret(&raw, &mut daemon.telemetry, secrets, problems);
    settings.profiles = Arc::new(profiles);
    let sockets = &settings.unix_sockets;
    let opens_sockets = sockets.allow_all || !sockets.allowed.is_empty();
    let reach = |non_loopback| match (opens_sockets, non_loopback) {
        (true, _) => Reach::ForcedLoopback,
        (false, true) => Reach::Anywhere,
        (false, false) => Reach::Loopback,
    };
    let switches = ListenSwitches {
        socks5: draft.socks5,
        admin: settings.daemon.admin.enabled,
        proxy_reach: reach(draft.non_loopback_proxy),
        admin_reach: reach(draft.non_loopback_admin),
    };
    settings.listen = listen::interpret(&raw, switches, &requirements, problems);
    settings.managed = requirements.into_managed(problems);
    settings.lines = Arc::new(lines);
    effect::warn(&raw, problems);
    effect::warn_of_report_only(&raw, &settings.policy, None, problems);
    settings
}

/// Reads the keys that judge requests: those of a [`Profile`]. The result also has the other simple keys
/// of the table.
fn judge(
    raw: &RawSettings<'_>,
    managed: ManagedLists,
    requirements: &mut Requirements,
    secrets: &mut SecretReader<'_>,
    problems: &mut Problems<'_>,
) -> Draft {
    refuse_mixture(raw, problems);
    let mut draft = Draft::default();
    fill::fill(&mut draft, raw, requirements, problems);
    let local_exceptions = requirements.local_exceptions();
    let (mut allowed, denied) = lists(raw, requirements, problems);
    let presets = entries::presets(raw, problems);
    allowed.extend(presets.iter().flat_map(|preset| preset.rules()));
    let lists = (allowed, denied);
    let (allowed, denied) = requirements.join(managed, lists, raw, problems);
    let settings = &mut draft.settings;
    settings.presets = presets.iter().map(|preset| preset.name).collect();
    settings.unix_sockets = UnixSockets {
        allow_all: settings.unix_sockets.allow_all,
        ..unix_sockets(raw, requirements, problems)
    };
    mitm::interpret(raw, &mut settings.mitm, secrets, problems);
    let hooked = settings.mitm.hooks.iter();
    let spec = PolicySpec {
        mode: requirements.mode(raw, problems),
        allowed,
        local_exceptions,
        denied,
        intercepted: hooked.map(|(_, hook)| hook.host.clone()).collect(),
        unlisted: requirements.unlisted(),
        enforcement: requirements.enforcement(raw, problems),
        must_enforce: requirements.must_enforce(),
        ..std::mem::take(&mut draft.policy)
    };
    settings.policy = compile(&spec, problems);
    settings.credential_providers = credentials::interpret(raw, settings, problems).into();
    draft
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
fn refuse_mixture(raw: &RawSettings<'_>, problems: &mut Problems<'_>) {
    let first = |keys: &[Key]| keys.iter().find_map(|key| raw.get(*key));
    let list = first(&[
        Key::ALLOWED_DOMAINS,
        Key::DENIED_DOMAINS,
        Key::ALLOW_UNIX_SOCKETS,
    ]);
    let map = first(&[Key::DOMAINS, Key::UNIX_SOCKETS]);
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
            problems.texts.file_and_line(first.at)
        );
        let help = "write everything in `domains` and `unix_sockets`, or nothing there";
        problems.error(second.at, &message, help);
    }
}

/// The allow list and the deny list. A pattern on both counts as denied: deny wins in every
/// decision (SPEC P3).
fn lists(
    raw: &RawSettings<'_>,
    requirements: &Requirements,
    problems: &mut Problems<'_>,
) -> (Rules, Rules) {
    let mut allowed = Vec::new();
    let mut denied = patterns(raw, Key::DENIED_DOMAINS, ListKind::Deny, problems);
    let allow = |text: &str, at, problems: &mut Problems<'_>| {
        let rule = pattern(text, at, ListKind::Allow, problems);
        rule.inspect(|(pattern, _)| requirements.check_allowed(pattern, at, problems))
    };
    if let Some(setting) = raw.get(Key::ALLOWED_DOMAINS) {
        for (text, node) in read::strings(setting, problems) {
            allowed.extend(allow(text, node.at, problems));
        }
    }
    let map = raw.get(Key::DOMAINS);
    let entries = map.map(|setting| read::permissions(setting, problems));
    let normal = |text: &str| Pattern::parse(text, ListKind::Allow).ok();
    for (entry, permission) in read::effective(entries.unwrap_or_default(), normal) {
        match permission {
            EntryPermission::Allow => allowed.extend(allow(&entry.name, entry.at, problems)),
            EntryPermission::Deny => {
                denied.extend(pattern(&entry.name, entry.at, ListKind::Deny, problems));
            }
            EntryPermission::None => {}
        }
    }
    (allowed, denied)
}

/// The paths on both lists.
fn unix_sockets(
    raw: &RawSettings<'_>,
    requirements: &Requirements,
    problems: &mut Problems<'_>,
) -> UnixSockets {
    let mut allowed = Vec::new();
    let check = |path: Option<PathBuf>, at, problems: &mut Problems<'_>| {
        path.inspect(|path| requirements.check_unix_socket(path, at, problems))
    };
    let mut denied = Vec::new();
    if let Some(setting) = raw.get(Key::ALLOW_UNIX_SOCKETS) {
        for (text, node) in read::strings(setting, problems) {
            let path = socket_path(setting, text, node.at, problems);
            allowed.extend(check(path, node.at, problems));
        }
    }
    if let Some(setting) = raw.get(Key::UNIX_SOCKETS) {
        let entries = read::permissions(setting, problems);
        for (entry, permission) in read::effective(entries, |path| Some(PathBuf::from(path))) {
            let path = socket_path(setting, &entry.name, entry.at, problems);
            match permission {
                EntryPermission::Allow => allowed.extend(check(path, entry.at, problems)),
                EntryPermission::Deny => denied.extend(path),
                EntryPermission::None => {}
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
