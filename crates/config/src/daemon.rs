//! `[daemon]`: the settings of the daemon itself, besides the policy (SPEC C5).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::constraints::daemon::DaemonRequirements;
use crate::diagnostic::{Problems, quoted};
use crate::generation::{Key, Raw, Schema, Setting, Slot};
use crate::merge::Table;
use crate::origins::Origins;
use crate::read::{self, Zero};
use crate::settings::{
    Admin, AdminAccess, AdminView, Control, Daemon, Limits, LogFlows, LogFormat, Principal,
    Resolver, Sandbox,
};

/// The table's name.
pub(crate) const TABLE: &str = "daemon";

pub(crate) static SCHEMA: Schema = Schema(&[&[
    ("user", Slot::Value(Key::User)),
    ("group", Slot::Value(Key::Group)),
    ("sandbox", Slot::Value(Key::Sandbox)),
    ("state_dir", Slot::Value(Key::StateDir)),
    ("log", Slot::Value(Key::Log)),
    ("log_format", Slot::Value(Key::LogFormat)),
    ("log_flows", Slot::Value(Key::LogFlows)),
    ("control", Slot::Table(&CONTROL)),
    ("admin", Slot::Table(&ADMIN)),
    ("resolver", Slot::Table(&RESOLVER)),
    ("limits", Slot::Table(&LIMITS)),
]]);

static CONTROL: Schema = Schema(&[&[
    ("socket", Slot::Value(Key::ControlSocket)),
    ("administrators", Slot::Value(Key::Administrators)),
    ("observers", Slot::Value(Key::Observers)),
]]);

static ADMIN: Schema = Schema(&[&[
    ("enabled", Slot::Value(Key::AdminEnabled)),
    ("read_only", Slot::Value(Key::AdminReadOnly)),
    ("show_config", Slot::Value(Key::AdminShowConfig)),
    ("show_patterns", Slot::Value(Key::AdminShowPatterns)),
]]);

static RESOLVER: Schema = Schema(&[&[
    ("nameservers", Slot::Value(Key::Nameservers)),
    ("timeout", Slot::Value(Key::ResolverTimeout)),
    ("hosts_file", Slot::Value(Key::HostsFile)),
]]);

static LIMITS: Schema = Schema(&[&[
    ("max_connections", Slot::Value(Key::MaxConnections)),
    ("max_header_bytes", Slot::Value(Key::MaxHeaderBytes)),
    ("header_timeout", Slot::Value(Key::HeaderTimeout)),
    ("connect_timeout", Slot::Value(Key::ConnectTimeout)),
    ("idle_timeout", Slot::Value(Key::IdleTimeout)),
    ("drain_timeout", Slot::Value(Key::DrainTimeout)),
    ("blocked_buffer", Slot::Value(Key::BlockedBuffer)),
]]);

const LOG_FORMATS: &[(&str, LogFormat)] = &[
    ("auto", LogFormat::Auto),
    ("journal", LogFormat::Journal),
    ("text", LogFormat::Text),
    ("json", LogFormat::Json),
];

pub(crate) const SANDBOXES: &[(&str, Sandbox)] = &[
    ("require", Sandbox::Require),
    ("try", Sandbox::Try),
    ("off", Sandbox::Off),
];

/// Reads and checks the table. Every key is optional.
pub(crate) fn settle(
    root: &Table<'_>,
    required: &DaemonRequirements,
    origins: &mut Origins,
    problems: &mut Problems<'_>,
) -> Daemon {
    let mut raw = Raw::default();
    if let Some(entry) = root.get(TABLE) {
        raw.read(&SCHEMA, TABLE, &entry.node, problems);
    }
    origins.take(&raw, &SCHEMA, TABLE, problems);
    let name = |key, problems: &mut Problems<'_>| required.text(key, raw.get(key), problems);
    let path = |key, problems: &mut Problems<'_>| read::path(raw.get(key)?, problems);
    let default = Daemon::default();
    Daemon {
        user: name(Key::User, problems),
        group: name(Key::Group, problems),
        sandbox: sandbox(raw.get(Key::Sandbox), required, problems),
        state_dir: path(Key::StateDir, problems),
        log: name(Key::Log, problems).unwrap_or(default.log),
        log_format: raw
            .get(Key::LogFormat)
            .and_then(|setting| read::word(setting, LOG_FORMATS, problems))
            .unwrap_or(default.log_format),
        log_flows: raw
            .get(Key::LogFlows)
            .and_then(|setting| read::boolean(setting, problems))
            .map_or(default.log_flows, LogFlows::of),
        control: Control {
            socket: path(Key::ControlSocket, problems),
            administrators: principals(raw.get(Key::Administrators), problems),
            observers: principals(raw.get(Key::Observers), problems),
        },
        admin: admin(&raw, required, problems),
        resolver: Resolver {
            nameservers: required.nameservers(raw.get(Key::Nameservers), problems),
            timeout: duration(&raw, Key::ResolverTimeout, problems)
                .unwrap_or(default.resolver.timeout),
            hosts_file: required.hosts_file(raw.get(Key::HostsFile), problems),
        },
        limits: limits(&raw, default.limits, problems),
    }
}

