//! The requirements on `[daemon]` (SPEC C6): how the worker is confined, as which user it runs,
//! what the admin API may do, which servers resolve names, and what is logged. They are in
//! `[experimental_network.daemon]`, under the names that they have in `[daemon]`.
//!
//! The resolver decides which server an allowed name leads to. So where only managed entries allow
//! a host, the resolver is the system's, or the one that the requirements name.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::managed::{self, Pin};
use crate::daemon::{SANDBOXES, nameservers};
use crate::diagnostic::{Problems, quoted, shown};
use crate::generation::{Key, Raw, Schema, Setting, Slot};
use crate::origins::Origins;
use crate::read;
use crate::settings::Sandbox;
use crate::text::Place;

/// The table's name within that of the requirements.
pub(crate) const TABLE: &str = "daemon";

pub(crate) static SCHEMA: Schema = Schema(&[&[
    ("user", Slot::Value(Key::User)),
    ("group", Slot::Value(Key::Group)),
    ("sandbox", Slot::Value(Key::Sandbox)),
    ("log", Slot::Value(Key::Log)),
    ("admin", Slot::Table(&ADMIN)),
    ("resolver", Slot::Table(&RESOLVER)),
]]);

static ADMIN: Schema = Schema(&[&[
    ("enabled", Slot::Value(Key::AdminEnabled)),
    ("read_only", Slot::Value(Key::AdminReadOnly)),
]]);

static RESOLVER: Schema = Schema(&[&[
    ("nameservers", Slot::Value(Key::Nameservers)),
    ("hosts_file", Slot::Value(Key::HostsFile)),
]]);

/// The system's own resolver, in messages.
const THE_SYSTEMS: &str = "the system's";

/// The requirements on the daemon. A field that is `None` has no bound.
#[derive(Debug, Default)]
pub(crate) struct DaemonRequirements {
    sandbox: Option<Bound<Sandbox>>,
    /// The only value of a key with a text.
    exact: Vec<(Text, Bound<String>)>,
    admin_off: Option<Place>,
    admin_read_only: Option<Place>,
    /// The name servers that may be listed; the system's if empty.
    nameservers: Option<Bound<Vec<SocketAddr>>>,
    /// The only permitted hosts file; the system's if `None`.
    hosts_file: Option<Bound<Option<PathBuf>>>,
}

/// The permitted value, and the line that says so.
#[derive(Debug)]
struct Bound<T> {
    what: T,
    /// The requirement in TOML, for messages.
    written: String,
    at: Place,
}

/// A key whose text must be exactly the required one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Text {
    key: Key,
    name: &'static str,
}

const TEXTS: [Text; 3] = [
    Text {
        key: Key::User,
        name: "daemon.user",
    },
    Text {
        key: Key::Group,
        name: "daemon.group",
    },
    Text {
        key: Key::Log,
        name: "daemon.log",
    },
];

impl DaemonRequirements {
    /// Adds the requirements of one file. Two files narrow each other; two that leave no value are
    /// an error.
    pub(super) fn add(&mut self, raw: &Raw<'_>, problems: &mut Problems<'_>) {
        if let Some(setting) = raw.get(Key::Sandbox)
            && let Some(what) = read::word(setting, SANDBOXES, problems)
            && self
                .sandbox
                .as_ref()
                .is_none_or(|bound| what.strictness() > bound.what.strictness())
        {
            self.sandbox = Some(Bound::of(setting, what));
        }
        for text in TEXTS {
            let Some(setting) = raw.get(text.key) else {
                continue;
            };
            let Some(what) = read::text(setting, problems) else {
                continue;
            };
            let bound = Bound::of(setting, what.to_owned());
            match self.exact.iter().find(|(other, _)| *other == text) {
                Some((_, other)) if other.what != bound.what => {
                    contradiction(setting, other, problems);
                }
                Some(_) => {}
                None => self.exact.push((text, bound)),
            }
        }
        let flag = |key, problems: &mut Problems<'_>| {
            let setting = raw.get(key)?;
            Some((read::boolean(setting, problems)?, setting.at))
        };
        if let Some((false, at)) = flag(Key::AdminEnabled, problems) {
            self.admin_off.get_or_insert(at);
        }
        if let Some((true, at)) = flag(Key::AdminReadOnly, problems) {
            self.admin_read_only.get_or_insert(at);
        }
        self.add_resolver(raw, problems);
    }

    fn add_resolver(&mut self, raw: &Raw<'_>, problems: &mut Problems<'_>) {
        if let Some(setting) = raw.get(Key::Nameservers) {
            let servers = nameservers(Some(setting), problems);
            match &mut self.nameservers {
                None => self.nameservers = Some(Bound::of(setting, servers)),
                Some(other) => {
                    let common = |server: &SocketAddr| servers.contains(server);
                    let left: Vec<_> = other.what.iter().copied().filter(common).collect();
                    if left.is_empty() && !(other.what.is_empty() && servers.is_empty()) {
                        contradiction(setting, other, problems);
                    }
                    other.what = left;
                }
            }
        }
        if let Some(setting) = raw.get(Key::HostsFile)
            && let Some(path) = read::path(setting, problems)
        {
            let bound = Bound::of(setting, Some(path));
            match &self.hosts_file {
                Some(other) if other.what != bound.what => contradiction(setting, other, problems),
                Some(_) => {}
                None => self.hosts_file = Some(bound),
            }
        }
    }

    /// Pins the resolver, because only managed entries allow a host, as this place says. It is the
    /// system's, unless the requirements name one.
    pub(super) fn pin_resolver(&mut self, at: Place) {
        let written = "managed_allowed_domains_only = true";
        self.nameservers
            .get_or_insert_with(|| Bound::implied(Vec::new(), written, at));
        self.hosts_file
            .get_or_insert_with(|| Bound::implied(None, written, at));
    }

    /// How the worker is confined.
    pub(crate) fn sandbox(
        &self,
        setting: Option<Setting<'_>>,
        written: Option<Sandbox>,
        problems: &mut Problems<'_>,
    ) -> Sandbox {
        let sandbox = written.unwrap_or_default();
        let Some(bound) = &self.sandbox else {
            return sandbox;
        };
        if sandbox.strictness() >= bound.what.strictness() {
            return sandbox;
        }
        if let (Some(setting), Some(written)) = (setting, written) {
            let allowed = match bound.what {
                Sandbox::Try => "try or require",
                other => other.as_str(),
            };
            let key = "daemon.sandbox";
            bound.refuse(key, &written.as_str(), &allowed, setting.node.at, problems);
        }
        bound.what
    }

    /// Checks a text that may be required word for word.
    pub(crate) fn text(
        &self,
        key: Key,
        setting: Option<Setting<'_>>,
        problems: &mut Problems<'_>,
    ) -> Option<String> {
        let written = setting.and_then(|setting| read::text(setting, problems));
        let Some((text, bound)) = self.exact.iter().find(|(text, _)| text.key == key) else {
            return written.map(str::to_owned);
        };
        if let (Some(setting), Some(written)) = (setting, written)
            && written != bound.what
        {
            let (asked, allowed) = (shown(written), shown(&bound.what));
            bound.refuse(text.name, &asked, &allowed, setting.node.at, problems);
        }
        Some(bound.what.clone())
    }

    /// `[daemon.admin] enabled`: the configured value, or `false` where requirements demand it.
    pub(crate) fn admin_enabled(
        &self,
        setting: Option<Setting<'_>>,
        problems: &mut Problems<'_>,
    ) -> Option<bool> {
        flag(
            "daemon.admin.enabled",
            false,
            self.admin_off,
            setting,
            problems,
        )
    }

    /// `[daemon.admin] read_only`: the configured value, or `true` where requirements demand it.
    pub(crate) fn admin_read_only(
        &self,
        setting: Option<Setting<'_>>,
        problems: &mut Problems<'_>,
    ) -> Option<bool> {
        let place = self.admin_read_only;
        flag("daemon.admin.read_only", true, place, setting, problems)
    }

    /// The name servers.
    pub(crate) fn nameservers(
        &self,
        setting: Option<Setting<'_>>,
        problems: &mut Problems<'_>,
    ) -> Vec<SocketAddr> {
        let written = nameservers(setting, problems);
        let Some(bound) = &self.nameservers else {
            return written;
        };
        let other = written.iter().find(|server| !bound.what.contains(server));
        if let (Some(setting), Some(other)) = (setting, other) {
            let asked = shown(&other.to_string());
            let allowed = listed(&bound.what);
            let key = "daemon.resolver.nameservers";
            bound.refuse(key, &asked, &allowed, setting.node.at, problems);
        }
        if written.is_empty() {
            bound.what.clone()
        } else {
            written
        }
    }

    /// The hosts file.
    pub(crate) fn hosts_file(
        &self,
        setting: Option<Setting<'_>>,
        problems: &mut Problems<'_>,
    ) -> Option<PathBuf> {
        let written = setting.and_then(|setting| read::path(setting, problems));
        let Some(bound) = &self.hosts_file else {
            return written;
        };
        if let (Some(setting), Some(written)) = (setting, &written)
            && Some(written) != bound.what.as_ref()
        {
            let asked = shown(&written.display().to_string());
            let allowed = named(bound.what.as_deref());
            let key = "daemon.resolver.hosts_file";
            bound.refuse(key, &asked, &allowed, setting.node.at, problems);
        }
        bound.what.clone()
    }

    /// Each bounded key, its permitted value, and the place of the requirement.
    fn bounded(&self) -> Vec<(&'static str, String, Place)> {
        let mut all = Vec::new();
        if let Some(bound) = &self.sandbox {
            let allowed = match bound.what {
                Sandbox::Off => "off, try or require",
                Sandbox::Try => "try or require",
                Sandbox::Require => "require",
            };
            all.push(("daemon.sandbox", allowed.to_owned(), bound.at));
        }
        for (text, bound) in &self.exact {
            all.push((text.name, bound.what.clone(), bound.at));
        }
        if let Some(at) = self.admin_off {
            all.push(("daemon.admin.enabled", "false".to_owned(), at));
        }
        if let Some(at) = self.admin_read_only {
            all.push(("daemon.admin.read_only", "true".to_owned(), at));
        }
        if let Some(bound) = &self.nameservers {
            let servers: Vec<_> = bound.what.iter().map(ToString::to_string).collect();
            let allowed = if servers.is_empty() {
                THE_SYSTEMS.to_owned()
            } else {
                servers.join(", ")
            };
            all.push(("daemon.resolver.nameservers", allowed, bound.at));
        }
        if let Some(bound) = &self.hosts_file {
            let path = bound.what.as_ref().map(|path| path.display().to_string());
            let allowed = path.unwrap_or_else(|| THE_SYSTEMS.to_owned());
            all.push(("daemon.resolver.hosts_file", allowed, bound.at));
        }
        all
    }

    pub(super) fn pins(&self, problems: &Problems<'_>) -> impl Iterator<Item = Pin> {
        let bounded = self.bounded().into_iter();
        bounded.map(|(key, allowed, at)| Pin {
            key,
            allowed,
            origin: problems.texts.origin(at),
        })
    }

    /// The places of values that the configuration does not set.
    pub(super) fn add_origins(&self, origins: &mut Origins, problems: &Problems<'_>) {
        for (key, allowed, at) in self.bounded() {
            // A default was not set by any line.
            if allowed != THE_SYSTEMS {
                origins.fall_back(key, problems.texts.origin(at));
            }
        }
    }
}