fn sandbox(
    setting: Option<Setting<'_>>,
    required: &DaemonRequirements,
    problems: &mut Problems<'_>,
) -> Sandbox {
    let written = setting.and_then(|setting| read::word(setting, SANDBOXES, problems));
    required.sandbox(setting, written, problems)
}

fn admin(raw: &Raw<'_>, required: &DaemonRequirements, problems: &mut Problems<'_>) -> Admin {
    let default = Admin::default();
    let enabled = required.admin_enabled(raw.get(Key::AdminEnabled), problems);
    let read_only = required.admin_read_only(raw.get(Key::AdminReadOnly), problems);
    let view = |key, problems: &mut Problems<'_>| {
        let shown = raw
            .get(key)
            .and_then(|setting| read::boolean(setting, problems));
        match shown {
            Some(false) => AdminView::Hidden,
            Some(true) | None => AdminView::Shown,
        }
    };
    Admin {
        enabled: enabled.unwrap_or(default.enabled),
        access: match read_only {
            Some(true) => AdminAccess::ReadOnly,
            Some(false) => AdminAccess::ReadWrite,
            None => default.access,
        },
        config: view(Key::AdminShowConfig, problems),
        patterns: view(Key::AdminShowPatterns, problems),
    }
}

fn limits(raw: &Raw<'_>, default: Limits, problems: &mut Problems<'_>) -> Limits {
    let mut count = |key, range, default| {
        raw.get(key)
            .and_then(|setting| read::integer(setting, range, problems))
            .and_then(|integer| usize::try_from(integer).ok())
            .unwrap_or(default)
    };
    let max_connections = count(Key::MaxConnections, 1..=1_000_000, default.max_connections);
    let max_header_bytes = count(
        Key::MaxHeaderBytes,
        1024..=1 << 20,
        default.max_header_bytes,
    );
    let blocked_buffer = count(Key::BlockedBuffer, 1..=100_000, default.blocked_buffer);
    Limits {
        max_connections,
        max_header_bytes,
        header_timeout: duration(raw, Key::HeaderTimeout, problems)
            .unwrap_or(default.header_timeout),
        connect_timeout: duration(raw, Key::ConnectTimeout, problems)
            .unwrap_or(default.connect_timeout),
        idle_timeout: duration(raw, Key::IdleTimeout, problems).unwrap_or(default.idle_timeout),
        drain_timeout: raw
            .get(Key::DrainTimeout)
            .and_then(|setting| read::duration(setting, Zero::Allowed, problems))
            .unwrap_or(default.drain_timeout),
        blocked_buffer,
    }
}

/// A duration that is not zero: with zero, everything would time out.
fn duration(raw: &Raw<'_>, key: Key, problems: &mut Problems<'_>) -> Option<Duration> {
    read::duration(raw.get(key)?, Zero::Refused, problems)
}

/// User names, and group names with an `@` in front.
fn principals(setting: Option<Setting<'_>>, problems: &mut Problems<'_>) -> Vec<Principal> {
    let Some(setting) = setting else {
        return Vec::new();
    };
    let mut principals = Vec::new();
    for (text, node) in read::strings(setting, problems) {
        let (name, principal): (_, fn(String) -> Principal) = match text.strip_prefix('@') {
            Some(name) => (name, Principal::Group),
            None => (text, Principal::User),
        };
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let message = format!("{}: {} is not a name", quoted(setting.name), quoted(text));
            let help = "write a user's name, or a group's as `@group`";
            problems.error(node.at, &message, help);
        } else {
            principals.push(principal(name.to_owned()));
        }
    }
    principals
}

/// Addresses, with port 53 by default.
pub(crate) fn nameservers(
    setting: Option<Setting<'_>>,
    problems: &mut Problems<'_>,
) -> Vec<SocketAddr> {
    let Some(setting) = setting else {
        return Vec::new();
    };
    let mut nameservers = Vec::new();
    for (text, node) in read::strings(setting, problems) {
        let address = text.parse::<SocketAddr>().ok().or_else(|| {
            let ip: IpAddr = text.parse().ok()?;
            Some((ip, 53).into())
        });
        let Some(address) = address.filter(|address| address.port() != 0) else {
            let message = format!(
                "{}: {} is not an address with a port",
                quoted(setting.name),
                quoted(text)
            );
            let help = "write for example \"192.0.2.53:53\" or \"[2001:db8::53]:53\"";
            problems.error(node.at, &message, help);
            continue;
        };
        nameservers.push(address);
    }
    nameservers
}