impl<T> Bound<T> {
    fn of(setting: Setting<'_>, what: T) -> Self {
        Self {
            what,
            written: setting.name.to_owned(),
            at: setting.at,
        }
    }

    fn implied(what: T, written: &str, at: Place) -> Self {
        Self {
            what,
            written: written.to_owned(),
            at,
        }
    }

    /// The error of SPEC C6, at the place of the value.
    fn refuse(
        &self,
        key: &str,
        asked: &dyn fmt::Display,
        allowed: &dyn fmt::Display,
        at: Place,
        problems: &mut Problems<'_>,
    ) {
        let place = problems.texts.name_place(self.at);
        let message = managed::invalid(key, &asked.to_string(), &allowed.to_string());
        let help = format!("{place} has `{}`; take the key out", self.written);
        problems.error(at, &message, &help);
    }
}

/// Two requirements that leave no permitted value.
fn contradiction<T>(setting: Setting<'_>, other: &Bound<T>, problems: &mut Problems<'_>) {
    let place = problems.texts.name_place(other.at);
    let message = format!(
        "{} leaves no value, since {place} requires another",
        quoted(setting.name)
    );
    problems.error(setting.node.at, &message, "keep one of them");
}

/// Checks a boolean that may be required to be `only`, at the given place.
fn flag(
    key: &str,
    only: bool,
    required: Option<Place>,
    setting: Option<Setting<'_>>,
    problems: &mut Problems<'_>,
) -> Option<bool> {
    let written = setting.and_then(|setting| read::boolean(setting, problems));
    let Some(at) = required else {
        return written;
    };
    if let (Some(setting), Some(written)) = (setting, written)
        && written != only
    {
        let bound = Bound::implied((), &format!("{} = {only}", setting.name), at);
        bound.refuse(key, &written, &only, setting.node.at, problems);
    }
    Some(only)
}

fn listed(servers: &[SocketAddr]) -> String {
    if servers.is_empty() {
        return THE_SYSTEMS.to_owned();
    }
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    shown(&servers.join(", "))
}

fn named(path: Option<&Path>) -> String {
    path.map_or_else(
        || THE_SYSTEMS.to_owned(),
        |path| shown(&path.display().to_string()),
    )
}
